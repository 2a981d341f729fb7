// TCP: the server's side of every connection, which is the target of what it would relay.
//
// One thread serves them all, edge by edge, with one read and one write for each message. A stream
// of bulk gets a thread of its own (streams.c), an association of datagrams goes to associations.c.

#include "peer.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "messages.h"
#include "socks.h"

enum stage { stage_listening, stage_greeting, stage_request, stage_order, stage_once, stage_echo };

struct connection {
  int fd;
  enum stage stage;
  bool through_socks;
  struct sockaddr_in destination;
  size_t filled;
  uint8_t bytes[2 + 255];  // The longest of what is awaited: a greeting.
};

static struct sockaddr_in target;
static int poller;

static struct {
  uint64_t number;
  struct account account;
} session;

static void end(struct connection *connection) {
  close(connection->fd);
  free(connection);
}

// What has become of a connection after a step; `gone` ones are not to be touched again.
enum progress { progress_none, progress_made, progress_gone };

static enum progress ended(struct connection *connection) {
  end(connection);
  return progress_gone;
}

static void drop(struct connection *connection, size_t length) {
  connection->filled -= length;
  memmove(connection->bytes, connection->bytes + length, connection->filled);
}

static bool send_all(int fd, const void *bytes, size_t length) {
  return send(fd, bytes, length, 0) == (ssize_t)length;
}

static enum progress handle_greeting(struct connection *connection) {
  const uint8_t *bytes = connection->bytes;
  if (connection->filled < 2 || connection->filled < 2u + bytes[1]) return progress_none;
  if (bytes[0] != socks_version) return ended(connection);
  if (!send_all(connection->fd, socks_selection, sizeof socks_selection)) return ended(connection);
  drop(connection, 2u + bytes[1]);
  connection->stage = stage_request;
  return progress_made;
}

static enum progress handle_request(struct connection *connection) {
  static const struct sockaddr_in nowhere = {.sin_family = AF_INET};
  const uint8_t *bytes = connection->bytes;
  uint8_t reply[socks_reply_bytes];
  if (connection->filled < socks_request_bytes) return progress_none;
  if (bytes[0] != socks_version || bytes[3] != socks_ipv4) return ended(connection);
  if (bytes[1] == socks_associate) {
    struct sockaddr_in relay;
    epoll_ctl(poller, EPOLL_CTL_DEL, connection->fd, NULL);
    if (!open_association(connection->fd, &relay)) return ended(connection);
    socks_write(reply, 0, &relay);
    send_all(connection->fd, reply, sizeof reply);
    free(connection);
    return progress_gone;
  }
  socks_write(reply, 0, &nowhere);
  if (bytes[1] != socks_connect || !send_all(connection->fd, reply, sizeof reply))
    return ended(connection);
  connection->destination = socks_address(bytes);
  drop(connection, socks_request_bytes);
  connection->stage = stage_order;
  return progress_made;
}

// Books a connection of a session.
static void count(const struct connection *connection, uint64_t number) {
  struct sockaddr_in peer = {0};
  socklen_t length = sizeof peer;
  getpeername(connection->fd, (struct sockaddr *)&peer, &length);
  if (number > session.number) {
    session.number = number;
    session.account = (struct account){
        .host = peer.sin_addr.s_addr, .through_socks = connection->through_socks};
  }
  if (number != session.number) return;
  session.account.connections++;
  if (peer.sin_addr.s_addr != session.account.host ||
      connection->through_socks != (session.account.through_socks != 0) ||
      connection->destination.sin_addr.s_addr != target.sin_addr.s_addr ||
      connection->destination.sin_port != target.sin_port)
    session.account.foreign++;
}

static enum progress handle_order(struct connection *connection) {
  struct order order;
  if (connection->filled < sizeof order) return progress_none;
  memcpy(&order, connection->bytes, sizeof order);
  if (strncmp(order.role, "echo", sizeof order.role) == 0) {
    connection->stage = stage_echo;
  } else if (strncmp(order.role, "once", sizeof order.role) == 0) {
    connection->stage = stage_once;
  } else if (strncmp(order.role, "account", sizeof order.role) == 0) {
    send_all(connection->fd, &session.account, sizeof session.account);
    return ended(connection);
  } else {
    epoll_ctl(poller, EPOLL_CTL_DEL, connection->fd, NULL);
    start_stream(connection->fd, connection->through_socks, &connection->destination,
                 connection->bytes, connection->filled);
    free(connection);
    return progress_gone;
  }
  count(connection, order.number);
  return progress_made;
}

static enum progress handle_once(struct connection *connection) {
  if (connection->filled < sizeof(struct message)) return progress_none;
  send_all(connection->fd, connection->bytes, sizeof(struct message));
  return ended(connection);
}

static enum progress handle_echo(struct connection *connection) {
  if (connection->filled == 0) return progress_none;
  if (!send_all(connection->fd, connection->bytes, connection->filled)) return ended(connection);
  connection->filled = 0;
  return progress_none;
}

static enum progress advance(struct connection *connection) {
  switch (connection->stage) {
    case stage_greeting: return handle_greeting(connection);
    case stage_request: return handle_request(connection);
    case stage_order: return handle_order(connection);
    case stage_once: return handle_once(connection);
    case stage_echo: return handle_echo(connection);
    case stage_listening: break;
  }
  return progress_none;
}

// Reads until nothing waits. Less than was asked for is the last there is, unless the event told of
// an end, which waits behind it.
static void serve(struct connection *connection, uint32_t events) {
  bool is_ending = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
  for (;;) {
    size_t room = sizeof connection->bytes - connection->filled;
    ssize_t received = recv(connection->fd, connection->bytes + connection->filled, room, 0);
    if (received < 0 && errno == EAGAIN) return;
    if (received <= 0) {
      end(connection);
      return;
    }
    connection->filled += received;
    enum progress progress;
    do progress = advance(connection);
    while (progress == progress_made);
    if (progress == progress_gone || ((size_t)received < room && !is_ending)) return;
  }
}

static void watch(struct connection *connection) {
  struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event) < 0) die("epoll_ctl");
}

static void accept_all(const struct connection *listener) {
  int on = 1, fd;
  while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
    struct connection *connection = malloc(sizeof *connection);
    *connection = (struct connection){
        .fd = fd,
        .stage = listener->through_socks ? stage_greeting : stage_order,
        .through_socks = listener->through_socks,
        .destination = listener->destination};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(connection);
  }
  if (errno != EAGAIN && errno != ECONNABORTED) die("accept");
}

static _Noreturn void *serve_forever(void *argument) {
  struct epoll_event events[256];
  (void)argument;
  for (;;) {
    int ready = epoll_wait(poller, events, 256, -1);
    for (int index = 0; index < ready; index++) {
      struct connection *connection = events[index].data.ptr;
      if (connection->stage == stage_listening) accept_all(connection);
      else serve(connection, events[index].events);
    }
  }
}

static void start_listening(const struct sockaddr_in *address, bool through_socks) {
  struct connection *listener = malloc(sizeof *listener);
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)address, sizeof *address) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  *listener = (struct connection){
      .fd = fd, .stage = stage_listening, .through_socks = through_socks, .destination = *address};
  watch(listener);
}

void start_accepting(const struct places *places) {
  pthread_t thread;
  target = places->target;
  poller = epoll_create1(EPOLL_CLOEXEC);
  start_listening(&places->socks, true);
  start_listening(&places->target, false);
  if (pthread_create(&thread, NULL, serve_forever, NULL) != 0) die("pthread_create");
}
