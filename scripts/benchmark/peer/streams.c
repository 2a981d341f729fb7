// TCP: the load of the client, and the server's side of every connection.
//
// Bytes are received with MSG_TRUNC, which drops them in the kernel, and sent from one small buffer
// that stays in the cache: the kernel gathers these into large fragments, which costs less than half
// of what sendfile's single pages cost on the whole way (measured: 4 to 5 against 2 GiB/s).

#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { send_bytes = 128 << 10, receive_bytes = 4 << 20, silence_seconds = 20 };

// What the client asks of the target, as the first bytes of the connection.
struct order {
  char role[8];  // "source" or "sink": what the target is to be
  uint64_t milliseconds;
};

struct transfer {
  uint64_t bytes;
  double seconds;  // from the first byte to the end of the stream
};

static const char payload[send_bytes];

// Sends for so long, then ends the stream.
static struct transfer send_for(int fd, uint64_t milliseconds) {
  double start = now(), end = start + milliseconds / 1e3;
  uint64_t bytes = 0;
  while (now() < end) {
    ssize_t sent = send(fd, payload, sizeof payload, 0);
    if (sent < 0 && errno != EINTR) break;
    if (sent > 0) bytes += sent;
  }
  shutdown(fd, SHUT_WR);
  return (struct transfer){bytes, now() - start};
}

// Receives until the stream ends.
static struct transfer receive_all(int fd) {
  double start = 0;
  uint64_t bytes = 0;
  for (;;) {
    ssize_t received = recv(fd, NULL, receive_bytes, MSG_TRUNC);
    if (received < 0 && errno == EINTR) continue;
    if (received <= 0) break;
    if (bytes == 0) start = now();
    bytes += received;
  }
  return (struct transfer){bytes, bytes ? now() - start : 0};
}

static bool receive_exactly(int fd, void *buffer, size_t length) {
  return recv(fd, buffer, length, MSG_WAITALL) == (ssize_t)length;
}

static bool send_exactly(int fd, const void *buffer, size_t length) {
  return send(fd, buffer, length, 0) == (ssize_t)length;
}

static void name_address(const struct sockaddr_in *address, char *text, size_t capacity) {
  char host[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
  snprintf(text, capacity, "%s:%u", host, ntohs(address->sin_port));
}

enum { command_connect = 1, command_associate = 3 };

// The server's side of RFC 1928 for an IPv4 address up to the request; the bytes may come in any
// pieces. Returns the command, 0 when it is none of ours.
static int read_request(int fd, struct sockaddr_in *destination) {
  uint8_t greeting[2], methods[255];
  struct __attribute__((packed)) {
    uint8_t version, command, reserved, type;
    uint32_t address;
    uint16_t port;
  } request;
  static const uint8_t no_authentication[] = {5, 0};
  if (!receive_exactly(fd, greeting, sizeof greeting) || greeting[0] != 5) return 0;
  if (!receive_exactly(fd, methods, greeting[1])) return 0;
  if (!send_exactly(fd, no_authentication, sizeof no_authentication)) return 0;
  if (!receive_exactly(fd, &request, sizeof request)) return 0;
  if (request.version != 5 || request.type != 1) return 0;
  destination->sin_addr.s_addr = request.address;
  destination->sin_port = request.port;
  return request.command;
}

// The reply that says "succeeded" with an address: the relay's where it was UDP ASSOCIATE.
static bool send_reply(int fd, const struct sockaddr_in *bound) {
  uint8_t reply[10] = {5, 0, 0, 1};
  memcpy(reply + 4, &bound->sin_addr, 4);
  memcpy(reply + 8, &bound->sin_port, 2);
  return send_exactly(fd, reply, sizeof reply);
}

struct connection {
  int fd;
  bool through_socks;
};

// A stream to or from the target, told in one line of JSON when it has ended.
static void serve_stream(struct connection connection, const struct sockaddr_in *destination) {
  struct sockaddr_in peer;
  socklen_t length = sizeof peer;
  struct order order;
  char from[32], to[32];
  getpeername(connection.fd, (struct sockaddr *)&peer, &length);
  if (receive_exactly(connection.fd, &order, sizeof order)) {
    bool source = strncmp(order.role, "source", sizeof order.role) == 0;
    struct transfer done =
        source ? send_for(connection.fd, order.milliseconds) : receive_all(connection.fd);
    name_address(&peer, from, sizeof from);
    name_address(destination, to, sizeof to);
    printf("{\"socks\": %s, \"peer\": \"%s\", \"destination\": \"%s\", \"bytes\": %llu, "
           "\"seconds\": %.6f}\n",
           connection.through_socks ? "true" : "false", from, to, (unsigned long long)done.bytes,
           done.seconds);
    fflush(stdout);
  }
  close(connection.fd);
}

static void *serve_connection(void *argument) {
  struct connection connection = *(struct connection *)argument;
  free(argument);
  static const struct sockaddr_in nowhere = {.sin_family = AF_INET};
  struct sockaddr_in destination, relay;
  socklen_t length = sizeof destination;
  getsockname(connection.fd, (struct sockaddr *)&destination, &length);
  int command = connection.through_socks ? read_request(connection.fd, &destination) : 0;
  if (command == command_associate && open_association(connection.fd, &relay)) {
    send_reply(connection.fd, &relay);
  } else if (!connection.through_socks ||
             (command == command_connect && send_reply(connection.fd, &nowhere))) {
    serve_stream(connection, &destination);
  } else {
    close(connection.fd);
  }
  return NULL;
}

// Nothing waits to be gathered, and a peer that falls silent ends the connection: nothing can hang.
static void set_options(int fd) {
  int on = 1;
  struct timeval limit = {.tv_sec = silence_seconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

struct listener {
  struct sockaddr_in address;
  bool through_socks;
};

static void *accept_forever(void *argument) {
  struct listener *listener = argument;
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (struct sockaddr *)&listener->address, sizeof listener->address) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  for (;;) {
    struct connection *connection = malloc(sizeof *connection);
    *connection = (struct connection){accept(fd, NULL, NULL), listener->through_socks};
    if (connection->fd < 0) die("accept");
    set_options(connection->fd);
    pthread_t thread;
    if (pthread_create(&thread, NULL, serve_connection, connection) != 0) die("pthread_create");
    pthread_detach(thread);
  }
}

// Both listeners, each with a thread of its own from here on.
void start_accepting(const struct places *places) {
  static struct listener listeners[2];
  listeners[0] = (struct listener){places->socks, true};
  listeners[1] = (struct listener){places->target, false};
  for (int index = 0; index < 2; index++) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, accept_forever, &listeners[index]) != 0) die("pthread_create");
  }
}

int load(char **arguments) {
  struct sockaddr_in target = parse_address(arguments[0], arguments[1]);
  struct order order = {.milliseconds = strtoull(arguments[3], NULL, 10)};
  strncpy(order.role, arguments[2], sizeof order.role - 1);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set_options(fd);
  if (connect(fd, (struct sockaddr *)&target, sizeof target) < 0) die("connect");
  if (!send_exactly(fd, &order, sizeof order)) die("send");
  bool upload = strcmp(order.role, "sink") == 0;
  struct transfer done = upload ? send_for(fd, order.milliseconds) : receive_all(fd);
  printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)done.bytes, done.seconds);
  close(fd);
  return 0;
}
