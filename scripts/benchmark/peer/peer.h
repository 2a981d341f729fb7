// What the parts of the peer share. Each file is one end of one kind of traffic; main.c says which.
#pragma once

#define _GNU_SOURCE
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

// Where the server listens.
struct places {
  struct sockaddr_in socks, target;
};

// Where the client connects to: the target itself, or a SOCKS5 server that it asks for the target.
struct route {
  struct sockaddr_in first, target;
  bool socks;
};

// server.c
void start_accepting(const struct places *places);

// streams.c
int load(char **arguments);
void start_stream(int fd, bool through_socks, const struct sockaddr_in *destination,
                  const void *received, size_t length);

// associations.c: the target of datagrams. `open_association` takes the control connection over.
void start_target(const struct places *places);
bool open_association(int control, struct sockaddr_in *relay);

// flows.c, connections.c, sessions.c, relay.c
int send_datagrams(char **arguments);
int make_connections(char **arguments);
int hold_sessions(char **arguments);
int relay(char **arguments);

// main.c
_Noreturn void die(const char *what);
struct sockaddr_in parse_address(const char *host, const char *port);
struct route parse_route(char ***arguments);

static inline uint64_t now_nanoseconds(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static inline double now(void) { return now_nanoseconds() / 1e9; }
