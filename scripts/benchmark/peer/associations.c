// UDP: the server's side of every association, which is itself the target of what it would relay.
//
// One thread serves all sockets: the target's own, and one relay socket per association as most
// servers have. A read takes what waits on a socket in one call, joined datagrams as they are
// (UDP_GRO); what is only counted is not even copied. An echo goes back as it came: the header names
// the target either way.

#include "peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagrams.h"

enum {
  batch = 64,
  // A little more than a datagram, so that the buffers do not compete for the same lines of the cache.
  stride = 65536 + 192,
  counted_bytes = 128,  // as much of a datagram as is looked at when it does not go back
  receive_buffer_bytes = 4 << 20,
};

// A socket of the target's, and the TCP connection that it lives and ends with (-1 for the target).
struct association {
  int relay, control;
};

// An association's two descriptors differ in this bit of the event's data.
static const uintptr_t control_bit = 1;

static int poller;
static uint8_t expected_header[socks_header_bytes];
static uint8_t buffers[batch][stride];

static struct {
  uint64_t number;
  struct report report;
  double first;
  bool echo;
} session;

// Looks at one arrival, which is one datagram or several that the kernel has joined, of `first`
// bytes each. Returns whether it goes back.
static bool take(uint8_t *bytes, size_t first, size_t total, in_addr_t host, bool socks, double time) {
  size_t header = socks ? socks_header_bytes : 0;
  struct probe probe;
  if (first < header + smallest_datagram) return false;
  memcpy(&probe, bytes + header, sizeof probe);
  if (probe.kind == kind_hello && probe.session > session.number) {
    session.number = probe.session;
    session.echo = probe.echo;
    session.first = 0;
    session.report = (struct report){.host = host, .through_socks = socks};
  }
  if (probe.session != session.number) return false;
  if (host != session.report.host || socks != session.report.through_socks ||
      memcmp(bytes, expected_header, header) != 0)
    session.report.foreign++;
  switch (probe.kind) {
    case kind_hello:
      return true;
    case kind_load:
      if (session.report.received == 0) session.first = time;
      session.report.received += (total + first - 1) / first;
      session.report.seconds = time - session.first;
      return probe.echo;
    case kind_question:
      memcpy(bytes + header + sizeof probe, &session.report, sizeof session.report);
      return true;
  }
  return false;
}

union control {
  struct cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

// The size of the datagrams that the kernel has joined into this arrival; 0 when it is a single one.
static size_t joined_size(struct msghdr *message) {
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  if (!header || header->cmsg_level != IPPROTO_UDP || header->cmsg_type != UDP_GRO) return 0;
  int size;
  memcpy(&size, CMSG_DATA(header), sizeof size);
  return size;
}

static void set_segment_size(struct msghdr *message, uint16_t size) {
  message->msg_controllen = CMSG_SPACE(sizeof size);
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  header->cmsg_level = IPPROTO_UDP;
  header->cmsg_type = UDP_SEGMENT;
  header->cmsg_len = CMSG_LEN(sizeof size);
  memcpy(CMSG_DATA(header), &size, sizeof size);
}

// Takes one batch from a socket and answers what is to be answered.
static void serve_socket(int fd, bool socks) {
  struct mmsghdr arrivals[batch], answers[batch];
  struct iovec places[batch];
  struct sockaddr_in senders[batch];
  union control controls[batch];
  size_t capacity = session.echo ? sizeof buffers[0] : counted_bytes;
  for (int index = 0; index < batch; index++) {
    places[index] = (struct iovec){buffers[index], capacity};
    arrivals[index].msg_hdr = (struct msghdr){
        .msg_name = &senders[index], .msg_namelen = sizeof senders[index],
        .msg_iov = &places[index], .msg_iovlen = 1,
        .msg_control = &controls[index], .msg_controllen = sizeof controls[index]};
  }
  int count = recvmmsg(fd, arrivals, batch, MSG_DONTWAIT | MSG_TRUNC, NULL), answered = 0, sent = 0;
  double time = now();
  for (int index = 0; index < count; index++) {
    struct msghdr *message = &arrivals[index].msg_hdr;
    size_t total = arrivals[index].msg_len, joined = joined_size(message);
    size_t first = joined ? joined : total;
    if (!take(buffers[index], first, total, senders[index].sin_addr.s_addr, socks, time)) continue;
    if (total > capacity) continue;
    places[index].iov_len = total;
    if (joined && joined < total) set_segment_size(message, joined);
    else message->msg_controllen = 0;
    answers[answered++].msg_hdr = *message;
  }
  while (sent < answered) {
    int done = sendmmsg(fd, answers + sent, answered - sent, 0);
    sent += done > 0 ? done : 1;  // One that the kernel refuses is one lost.
  }
}

// Whether the client has ended the association: all that a control connection can still say.
static bool has_ended(int control) {
  char byte;
  ssize_t received = recv(control, &byte, 1, MSG_DONTWAIT);
  return received == 0 || (received < 0 && errno != EAGAIN && errno != EINTR);
}

static void serve_events(void) {
  struct epoll_event events[256];
  struct association *ended[256];
  int count = epoll_wait(poller, events, 256, -1), ended_count = 0;
  for (int index = 0; index < count; index++) {
    uintptr_t data = events[index].data.u64;
    struct association *association = (struct association *)(data & ~control_bit);
    if (!(data & control_bit)) serve_socket(association->relay, association->control >= 0);
    else if (has_ended(association->control)) ended[ended_count++] = association;
  }
  // Only now, for an event of the same association may have stood behind.
  for (int index = 0; index < ended_count; index++) {
    close(ended[index]->relay);
    close(ended[index]->control);
    free(ended[index]);
  }
}

static _Noreturn void *serve_forever(void *argument) {
  (void)argument;
  for (;;) serve_events();
}

static void watch(int fd, struct association *association, uintptr_t bit) {
  struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uintptr_t)association | bit};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

// A socket for datagrams at an address; -1 when there is none to be had.
static int open_socket(const struct sockaddr_in *address) {
  int on = 1, bytes = receive_buffer_bytes;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
  if (bind(fd, (const struct sockaddr *)address, sizeof *address) == 0) return fd;
  close(fd);
  return -1;
}

// Opens a relay socket beside a control connection, and tells its address.
bool open_association(int control, struct sockaddr_in *relay) {
  socklen_t length = sizeof *relay;
  struct association *association = malloc(sizeof *association);
  getsockname(control, (struct sockaddr *)relay, &length);
  relay->sin_port = 0;
  *association = (struct association){open_socket(relay), control};
  if (association->relay < 0) {
    free(association);
    return false;
  }
  getsockname(association->relay, (struct sockaddr *)relay, &length);
  watch(association->relay, association, 0);
  watch(control, association, control_bit);
  return true;
}

void start_target(const struct places *places) {
  static struct association target;
  pthread_t thread;
  write_socks_header(expected_header, &places->target);
  poller = epoll_create1(EPOLL_CLOEXEC);
  target = (struct association){open_socket(&places->target), -1};
  if (poller < 0 || target.relay < 0) die("the target's socket");
  watch(target.relay, &target, 0);
  if (pthread_create(&thread, NULL, serve_forever, NULL) != 0) die("pthread_create");
}
