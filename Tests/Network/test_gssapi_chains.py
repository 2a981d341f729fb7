"""Chains with hops that know their users by GSSAPI: what is said behind such a hop is protected on its
way there, the handshakes of later hops included, and two of them protect it twice."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import kerberos, upstreams
from harness.datagrams import fate
from harness.flows import Curl, Exchange, exchange, outcome
from harness.kerberos import Realm
from harness.namespaces import Namespace
from harness.programs import Program
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice, binary
from harness.targets import Banner, Echo, Website
from harness.topology import ADDRESSES, Topology
from harness.upstreams import HTTP_PORT, PASSWORD, USER

AT = ADDRESSES["ipv4"]

GATEWAY = Capture("gateway", "redirect")

#: What the website has.
MEGABYTES = 20

#: Where microsocks listens and another Dante, which does not connect to itself.
PLAIN_PORT, OTHER_PORT = 1081, 1082

PROTECTED = f"socks5://{AT.proxy}:1080?gssapi"
OTHER = f"socks5://{AT.proxy}:{OTHER_PORT}?gssapi"
PLAIN = upstreams.url(AT.proxy, PLAIN_PORT, (USER, PASSWORD))
HTTP = upstreams.url(AT.proxy, HTTP_PORT, scheme="http")

CHAINS = {
    "first": (PROTECTED, PLAIN),
    "last": (PLAIN, PROTECTED),
    "between": (PLAIN, PROTECTED, HTTP),
    "before-two": (PROTECTED, HTTP, PLAIN),
    "twice": (PROTECTED, OTHER),
    "twice-around-another": (PROTECTED, HTTP, OTHER),
    "weaker-inside": (PROTECTED, f"{OTHER}&protection=integrity", PLAIN),
    "without-protection": (f"{PROTECTED}&protection=none", OTHER),
    "thrice": (PROTECTED, OTHER, PLAIN, f"{PROTECTED}&protection=none", OTHER),
}


@pytest.fixture(scope="module", autouse=True)
def hops(topology: Topology, realm: Realm, folder: Path) -> Iterator[list[Program]]:
    place = folder / "hops"
    place.mkdir()
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(kerberos.dante(realm)),
            stack.enter_context(kerberos.dante(realm, port=OTHER_PORT)),
            stack.enter_context(upstreams.microsocks(
                topology.proxy, credentials=(USER, PASSWORD), port=PLAIN_PORT)),
            stack.enter_context(upstreams.tinyproxy(topology.proxy, place))]


@pytest.fixture(params=CHAINS)
def chain(request: pytest.FixtureRequest) -> str:
    return ",".join(CHAINS[request.param])


class TestEveryChain:
    def test_fetches(
        self, topology: Topology, website: Website, ticket: dict[str, str], chain: str
    ) -> None:
        leaked = topology.leaked(website.port)
        del website.peers[:]
        with Sluice.capturing(topology, GATEWAY, chain, env=ticket) as sluice:
            for megabytes in 1, MEGABYTES:
                with Curl(topology.client, AT.server, website.port, megabytes) as curl:
                    fetched = curl.finish()
                assert (fetched.code, fetched.size) == (0, megabytes << 20)
                assert fetched.checksum == website.checksums[megabytes]
            assert sluice.finish()["failures"] == {}
        assert website.peers == [AT.proxy_exit] * 2
        assert topology.leaked(website.port) == leaked

    def test_both_ways_at_once(
        self, topology: Topology, ticket: dict[str, str], chain: str, echo: Echo
    ) -> None:
        flows = []
        with Sluice.capturing(topology, GATEWAY, chain, env=ticket) as sluice:
            try:
                flows = [
                    Exchange(topology.client, AT.server, echo.port, os.urandom(1 << 20))
                    for _ in range(4)]
                exchange(flows, 1 << 20, timeout=30)
                assert [flow.error for flow in flows if flow.error] == []
            finally:
                for flow in flows:
                    flow.close()
            assert sluice.finish()["failures"].keys() <= {"reset_by_downstream"}

    def test_target_that_speaks_first(
        self, topology: Topology, ticket: dict[str, str], chain: str
    ) -> None:
        with Banner(topology.server) as target, \
                Sluice.capturing(topology, GATEWAY, chain, env=ticket), \
                topology.client.connect(AT.server, target.port) as stream:
            received = b""
            while len(received) < len(Banner.TEXT):
                part = stream.recv(100)
                assert part
                received += part
            assert received == Banner.TEXT
            stream.sendall(b"and on")
            assert stream.recv(100) == b"and on"

    def test_names_by_tcp(
        self, topology: Topology, ticket: dict[str, str], unbound: Unbound, chain: str
    ) -> None:
        with Sluice.capturing(topology, GATEWAY, chain, "--dns", "tcp", env=ticket) as sluice:
            for _ in range(3):
                assert dig(topology.client, AT.server, NAME).records == [RECORDS["A"]]
            assert sluice.finish()["failures"] == {}

    def test_refused_target(
        self, topology: Topology, ticket: dict[str, str], chain: str
    ) -> None:
        with Sluice.capturing(topology, GATEWAY, chain, env=ticket) as sluice:
            assert outcome(topology.client, AT.server, 4242) == (b"", "RST")
            (failure,) = sluice.finish()["failures"]
            assert failure.startswith(("reply_", "http_")), failure


@pytest.mark.parametrize("name, hop", [("first", 1), ("last", 2), ("twice-around-another", 1)])
def test_datagrams_are_rejected_and_the_hop_is_named(
    topology: Topology, ticket: dict[str, str], name: str, hop: int
) -> None:
    with Sluice.capturing(topology, GATEWAY, ",".join(CHAINS[name]), env=ticket) as sluice:
        assert fate(topology.client, (AT.server, 4242)).outcome == "ECONNREFUSED"
        assert f"(hop {hop}, socks5://" in sluice.output()


def test_hop_without_a_ticket_is_named(topology: Topology, realm: Realm) -> None:
    done = topology.gateway.run(
        binary(), "run", ",".join((PLAIN, PROTECTED)), "--gateway", "lan0", "--control", "none",
        check=False, env=realm.environment)
    assert done.returncode == 69, done.stderr
    assert "hop 2, " in done.stderr and "get a ticket with kinit" in done.stderr


#: linux/if_ether.h and asm-generic/socket.h
ETH_P_ALL, SO_RCVBUFFORCE = 3, 33


@contextlib.contextmanager
def watching(host: Namespace, interface: str) -> Iterator[Callable[[], bytes]]:
    """Gives what has passed a cable so far, both ways."""
    kind = socket.SOCK_RAW
    with host.call(socket.socket, socket.AF_PACKET, kind, socket.htons(ETH_P_ALL)) as cable:
        cable.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        cable.bind((interface, 0))
        cable.setblocking(False)

        def read() -> bytes:
            packets = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    packets.append(cable.recv(1 << 17))
            return b"".join(packets)

        yield read


@pytest.mark.parametrize("first, is_readable", [(PROTECTED, False), (HTTP, True)])
def test_what_the_first_cable_shows(
    topology: Topology, ticket: dict[str, str], echo: Echo, first: str, is_readable: bool
) -> None:
    """Neither the password of a later hop, nor what is said to the target."""
    with watching(topology.gateway, "wan0") as passed, \
            Sluice.capturing(topology, GATEWAY, ",".join((first, PLAIN)), env=ticket), \
            topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"said to the target")
        assert stream.recv(100) == b"said to the target"
        shown = passed()
    for words in PASSWORD.encode(), b"said to the target":
        assert (words in shown) == is_readable
