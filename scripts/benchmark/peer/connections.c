// TCP: the load that is all connections. Each of the clients connects, asks one question, is answered,
// waits for the end that the target makes, closes, and starts over.
//
// The target ends first, so that the ports of the client and of the relay are free again at once. The
// time to the first byte is that from the call of connect(2). After a while the line {"warm": true}
// is printed, after what is measured a second one, and a last one tells what the target has seen; each
// next step waits for a line on standard input.

#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "histogram.h"

enum {
  maximum_clients = 4096,
  maximum_failures = 1000,
  warm_milliseconds = 100,
};

static const double last_seconds = 5;

static struct {
  struct client clients[maximum_clients];
  uint64_t session, opened, finished, failed;
  int open;
  bool goes_on;
  struct histogram first_byte;
} run;

static void start(struct client *client) {
  client_open(client, ++run.opened, "once", run.session);
  run.open++;
}

// After the end of a connection, whichever: the next one takes its place.
static void replace(struct client *client) {
  client_close(client);
  run.open--;
  if (run.failed > maximum_failures) {
    fprintf(stderr, "%llu connections failed\n", (unsigned long long)run.failed);
    exit(1);
  }
  if (run.goes_on) start(client);
}

static void handle(struct client *client) {
  for (;;) {
    switch (client_advance(client)) {
      case outcome_nothing:
        return;
      case outcome_opened:
        if (client_ask(client)) return;
        run.failed++;
        return replace(client);
      case outcome_answered:
        histogram_add(&run.first_byte, now_nanoseconds() - client->started);
        break;
      case outcome_ended:
        if (client->answers > 0) run.finished++;
        else run.failed++;
        return replace(client);
      case outcome_failed:
        run.failed++;
        return replace(client);
    }
  }
}

static void handle_events(int milliseconds) {
  struct epoll_event events[256];
  int ready = epoll_wait(client_poller, events, 256, milliseconds);
  for (int index = 0; index < ready; index++) handle(events[index].data.ptr);
}

// So many clients for so long, and until the last of them is done.
static void run_for(int count, double seconds, uint64_t *in_time, double *spent) {
  double start_time = now(), end = start_time + seconds;
  run.goes_on = true;
  for (int index = 0; index < count; index++) start(&run.clients[index]);
  while (now() < end) handle_events(10);
  *spent = now() - start_time;
  *in_time = run.finished;
  run.goes_on = false;
  while (run.open > 0 && now() < end + last_seconds) handle_events(100);
}

int make_connections(char **arguments) {
  struct route route = parse_route(&arguments);
  int count = atoi(arguments[0]);
  uint64_t in_time;
  double spent;
  if (count < 1 || count > maximum_clients) {
    fprintf(stderr, "%d clients cannot be\n", count);
    return 64;
  }
  client_prepare(&route);
  run.session = now_nanoseconds();
  run_for(count, warm_milliseconds / 1e3, &in_time, &spent);
  printf("{\"warm\": true}");
  client_pause();
  run.session++;
  run.opened = run.finished = run.failed = 0;
  run.first_byte = (struct histogram){0};
  run_for(count, atoi(arguments[1]) / 1e3, &in_time, &spent);
  printf("{\"in_time\": %llu, \"finished\": %llu, \"failed\": %llu, \"seconds\": %.6f, \"latency\": ",
         (unsigned long long)in_time, (unsigned long long)run.finished,
         (unsigned long long)run.failed + run.open, spent);
  histogram_print(&run.first_byte);
  printf("}");
  client_pause();
  printf("{");
  client_print_account(run.session);
  printf("}\n");
  return 0;
}
