"""What a session and a relayed chunk cost, held against limits: whoever makes them dearer sees it.

All of it is counted, nothing is timed. The limits are what was measured of a release build (others
may allocate more), with one session after the other, so that nothing is gathered into batches.
Whoever makes something cheaper lowers its limit.
"""

import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import upstreams
from harness.associating import GREETING, SELECTION
from harness.costs import Allocations, system_calls
from harness.programs import Program
from harness.relaying import encode_address
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import CAPTURES, Capture, Sluice, binary
from harness.targets import Scripted
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: From accepting a captured connection to having closed it: one pipelined handshake with the
#: upstream, a question and its answer of 64 bytes. Measured: 21.0 by either capture: recvfrom 5,
#: sendto 3, setsockopt 3, two each of accept4, epoll_ctl and close, one each of socket, connect,
#: shutdown and what tells the destination.
SYSTEM_CALLS_PER_SESSION = 21

#: The same for a client of `sluice serve`, which waits for each answer in its own handshake.
#: Measured: 21.0: recvfrom 6, sendto 4, setsockopt 1, the others as above.
SYSTEM_CALLS_PER_SERVED_SESSION = 21

#: Calls of epoll_wait come on top. Measured: 6.0 and 8.0. These are what it takes when every event
#: comes by itself, as on a busy machine: the connection, its first bytes, the upstream's
#: connection, the answers, and the two ends.
WAITS_PER_SESSION = 8
WAITS_PER_SERVED_SESSION = 9

#: A question or an answer of 64 bytes on an open connection, waits included. Measured: 3.0, one
#: each of epoll_wait, recvfrom and sendto.
SYSTEM_CALLS_PER_CHUNK = 3

#: 64 KiB of a long stream, either way, waits included. Measured: 0.22 to 2.9, as the kernel happens
#: to gather bytes, in seven of twelve streams at most 1.5; what is copied instead of spliced always takes
#: at least 2.
SYSTEM_CALLS_PER_64_KIB = 1.5

#: Calls of malloc and its kin for a session as above. Measured: 0.0.
ALLOCATIONS_PER_SESSION = 0
ALLOCATIONS_PER_SERVED_SESSION = 0

#: The same for a chunk of 64 bytes, or 64 KiB of a stream. Measured: 0.0.
ALLOCATIONS_PER_CHUNK = 0

#: Bytes of anonymous memory of a session on which nothing happens. Measured: 172; the design allows
#: 256.
MEMORY_PER_IDLE_SESSION = 176

#: Bytes of memory that are resident after the first flows. Measured: 10 to 11 MiB; 15.4 with the code of the
#: start.
RESIDENT = 13 << 20

#: One for each of its two connections; a pipe would be two more.
DESCRIPTORS_PER_IDLE_SESSION = 2

#: By how much a mean may be above its limit: by less than one call or allocation in every session,
#: or in every round trip of two chunks.
TOLERANCE_PER_SESSION, TOLERANCE_PER_CHUNK = 0.5, 0.25

#: By which calls a thread waits for events (each machine has some of them).
WAITS = {"epoll_wait", "epoll_pwait", "epoll_pwait2"}

#: Each measurement is the least of so many: what else happens meanwhile only adds.
ATTEMPTS = 3
STREAM_ATTEMPTS = 10

#: Sessions after which everything is there that is made once.
WARM = 20

#: How many each attempt looks at.
SESSIONS, CHUNKS, STREAM_CHUNKS = 50, 400, 1024

#: Bytes of a chunk of a stream.
CHUNK = 64 << 10

#: How many idle sessions are compared.
FEW, MANY = 256, 1280

#: Bytes of a question, and of its answer.
MESSAGE = 64

#: What a question begins with: how many bytes it has, and how many the answer shall have.
HEAD = struct.Struct("!QQ")

AT = ADDRESSES["ipv4"]


#: Rules of which only the last holds for a session.
RULES = (
    "ports=81-90 to=reject", f"addresses={AT.second} to=reject", "names=*.example to=reject",
    f"sources={AT.client} to=default")


def answer(stream: socket.socket) -> None:
    """The target: gives questions the answers that they ask for."""
    while head := stream.recv(HEAD.size, socket.MSG_WAITALL):
        asked, answered = HEAD.unpack(head)
        take(stream, asked - HEAD.size)
        stream.sendall(bytes(answered))


def ask(stream: socket.socket, asked: int = MESSAGE, answered: int = MESSAGE) -> None:
    """Sends a question of so many bytes and takes the whole answer."""
    stream.sendall(HEAD.pack(asked, answered) + bytes(asked - HEAD.size))
    take(stream, answered)


def take(stream: socket.socket, count: int) -> None:
    while count > 0:
        part = stream.recv(min(count, 1 << 20))
        assert part, f"ended {count} bytes too early"
        count -= len(part)


@pytest.fixture(params=CAPTURES)
def by(request: pytest.FixtureRequest) -> str:
    """How TCP is captured, where it does not matter whose it is."""
    return request.param


@dataclass
class Subject:
    """The program that is looked at, with a way to the target through it."""

    program: Program
    connect: Callable[[], socket.socket]

    def warm(self, allocations: Allocations | None) -> None:
        """Makes it ready to be looked at."""
        if allocations:
            assert allocations.counts(self.program)
        self.serve(WARM)

    def serve(self, sessions: int) -> None:
        """So many sessions, each over before the next begins."""
        idle = len(self.program.descriptors())
        for _ in range(sessions):
            with self.connect() as stream:
                ask(stream)
            wait_until(
                lambda: len(self.program.descriptors()) <= idle, "the session to be closed",
                interval=0.001)


@contextlib.contextmanager
def capturing(
    topology: Topology, capture: Capture, allocations: Allocations | None = None,
    rules: tuple[str, ...] = (),
) -> Iterator[Subject]:
    """`sluice run`, its upstream known."""
    options = [word for rule in rules for word in ("--rule", rule)]
    upstream = upstreams.url(AT.proxy)
    behaviour = Behaviour(joined_answers=True, target=answer)
    with ScriptedUpstream(topology.proxy, behaviour), Sluice.capturing(
        topology, capture, upstream, "--workers", "1", *options,
        env=allocations and allocations.environment(),
    ) as sluice:
        sluice.wait_for("pipelining")
        sluice.wait_for_relaying()
        subject = Subject(sluice, lambda: topology.client.connect(AT.server, 80))
        subject.warm(allocations)
        yield subject


@contextlib.contextmanager
def serving(topology: Topology, allocations: Allocations | None = None) -> Iterator[Subject]:
    """`sluice serve`."""
    listen = f"{AT.proxy}:{upstreams.PORT}"
    with Scripted(topology.server, answer) as target, Program(
        topology.proxy, binary(), "serve", "--listen", listen,
        env=allocations and allocations.environment(),
    ) as program:
        program.wait_for_port(upstreams.PORT)

        def connect() -> socket.socket:
            stream = topology.client.connect(AT.proxy, upstreams.PORT)
            stream.sendall(GREETING)
            assert stream.recv(len(SELECTION), socket.MSG_WAITALL) == SELECTION
            place = encode_address(AT.server) + struct.pack("!H", target.port)
            stream.sendall(b"\x05\x01\x00" + place)
            reply = stream.recv(3 + len(place), socket.MSG_WAITALL)
            assert reply[:2] == b"\x05\x00"
            return stream

        subject = Subject(program, connect)
        subject.warm(allocations)
        yield subject


#: What one session or chunk costs on the average, by name.
Costs = dict[str, float]


def least(measure: Callable[[], Costs], attempts: int = ATTEMPTS) -> Costs:
    return min((measure() for _ in range(attempts)), key=lambda costs: sum(costs.values()))


def calls_each(
    subject: Subject, folder: Path, work: Callable[[int], None], count: int
) -> Costs:
    """System calls for each of `count` times that `work` is told to do something.

    From two runs that differ by so many times: what is done once in a run is in both.
    """
    def measure() -> Costs:
        runs = []
        for times in (count, 2 * count):
            with system_calls(subject.program, folder) as calls:
                work(times)
            runs.append(calls)
        short, long = runs
        return {
            name: (long[name] - short[name]) / count
            for name in short | long if long[name] != short[name]}

    return least(measure)


def allocations_each(allocations: Allocations, work: Callable[[int], None], count: int) -> Costs:
    """The same for allocations."""
    def measure() -> Costs:
        before = allocations.count()
        work(count)
        return {"allocations": (allocations.count() - before) / count}

    return least(measure)


def check_session(calls: Costs, limit: float, waits_limit: float) -> None:
    waits = {name: count for name, count in calls.items() if name in WAITS}
    others = {name: count for name, count in calls.items() if name not in WAITS}
    assert waits and others
    check(others, limit, TOLERANCE_PER_SESSION)
    check(waits, waits_limit, TOLERANCE_PER_SESSION)


def check(costs: Costs, limit: float, tolerance: float) -> None:
    total = sum(costs.values())
    assert total <= limit + tolerance, f"{total:.2f} where {limit} is the limit: {costs}"


def round_trips(stream: socket.socket) -> Callable[[int], None]:
    """Half as many round trips as there shall be chunks."""
    def work(chunks: int) -> None:
        for _ in range(chunks // 2):
            ask(stream)

    return work


def streams(stream: socket.socket, direction: str) -> Callable[[int], None]:
    """Chunks of 64 KiB in one go, which is when they become a stream."""
    def work(chunks: int) -> None:
        sizes = MESSAGE, chunks * CHUNK
        ask(stream, *(sizes if direction == "download" else reversed(sizes)))

    return work


class TestSystemCalls:
    def test_session(self, topology: Topology, capture: Capture, tmp_path: Path) -> None:
        with capturing(topology, capture) as subject:
            calls = calls_each(subject, tmp_path, subject.serve, SESSIONS)
        check_session(calls, SYSTEM_CALLS_PER_SESSION, WAITS_PER_SESSION)

    def test_session_by_rules(self, topology: Topology, by: str, tmp_path: Path) -> None:
        with capturing(topology, Capture("gateway", by), rules=RULES) as subject:
            calls = calls_each(subject, tmp_path, subject.serve, SESSIONS)
        check_session(calls, SYSTEM_CALLS_PER_SESSION, WAITS_PER_SESSION)

    def test_served_session(self, topology: Topology, tmp_path: Path) -> None:
        with serving(topology) as subject:
            calls = calls_each(subject, tmp_path, subject.serve, SESSIONS)
        check_session(calls, SYSTEM_CALLS_PER_SERVED_SESSION, WAITS_PER_SERVED_SESSION)

    def test_chunk(self, topology: Topology, by: str, tmp_path: Path) -> None:
        with capturing(topology, Capture("gateway", by)) as subject, subject.connect() as stream:
            calls = calls_each(subject, tmp_path, round_trips(stream), CHUNKS)
        assert calls
        check(calls, SYSTEM_CALLS_PER_CHUNK, TOLERANCE_PER_CHUNK)

    @pytest.mark.parametrize("direction", ["upload", "download"])
    def test_stream(self, topology: Topology, by: str, direction: str, tmp_path: Path) -> None:
        with capturing(topology, Capture("gateway", by)) as subject, subject.connect() as stream:
            work = streams(stream, direction)

            def measure() -> Costs:
                with system_calls(subject.program, tmp_path) as calls:
                    work(STREAM_CHUNKS)
                return {name: number / STREAM_CHUNKS for name, number in calls.items()}

            calls = least(measure, STREAM_ATTEMPTS)
        check(calls, SYSTEM_CALLS_PER_64_KIB, 0)


class TestAllocations:
    @pytest.fixture(scope="class")
    def allocations(self, folder: Path) -> Allocations:
        return Allocations(folder)

    def test_session(
        self, topology: Topology, capture: Capture, allocations: Allocations
    ) -> None:
        with capturing(topology, capture, allocations) as subject:
            check(
                allocations_each(allocations, subject.serve, SESSIONS),
                ALLOCATIONS_PER_SESSION, TOLERANCE_PER_SESSION)

    def test_session_by_rules(
        self, topology: Topology, by: str, allocations: Allocations
    ) -> None:
        with capturing(topology, Capture("gateway", by), allocations, RULES) as subject:
            check(
                allocations_each(allocations, subject.serve, SESSIONS),
                ALLOCATIONS_PER_SESSION, TOLERANCE_PER_SESSION)

    def test_served_session(self, topology: Topology, allocations: Allocations) -> None:
        with serving(topology, allocations) as subject:
            check(
                allocations_each(allocations, subject.serve, SESSIONS),
                ALLOCATIONS_PER_SERVED_SESSION, TOLERANCE_PER_SESSION)

    @pytest.mark.parametrize("kind", ["round trips", "upload", "download"])
    def test_chunk(
        self, topology: Topology, by: str, kind: str, allocations: Allocations
    ) -> None:
        capture = Capture("gateway", by)
        with capturing(topology, capture, allocations) as subject, subject.connect() as stream:
            if kind == "round trips":
                costs = allocations_each(allocations, round_trips(stream), CHUNKS)
            else:
                costs = allocations_each(allocations, streams(stream, kind), STREAM_CHUNKS)
        check(costs, ALLOCATIONS_PER_CHUNK, TOLERANCE_PER_CHUNK)


def test_resident_memory(topology: Topology, by: str) -> None:
    """The code of the start is given back, and does not come back with what flows need."""
    with capturing(topology, Capture("gateway", by)) as subject:
        assert subject.program.memory("VmRSS") <= RESIDENT


def test_idle_sessions(topology: Topology, by: str) -> None:
    with capturing(topology, Capture("gateway", by)) as subject, contextlib.ExitStack() as held:
        sluice = subject.program
        memory, descriptors = [], []
        for count in (FEW, MANY - FEW):
            for _ in range(count):
                ask(held.enter_context(subject.connect()))
            memory.append(sluice.memory())
            descriptors.append(Counter(one.partition(":")[0] for one in sluice.descriptors()))
        assert sluice.status()["live_sessions"] == MANY
        more = MANY - FEW
        assert descriptors[1] - descriptors[0] == {"socket": DESCRIPTORS_PER_IDLE_SESSION * more}
        assert (memory[1] - memory[0]) / more <= MEMORY_PER_IDLE_SESSION
