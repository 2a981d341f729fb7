"""What a row of the table is, and what its measurement gets to work with."""

from dataclasses import dataclass, field

from benchmark import process


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    title: str
    unit: str
    more_is_better: bool


@dataclass(frozen=True)
class Setup:
    """How a contestant is started: as it is by default, or for a row that needs it otherwise."""

    # All its sessions on one thread.
    single_worker: bool = False
    # Its allocations counted, by a library that is loaded before it.
    counts_allocations: bool = False


@dataclass(frozen=True)
class Visit:
    """A contestant that is running now: `pid` is None for the kernel alone."""

    arena: object
    contestant: object
    pid: int | None
    seconds: float
    # What goes to results.json beside the values, by the key of a row: latencies also to the plots.
    latencies: dict = field(default_factory=dict)
    details: dict = field(default_factory=dict)

    def processor_seconds(self):
        """Of the contestant since its start; 0 where the kernel does it all."""
        return process.processor_seconds(self.pid) if self.pid else 0


class Group:
    """Rows that one measurement yields. It runs once per visit of a contestant."""

    # For --rows, and the lines of the table.
    name: str
    rows: tuple[Row, ...]
    setup = Setup()

    def measure(self, visit):
        """The values by the keys of rows; what cannot be measured on this contestant is left out."""
        raise NotImplementedError
