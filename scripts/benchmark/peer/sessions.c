// TCP: questions and answers on connections that stay. The active ones ask again as soon as they are
// answered; the idle ones are only there, and are asked once before and once after.
//
// When all are open and have been answered, the line {"warm": true} is printed, after the load a
// second one, and a last one tells whether the idle connections still answer, and what the target has
// seen; each next step waits for a line on standard input.

#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "histogram.h"

enum { maximum_asked = 128, maximum_sessions = 1 << 16 };

static const double opening_seconds = 30, last_seconds = 5;

static struct {
  struct client *clients;
  int active, count;
  uint64_t session, answered, failed;
  int under_way;
  bool goes_on;  // Whoever is answered asks again.
  struct histogram latency;
} run;

static void fail(struct client *client) {
  client_close(client);
  run.failed++;
}

static void handle(struct client *client) {
  while (client->fd >= 0) {
    switch (client_advance(client)) {
      case outcome_nothing:
        return;
      case outcome_opened:
        if (!client_ask(client)) fail(client);
        break;
      case outcome_answered:
        run.answered++;
        run.under_way--;
        if (!run.goes_on) return;
        histogram_add(&run.latency, now_nanoseconds() - client->asked);
        run.under_way++;
        if (!client_ask(client)) fail(client);
        return;  // An answer is read whole, and another one is not there yet.
      case outcome_ended:
      case outcome_failed:
        fail(client);
        break;
    }
  }
}

static void handle_events(int milliseconds) {
  struct epoll_event events[256];
  int ready = epoll_wait(client_poller, events, 256, milliseconds);
  for (int index = 0; index < ready; index++) handle(events[index].data.ptr);
}

static void ask(struct client *client) {
  run.under_way++;
  if (client->fd < 0 || !client_ask(client)) run.failed++;
}

static void open(struct client *client) {
  run.under_way++;
  client_open(client, client - run.clients, "echo", run.session);
}

// Does something that brings an answer with each from `first` on, some at a time. Returns whether all
// were answered.
static bool with_each(int first, void (*begin)(struct client *), double seconds) {
  double deadline = now() + seconds;
  run.under_way = 0;
  for (int index = first; index < run.count || run.under_way > 0;) {
    while (index < run.count && run.under_way < maximum_asked) begin(&run.clients[index++]);
    handle_events(100);
    if (run.failed > 0 || now() > deadline) return false;
  }
  return true;
}

static double exchange(double seconds, uint64_t *in_time) {
  double start = now(), end = start + seconds;
  run.answered = 0;
  run.under_way = 0;
  run.goes_on = true;
  for (int index = 0; index < run.active; index++) ask(&run.clients[index]);
  while (now() < end) handle_events(10);
  double spent = now() - start;
  *in_time = run.answered;
  run.goes_on = false;
  while (run.under_way > 0 && run.failed == 0 && now() < end + last_seconds) handle_events(100);
  return spent;
}

int hold_sessions(char **arguments) {
  struct route route = parse_route(&arguments);
  uint64_t in_time;
  run.active = atoi(arguments[0]);
  run.count = run.active + atoi(arguments[1]);
  if (run.active < 0 || run.count < 1 || run.count > maximum_sessions) {
    fprintf(stderr, "%d sessions cannot be\n", run.count);
    return 64;
  }
  client_prepare(&route);
  run.session = now_nanoseconds();
  run.clients = calloc(run.count, sizeof *run.clients);
  if (!with_each(0, open, opening_seconds)) {
    fprintf(stderr, "not all of %d connections were answered\n", run.count);
    return 1;
  }
  printf("{\"warm\": true}");
  client_pause();
  double spent = exchange(atoi(arguments[2]) / 1e3, &in_time);
  printf("{\"in_time\": %llu, \"finished\": %llu, \"failed\": %llu, \"seconds\": %.6f, \"latency\": ",
         (unsigned long long)in_time, (unsigned long long)run.answered,
         (unsigned long long)run.failed + run.under_way, spent);
  histogram_print(&run.latency);
  printf("}");
  client_pause();
  bool alive = with_each(run.active, ask, last_seconds);
  printf("{\"alive\": %s, ", alive ? "true" : "false");
  client_print_account(run.session);
  printf("}\n");
  return 0;
}
