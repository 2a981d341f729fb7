// What the client's datagrams hold, in the host's byte order: both ends are one program on one machine.
#pragma once

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

// linux/udp.h, which cannot be included beside netinet/udp.h
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#define UDP_GRO 104
#endif

enum kind {
  kind_hello = 1,  // opens a flow; comes back as it is
  kind_load,       // what is measured; comes back if the probe says so
  kind_question,   // comes back with the target's report
};

// The head of every datagram; the rest is `filling`.
struct probe {
  uint64_t session;  // one run of the client; later ones have greater numbers
  uint64_t sequence;
  uint32_t flow;
  uint16_t kind;
  uint16_t echo;
};

// What the target has seen of a session; follows the probe in the answer to a question.
struct report {
  uint64_t received;  // datagrams of load
  double seconds;     // from the first of these to the last
  uint32_t foreign;   // datagrams from another host, another way, or for another destination
  uint32_t host;      // where the session's first datagram came from
  uint32_t through_socks;
};

enum {
  smallest_datagram = sizeof(struct probe) + sizeof(struct report),
  largest_datagram = 65507,
  filling = 0x5a,
  socks_header_bytes = 10,  // RFC 1928, section 7, with an IPv4 address
};

static inline void write_socks_header(uint8_t *bytes, const struct sockaddr_in *destination) {
  static const uint8_t constant[] = {0, 0, 0, 1};
  memcpy(bytes, constant, sizeof constant);
  memcpy(bytes + 4, &destination->sin_addr, 4);
  memcpy(bytes + 8, &destination->sin_port, 2);
}
