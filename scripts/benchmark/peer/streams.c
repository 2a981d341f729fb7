// TCP: streams of bulk, the client's side and the server's. Each has a thread of its own.
//
// Bytes are received with MSG_TRUNC, which drops them in the kernel, and sent from one small buffer
// that stays in the cache: the kernel gathers these into large fragments, which costs less than half
// of what sendfile's single pages cost on the whole way (measured: 4 to 5 against 2 GiB/s).

#include "peer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "messages.h"
#include "socks.h"

enum { send_bytes = 128 << 10, receive_bytes = 4 << 20, silence_seconds = 20, maximum_streams = 64 };

// How nice the threads of a stream are that stays behind.
enum { behind_niceness = 10 };

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

// Receives until the stream ends, of which so many bytes were there before.
static struct transfer receive_all(int fd, uint64_t bytes) {
  double start = bytes ? now() : 0;
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

// Nothing waits to be gathered, and a peer that falls silent ends the stream: nothing can hang.
static void set_options(int fd) {
  int on = 1;
  struct timeval limit = {.tv_sec = silence_seconds};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void name_address(const struct sockaddr_in *address, char *text, size_t capacity) {
  char host[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address->sin_addr, host, sizeof host);
  snprintf(text, capacity, "%s:%u", host, ntohs(address->sin_port));
}

static bool has_role(const struct order *order, const char *role) {
  return strncmp(order->role, role, sizeof order->role) == 0;
}

// Linux keeps the niceness of each thread (sched(7)).
static void take_place(const struct order *order) {
  if (has_role(order, "behind") && setpriority(PRIO_PROCESS, 0, behind_niceness) < 0)
    die("setpriority");
}

// The server's side of a stream.
struct served {
  int fd;
  bool through_socks;
  struct sockaddr_in destination;
  struct order order;
  size_t surplus;  // bytes of the stream that came with the order
};

// A stream to or from the target, told in one line of JSON when it has ended.
static void *serve_stream(void *argument) {
  struct served served = *(struct served *)argument;
  free(argument);
  struct sockaddr_in peer;
  socklen_t length = sizeof peer;
  char from[32], to[32];
  getpeername(served.fd, (struct sockaddr *)&peer, &length);
  take_place(&served.order);
  struct transfer done = has_role(&served.order, "sink")
                             ? receive_all(served.fd, served.surplus)
                             : send_for(served.fd, served.order.number);
  name_address(&peer, from, sizeof from);
  name_address(&served.destination, to, sizeof to);
  printf("{\"socks\": %s, \"peer\": \"%s\", \"destination\": \"%s\", \"bytes\": %llu, "
         "\"seconds\": %.6f}\n",
         served.through_socks ? "true" : "false", from, to, (unsigned long long)done.bytes,
         done.seconds);
  fflush(stdout);
  close(served.fd);
  return NULL;
}

// Takes a connection over, of which the order and perhaps more were received.
void start_stream(int fd, bool through_socks, const struct sockaddr_in *destination,
                  const void *received, size_t length) {
  struct served *served = malloc(sizeof *served);
  pthread_t thread;
  *served = (struct served){fd, through_socks, *destination, .surplus = length - sizeof served->order};
  memcpy(&served->order, received, sizeof served->order);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  set_options(fd);
  if (pthread_create(&thread, NULL, serve_stream, served) != 0) die("pthread_create");
  pthread_detach(thread);
}

// The client's side of RFC 1928.
static bool ask_socks(int fd, const struct sockaddr_in *target) {
  uint8_t selection[socks_selection_bytes], request[socks_request_bytes], reply[socks_reply_bytes];
  socks_write(request, socks_connect, target);
  return send_exactly(fd, socks_greeting, sizeof socks_greeting) &&
         receive_exactly(fd, selection, sizeof selection) &&
         send_exactly(fd, request, sizeof request) && receive_exactly(fd, reply, sizeof reply) &&
         memcmp(selection, socks_selection, sizeof selection) == 0 && reply[1] == 0;
}

// What all streams of a client have in common.
static struct {
  struct route route;
  struct order order;
} loading;

// The client's side of a stream; `argument` is where its transfer goes.
static void *run_stream(void *argument) {
  bool upload = has_role(&loading.order, "sink");
  take_place(&loading.order);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  set_options(fd);
  if (connect(fd, (struct sockaddr *)&loading.route.first, sizeof loading.route.first) < 0)
    die("connect");
  if (loading.route.socks && !ask_socks(fd, &loading.route.target)) die("SOCKS");
  if (!send_exactly(fd, &loading.order, sizeof loading.order)) die("send");
  *(struct transfer *)argument = upload ? send_for(fd, loading.order.number) : receive_all(fd, 0);
  close(fd);
  return NULL;
}

int load(char **arguments) {
  loading.route = parse_route(&arguments);
  strncpy(loading.order.role, arguments[0], sizeof loading.order.role - 1);
  loading.order.number = strtoull(arguments[1], NULL, 10);
  int count = atoi(arguments[2]);
  if (count < 1 || count > maximum_streams) {
    fprintf(stderr, "%d streams cannot be\n", count);
    return 64;
  }
  pthread_t threads[maximum_streams];
  struct transfer transfers[maximum_streams], total = {0};
  for (int index = 0; index < count; index++)
    if (pthread_create(&threads[index], NULL, run_stream, &transfers[index]) != 0)
      die("pthread_create");
  for (int index = 0; index < count; index++) {
    pthread_join(threads[index], NULL);
    total.bytes += transfers[index].bytes;
    if (transfers[index].seconds > total.seconds) total.seconds = transfers[index].seconds;
  }
  printf("{\"bytes\": %llu, \"seconds\": %.6f}\n", (unsigned long long)total.bytes, total.seconds);
  return 0;
}
