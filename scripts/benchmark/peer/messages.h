// What the client and the target say to each other over TCP, in the host's byte order: both ends are
// one program on one machine.
#pragma once

#include <stdint.h>

// The first bytes of every connection: what the target is to be.
//
//   "source", "sink"  the one that sends for so many milliseconds, or receives until the end.
//   "behind"          the same as "source", but both ends leave the processors to whoever wants them.
//   "echo"            sends everything back, the order included.
//   "once"            sends one message back and closes.
//   "account"         sends what it has seen of a session, and closes.
struct order {
  char role[8];
  uint64_t number;  // milliseconds, or the session: later ones have greater numbers
};

// One request, and the answer, which is the same again. The order stands in the first of a
// connection and is repeated in the others.
struct message {
  struct order order;
  uint64_t sequence;
  uint32_t connection;
  uint8_t filling[36];
};

_Static_assert(sizeof(struct message) == 64, "the rows say 64 B");

// What the target has seen of a session of "echo" and "once".
struct account {
  uint64_t connections;
  uint32_t foreign;  // those from another host, another way, or for another destination
  uint32_t host;     // where the first came from
  uint32_t through_socks;
};
