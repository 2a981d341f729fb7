"""Datagrams arrive as they were sent: every size, every target, in order from the first on."""

import random
import threading
from typing import Iterator

import pytest

from harness import upstreams
from harness.datagrams import MAXIMUM, DatagramEcho, Speaker
from harness.relaying import Relaying
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import DATAGRAM_PORT, Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

SIZES = [0, 1, 1472, 1500, 9000, 60000]

#: Bytes before the payload between Sluice and the server (RFC 1928 section 7).
HEADER = {"ipv4": 10, "ipv6": 22}

TARGETS = 16

#: Datagrams that a new flow may send before there is an association.
QUEUE = 32

SCRIPTED = upstreams.url(ADDRESSES["ipv4"].proxy)


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.fixture(params=["embedded", "scripted"])
def running(
    request: pytest.FixtureRequest, topology: Topology, scope: Capture
) -> Iterator[Sluice]:
    """Sluice with a server that carries datagrams whole."""
    upstream = request.param
    if upstream == "scripted":
        request.getfixturevalue("scripted")
        upstream = SCRIPTED
    with Sluice.capturing(topology, scope, upstream) as sluice:
        yield sluice


def test_every_size_comes_back_unchanged(
    topology: Topology, running: Sluice, family: str, datagram_echo: DatagramEcho
) -> None:
    to = ADDRESSES[family].server, datagram_echo.port
    with Speaker.of(topology, family) as speaker:
        for size in SIZES:
            assert speaker.ask(payload(size), to) == payload(size), f"{size} bytes"
        # And again in one go: none may be taken for the end or the beginning of another.
        for size in SIZES:
            speaker.send(payload(size), to)
        answers = sorted(len(speaker.receive()[0]) for _ in SIZES)
        assert answers == SIZES
        assert speaker.pending() == 0
    assert running.dropped() == {}


def test_equal_sizes_in_a_burst(
    topology: Topology, running: Sluice, family: str, datagram_echo: DatagramEcho
) -> None:
    """What the kernel may gather into one large read (UDP_GRO) and we send as one (UDP_SEGMENT)."""
    to = ADDRESSES[family].server, datagram_echo.port
    texts = [number.to_bytes(2, "big") + payload(1200) for number in range(100)]
    texts.append(payload(500))
    with Speaker.of(topology, family) as speaker:
        speaker.ask(b"an association, please", to)
        for text in texts:
            speaker.send(text, to)
        assert [speaker.receive()[0] for _ in texts] == texts
        assert speaker.pending() == 0


def test_largest(
    topology: Topology, running: Sluice, family: str, datagram_echo: DatagramEcho
) -> None:
    """As much as fits with its header passes; one byte more is dropped, counted, and harmless."""
    to = ADDRESSES[family].server, datagram_echo.port
    largest = MAXIMUM - HEADER[family]
    with Speaker.of(topology, family) as speaker:
        assert speaker.ask(payload(largest), to) == payload(largest)
        speaker.send(payload(largest + 1), to)
        assert speaker.ask(b"still there?", to) == b"still there?"
        assert speaker.pending() == 0
    assert running.dropped() == {"too_large": 1}


def test_one_socket_and_16_targets(
    topology: Topology, running: Sluice, family: str, datagram_echo: DatagramEcho
) -> None:
    """On other ports and addresses; every answer carries the source that was asked."""
    at = ADDRESSES[family]
    opened = running.status()["associations_opened"]
    echoes = [DatagramEcho(topology.server).__enter__() for _ in range(TARGETS // 2)]
    try:
        targets = [
            (address, echo.port) for address in (at.server, at.second) for echo in echoes]
        with Speaker.of(topology, family) as speaker:
            for target in targets:
                speaker.send(repr(target).encode(), target)
            answers = [speaker.receive() for _ in targets]
            assert sorted(answers) == sorted(
                (repr(target).encode(), target) for target in targets)
            assert speaker.pending() == 0
    finally:
        for echo in echoes:
            echo.__exit__()
    assert running.status()["associations_opened"] == opened + 1


def test_first_datagrams_wait_for_the_association(
    topology: Topology, scope: Capture, family: str, scripted: ScriptedUpstream
) -> None:
    at = ADDRESSES[family]
    texts = [f"{number}".encode() for number in range(QUEUE)]
    with Sluice.capturing(topology, scope, SCRIPTED) as sluice:
        sluice.wait_for_relaying()
        gate = threading.Event()
        scripted.behaviour = Behaviour(relaying=Relaying(gate=gate))
        with Speaker.of(topology, family) as speaker:
            known = len(scripted.conversations)
            for text in texts:
                speaker.send(text, (at.server, 7))
            wait_until(
                lambda: len(scripted.conversations) > known, "the association to be asked for")
            wait_until(
                lambda: scope.host(topology).backlog(DATAGRAM_PORT) == 0,
                "the datagrams to be read")
            assert speaker.pending() == 0
            gate.set()
            assert [speaker.receive()[0] for _ in texts] == texts
        (association,) = scripted.used()
        assert [one.payload for one in association.datagrams] == texts
        assert {one.destination for one in association.datagrams} == {(at.server, 7)}
        assert sluice.dropped() == {}


def test_queue_is_bounded(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream
) -> None:
    """A flow that goes on without an association loses datagrams, which is counted."""
    count = 2000
    to = ADDRESSES["ipv4"].server, 7
    with Sluice.capturing(topology, scope, SCRIPTED) as sluice:
        sluice.wait_for_relaying()
        gate = threading.Event()
        scripted.behaviour = Behaviour(relaying=Relaying(gate=gate))
        with Speaker.of(topology, "ipv4") as speaker:
            for number in range(count):
                speaker.send(str(number).encode(), to)
            dropped = wait_until(
                lambda: sluice.dropped().get("queue_full"), "datagrams to be dropped")
            gate.set()
            wait_until(lambda: scripted.used(), "the association")
            host = scope.host(topology)
            wait_until(
                lambda: sluice.status()["datagrams_upstream"] + host.lost(DATAGRAM_PORT)
                + sluice.dropped().get("queue_full", 0) == count, "every datagram to be counted")
            (association,) = scripted.used()
            # The first ones are those that were kept.
            kept = [int(one.payload) for one in association.datagrams[:QUEUE]]
            assert kept == list(range(QUEUE))
            assert dropped <= count - QUEUE
