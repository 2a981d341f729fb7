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

// streams.c
int load(char **arguments);
void start_accepting(const struct places *places);

// associations.c: the target of datagrams. `open_association` takes the control connection over.
void start_target(const struct places *places);
bool open_association(int control, struct sockaddr_in *relay);

// flows.c
int send_datagrams(char **arguments);

// main.c
_Noreturn void die(const char *what);
struct sockaddr_in parse_address(const char *host, const char *port);

static inline double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + time.tv_nsec / 1e9;
}
