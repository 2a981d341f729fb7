"""The main job for UDP: real programs through servers that carry it, by scope and family, and the
target sees the server's address."""

from pathlib import Path
from typing import Iterator

import pytest

from harness import resolvers, traffic
from harness.datagrams import DatagramEcho, Speaker, ask
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.sluice import DATAGRAM_PORT, Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.upstreams import Carrier
from harness.waiting import wait_until


@pytest.fixture
def running(topology: Topology, scope: Capture, carrier: Carrier) -> Iterator[Sluice]:
    with Sluice.capturing(topology, scope, carrier.url) as sluice:
        sluice.wait_for_relaying()
        yield sluice


@pytest.mark.parametrize("options", [[], ["+tcp"]], ids=["udp", "tcp"])
def test_dig(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, unbound: Unbound,
    running: Sluice, options: list[str],
) -> None:
    """What is asked by UDP is carried by UDP, not only by the way round over TCP."""
    leaked = topology.leaked(resolvers.PORT, "udp"), topology.leaked(resolvers.PORT)
    before = len(unbound.askers())
    with resolvers.Arrivals(topology.server, resolvers.PORT) as arrivals:
        for kind, value in RECORDS.items():
            answer = dig(topology.client, ADDRESSES[family].server, NAME, kind, *options)
            assert (answer.status, answer.records) == ("NOERROR", [value])
            assert answer.milliseconds < 4000
        counts = arrivals.datagrams(), arrivals.connections()
    assert counts == ((0, len(RECORDS)) if options else (len(RECORDS), 0))
    assert unbound.askers()[before:] == [carrier.exit(scope, family)] * len(RECORDS)
    if carrier.name == "dante":  # what the embedded server sends passes there as well
        assert leaked == (
            topology.leaked(resolvers.PORT, "udp"), topology.leaked(resolvers.PORT))


@pytest.mark.parametrize("direction", [[], ["--reverse"]], ids=["upload", "download"])
def test_iperf(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, running: Sluice,
    direction: list[str],
) -> None:
    with traffic.iperf_server(topology.server) as server:
        result = traffic.iperf(topology.client, ADDRESSES[family].server, *direction)
        assert traffic.iperf_senders(server) == [carrier.exit(scope, family)]
    assert result["packets"] > 300
    assert result["lost_packets"] <= result["packets"] * 0.01
    counts = running.status()
    moved = counts["datagrams_downstream" if direction else "datagrams_upstream"]
    assert moved >= result["packets"] * 0.99


def test_quic(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, running: Sluice,
    tmp_path: Path,
) -> None:
    content = bytes(range(256)) * 4000
    with traffic.Quic(topology.server, tmp_path, content) as server:
        assert server.fetch(topology.client, ADDRESSES[family].server) == content
        assert server.senders() == {carrier.exit(scope, family)}
    assert running.status()["datagrams_upstream"] > 0


def test_echo_is_counted(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, running: Sluice,
    datagram_echo: DatagramEcho,
) -> None:
    """One association for all that one socket says, and another for the next socket."""
    at = ADDRESSES[family]
    start = running.status()
    del datagram_echo.received[:]
    with Speaker.of(topology, family) as speaker:
        for number in range(10):
            text = f"question {number}".encode()
            assert speaker.ask(text, (at.server, datagram_echo.port)) == text
        assert running.status()["associations"] == start["associations"] + 1
    ask(topology, family, datagram_echo.port)
    status = running.status()
    assert status["associations_opened"] == start["associations_opened"] + 2
    assert status["datagrams_upstream"] == start["datagrams_upstream"] + 11
    assert status["datagrams_downstream"] == start["datagrams_downstream"] + 11
    assert status["udp"] == "relayed"
    assert running.dropped() == {}
    assert set(datagram_echo.peers()) == {carrier.exit(scope, family)}


def test_services_of_the_host_stay_reachable(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, running: Sluice
) -> None:
    """What the client answers to somebody who asked it is no flow of its own."""
    at = ADDRESSES[family]
    opened = running.status()["associations_opened"]
    with DatagramEcho(topology.client, [at.client]) as service, \
            Speaker(topology.server, at.server) as outside:
        for text in b"first", b"second":
            assert outside.ask(text, (at.client, service.port)) == text
        assert service.peers() == [at.server] * 2
    assert running.status()["associations_opened"] == opened


def test_datagram_to_the_listener_itself(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, running: Sluice,
    datagram_echo: DatagramEcho,
) -> None:
    """It has no destination but the listener: sent on, it would come back for ever."""
    at = ADDRESSES[family]
    host = scope.host(topology)
    places = ["::1" if family == "ipv6" else "127.0.0.1"]
    places.append(at.client if scope.scope == "machine" else at.gateway_lan)
    opened = running.status()["associations_opened"]
    speakers = [Speaker(host, "::" if family == "ipv6" else "0.0.0.0") for _ in places]
    if scope.scope == "gateway":
        speakers.append(Speaker.of(topology, family))
        places.append(at.gateway_lan)
    for speaker, place in zip(speakers, places):
        for _ in range(10):
            speaker.send(b"round and round", (place, DATAGRAM_PORT))
    wait_until(lambda: host.backlog(DATAGRAM_PORT) == 0, "the datagrams to be read")
    ask(topology, family, datagram_echo.port)
    assert running.status()["associations_opened"] == opened + 1
    assert set(running.dropped()) <= {"loop"}
    for speaker in speakers:
        assert speaker.pending() == 0
        speaker.socket.close()
