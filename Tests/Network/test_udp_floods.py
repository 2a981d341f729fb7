"""Very many clients, and one that sends very much: memory, descriptors and other clients stay as they
are."""

from typing import Iterator

import pytest

from harness import upstreams
from harness.crowd import Crowd
from harness.datagrams import DatagramEcho, Reflector, Speaker, ask
from harness.programs import Program
from harness.relaying import Relaying
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import DATAGRAM_PORT, Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: Clients by the server's name. A scripted server takes its time for each.
CLIENTS = {"embedded": 50_000, "scripted": 5_000}

#: Associations that may live at once in these tests.
CAP = 500

#: Datagrams sent at a time, so that few are lost in front of Sluice.
BATCH = 100


def bound(associations: int) -> int:
    """Bytes of memory that a run may take beyond what it has at the start: for each association 64 KiB,
    which are its state and, while it is being made, its queue of first datagrams; and 16 MiB for what
    all share, which are buffers for batches of the largest datagrams and the allocator's slack. Clients
    that are gone may cost nothing: 1 KiB left behind by each of 50,000 would be more than this."""
    return associations * (64 << 10) + (16 << 20)


class Silent(Reflector):
    """Hears everything and says nothing."""

    def answer(self, received: object) -> None:
        return None


@pytest.fixture
def silent(topology: Topology) -> Iterator[Silent]:
    with Silent(topology.server) as target:
        yield target


@pytest.fixture
def crowd(topology: Topology, family: str) -> Iterator[Crowd]:
    with Crowd(topology, family) as clients:
        yield clients


@pytest.mark.parametrize("server", CLIENTS)
def test_very_many_clients(
    topology: Topology, scope: Capture, server: str, family: str, silent: Silent, crowd: Crowd,
    request: pytest.FixtureRequest,
) -> None:
    """Each with one datagram that nobody answers."""
    upstream, clients = server, CLIENTS[server]
    if server == "scripted":
        scripted: ScriptedUpstream = request.getfixturevalue("scripted")
        scripted.behaviour = Behaviour(relaying=Relaying(silent=True))
        upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    to = ADDRESSES[family].server, silent.port
    host = scope.host(topology)
    options = [
        "--udp-associations", str(CAP), "--udp-unreplied-timeout", "2", "--udp-timeout", "2"]
    with Sluice.capturing(topology, scope, upstream, *options) as sluice:
        start = sluice.wait_for_relaying()
        sluice.wait_for_status("associations", 0)
        descriptors, memory = len(sluice.descriptors()), sluice.memory()
        most, largest = 0, 0
        for first in range(0, clients, BATCH):
            for number in range(first, first + BATCH):
                crowd.send(number, b"the only one", to)
            wait_until(lambda: host.backlog(DATAGRAM_PORT) == 0, "the datagrams to be read")
            if first % 1000 == 0:
                most = max(most, sluice.status()["associations"])
                largest = max(largest, sluice.memory())
        assert 0 < most <= CAP
        assert largest - memory <= bound(CAP), f"{largest - memory} bytes more"
        lost = host.lost(DATAGRAM_PORT)
        assert lost <= clients // 10, "the test has sent too fast"

        def accounted() -> int:
            now = sluice.status()
            dropped: int = sum(now["datagrams_dropped"].values())
            return now["associations_opened"] - start["associations_opened"] + dropped

        # Every one that was read had an association for a while, or was counted.
        wait_until(lambda: accounted() >= clients - lost, "every datagram to be counted")
        wait_until(lambda: sluice.status()["associations"] == 0, "every association to end")
        wait_until(
            lambda: len(sluice.descriptors()) <= descriptors,
            f"every descriptor to be closed: {descriptors} were open before")
        assert sluice.memory() - memory <= bound(CAP)
        if server == "scripted":
            scripted.behaviour = Behaviour()
        with DatagramEcho(topology.server) as echo:
            assert ask(topology, family, echo.port) == b"hello"
        summary = sluice.finish()
    assert summary["associations"] == 0


def test_cap_evicts_the_least_recently_used(
    topology: Topology, scope: Capture, family: str, datagram_echo: DatagramEcho
) -> None:
    """Flows that talk keep their association; the one that has been silent longest makes room."""
    to = ADDRESSES[family].server, datagram_echo.port
    # The least recently used of one worker.
    options = ["--udp-associations", "4", "--workers", "1"]
    with Sluice.capturing(topology, scope, "embedded", *options) as sluice:
        sluice.wait_for_relaying()
        speakers = [Speaker.of(topology, family) for _ in range(5)]
        try:
            for one in speakers[:4]:
                one.ask(b"here", to)
            del datagram_echo.received[:]
            speakers[0].ask(b"first", to)
            before = datagram_echo.received[0].sender
            speakers[4].ask(b"one too many", to)
            status = sluice.status()
            assert status["associations"] == 4
            speakers[0].ask(b"still the same", to)
            assert datagram_echo.received[-1].sender == before
            assert sluice.status()["associations_opened"] == status["associations_opened"]
            # The second had been silent longest, and gets a new one.
            speakers[1].ask(b"and I?", to)
            status = sluice.status()
            assert status["associations"] == 4
        finally:
            for one in speakers:
                one.socket.close()


def test_cap_of_one_client_spares_the_others(
    topology: Topology, scope: Capture, family: str, datagram_echo: DatagramEcho, crowd: Crowd
) -> None:
    """It makes room for its own new flows by its own old ones."""
    to = ADDRESSES[family].server, datagram_echo.port
    options = ["--udp-per-client", "8"]
    with Sluice.capturing(topology, scope, "embedded", *options) as sluice, \
            Speaker(topology.client, crowd.address(1)) as quiet:
        sluice.wait_for_relaying()
        quiet.ask(b"first", to)
        before = datagram_echo.received[-1].sender
        for _ in range(50):
            ask(topology, family, datagram_echo.port)
        assert sluice.status()["associations"] <= 9
        quiet.ask(b"second", to)
        assert datagram_echo.received[-1].sender == before


#: Sends as fast as it can, from many sockets in turn, a fixed number of datagrams.
FLOOD = """
import socket, sys
address, port, source, sockets, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:])
number = socket.AF_INET6 if ":" in address else socket.AF_INET
senders = []
for _ in range(sockets):
    one = socket.socket(number, socket.SOCK_DGRAM)
    if ":" in address:
        one.setsockopt(socket.IPPROTO_IPV6, 78, 1)  # IPV6_FREEBIND
    one.bind((source, 0))
    senders.append(one)
print("flooding", flush=True)
payload = bytes(1200)
for round in range(count):
    try:
        senders[round % sockets].sendto(payload, (address, port))
    except OSError:
        pass
print("over", flush=True)
"""

DATAGRAMS = 200_000


@pytest.mark.parametrize("sockets", [1, 3000], ids=["one-flow", "3000-flows"])
def test_flood_of_one_client(
    topology: Topology, scope: Capture, family: str, datagram_echo: DatagramEcho, silent: Silent,
    crowd: Crowd, sockets: int,
) -> None:
    """Meanwhile another client's flow, and its new ones, get their answers. What is lost in front of
    Sluice, where all wait in one line, is asked for again, as every program on UDP does."""
    server = ADDRESSES[family].server
    command = [
        "/usr/bin/python3", "-S", "-c", FLOOD, server, str(silent.port), crowd.address(0),
        str(sockets), str(DATAGRAMS)]

    def persist(speaker: Speaker, text: bytes) -> None:
        """Asks until it is answered, ten times a second."""
        for _ in range(100):
            speaker.send(text, (server, datagram_echo.port))
            try:
                while speaker.receive(timeout=0.1)[0] != text:
                    pass
                return
            except TimeoutError:
                continue
        raise AssertionError(f"{text!r} has not been answered")

    options = ["--udp-associations", "2000"]
    with Sluice.capturing(topology, scope, "embedded", *options) as sluice, \
            Speaker.of(topology, family) as speaker:
        sluice.wait_for_relaying()
        persist(speaker, b"before")
        memory = sluice.memory()
        asked = 0
        with Program(topology.client, "prlimit", "--nofile=4096", *command, name="flood") as flood:
            flood.wait_for_output(lambda: "flooding" in flood.lines, "flooding", 20)
            while "over" not in flood.lines and flood.process.poll() is None:
                persist(speaker, f"old flow {asked}".encode())
                with Speaker.of(topology, family) as new:
                    persist(new, f"new flow {asked}".encode())
                asked += 1
            assert "over" in flood.lines, flood.output()
        assert asked > 0
        assert sluice.memory() - memory <= bound(2000)
        assert ask(topology, family, datagram_echo.port) == b"hello"


def test_full_listener_is_counted(
    topology: Topology, scope: Capture, family: str, datagram_echo: DatagramEcho
) -> None:
    """What comes while nobody takes it, and more than can wait. The kernel tells it with the next
    datagram that it has room for."""
    to = ADDRESSES[family].server, datagram_echo.port
    with Sluice.capturing(topology, scope, "embedded") as sluice, \
            Speaker.of(topology, family) as speaker:
        sluice.wait_for_relaying()
        assert speaker.ask(b"before", to) == b"before"
        assert sluice.dropped() == {}
        with sluice.stopped():
            for _ in range(20_000):
                speaker.send(bytes(1200), to)
        sent = wait_until(lambda: sluice.status()["datagrams_upstream"] - 1, "what could wait")
        assert ask(topology, family, datagram_echo.port) == b"hello"
        assert sluice.dropped()["listener_full"] >= 10_000
        assert sent < 10_000
