// Latencies in buckets that are at most 1/2,048 of their value wide: exact enough to compare round trips
// over a long way, and no number of samples makes them grow.
#pragma once

#include <stdint.h>
#include <stdio.h>

enum { histogram_bits = 12, histogram_steps = 1 << histogram_bits };

struct histogram {
  uint64_t counts[(64 - histogram_bits + 1) * histogram_steps];
};

static inline void histogram_add(struct histogram *histogram, uint64_t nanoseconds) {
  uint64_t value = nanoseconds;
  int shift = 0;
  if (value >= histogram_steps) {
    shift = 63 - __builtin_clzll(value) - histogram_bits + 1;
    value >>= shift;  // Now in the upper half of the steps: the lower half of such a row is unused.
  }
  histogram->counts[shift * histogram_steps + value]++;
}

// As JSON: a list of [middle of the bucket in nanoseconds, count].
static inline void histogram_print(const struct histogram *histogram) {
  const char *separator = "";
  printf("[");
  for (uint64_t index = 0; index < sizeof histogram->counts / sizeof histogram->counts[0]; index++) {
    if (!histogram->counts[index]) continue;
    uint64_t shift = index / histogram_steps, value = index % histogram_steps;
    uint64_t middle = (value << shift) + ((1ull << shift) >> 1);
    printf("%s[%llu, %llu]", separator, (unsigned long long)middle,
           (unsigned long long)histogram->counts[index]);
    separator = ", ";
  }
  printf("]");
}
