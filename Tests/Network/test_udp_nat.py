"""How the way through Sluice looks to those who make holes in NATs: as endpoint-independent mapping
and filtering (RFC 4787), as far as the server does that."""

from typing import Iterator

import pytest

from harness.datagrams import Endpoint, Reflector, Speaker, bind
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.upstreams import Carrier

#: A port of the server that nobody has.
CLOSED = 9

#: Who carries which family. (An association of Dante hears one IPv6 target only.)
CARRIED = pytest.mark.parametrize(
    "carrier, family", [("dante", "ipv4"), ("embedded", "ipv4"), ("embedded", "ipv6")],
    indirect=["carrier"])


@pytest.fixture(scope="module")
def reflectors(topology: Topology) -> Iterator[list[Reflector]]:
    """Two, on ports of their own, each on every address of the server."""
    with Reflector(topology.server) as one, Reflector(topology.server) as other:
        yield [one, other]


@pytest.fixture
def running(topology: Topology, scope: Capture, carrier: Carrier) -> Iterator[Sluice]:
    with Sluice.capturing(topology, scope, carrier.url) as sluice:
        yield sluice


def mapped(speaker: Speaker, address: str, reflector: Reflector) -> Endpoint:
    """The endpoint at which a target sees us."""
    return Reflector.decode(speaker.ask(b"who am I?", (address, reflector.port)))


def found_out(speaker: Speaker, family: str, reflector: Reflector) -> Endpoint:
    """The same, as those find out who ask several servers. (Up to the second one, Dante hears the
    first alone.)"""
    at = ADDRESSES[family]
    (endpoint,) = {mapped(speaker, address, reflector) for address in (at.server, at.second)}
    return endpoint


@CARRIED
def test_one_mapping_for_every_destination(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, running: Sluice,
    reflectors: list[Reflector],
) -> None:
    at = ADDRESSES[family]
    with Speaker.of(topology, family) as speaker, Speaker.of(topology, family) as other:
        endpoints = {
            mapped(speaker, address, reflector)
            for address in at.of_server() for reflector in reflectors}
        assert len(endpoints) == 1
        endpoint = endpoints.pop()
        assert endpoint[0] == carrier.exit(scope, family)
        assert mapped(other, at.server, reflectors[0]) != endpoint, "another socket's own mapping"


@CARRIED
def test_third_host_reaches_the_mapped_endpoint(
    topology: Topology, carrier: Carrier, family: str, running: Sluice,
    reflectors: list[Reflector],
) -> None:
    """Nobody has asked it, neither its address nor its port; and it can be answered."""
    at = ADDRESSES[family]
    with Speaker.of(topology, family) as speaker, bind(topology.server, at.third) as third:
        endpoint = found_out(speaker, family, reflectors[0])
        third.settimeout(20)
        third.sendto(b"hello from a stranger", endpoint)
        text, source = speaker.receive()
        assert (text, source) == (b"hello from a stranger", (at.third, third.getsockname()[1]))
        speaker.send(b"hello, stranger", source)
        answer, sender = third.recvfrom(100)
        assert (answer, sender[:2]) == (b"hello, stranger", endpoint)


def test_closed_port_ends_nothing(
    topology: Topology, carrier: Carrier, family: str, running: Sluice,
    reflectors: list[Reflector],
) -> None:
    """Dante sends an ICMP error about its relay when it was the target that refused. The flow lives as
    long as its control connection."""
    server = ADDRESSES[family].server
    opened = running.status()["associations_opened"]
    with Speaker.of(topology, family) as speaker, Speaker.of(topology, family) as other:
        for number in range(3):
            speaker.send(b"anybody?", (server, CLOSED))
            # What comes back from there comes before this.
            for _ in range(3):
                mapped(other, server, reflectors[0])
            assert running.status()["associations"] == 2, f"after datagram {number}"
        assert len({mapped(speaker, server, one) for one in reflectors}) == 1
    assert running.status()["associations_opened"] == opened + 2


@pytest.mark.parametrize("carrier, family", [("dante", "ipv4")], indirect=["carrier"])
def test_hole_punched_between_two_clients(
    topology: Topology, carrier: Carrier, family: str, running: Sluice,
    reflectors: list[Reflector],
) -> None:
    """Each sends to the other's mapped endpoint, as WebRTC does. (Those of the embedded server are
    addresses of the host, which are never captured.)"""
    with Speaker.of(topology, family) as one, Speaker.of(topology, family) as other:
        here = found_out(one, family, reflectors[0])
        there = found_out(other, family, reflectors[1])
        one.send(b"to the other", there)
        assert other.receive() == (b"to the other", here)
        other.send(b"and back", here)
        assert one.receive() == (b"and back", there)
