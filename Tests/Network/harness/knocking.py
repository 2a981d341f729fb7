"""A program that tries all ways out all the time, and a tap that sees whether anything got out."""

import collections
import contextlib
import json
import re
import signal
import socket
import time
from dataclasses import dataclass
from typing import Iterator, Sequence

from .confined import Confined, script
from .namespaces import Namespace
from .programs import Program
from .topology import ADDRESSES
from .waiting import PATIENCE, wait_until

#: Seconds that a knock waits for an answer, which takes milliseconds.
TIMEOUT = 0.5

#: A port of the server that nobody listens on.
MARKER = 4242


@dataclass(frozen=True)
class Knock:
    """What came of one (harness/inside/knock.py)."""

    door: str
    """KIND,ADDRESS,PORT."""
    outcome: str
    began: float
    """By the clock of time.monotonic, which all processes share."""
    seconds: float

    @property
    def kind(self) -> str:
        return self.door.partition(",")[0]


class Knocking:
    """What a program that knocks for ever says."""

    def __init__(self, program: Program, doors: Sequence[str]) -> None:
        self.program, self.doors = program, doors

    def _knocks(self) -> list[Knock]:
        # The engine may have said something as well.
        lines = [line for line in list(self.program.lines) if line.startswith("{")]
        return [Knock(**json.loads(line)) for line in lines]

    def wait(self, count: int = 3) -> list[Knock]:
        """What came of those begun from now on, at least so many at every door."""
        now = time.monotonic()

        def complete() -> list[Knock]:
            knocks = [one for one in self._knocks() if one.began >= now]
            counts = collections.Counter(one.door for one in knocks)
            return knocks if all(counts[door] >= count for door in self.doors) else []

        return wait_until(complete, "what comes of all doors", PATIENCE, 0.1)

    def answering(self) -> set[str]:
        """The doors that are answered from now on."""
        return {one.door for one in self.wait() if one.outcome == "answer"}

    def wait_for_answers(self, doors: set[str]) -> None:
        """Waits until those doors are answered."""
        wait_until(lambda: self.answering() >= doors, f"answers from {sorted(doors)}")


@contextlib.contextmanager
def knocking(user: Confined, arguments: Sequence[str], doors: Sequence[str]) -> Iterator[Knocking]:
    """Confined, and killed in the end, wherever it is then."""
    command = script("knock.py", "0", str(TIMEOUT), *doors)
    program = user.start(*arguments, command=command)
    try:
        yield Knocking(program, doors)
    finally:
        user.kill()
        program.end()


class Tap(Program):
    """A packet capture on every interface of a host: all but what both ends of are among some
    addresses, and what hosts say about themselves. Use as a context manager."""

    HOUSEKEEPING = re.compile(r" IP6 \S+ > \S+: (HBH )?ICMP6, (neighbor|router|multicast listener)")

    def __init__(self, host: Namespace, but: Sequence[str]) -> None:
        ends = " or ".join(but)
        # Of long packets a whole one would take its place in the buffer.
        super().__init__(
            host, "tcpdump", "-i", "any", "-n", "-l", "--immediate-mode", "-B", "16384",
            "-s", "256", f"(ip or ip6) and not (src host ({ends}) and dst host ({ends}))")

    def __enter__(self) -> "Tap":
        self.wait_for_output(
            lambda: any("listening on" in line for line in self.lines), "listening", PATIENCE)
        return self

    def packets(self) -> list[str]:
        """Those seen so far."""
        return [
            line for line in list(self.lines)
            if re.search(r" IP6? \S+ > \S+: ", line) and not self.HOUSEKEEPING.search(line)]

    def finish(self) -> list[str]:
        """Ends it, having seen all that was sent before now; returns those packets."""
        with self.host.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(b"the end", (ADDRESSES["ipv4"].server, MARKER))
        sent = f".{MARKER}: UDP"
        wait_until(lambda: any(sent in line for line in self.packets()), "the marker")
        self.signal(signal.SIGINT)
        self.wait()
        assert "\n0 packets dropped by kernel" in self.output()
        packets = self.packets()
        return packets[:next(at for at, line in enumerate(packets) if sent in line)]
