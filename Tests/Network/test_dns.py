"""DNS works whatever the server can: by UDP, or by TCP on one kept connection, or by a resolver of
one's own."""

import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from harness import dns, resolvers, upstreams
from harness.datagrams import Speaker, fate
from harness.dns import CountingResolver, Message
from harness.resolvers import LARGE, NAME, RECORDS, Arrivals, Unbound, dig
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology

pytestmark = pytest.mark.usefixtures("errors_at_any_rate")

QUERIES = 1000

#: How many are asked at once.
WINDOW = 50

SERVERS = {"openssh": upstreams.openssh, "microsocks": upstreams.microsocks}


@pytest.fixture(scope="module", params=SERVERS)
def upstream(
    request: pytest.FixtureRequest, topology: Topology, folder: Path
) -> Iterator[str]:
    """The servers that carry no UDP: one hangs up, the other says so."""
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    with SERVERS[request.param](topology.proxy, place):
        yield upstreams.url(ADDRESSES["ipv4"].proxy)


@pytest.fixture
def running(topology: Topology, scope: Capture, upstream: str) -> Iterator[Sluice]:
    with Sluice.capturing(topology, scope, upstream) as sluice:
        yield sluice


def ask_many(topology: Topology, family: str, names: list[str], window: int) -> None:
    """Asks for the address of each name, by two sockets that use the same ids, and checks the
    answers."""
    to = ADDRESSES[family].server, dns.PORT
    with Speaker.of(topology, family) as one, Speaker.of(topology, family) as other:
        for first in range(0, len(names), window):
            part = names[first:first + window]
            asked: dict[tuple[Speaker, int], str] = {}
            for number, name in enumerate(part):
                speaker, identity = (one, other)[number % 2], number // 2 + 7
                asked[speaker, identity] = name
                speaker.send(dns.query(identity, name), to)
            for speaker, _ in list(asked):
                answer, source = speaker.receive()
                message = Message.of(answer)
                name = asked.pop((speaker, message.number))
                assert source == to
                assert message.name() == name
                assert dns.answered_address(answer) == dns.address_of(name)
            assert not asked


def test_dig(
    topology: Topology, running: Sluice, family: str, unbound: Unbound
) -> None:
    at = ADDRESSES[family]
    leaked = topology.leaked(dns.PORT, "udp")
    with Arrivals(topology.server, dns.PORT) as arrivals:
        for kind, value in RECORDS.items():
            for options in [], ["+tcp"]:
                answer = dig(topology.client, at.server, NAME, kind, *options)
                assert (answer.status, answer.records) == ("NOERROR", [value])
                assert answer.transport == ("TCP" if options else "UDP")
                assert answer.milliseconds < 4000
        assert arrivals.datagrams() == 0
    assert set(unbound.askers()) == {at.proxy_exit}
    assert topology.leaked(dns.PORT, "udp") == leaked
    assert running.status()["dns"] == "tcp"


def test_1000_queries_on_one_connection(
    topology: Topology, running: Sluice, family: str
) -> None:
    """Asked by many at once, pipelined, and answered out of order."""
    names = [f"host-{number}.example" for number in range(QUERIES)]
    running.wait_for_status("dns", "tcp")
    with CountingResolver(topology.server, round=10) as resolver:
        ask_many(topology, family, names, WINDOW)
        assert sorted(resolver.names) == sorted(names)
        assert resolver.peers == [ADDRESSES[family].proxy_exit]


def test_1000_queries_to_a_real_resolver(
    topology: Topology, running: Sluice, family: str, unbound: Unbound
) -> None:
    to = ADDRESSES[family].server, dns.PORT
    running.wait_for_status("dns", "tcp")
    with Arrivals(topology.server, dns.PORT) as arrivals, \
            Speaker.of(topology, family) as speaker:
        for first in range(0, QUERIES, WINDOW):
            numbers = set(range(first, first + WINDOW))
            for number in numbers:
                speaker.send(dns.query(number, NAME), to)
            while numbers:
                answer, source = speaker.receive()
                assert source == to
                numbers.remove(Message.of(answer).number)
                assert dns.answered_address(answer) == RECORDS["A"]
        assert (arrivals.connections(), arrivals.datagrams()) == (1, 0)
    assert unbound.askers() == [ADDRESSES[family].proxy_exit] * QUERIES


def test_resolver_that_closes(topology: Topology, running: Sluice, family: str) -> None:
    """After every few answers: the next query opens a connection again."""
    names = [f"host-{number}.example" for number in range(20)]
    running.wait_for_status("dns", "tcp")
    with CountingResolver(topology.server, closes_after=4) as resolver:
        ask_many(topology, family, names, 1)
        assert len(resolver.peers) == 5


def test_two_resolvers_have_a_connection_each(
    topology: Topology, running: Sluice, family: str, unbound: Unbound
) -> None:
    at = ADDRESSES[family]
    running.wait_for_status("dns", "tcp")
    with Arrivals(topology.server, dns.PORT) as arrivals:
        for _ in range(3):
            for address in at.server, at.second:
                answer = dig(topology.client, address)
                assert (answer.records, answer.server) == ([RECORDS["A"]], address)
        assert arrivals.connections() == 2


@pytest.mark.parametrize("option, accepts", [
    ("+noedns", 512), ("+bufsize=1232", 1232), ("+bufsize=4096", 4096),
])
@pytest.mark.parametrize("name", LARGE)
def test_large_answers(
    topology: Topology, running: Sluice, family: str, unbound: Unbound, option: str,
    accepts: int, name: str,
) -> None:
    """Larger than the client takes: truncated, so that it asks again by TCP; else whole."""
    at = ADDRESSES[family]
    running.wait_for_status("dns", "tcp")
    fits = LARGE[name] < accepts
    answer = dig(topology.client, at.server, name, "TXT", option)
    assert answer.retried != fits
    assert answer.transport == ("UDP" if fits else "TCP")
    assert sum(map(len, answer.records)) >= LARGE[name]
    with Speaker.of(topology, family) as speaker:
        question = dns.query(7, name, dns.TXT, None if accepts == 512 else accepts)
        data = speaker.ask(question, (at.server, dns.PORT))
        assert Message.of(data).truncated != fits
        assert len(data) <= accepts
        assert Message.of(data).question == Message.of(question).question


def test_other_udp_is_refused_at_once(
    topology: Topology, running: Sluice, family: str
) -> None:
    """By the kernel."""
    running.wait_for_status("udp", "refused")
    with running.stopped():
        for port in 443, 3478, 5353:
            end = fate(topology.client, (ADDRESSES[family].server, port))
            assert end.outcome == "ECONNREFUSED"
    assert len(running.events("datagrams_refused")) == 1
    assert running.status()["associations"] == 0


def test_resolver_that_does_not_exist(
    topology: Topology, running: Sluice, family: str, unbound: Unbound
) -> None:
    """Answered with a failure or not at all; others work on."""
    at = ADDRESSES[family]
    running.wait_for_status("dns", "tcp")
    answer = dig(topology.client, at.unreachable, NAME, "A", "+tries=1", "+time=2")
    assert answer.status in ("none", "SERVFAIL")
    assert dig(topology.client, at.server).records == [RECORDS["A"]]


def test_off(
    topology: Topology, scope: Capture, upstream: str, family: str, unbound: Unbound
) -> None:
    """Then DNS is like any other UDP: refused where that cannot be carried."""
    at = ADDRESSES[family]
    leaked = topology.leaked(dns.PORT, "udp")
    with Sluice.capturing(topology, scope, upstream, "--dns", "off") as sluice:
        assert sluice.wait_for_status("udp", "refused")["dns"] == "off"
        assert fate(topology.client, (at.server, dns.PORT)).outcome == "ECONNREFUSED"
        assert unbound.askers() == []
        assert dig(topology.client, at.server, NAME, "A", "+tcp").records == [RECORDS["A"]]
    assert topology.leaked(dns.PORT, "udp") == leaked


# A resolver of one's own choice.

#: Whom a program may ask: a stub of systemd-resolved, a router, or anybody.
STUBS = {
    "ipv4": {"machine": ["127.0.0.53", "10.77.0.1", "198.51.100.7"], "gateway": [
        ADDRESSES["ipv4"].gateway_lan, "10.77.0.1", "198.51.100.7"]},
    "ipv6": {"machine": ["::1", "fd77::1", "2001:db8::7"], "gateway": [
        ADDRESSES["ipv6"].gateway_lan, "fd77::1", "2001:db8::7"]},
}


@pytest.mark.parametrize("resolver", ADDRESSES)
def test_chosen_resolver(
    topology: Topology, scope: Capture, upstream: str, family: str, resolver: str,
    unbound: Unbound,
) -> None:
    """Answers whoever is asked, in that one's name, also where nobody is; of either family."""
    chosen = ADDRESSES[resolver]
    options = ["--dns-server", chosen.second]
    with Arrivals(topology.server, dns.PORT) as arrivals, \
            Sluice.capturing(topology, scope, upstream, *options) as sluice:
        sluice.wait_for_status("dns", "tcp")
        for stub in STUBS[family][scope.scope]:
            for transport in [], ["+tcp"]:
                answer = dig(topology.client, stub, NAME, "A", *transport)
                assert (answer.records, answer.server) == ([RECORDS["A"]], stub)
        assert arrivals.datagrams() == 0
        # One for all that came by UDP, and one for each that came by TCP.
        assert arrivals.connections() == 1 + len(STUBS[family][scope.scope])
    assert set(unbound.askers()) == {chosen.proxy_exit}


def test_chosen_resolver_at_another_port(
    topology: Topology, scope: Capture, upstream: str, unbound: Unbound
) -> None:
    """The port counts: at that one nobody answers."""
    server = ADDRESSES["ipv4"].server
    options = ["--dns-server", f"{server}:5353"]
    with Sluice.capturing(topology, scope, upstream, *options):
        answer = dig(topology.client, server, NAME, "A", "+tries=1", "+time=2")
        assert answer.status in ("none", "SERVFAIL")
    with Sluice.capturing(topology, scope, upstream, "--dns-server", f"{server}:53"):
        assert dig(topology.client, server).records == [RECORDS["A"]]
    assert len(unbound.askers()) == 1


def test_stub_on_this_host_without_a_chosen_resolver(
    topology: Topology, upstream: str, unbound: Unbound
) -> None:
    """As systemd-resolved: it is asked as ever, and what it asks itself is captured."""
    at = ADDRESSES["ipv4"]
    with resolvers.dnsmasq(topology.client, at.server), \
            Sluice.capturing(topology, Capture("machine", "tproxy"), upstream) as sluice:
        sluice.wait_for_status("dns", "tcp")
        answer = dig(topology.client, "127.0.0.53")
        assert (answer.records, answer.server) == ([RECORDS["A"]], "127.0.0.53")
    assert unbound.askers() == [at.proxy_exit]


def test_dnsmasq_holds_the_port(
    topology: Topology, scope: Capture, running: Sluice, family: str, unbound: Unbound
) -> None:
    """On 0.0.0.0:53 and [::]:53 of the host where Sluice runs: answers leave in the name of a resolver
    outside all the same, and dnsmasq does its own work."""
    at = ADDRESSES[family]
    host = scope.host(topology)
    own = at.client if scope.scope == "machine" else at.gateway_lan
    running.wait_for_status("dns", "tcp")
    with resolvers.dnsmasq(host, at.second):
        for _ in range(3):
            answer = dig(topology.client, at.server)
            assert (answer.records, answer.server) == ([RECORDS["A"]], at.server)
        assert set(unbound.askers()) == {at.proxy_exit}
        assert dig(topology.client, own).records == [RECORDS["A"]]
