"""DNS by UDP, through servers that carry it: as it is asked, or by TCP where that is chosen or where
the resolver does not answer."""

import pytest

from harness import dns, resolvers
from harness.dns import CountingResolver
from harness.resolvers import LARGE, NAME, RECORDS, Arrivals, Unbound, dig
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.upstreams import Carrier


def test_dnsmasq_holds_the_port(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, unbound: Unbound
) -> None:
    """On 0.0.0.0:53 and [::]:53 of the host where Sluice runs: answers leave in the name of a resolver
    outside all the same, and dnsmasq does its own work."""
    at = ADDRESSES[family]
    own = at.client if scope.scope == "machine" else at.gateway_lan
    with resolvers.dnsmasq(scope.host(topology), at.second), \
            Sluice.capturing(topology, scope, carrier.url) as sluice:
        sluice.wait_for_relaying()
        for options in [], ["+tcp"]:
            answer = dig(topology.client, at.server, NAME, "A", *options)
            assert (answer.records, answer.server) == ([RECORDS["A"]], at.server)
            assert unbound.askers()[-1] == carrier.exit(scope, family)
        assert dig(topology.client, own).records == [RECORDS["A"]]


def test_large_answers(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, unbound: Unbound
) -> None:
    """Whole where they fit, and by TCP where the resolver itself has truncated them."""
    at = ADDRESSES[family]
    with Sluice.capturing(topology, scope, carrier.url):
        for name, size in LARGE.items():
            answer = dig(topology.client, at.server, name, "TXT", "+bufsize=4096")
            assert sum(map(len, answer.records)) >= size
            assert answer.transport == ("UDP" if size < 4096 else "TCP")


def test_tcp_by_choice(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, unbound: Unbound
) -> None:
    at = ADDRESSES[family]
    options = ["--dns", "tcp"]
    with Arrivals(topology.server, dns.PORT) as arrivals, \
            Sluice.capturing(topology, scope, carrier.url, *options) as sluice:
        for _ in range(10):
            answer = dig(topology.client, at.server)
            assert (answer.records, answer.transport) == ([RECORDS["A"]], "UDP")
        assert (arrivals.connections(), arrivals.datagrams()) == (1, 0)
        assert sluice.status()["dns"] == "tcp"
    assert unbound.askers()[-1] == carrier.exit(scope, family)


@pytest.mark.parametrize("stub", ["asked", "private", "own"])
def test_chosen_resolver(
    topology: Topology, scope: Capture, carrier: Carrier, family: str, unbound: Unbound, stub: str
) -> None:
    """By UDP: answered by the chosen one, in the name of the one that was asked."""
    at = ADDRESSES[family]
    six = family == "ipv6"
    own = ("::1" if six else "127.0.0.53") if scope.scope == "machine" else at.gateway_lan
    asked = {"asked": at.server, "private": "fd77::1" if six else "10.77.0.1", "own": own}[stub]
    options = ["--dns-server", at.second]
    with Arrivals(topology.server, dns.PORT) as arrivals, \
            Sluice.capturing(topology, scope, carrier.url, *options) as sluice:
        sluice.wait_for_relaying()
        answer = dig(topology.client, asked)
        assert (answer.records, answer.server) == ([RECORDS["A"]], asked)
        assert (arrivals.datagrams(), arrivals.connections()) == (1, 0)
    assert unbound.askers()[-1] == carrier.exit(scope, family)


def test_resolver_that_does_not_answer_by_udp(
    topology: Topology, scope: Capture, carrier: Carrier, family: str
) -> None:
    """Then it is asked by TCP, before the program loses patience."""
    at = ADDRESSES[family]
    with CountingResolver(topology.server) as resolver, \
            Sluice.capturing(topology, scope, carrier.url):
        answer = dig(topology.client, at.server, "www.example")
        assert answer.records == [dns.address_of("www.example")]
        assert answer.milliseconds < 4000
        assert set(resolver.peers) == {carrier.exit(scope, family)}
