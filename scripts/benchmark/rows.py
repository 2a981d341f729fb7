"""What is measured. A row group runs once per visit of a contestant and yields one or more rows."""

import resource

from benchmark import process
from benchmark.arena import Load
from benchmark.call_rows import AllocationCounts, SystemCallCounts
from benchmark.row import Group, Row
from benchmark.session_rows import (
    Connections, Fairness, FirstByte, IdleSessions, ManySessions, RoundTrips)
from benchmark.start_rows import Start


class IdleMemory(Group):
    """Memory before the first connection: what the program costs while nothing happens."""

    name = "idle"
    ANONYMOUS = Row("idle_memory", "idle anonymous memory", "MiB", more_is_better=False)
    RESIDENT = Row("idle_resident", "idle resident memory", "MiB", more_is_better=False)
    rows = (ANONYMOUS, RESIDENT)

    def measure(self, visit):
        if visit.pid is None:
            return {}
        return {
            self.ANONYMOUS.key: process.anonymous_bytes(visit.pid) / 2**20,
            self.RESIDENT.key: process.resident_bytes(visit.pid) / 2**20}


class Bulk(Group):
    """Streams as fast as they go, and the processor time that the program spends on them."""

    def __init__(self, upload, streams):
        direction = "upload" if upload else "download"
        kind = f"{streams} stream{'s' if streams > 1 else ''}, {direction}"
        self.name = f"bulk-{direction}-{streams}"
        self._role = "sink" if upload else "source"
        self._streams = streams
        key = self.name.replace("-", "_")
        self._speed = Row(key, kind, "GiB/s", True)
        self._cost = Row(f"{key}_cpu", f"process CPU, {kind}", "s/GiB", False)
        self.rows = (self._speed, self._cost)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        before = visit.processor_seconds()
        transfer = visit.arena.transfer(
            visit.contestant, self._role, visit.seconds, self._streams)
        found = {self._speed.key: transfer.gibibytes / transfer.seconds}
        if visit.pid:
            spent = visit.processor_seconds() - before
            found[self._cost.key] = spent / transfer.gibibytes
        return found


class Datagrams(Group):
    """Packets per second under a load of datagrams, what is lost, and what a packet costs.

    One way (`up`) the client sends as fast as it can: what reaches the target in a second is the most
    that a program relays, and the loss is the surplus; without a loss the sender was the limit.
    Sender and contestant compete for the processors, as they would not on machines of their own; all
    contestants meet the same. With `echo` the client keeps 64 datagrams under way: nobody is
    overrun, a loss is a fault and costs time, and what comes back in a second is what a busy service
    would have.
    The cost is the processor time of the process for each million of datagrams that arrived. On these
    cables whoever sends also does what the next host's kernel does on arrival: a third to a half of
    a single send, for all contestants alike.
    """

    # There are many of these rows: each takes this part of a stream's time.
    SHARE = 1 / 3

    def __init__(self, load):
        way = "echo" if load.echo else "up"
        flows = f"{load.flows:,} flow{'s' if load.flows > 1 else ''}"
        kind = f"UDP {way}, {flows}, {load.size:,} B{' joined' if load.joined else ''}"
        self._load = load
        self.name = f"udp-{way}-{load.flows}-{load.size}{'-joined' if load.joined else ''}"
        key = self.name.replace("-", "_")
        self._speed = Row(key, kind, "thousand/s", True)
        self._loss = Row(f"{key}_loss", f"loss, {kind}", "%", False)
        self._cost = Row(f"{key}_cpu", f"process CPU, {kind}", "s/million", False)
        self.rows = (self._speed, self._loss, self._cost)

    def measure(self, visit):
        contestant = visit.contestant
        if not contestant.takes_datagrams or contestant.most_flows < self._load.flows:
            return {}
        exchange = visit.arena.exchange(
            self._load, visit.seconds * self.SHARE, contestant, visit.processor_seconds)
        found = {
            self._speed.key: exchange.delivered / exchange.seconds / 1e3,
            self._loss.key: 100 * (1 - exchange.arrived / exchange.sent),
        }
        if visit.pid:
            found[self._cost.key] = exchange.processor_seconds / exchange.arrived * 1e6
        return found


def most_idle():
    """As many idle connections as two descriptors for each allow a relay, up to 9,800."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(9_800, (limit // 2 - 150) // 100 * 100)


def all_groups():
    """In the order in which they run: memory before all traffic, and datagrams
    after what needs all descriptors, for their associations stay for minutes."""
    loads = [
        Load(flows, size, echo) for echo in (False, True) for flows in (1, 1000)
        for size in (64, 1200)]
    loads.append(Load(1, 1200, echo=False, joined=True))
    return [
        Start(), IdleMemory(), IdleSessions(3000),
        *(Bulk(upload, streams) for streams in (1, 8) for upload in (False, True)),
        Connections(), FirstByte(), RoundTrips(64), RoundTrips(1000),
        ManySessions(most_idle()), *(Datagrams(load) for load in loads),
        SystemCallCounts(), AllocationCounts(), Fairness()]
