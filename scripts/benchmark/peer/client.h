// One connection of a client that asks and is answered, one message at a time. See client.c.
#pragma once

#include "peer.h"

#include "messages.h"
#include "socks.h"

enum phase { phase_connecting, phase_selection, phase_reply, phase_open };

struct client {
  int fd;  // -1 when it is closed
  enum phase phase;
  uint64_t started, asked;  // when, in nanoseconds
  struct message question;
  uint32_t answers;
  size_t filled;
  uint8_t incoming[sizeof(struct message)];
};

enum outcome {
  outcome_nothing,
  outcome_opened,    // connected, and the SOCKS5 server has agreed: ask
  outcome_answered,  // by the same message
  outcome_ended,     // the other side has closed in good order
  outcome_failed,
};

// A descriptor of epoll for the clients to be watched by.
void client_prepare(const struct route *route);
extern int client_poller;

// Starts to connect. `role` and `session` are what the order will say.
void client_open(struct client *client, uint32_t number, const char *role, uint64_t session);
// The next step after an event, to be called until it brings nothing.
enum outcome client_advance(struct client *client);
bool client_ask(struct client *client);
void client_close(struct client *client);

// Prints what was begun with printf as a line, and waits for one on standard input before it goes on.
void client_pause(void);

// Asks the target what it has seen of the session, by one more connection, and prints it as the
// inner part of a JSON object.
void client_print_account(uint64_t session);
