// A relay without SOCKS, to compare with: what two hops through this kernel cost a small C program.
//
// One thread. It accepts what TPROXY brings, connects to the one target whatever the destination was,
// and copies: one read and one write for each chunk, edge-triggered. A connection holds no buffer
// until its other side is slower.

#include "peer.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { chunk_bytes = 64 << 10 };

// One of the two sockets of a pair, and what was read from it and waits for the other.
struct side {
  int fd;
  bool has_ended, is_shut;  // It has said its last; the other was told so.
  uint8_t *waiting;
  size_t offset, length;
  struct pair *pair;
};

struct pair {
  struct side sides[2];
  struct pair *next;  // of those that have ended
};

static int poller;
static struct sockaddr_in target;
static uint8_t chunk[chunk_bytes];
static struct pair *ended;

// The bytes that the socket took; -1 when the connection is broken.
static ssize_t write_some(int fd, const uint8_t *bytes, size_t length) {
  ssize_t sent = send(fd, bytes, length, 0);
  if (sent >= 0) return sent;
  return errno == EAGAIN ? 0 : -1;
}

static bool flush(struct side *from, struct side *to) {
  if (!from->waiting) return true;
  ssize_t sent = write_some(to->fd, from->waiting + from->offset, from->length);
  if (sent < 0) return false;
  from->offset += sent;
  from->length -= sent;
  if (from->length > 0) return true;
  free(from->waiting);
  from->waiting = NULL;
  return true;
}

static bool keep(struct side *from, const uint8_t *bytes, size_t length) {
  from->waiting = malloc(length);
  if (!from->waiting) return false;
  memcpy(from->waiting, bytes, length);
  from->offset = 0;
  from->length = length;
  return true;
}

// Moves what there is from one side to the other; `is_ending` says that an end may wait behind a
// read that brings less than it could. Returns false when the connection is broken.
static bool move(struct side *from, struct side *to, bool is_ending) {
  if (!flush(from, to)) return false;
  while (!from->waiting && !from->has_ended) {
    ssize_t received = recv(from->fd, chunk, sizeof chunk, 0);
    if (received < 0 && errno == EAGAIN) break;
    if (received < 0) return false;
    if (received == 0) {
      from->has_ended = true;
      break;
    }
    ssize_t sent = write_some(to->fd, chunk, received);
    if (sent < 0 || (sent < received && !keep(from, chunk + sent, received - sent))) return false;
    if (received < chunk_bytes && !is_ending) break;
  }
  if (from->has_ended && !from->waiting && !from->is_shut) {
    shutdown(to->fd, SHUT_WR);
    from->is_shut = true;
  }
  return true;
}

// Its memory stays until the events at hand are done: another of them may be its.
static void finish(struct pair *pair) {
  for (int index = 0; index < 2; index++) {
    close(pair->sides[index].fd);
    free(pair->sides[index].waiting);
    pair->sides[index].fd = -1;
  }
  pair->next = ended;
  ended = pair;
}

static void handle(struct side *side, uint32_t events) {
  struct pair *pair = side->pair;
  struct side *other = side == &pair->sides[0] ? &pair->sides[1] : &pair->sides[0];
  bool is_ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0, intact = true;
  if (side->fd < 0) return;
  // What the other side has for this one waits in a buffer, or still in its socket behind that.
  if (other->waiting && events & EPOLLOUT) intact = move(other, side, true);
  if (intact && events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
    intact = move(side, other, is_ending);
  if (!intact || (side->is_shut && other->is_shut)) finish(pair);
}

static void watch(struct side *side) {
  struct epoll_event event = {
      .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = side};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, side->fd, &event) < 0) die("epoll_ctl");
}

static void accept_all(int listener) {
  int on = 1, fd;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    struct pair *pair = calloc(1, sizeof *pair);
    int upstream = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    pair->sides[0] = (struct side){.fd = fd, .pair = pair};
    pair->sides[1] = (struct side){.fd = upstream, .pair = pair};
    for (int index = 0; index < 2; index++)
      setsockopt(pair->sides[index].fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(upstream, (struct sockaddr *)&target, sizeof target) < 0 && errno != EINPROGRESS) {
      finish(pair);
      continue;
    }
    watch(&pair->sides[0]);
    watch(&pair->sides[1]);
  }
  if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static int start_listening(const char *port) {
  struct sockaddr_in address = parse_address("0.0.0.0", port);
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (setsockopt(fd, SOL_IP, IP_TRANSPARENT, &on, sizeof on) < 0) die("IP_TRANSPARENT");
  if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  return fd;
}

int relay(char **arguments) {
  struct epoll_event events[256];
  target = parse_address(arguments[1], arguments[2]);
  poller = epoll_create1(EPOLL_CLOEXEC);
  int listener = start_listening(arguments[0]);
  for (;;) {
    int ready = epoll_wait(poller, events, 256, -1);
    for (int index = 0; index < ready; index++) {
      if (events[index].data.ptr) handle(events[index].data.ptr, events[index].events);
      else accept_all(listener);
    }
    while (ended) {
      struct pair *pair = ended;
      ended = pair->next;
      free(pair);
    }
  }
}
