"""Latencies as the load generators count them: in narrow buckets, so that rounds can be added up."""

import bisect
import itertools


class Histogram:
    """Counts by value in nanoseconds."""

    def __init__(self, buckets=()):
        self._counts = dict(buckets)

    def add(self, other):
        for value, count in other.buckets():
            self._counts[value] = self._counts.get(value, 0) + count

    def buckets(self):
        """Pairs of nanoseconds and count, in ascending order."""
        return sorted(self._counts.items())

    def percentiles(self, *percents):
        """The values in microseconds that so many percent do not exceed."""
        buckets = self.buckets()
        if not buckets:
            raise ValueError("nothing was counted")
        reached = list(itertools.accumulate(count for _, count in buckets))
        places = (
            min(bisect.bisect_left(reached, reached[-1] * percent / 100), len(buckets) - 1)
            for percent in percents)
        return [buckets[place][0] / 1e3 for place in places]
