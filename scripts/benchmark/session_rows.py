"""Rows about many TCP connections: made, used, and only held."""

import time

from benchmark import process
from benchmark.meters import ProcessorTime
from benchmark.row import Group, Row, Setup
from benchmark.sessions import hold_sessions, make_connections

# The connections beside which, or on which, something small goes back and forth.
ACTIVE = 64

# What was needed to open connections may be given back after them.
SETTLE_SECONDS = 0.5


def keep(visit, row, latency):
    visit.latencies[row.key] = latency


class Connections(Group):
    """New connections in a closed loop: each connects, asks once, is answered, and is closed."""

    name = "connections"
    CLIENTS = 64
    RATE = Row("connections", f"new connections, {CLIENTS} clients", "per s", True)
    COST = Row("connections_cpu", "process CPU, connection", "µs", False)
    MEDIAN = Row("connections_p50", "first byte, p50", "µs", False)
    TAIL = Row("connections_p99", "first byte, p99", "µs", False)
    rows = (RATE, COST, MEDIAN, TAIL)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        meter = ProcessorTime(visit)
        answers = make_connections(
            visit.arena, visit.contestant, self.CLIENTS, visit.seconds, meter)
        keep(visit, self.MEDIAN, answers.latency)
        median, tail = answers.latency.percentiles(50, 99)
        found = {
            self.RATE.key: answers.per_second, self.MEDIAN.key: median, self.TAIL.key: tail}
        if visit.pid:
            found[self.COST.key] = meter.reading / answers.finished * 1e6
        return found


class FirstByte(Group):
    """New connections where the SOCKS5 server is far away: how long each waits for its answer."""

    name = "first-byte"
    CLIENTS = 4
    MILLISECONDS = 50
    MEDIAN = Row("first_byte", f"first byte, server {MILLISECONDS} ms away, p50", "µs", False)
    rows = (MEDIAN,)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        with visit.arena.distant_server(self.MILLISECONDS):
            # What a program learns and keeps ready, it has by then.
            make_connections(visit.arena, visit.contestant, self.CLIENTS, visit.seconds)
            answers = make_connections(
                visit.arena, visit.contestant, self.CLIENTS, visit.seconds)
        keep(visit, self.MEDIAN, answers.latency)
        return {self.MEDIAN.key: answers.latency.percentiles(50)[0]}


class RoundTrips(Group):
    """Questions of 64 bytes and their answers, one under way on each connection."""

    SHARE = 2 / 3

    def __init__(self, count):
        kind = f"{count:,} connections"
        self._count = count
        self.name = f"round-trips-{count}"
        key = f"round_trips_{count}"
        self._rate = Row(key, f"round trips, {kind}", "thousand/s", True)
        self._cost = Row(f"{key}_cpu", f"process CPU, round trip, {kind}", "µs", False)
        self._median = Row(f"{key}_p50", f"round trip p50, {kind}", "µs", False)
        self._tail = Row(f"{key}_p99", f"round trip p99, {kind}", "µs", False)
        self.rows = (self._rate, self._cost, self._median, self._tail)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        meter = ProcessorTime(visit)
        answers = hold_sessions(
            visit.arena, visit.contestant, self._count, 0, visit.seconds * self.SHARE, meter)
        keep(visit, self._median, answers.latency)
        median, tail = answers.latency.percentiles(50, 99)
        found = {
            self._rate.key: answers.per_second / 1e3,
            self._median.key: median, self._tail.key: tail}
        if visit.pid:
            found[self._cost.key] = meter.reading / answers.finished * 1e6
        return found


class IdleSessions(Group):
    """What a connection on which nothing happens costs the program: anonymous memory, descriptors."""

    def __init__(self, count):
        self._count = count
        self.name = f"idle-{count}"
        kind = f"idle connection of {count:,}"
        self._memory = Row(f"idle_{count}_memory", f"anonymous memory, {kind}", "B", False)
        self._descriptors = Row(f"idle_{count}_descriptors", f"descriptors, {kind}", "", False)
        self.rows = (self._memory, self._descriptors)

    def measure(self, visit):
        if visit.pid is None or visit.contestant.most_sessions < self._count:
            return {}
        before = self._cost(visit)
        after = None

        def look():
            nonlocal after
            time.sleep(SETTLE_SECONDS)
            after = self._cost(visit)

        hold_sessions(visit.arena, visit.contestant, 0, self._count, 0, during=look)
        memory, descriptors = (
            (now - then) / self._count for now, then in zip(after, before, strict=True))
        return {self._memory.key: memory, self._descriptors.key: descriptors}

    @staticmethod
    def _cost(visit):
        return process.anonymous_bytes(visit.pid), process.descriptors(visit.pid)


class ManySessions(Group):
    """Whether a round trip takes longer because many other connections are open."""

    SHARE = 1 / 2
    FEW = 100

    def __init__(self, many):
        self._many = many
        self.name = "many"
        kind = "round trip p99 beside"
        self._few = Row("many_p99_few", f"{kind} {self.FEW} idle", "µs", False)
        self._tail = Row("many_p99", f"{kind} {many:,} idle", "µs", False)
        self._ratio = Row("many_ratio", f"p99 beside {many:,} by {self.FEW}", "ratio", False)
        self._memory = Row(
            "many_memory", f"anonymous memory with {many + ACTIVE:,} connections", "MiB", False)
        self.rows = (self._few, self._tail, self._ratio, self._memory)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        if visit.contestant.most_sessions < self._many + ACTIVE:
            return {}
        found = {}

        def look():
            if visit.pid:
                found[self._memory.key] = process.anonymous_bytes(visit.pid) / 2**20

        few, many = (self._tail_beside(visit, idle, look) for idle in (self.FEW, self._many))
        return found | {
            self._few.key: few, self._tail.key: many, self._ratio.key: many / few}

    def _tail_beside(self, visit, idle, look):
        answers = hold_sessions(
            visit.arena, visit.contestant, ACTIVE, idle, visit.seconds * self.SHARE, during=look)
        return answers.latency.percentiles(99)[0]


class Fairness(Group):
    """Whether a stream of bulk makes round trips wait that share its thread.

    The stream's two ends give way to all other processes, as if they were on machines of their own:
    else the round trips would mostly wait for a processor that these have (up to 3 ms, while the
    relay's thread waits 10 µs).
    """

    SHARE = 1 / 2
    # The stream runs before the questions do, and after.
    LEAD_SECONDS, TRAIL_SECONDS = 0.1, 0.2
    name = "fairness"
    setup = Setup(single_worker=True)
    ALONE = Row("fairness_alone", f"p99 of {ACTIVE} on one worker, alone", "µs", False)
    BESIDE = Row("fairness_p99", f"p99 of {ACTIVE} on one worker, beside bulk", "µs", False)
    RATIO = Row("fairness_ratio", "p99 beside bulk by alone", "ratio", False)
    BULK = Row("fairness_bulk", "that stream of bulk, download", "GiB/s", True)
    rows = (ALONE, BESIDE, RATIO, BULK)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        arena, contestant, seconds = visit.arena, visit.contestant, visit.seconds * self.SHARE
        stream = None

        def start_stream():
            nonlocal stream
            stream = arena.start_transfer(
                contestant, "behind", self.LEAD_SECONDS + seconds + self.TRAIL_SECONDS)
            time.sleep(self.LEAD_SECONDS)

        alone = hold_sessions(arena, contestant, ACTIVE, 0, seconds)
        beside = hold_sessions(arena, contestant, ACTIVE, 0, seconds, during=start_stream)
        transfer = arena.finish_transfer(stream)
        before, = alone.latency.percentiles(99)
        # Where the stream lets no question through, all of them wait at least until the end.
        after, = beside.latency.percentiles(99) if beside.latency.buckets() else [seconds * 1e6]
        return {
            self.ALONE.key: before, self.BESIDE.key: after, self.RATIO.key: after / before,
            self.BULK.key: transfer.gibibytes / transfer.seconds}
