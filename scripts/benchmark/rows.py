"""What is measured. A row group runs once per visit of a contestant and yields one or more rows."""

from dataclasses import dataclass

from benchmark import process
from benchmark.arena import Load


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    title: str
    unit: str
    more_is_better: bool


@dataclass(frozen=True)
class Visit:
    """A contestant that is running now: `pid` is None for the kernel alone."""

    arena: object
    contestant: object
    pid: int | None
    seconds: float

    def processor_seconds(self):
        """Of the contestant since its start; 0 where the kernel does it all."""
        return process.processor_seconds(self.pid) if self.pid else 0


class IdleMemory:
    """Anonymous memory before the first connection: what the program costs while nothing happens."""

    name = "idle"
    ROW = Row("idle_memory", "idle anonymous memory", "MiB", more_is_better=False)
    rows = (ROW,)

    def measure(self, visit):
        if visit.pid is None:
            return {}
        return {self.ROW.key: process.anonymous_bytes(visit.pid) / 2**20}


class Bulk:
    """One stream as fast as it goes, and the processor time that the program spends on it."""

    def __init__(self, upload):
        direction = "upload" if upload else "download"
        self.name = f"bulk-{direction}"
        self._upload = upload
        self._speed = Row(f"bulk_{direction}", f"1 stream, {direction}", "GiB/s", True)
        self._cost = Row(
            f"bulk_{direction}_cpu", f"process CPU, {direction}", "s/GiB", False)
        self.rows = (self._speed, self._cost)

    def measure(self, visit):
        if not visit.contestant.takes_streams:
            return {}
        before = visit.processor_seconds()
        transfer = visit.arena.transfer(self._upload, visit.seconds, visit.contestant)
        found = {self._speed.key: transfer.gibibytes / transfer.seconds}
        if visit.pid:
            spent = visit.processor_seconds() - before
            found[self._cost.key] = spent / transfer.gibibytes
        return found


class Start:
    """What a program's start takes longer inside than by itself: `true`, which ends at once, so that the
    end is in it, too. hyperfine measures all of them in one go, of which each round has one."""

    name = "start"
    RUNS = 40
    BARE = Row("start_bare", "start and end of true, bare", "ms", more_is_better=False)
    rows = (BARE, *(
        row for upstream, title in (("embedded", "embedded server"), ("socks", "SOCKS5 server"))
        for row in (
            Row(f"start_{upstream}", f"the same inside, {title}: in addition", "ms", False),
            Row(f"start_{upstream}_ratio", f"the same inside, {title}: ratio", "times bare", False))
    ))

    def measure(self, visit):
        if not visit.contestant.starts_programs:
            return {}
        bare, *inside = visit.contestant.measure_starts(visit.arena, self.RUNS)
        found = {self.BARE.key: bare * 1e3}
        for name, seconds in zip(("embedded", "socks"), inside, strict=True):
            found[f"start_{name}"] = (seconds - bare) * 1e3
            found[f"start_{name}_ratio"] = seconds / bare
        return found


class Datagrams:
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
        if not visit.contestant.takes_datagrams:
            return {}
        exchange = visit.arena.exchange(
            self._load, visit.seconds * self.SHARE, visit.contestant, visit.processor_seconds)
        found = {
            self._speed.key: exchange.delivered / exchange.seconds / 1e3,
            self._loss.key: 100 * (1 - exchange.arrived / exchange.sent),
        }
        if visit.pid:
            found[self._cost.key] = exchange.processor_seconds / exchange.arrived * 1e6
        return found


def all_groups():
    """In the order in which they run: memory before all traffic, while nothing has happened yet."""
    loads = [
        Load(flows, size, echo) for echo in (False, True) for flows in (1, 1000)
        for size in (64, 1200)]
    loads.append(Load(1, 1200, echo=False, joined=True))
    return [
        Start(), IdleMemory(), Bulk(upload=False), Bulk(upload=True), *(Datagrams(load) for load in loads)]
