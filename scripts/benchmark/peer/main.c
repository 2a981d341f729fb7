// Both ends of the benchmark's traffic, made to cost next to nothing beside the program measured.
//
//   peer serve ADDRESS SOCKS_PORT TARGET_ADDRESS TARGET_PORT
//       A SOCKS5 server (RFC 1928, no authentication) that is itself the target of every CONNECT
//       and of every datagram, so that no second hop limits what it can serve; and the same target
//       without SOCKS. One line of JSON per stream of bulk goes to standard output.
//   peer relay PORT TARGET_ADDRESS TARGET_PORT
//       A relay without SOCKS to compare with; see relay.c.
//
// The loads of the client go by a ROUTE, which is `ADDRESS PORT` of the target, or that of the SOCKS5
// server and `socks TARGET_ADDRESS TARGET_PORT`, which the client then speaks to by itself: that shows
// what the server can do. They print lines of JSON.
//
//   peer load ROUTE source|sink MILLISECONDS STREAMS
//       So many connections to the target, which then is the source or the sink of the bytes.
//   peer connections ROUTE CLIENTS MILLISECONDS
//       Connect, ask, be answered, close, over and over; see connections.c.
//   peer sessions ROUTE ACTIVE IDLE MILLISECONDS
//       Questions and answers on so many connections, beside idle ones; see sessions.c.
//   peer datagrams ROUTE up|echo FIRST_PORT FLOWS SIZE MILLISECONDS
//       Datagrams to the target on so many flows; see flows.c.

#include "peer.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void die(const char *what) {
  perror(what);
  exit(1);
}

struct sockaddr_in parse_address(const char *host, const char *port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
  if (inet_pton(AF_INET, host, &address.sin_addr) != 1) die(host);
  return address;
}

// Reads a route and leaves `arguments` behind it.
struct route parse_route(char ***arguments) {
  char **words = *arguments;
  struct route route = {.first = parse_address(words[0], words[1])};
  route.socks = strcmp(words[2], "socks") == 0;
  route.target = route.socks ? parse_address(words[3], words[4]) : route.first;
  *arguments += route.socks ? 5 : 2;
  return route;
}

static _Noreturn int serve(char **arguments) {
  struct places places = {parse_address(arguments[0], arguments[1]),
                          parse_address(arguments[2], arguments[3])};
  start_target(&places);
  start_accepting(&places);
  for (;;) pause();
}

// Each takes so many words behind its name, and a route three more with `socks`.
static const struct command {
  const char *name;
  int words;
  bool has_route;
  int (*run)(char **arguments);
} commands[] = {
    {"serve", 4, false, serve},
    {"relay", 3, false, relay},
    {"load", 5, true, load},
    {"connections", 4, true, make_connections},
    {"sessions", 5, true, hold_sessions},
    {"datagrams", 7, true, send_datagrams},
};

int main(int count, char **arguments) {
  signal(SIGPIPE, SIG_IGN);
  for (size_t index = 0; index < sizeof commands / sizeof commands[0]; index++) {
    const struct command *command = &commands[index];
    if (count < 2 || strcmp(arguments[1], command->name) != 0) continue;
    bool is_socks = command->has_route && count > 4 && strcmp(arguments[4], "socks") == 0;
    if (count == 2 + command->words + (is_socks ? 3 : 0)) return command->run(arguments + 2);
  }
  fprintf(stderr, "usage: see the head of main.c\n");
  return 64;
}
