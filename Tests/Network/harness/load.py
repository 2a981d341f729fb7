"""Clients that connect and ask as long as a test lasts."""

import contextlib
import functools
import threading
from typing import Any, Callable, Self

from .datagrams import DatagramEcho, Speaker
from .flows import attempt
from .programs import Program
from .targets import Echo
from .topology import ADDRESSES, Topology
from .waiting import wait_until

AT = ADDRESSES["ipv4"]


class Busy:
    """Clients that go on as long as a test lasts. Use as a context manager."""

    def __init__(self, *work: Callable[[], None]) -> None:
        """Each has a thread, and ends by itself when `_is_over` is set."""
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=one) for one in work]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()


class Load(Busy):
    """A client that connects and asks all the time, and another that sends datagrams."""

    def __init__(self, topology: Topology, echo: Echo, datagrams: DatagramEcho) -> None:
        self.topology = topology
        self.echo = echo
        self.datagrams = datagrams
        self.trouble: list[str] = []
        self.fetched = 0
        self.answered = 0
        super().__init__(*(
            functools.partial(self._run, one) for one in (self._fetch, self._fetch, self._ask)))

    def _run(self, once: Any) -> None:
        # So fast that there is always some, and so slowly that no host runs out of ports.
        while not self._is_over.wait(0.02):
            try:
                once()
            except Exception as error:  # pylint: disable=broad-except
                self.trouble.append(f"{once.__name__}: {error!r}")

    def _fetch(self) -> None:
        with self.topology.client.connect(AT.server, self.echo.port) as stream:
            stream.sendall(b"question")
            answer = b""
            while len(answer) < 8:
                part = stream.recv(8)
                assert part, "ended before the answer"
                answer += part
            assert answer == b"question"
        self.fetched += 1

    def _ask(self) -> None:
        # As a resolver does it, which asks again: what an ending process has read already is lost.
        with Speaker.of(self.topology, "ipv4") as speaker:
            for patience in (1, 2, 4, 8):
                with contextlib.suppress(TimeoutError):
                    speaker.ask(b"datagram", (AT.server, self.datagrams.port), patience)
                    self.answered += 1
                    return
        raise AssertionError("no answer")

    def wait_for_more(self) -> None:
        """Until connections that began after this call are served."""
        count, asked = self.fetched + 4, self.answered + 2
        wait_until(
            lambda: self.trouble or (self.fetched >= count and self.answered >= asked),
            "the clients to be served")


class Knocks(Busy):
    """Two clients that connect, ask and leave without a pause."""

    def __init__(self, topology: Topology, port: int) -> None:
        super().__init__(self._run, self._run)
        self.topology = topology
        self.port = port
        # They leave their ports behind.
        topology.client.write_sysctl("net/ipv4/ip_local_port_range", "1024 65535")
        self.outcomes: list[str] = []
        """What came of each connection."""

    def _run(self) -> None:
        while not self._is_over.is_set():
            self.outcomes.append(attempt(self.topology.client, AT.server, self.port))


def change_under_load(
    topology: Topology, echo: Echo, program: Program, change: Callable[[int], None], times: int,
    settled: int, growth: int,
) -> int:
    """Changes a program so many times, to which it is told which time it is. Meanwhile each connection is
    answered, one goes on through all of it, and after the `settled`th time the program's anonymous memory grows
    by less than `growth` bytes.

    Returns how many connections there were.
    """
    with topology.client.connect(AT.server, echo.port) as stream:
        with Knocks(topology, echo.port) as knocks:
            for number in range(1, times + 1):
                change(number)
                stream.sendall(b"%d" % number)
                assert stream.recv(100) == b"%d" % number
                if number == settled:
                    before = program.memory()
        assert program.memory() < before + growth
    assert set(knocks.outcomes) == {"answer"}
    return len(knocks.outcomes) + 1
