"""That what the tests of UDP are made of works: without Sluice, directly and through SOCKS."""

import random
from pathlib import Path

import pytest

from harness import resolvers, traffic
from harness.associating import Associating
from harness.datagrams import MAXIMUM, DatagramEcho, Reflector, Speaker, ask, fate
from harness.programs import Program
from harness.resolvers import LARGE, NAME, RECORDS, Arrivals, Unbound, dig
from harness.topology import ADDRESSES, Topology

SIZES = [0, 1, 1472, 1500, 9000, 60000, MAXIMUM]


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_echo_of_every_size(
    topology: Topology, datagram_echo: DatagramEcho, family: str
) -> None:
    before = topology.leaked(datagram_echo.port, "udp")
    for size in SIZES:
        assert ask(topology, family, datagram_echo.port, payload(size)) == payload(size)
    assert datagram_echo.peers()[-1] == ADDRESSES[family].client
    after = topology.leaked(datagram_echo.port, "udp")
    assert {name for name in after if after[name] > before[name]} == {family}


def test_reflector_and_a_third_host(topology: Topology, family: str) -> None:
    at = ADDRESSES[family]
    with Reflector(topology.server) as target, Speaker.of(topology, family) as speaker:
        mapped = {
            Reflector.decode(speaker.ask(b"who am I?", (address, target.port)))
            for address in (at.server, at.second)}
        assert len(mapped) == 1
        target.send(b"unasked", mapped.pop(), at.third)
        assert speaker.receive() == (b"unasked", (at.third, target.port))


def test_fates(topology: Topology, datagram_echo: DatagramEcho, family: str) -> None:
    server = ADDRESSES[family].server
    assert fate(topology.client, (server, datagram_echo.port)).outcome == "answer"
    refused = fate(topology.client, (server, 9))
    assert refused.outcome == "ECONNREFUSED"
    assert refused.seconds < 1
    with Reflector(topology.server) as silent:
        silent.answer = lambda _: None  # type: ignore[method-assign]
        assert fate(topology.client, (server, silent.port), 0.2).outcome == "silence"


def test_unbound_and_dig(topology: Topology, unbound: Unbound, family: str) -> None:
    at = ADDRESSES[family]
    with Arrivals(topology.server, resolvers.PORT) as arrivals:
        for kind, value in RECORDS.items():
            answer = dig(topology.client, at.server, NAME, kind)
            assert (answer.records, answer.transport) == ([value], "UDP")
        assert (arrivals.datagrams(), arrivals.connections()) == (len(RECORDS), 0)
        assert dig(topology.client, at.server, NAME, "A", "+tcp").transport == "TCP"
        assert (arrivals.datagrams(), arrivals.connections()) == (len(RECORDS), 1)
    assert unbound.askers()[-1] == at.client
    for name, size in LARGE.items():
        answer = dig(topology.client, at.server, name, "TXT", "+bufsize=4096")
        assert sum(map(len, answer.records)) > size
        assert answer.retried == (size >= 4096)


def test_dnsmasq(topology: Topology, unbound: Unbound, family: str) -> None:
    at = ADDRESSES[family]
    with resolvers.dnsmasq(topology.gateway, at.server):
        assert dig(topology.client, at.gateway_lan).records == [RECORDS["A"]]
    assert unbound.askers()[-1] == at.gateway_wan


def test_quic(topology: Topology, tmp_path: Path, family: str) -> None:
    with traffic.Quic(topology.server, tmp_path, payload(300_000)) as server:
        assert server.fetch(topology.client, ADDRESSES[family].server) == server.content
        assert server.senders() == {ADDRESSES[family].client}


def test_iperf(topology: Topology, family: str) -> None:
    with traffic.iperf_server(topology.server) as server:
        for direction in [], ["--reverse"]:
            result = traffic.iperf(topology.client, ADDRESSES[family].server, *direction)
            assert result["packets"] > 100
        assert traffic.iperf_senders(server, 2) == [ADDRESSES[family].client] * 2


@pytest.mark.parametrize("control", ADDRESSES)
def test_dante_carries_both_families(
    topology: Topology, dante: Program, datagram_echo: DatagramEcho, control: str, family: str
) -> None:
    at = ADDRESSES[family]
    with Associating(topology.client, ADDRESSES[control].proxy) as association:
        for size in SIZES[:-1]:
            to = at.server, datagram_echo.port
            assert association.ask(payload(size), to) == payload(size)
    assert datagram_echo.peers()[-1] == at.proxy_exit


def test_dante_hears_those_it_was_told_to_ask(
    topology: Topology, dante: Program, family: str
) -> None:
    """What the tests of mapped endpoints have to know: of an association's IPv6 targets it hears the
    first alone; by IPv4 it does so up to the second, and everybody afterwards."""
    at = ADDRESSES[family]
    with Reflector(topology.server) as target, \
            Associating(topology.client, ADDRESSES["ipv4"].proxy) as association:
        endpoint = Reflector.decode(association.ask(b"", (at.server, target.port)))
        target.send(b"unasked", endpoint, at.third)
        with pytest.raises(TimeoutError):
            association.receive(timeout=0.5)
        association.send(b"", (at.second, target.port))
        if family == "ipv6":
            with pytest.raises(TimeoutError):
                association.receive(timeout=0.5)
        else:
            answer, _ = association.receive()
            assert Reflector.decode(answer) == endpoint
            target.send(b"unasked", endpoint, at.third)
            assert association.receive() == (b"unasked", (at.third, target.port))
