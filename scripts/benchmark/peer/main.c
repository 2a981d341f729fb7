// Both ends of the benchmark's traffic, made to cost next to nothing beside the program measured.
//
//   peer serve ADDRESS SOCKS_PORT TARGET_ADDRESS TARGET_PORT
//       A SOCKS5 server (RFC 1928, no authentication) that is itself the target of every CONNECT
//       and of every datagram, so that no second hop limits what it can serve; and the same target
//       without SOCKS. One line of JSON per TCP connection goes to standard output.
//   peer load ADDRESS PORT source|sink MILLISECONDS
//       One connection to the target, which then is the source or the sink of the bytes. One
//       line of JSON at the end.
//   peer datagrams ADDRESS PORT [socks TARGET_ADDRESS TARGET_PORT] up|echo FIRST_PORT FLOWS SIZE
//       MILLISECONDS
//       Datagrams to the target on so many flows; see flows.c. One line of JSON when every flow is
//       open, and one at the end. With `socks` the first address is the SOCKS5 server's, which the
//       client then speaks to by itself: that shows what the server can do.

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

int main(int count, char **arguments) {
  signal(SIGPIPE, SIG_IGN);
  if (count == 6 && strcmp(arguments[1], "serve") == 0) {
    struct places places = {parse_address(arguments[2], arguments[3]),
                            parse_address(arguments[4], arguments[5])};
    start_target(&places);
    start_accepting(&places);
    for (;;) pause();
  }
  if (count == 6 && strcmp(arguments[1], "load") == 0) return load(arguments + 2);
  if (count >= 9 && strcmp(arguments[1], "datagrams") == 0) return send_datagrams(arguments + 2);
  fprintf(stderr, "usage: see the head of main.c\n");
  return 64;
}
