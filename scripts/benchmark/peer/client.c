// A client's connection: connected, through SOCKS where the route says so, then question and answer.
//
// The sockets are watched edge by edge. An answer is the question again, byte by byte; anything else
// is a failure.

#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { filling = 0x5a, silence_seconds = 10 };

static struct route route;
int client_poller;

void client_prepare(const struct route *to) {
  route = *to;
  client_poller = epoll_create1(EPOLL_CLOEXEC);
  if (client_poller < 0) die("epoll_create1");
}

void client_open(struct client *client, uint32_t number, const char *role, uint64_t session) {
  int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  struct epoll_event event = {
      .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = client};
  if (fd < 0) die("socket");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  *client = (struct client){.fd = fd, .started = now_nanoseconds()};
  client->question.order.number = session;
  client->question.connection = number;
  memcpy(client->question.order.role, role, strnlen(role, sizeof client->question.order.role));
  memset(client->question.filling, filling, sizeof client->question.filling);
  if (connect(fd, (struct sockaddr *)&route.first, sizeof route.first) < 0 && errno != EINPROGRESS)
    die("connect");
  if (epoll_ctl(client_poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

void client_close(struct client *client) {
  close(client->fd);
  client->fd = -1;
}

static bool send_all(struct client *client, const void *bytes, size_t length) {
  return send(client->fd, bytes, length, 0) == (ssize_t)length;
}

bool client_ask(struct client *client) {
  client->question.sequence++;
  client->asked = now_nanoseconds();
  return send_all(client, &client->question, sizeof client->question);
}

// Receives up to so many bytes; `outcome_answered` when they are there.
static enum outcome receive(struct client *client, size_t awaited) {
  ssize_t received =
      recv(client->fd, client->incoming + client->filled, awaited - client->filled, 0);
  if (received < 0) return errno == EAGAIN ? outcome_nothing : outcome_failed;
  if (received == 0) return client->filled == 0 ? outcome_ended : outcome_failed;
  client->filled += received;
  if (client->filled < awaited) return outcome_nothing;
  client->filled = 0;
  return outcome_answered;
}

// Whether it is connected or was refused is for the first send to say.
static enum outcome handle_connected(struct client *client) {
  if (route.socks) {
    client->phase = phase_selection;
    return send_all(client, socks_greeting, sizeof socks_greeting) ? outcome_nothing
                                                                   : outcome_failed;
  }
  client->phase = phase_open;
  return outcome_opened;
}

static enum outcome handle_selection(struct client *client) {
  uint8_t request[socks_request_bytes];
  enum outcome outcome = receive(client, socks_selection_bytes);
  if (outcome != outcome_answered) return outcome;
  if (memcmp(client->incoming, socks_selection, socks_selection_bytes) != 0) return outcome_failed;
  socks_write(request, socks_connect, &route.target);
  client->phase = phase_reply;
  return send_all(client, request, sizeof request) ? outcome_nothing : outcome_failed;
}

static enum outcome handle_reply(struct client *client) {
  enum outcome outcome = receive(client, socks_reply_bytes);
  if (outcome != outcome_answered) return outcome;
  if (client->incoming[1] != 0) return outcome_failed;
  client->phase = phase_open;
  return outcome_opened;
}

enum outcome client_advance(struct client *client) {
  enum outcome outcome;
  switch (client->phase) {
    case phase_connecting: return handle_connected(client);
    case phase_selection: return handle_selection(client);
    case phase_reply: return handle_reply(client);
    case phase_open: break;
  }
  outcome = receive(client, sizeof client->incoming);
  if (outcome != outcome_answered) return outcome;
  client->answers++;
  return memcmp(client->incoming, &client->question, sizeof client->incoming) == 0
             ? outcome_answered
             : outcome_failed;
}

void client_pause(void) {
  int byte;
  printf("\n");
  fflush(stdout);
  while ((byte = getchar()) != '\n')
    if (byte == EOF) exit(1);  // Whoever started us is gone.
}

void client_print_account(uint64_t session) {
  struct client client;
  struct account account;
  uint8_t bytes[sizeof account];
  size_t filled = 0;
  double deadline = now() + silence_seconds;
  client_open(&client, 0, "account", session);
  while (filled < sizeof account) {
    struct epoll_event events[16];
    if (now() > deadline) {
      fprintf(stderr, "the target does not answer any more\n");
      exit(1);
    }
    int ready = epoll_wait(client_poller, events, 16, 100);
    for (int index = 0; index < ready; index++) {
      if (events[index].data.ptr != &client) continue;
      if (client.phase == phase_open) {
        ssize_t received = recv(client.fd, bytes + filled, sizeof account - filled, 0);
        if (received > 0) filled += received;
      } else if (client_advance(&client) == outcome_opened) {
        send_all(&client, &client.question.order, sizeof client.question.order);
      }
    }
  }
  memcpy(&account, bytes, sizeof account);
  client_close(&client);
  struct in_addr host = {account.host};
  printf("\"connections\": %llu, \"foreign\": %u, \"socks\": %s, \"host\": \"%s\"",
         (unsigned long long)account.connections, account.foreign,
         account.through_socks ? "true" : "false", inet_ntoa(host));
}
