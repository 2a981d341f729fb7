// UDP: the load of the client.
//
// First every flow says hello until it has an answer, so that what a relay does once per flow is
// done, and the line {"warm": true} is printed. Then the load runs for its time, the flows in turn:
//
//   up    as fast as the socket takes it, without an answer.
//   echo  every datagram comes back and is checked. At most 64 are under way at a time; when nothing
//         has come back for 20 ms they are given up for lost.
//
// A single flow hands 16 datagrams to the kernel in one buffer (UDP_SEGMENT), of many each sends one.
// Whether the 16 arrive joined or singly is for the cable to say: where it cannot carry joined ones
// the kernel cuts them there, which costs the sender less than half of sending them one by one. At
// the end the target is asked what it has seen, until its numbers stand still; that, and the
// client's own numbers, are the last line.
//
// Flows have consecutive source ports: in a run with the same ones a relay finds the flows that it
// has already.

#include "peer.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagrams.h"

enum {
  joined = 16,
  batch = 64,
  window = 64,
  loss_milliseconds = 20,
  answer_milliseconds = 200,
  pause_microseconds = 100000,
  receive_buffer_bytes = 1 << 20,
};

static const double opening_seconds = 15, reporting_seconds = 10;

struct flow {
  int fd;
  bool answered;
};

static struct {
  struct flow *flows;
  int count, first_port, poller;
  size_t header, size;  // of SOCKS, and of the payload
  bool echo;
  uint64_t session, sent, received, damaged;
  struct report report;
  bool reported;
} run;

static uint8_t outgoing[joined][largest_datagram];
static uint8_t incoming[batch][largest_datagram];
static uint8_t filled[largest_datagram];

static void write_probe(uint8_t *bytes, int flow, enum kind kind) {
  struct probe probe = {
      .session = run.session, .sequence = run.sent, .flow = flow, .kind = kind, .echo = run.echo};
  memcpy(bytes + run.header, &probe, sizeof probe);
}

// One datagram that is not measured; a loss shows in the answer that does not come.
static void send_single(int flow, enum kind kind) {
  write_probe(outgoing[0], flow, kind);
  send(run.flows[flow].fd, outgoing[0], run.header + smallest_datagram, 0);
}

// So many datagrams of load on one flow in one system call. Returns how many the kernel took.
static int send_load(int flow, int count) {
  struct iovec places[joined];
  struct msghdr message = {.msg_iov = places, .msg_iovlen = count};
  for (int index = 0; index < count; index++) {
    write_probe(outgoing[index], flow, kind_load);
    places[index] = (struct iovec){outgoing[index], run.header + run.size};
    run.sent++;
  }
  if (sendmsg(run.flows[flow].fd, &message, 0) >= 0) return count;
  // A destination that refused the one before, and such: told once, and it is gone.
  run.sent -= count;
  return 0;
}

// Looks at one answer.
static void take(int flow, const uint8_t *bytes, size_t length) {
  struct probe probe;
  if (length < run.header + smallest_datagram) {
    run.damaged++;
    return;
  }
  memcpy(&probe, bytes + run.header, sizeof probe);
  if (probe.session != run.session) return;  // Of a run before: it was late.
  bool intact = (int)probe.flow == flow && memcmp(bytes, outgoing[0], run.header) == 0;
  switch (intact ? probe.kind : 0) {
    case kind_hello:
      run.flows[flow].answered = true;
      return;
    case kind_question:
      memcpy(&run.report, bytes + run.header + sizeof probe, sizeof run.report);
      run.reported = true;
      return;
    case kind_load:
      if (length == run.header + run.size && probe.sequence < run.sent &&
          memcmp(bytes + run.header + sizeof probe, filled, run.size - sizeof probe) == 0) {
        run.received++;
        return;
      }
  }
  run.damaged++;
}

// Takes what has arrived, and waits so long for the first of it. Returns whether there was any.
static bool receive(int milliseconds) {
  static struct epoll_event events[256];
  struct mmsghdr messages[batch];
  struct iovec places[batch];
  bool any = false;
  int ready = epoll_wait(run.poller, events, 256, milliseconds);
  for (int event = 0; event < ready; event++) {
    int flow = events[event].data.u32;
    for (int index = 0; index < batch; index++) {
      places[index] = (struct iovec){incoming[index], sizeof incoming[index]};
      messages[index].msg_hdr = (struct msghdr){.msg_iov = &places[index], .msg_iovlen = 1};
    }
    int count = recvmmsg(run.flows[flow].fd, messages, batch, MSG_DONTWAIT, NULL);
    for (int index = 0; index < count; index++)
      take(flow, incoming[index], messages[index].msg_len);
    any = any || count > 0;
  }
  return any;
}

// Says hello on every flow, a few at a time, until each has had its answer.
static void open_flows(void) {
  double deadline = now() + opening_seconds;
  for (int opened = 0; opened < run.count;) {
    int asked = 0, answered = 0;
    if (now() > deadline) {
      fprintf(stderr, "only %d of %d flows were answered\n", opened, run.count);
      exit(1);
    }
    for (int flow = opened; flow < run.count && asked < batch; flow++, asked++)
      if (!run.flows[flow].answered) send_single(flow, kind_hello);
    do {
      answered = 0;
      for (int flow = opened; flow < opened + asked; flow++) answered += run.flows[flow].answered;
    } while (answered < asked && receive(answer_milliseconds));
    while (opened < run.count && run.flows[opened].answered) opened++;
  }
}

static double send_up(double seconds) {
  double start = now(), end = start + seconds;
  int burst = run.count == 1 ? joined : 1;
  for (int flow = 0; now() < end; flow = (flow + 1) % run.count) send_load(flow, burst);
  return now() - start;
}

static double send_and_receive(double seconds) {
  double start = now(), end = start + seconds;
  int flow = 0, under_way = 0, burst = run.count == 1 ? joined : 1;
  while (now() < end) {
    while (under_way < window && now() < end) {
      int room = window - under_way;
      under_way += send_load(flow, room < burst ? room : burst);
      flow = (flow + 1) % run.count;
    }
    uint64_t before = run.received;
    if (!receive(loss_milliseconds)) under_way = 0;
    int back = run.received - before;
    under_way -= back < under_way ? back : under_way;
  }
  return now() - start;
}

// Asks the target until it says the same twice.
static void ask(void) {
  double deadline = now() + reporting_seconds;
  for (bool again = true; again;) {
    uint64_t before = run.reported ? run.report.received : UINT64_MAX;
    usleep(pause_microseconds);
    run.reported = false;
    while (!run.reported) {
      if (now() > deadline) {
        fprintf(stderr, "the target does not answer any more\n");
        exit(1);
      }
      send_single(0, kind_question);
      while (!run.reported && receive(answer_milliseconds)) continue;
    }
    again = run.report.received != before;
  }
}

static void print_result(uint64_t in_time, double seconds) {
  struct in_addr host = {run.report.host};
  uint64_t delivered = run.echo ? in_time : run.report.received;
  uint64_t arrived = run.echo ? run.received : run.report.received;
  printf("{\"sent\": %llu, \"arrived\": %llu, \"delivered\": %llu, \"seconds\": %.6f, "
         "\"damaged\": %llu, \"foreign\": %u, \"socks\": %s, \"host\": \"%s\"}\n",
         (unsigned long long)run.sent, (unsigned long long)arrived, (unsigned long long)delivered,
         run.echo ? seconds : run.report.seconds, (unsigned long long)run.damaged,
         run.report.foreign, run.report.through_socks ? "true" : "false", inet_ntoa(host));
}

// The client's side of RFC 1928 for UDP ASSOCIATE. The control connection lives as long as we do.
static struct sockaddr_in associate(const struct sockaddr_in *server) {
  static const uint8_t requests[] = {5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0};
  uint8_t replies[12];
  struct sockaddr_in relay = {.sin_family = AF_INET};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (const struct sockaddr *)server, sizeof *server) < 0 ||
      send(fd, requests, sizeof requests, 0) != sizeof requests ||
      recv(fd, replies, sizeof replies, MSG_WAITALL) != sizeof replies)
    die("UDP ASSOCIATE");
  memcpy(&relay.sin_addr, replies + 6, 4);
  memcpy(&relay.sin_port, replies + 10, 2);
  return relay;
}

static void open_socket(int flow, const struct sockaddr_in *destination) {
  struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(run.first_port + flow)};
  struct epoll_event event = {.events = EPOLLIN, .data.u32 = flow};
  int bytes = receive_buffer_bytes, segment = run.header + run.size;
  int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
  setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment);
  if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0) die("bind");
  if (connect(fd, (const struct sockaddr *)destination, sizeof *destination) < 0) die("connect");
  if (epoll_ctl(run.poller, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
  run.flows[flow].fd = fd;
}

// Reads the command line from the direction on. Returns the seconds that the load is to last; 0 when it
// asks for what cannot be.
static double configure(char **arguments) {
  run.echo = strcmp(arguments[0], "echo") == 0;
  run.first_port = atoi(arguments[1]);
  run.count = atoi(arguments[2]);
  run.size = atoi(arguments[3]);
  if (run.first_port < 1 || run.count < 1 || run.first_port + run.count > 65536) return 0;
  if (run.size < smallest_datagram || (run.header + run.size) * joined > largest_datagram) return 0;
  return atoi(arguments[4]) / 1e3;
}

int send_datagrams(char **arguments) {
  struct route route = parse_route(&arguments);
  run.header = route.socks ? socks_header_bytes : 0;
  double seconds = configure(arguments);
  if (seconds == 0) {
    fprintf(stderr, "%d flows of %zu bytes cannot be\n", run.count, run.size);
    return 64;
  }
  run.session = now() * 1e9;
  run.flows = calloc(run.count, sizeof *run.flows);
  run.poller = epoll_create1(EPOLL_CLOEXEC);
  memset(filled, filling, sizeof filled);
  memset(outgoing, filling, sizeof outgoing);
  for (int index = 0; route.socks && index < joined; index++)
    write_socks_header(outgoing[index], &route.target);
  for (int flow = 0; flow < run.count; flow++) {
    struct sockaddr_in destination = route.socks ? associate(&route.first) : route.first;
    open_socket(flow, &destination);
  }
  open_flows();
  printf("{\"warm\": true}\n");
  fflush(stdout);
  usleep(pause_microseconds);
  double spent = run.echo ? send_and_receive(seconds) : send_up(seconds);
  uint64_t in_time = run.received;
  while (receive(answer_milliseconds)) continue;
  ask();
  print_result(in_time, spent);
  return 0;
}
