"""What is measured. A row group runs once per visit of a contestant and yields one or more rows."""

from dataclasses import dataclass

from benchmark import process


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


class IdleMemory:
    """Anonymous memory before the first connection: what the program costs while nothing happens."""

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
        self._upload = upload
        self._speed = Row(f"bulk_{direction}", f"1 stream, {direction}", "GiB/s", True)
        self._cost = Row(
            f"bulk_{direction}_cpu", f"process CPU, {direction}", "s/GiB", False)
        self.rows = (self._speed, self._cost)

    def measure(self, visit):
        before = process.processor_seconds(visit.pid) if visit.pid else 0
        transfer = visit.arena.transfer(
            self._upload, visit.seconds, visit.contestant.through_socks)
        found = {self._speed.key: transfer.gibibytes / transfer.seconds}
        if visit.pid:
            spent = process.processor_seconds(visit.pid) - before
            found[self._cost.key] = spent / transfer.gibibytes
        return found


def all_groups():
    """In the order in which they run: memory first, while nothing has happened yet."""
    return [IdleMemory(), Bulk(upload=False), Bulk(upload=True)]
