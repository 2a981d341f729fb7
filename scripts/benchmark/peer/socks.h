// RFC 1928 without authentication and with IPv4 addresses, as far as the peer speaks it.
#pragma once

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

enum {
  socks_version = 5,
  socks_connect = 1,
  socks_associate = 3,
  socks_ipv4 = 1,
  socks_selection_bytes = 2,
  socks_request_bytes = 10,
  socks_reply_bytes = 10,
};

// The greeting that offers no authentication, and the selection that takes it.
static const uint8_t socks_greeting[] = {socks_version, 1, 0};
static const uint8_t socks_selection[socks_selection_bytes] = {socks_version, 0};

// A request or a reply: they look alike. `code` is the command or what became of it.
static inline void socks_write(uint8_t *bytes, uint8_t code, const struct sockaddr_in *address) {
  const uint8_t head[] = {socks_version, code, 0, socks_ipv4};
  memcpy(bytes, head, sizeof head);
  memcpy(bytes + 4, &address->sin_addr, 4);
  memcpy(bytes + 8, &address->sin_port, 2);
}

static inline struct sockaddr_in socks_address(const uint8_t *bytes) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  memcpy(&address.sin_addr, bytes + 4, 4);
  memcpy(&address.sin_port, bytes + 8, 2);
  return address;
}
