"""Chains of upstreams: of real servers, and of one that plays every hop and misbehaves in each way."""

import contextlib
import itertools
import json
import socket
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.chained import Fault, ScriptedChain
from harness.confined import Confined
from harness.datagrams import fate
from harness.doctor import assert_only, examine
from harness.flows import Exchange, exchange, fetch, outcome
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo, Website
from harness.topology import ADDRESSES, Topology
from harness.upstreams import HTTP_PORT, PASSWORD, USER
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

MACHINE = Capture("machine", "tproxy")

#: What flows to a scripted chain ask for.
PORT = 80

#: The real chain: microsocks on the gateway, tinyproxy and Dante on the proxy.
HOPS = (
    upstreams.url(AT.gateway_lan, credentials=(USER, PASSWORD)),
    upstreams.url(AT.proxy, HTTP_PORT, (USER, "another-word"), "http"),
    upstreams.url(AT.proxy, scheme="socks4"),
)

#: The URLs of a scripted chain by kind; the first is where it is, the others are nowhere.
SCRIPTED = {"socks5": "socks5://{}:1080", "http": "http://{}:1080", "socks4": "socks4a://{}:1080"}


def scripted_url(kinds: tuple[str, ...]) -> str:
    places = [AT.proxy, "hop.invalid", "192.0.2.3"]
    return ",".join(SCRIPTED[kind].format(place) for kind, place in zip(kinds, places))


class Servers(contextlib.ExitStack):
    """The servers of `HOPS`, which end with the test."""

    def __init__(self, topology: Topology, folder: Path) -> None:
        super().__init__()
        self._makers = (
            lambda: upstreams.microsocks(topology.gateway, credentials=(USER, PASSWORD)),
            lambda: upstreams.tinyproxy(topology.proxy, folder, (USER, "another-word")),
            lambda: upstreams.dante(topology.proxy, folder),
        )

    def start(self, without: int | None = None) -> None:
        """Starts all or all but one."""
        for number, maker in enumerate(self._makers):
            if number != without:
                self.enter_context(maker())


@pytest.fixture
def servers(topology: Topology, folder: Path) -> Iterator[Servers]:
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    with Servers(topology, place) as started:
        yield started


class TestRealServers:
    """microsocks with a password, tinyproxy with a password, and Dante spoken to by SOCKS4."""

    def test_bytes_both_ways(
        self, topology: Topology, servers: Servers, website: Website, echo: Echo,
    ) -> None:
        servers.start()
        leaked = topology.leaked(website.port)
        del website.peers[:]
        with Sluice.capturing(topology, MACHINE, ",".join(HOPS)) as sluice:
            for megabytes in 1, 8:
                fetched = fetch(topology.client, AT.server, website.port, megabytes)
                assert (fetched.code, fetched.size) == (0, megabytes << 20)
                assert fetched.checksum == website.checksums[megabytes]
            flows = [
                Exchange(topology.client, AT.server, echo.port, bytes([number]) * (1 << 20))
                for number in range(8)]
            try:
                exchange(flows, 1 << 20, timeout=20)
                assert [flow.error for flow in flows if flow.error] == []
            finally:
                for flow in flows:
                    flow.close()
            assert sluice.finish()["failures"].keys() <= {"reset_by_downstream"}
        assert website.peers == [AT.proxy_exit] * 2
        assert topology.leaked(website.port) == leaked
        assert PASSWORD not in sluice.output() and "another-word" not in sluice.output()

    def test_program(
        self, topology: Topology, servers: Servers, website: Website,
        confined: Confined,
    ) -> None:
        servers.start()
        del website.peers[:]
        done = confined.run(
            "--log-level", "notice", ",".join(HOPS), command=[
                "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output",
                "/dev/null", f"http://{AT.server}:{website.port}/1"])
        assert done.returncode == 0, done.stderr
        assert website.peers == [AT.proxy_exit]
        assert "relays no datagrams (hop 2, http://" in done.stderr

    def test_name_is_left_to_the_hop_before(
        self, topology: Topology, website: Website, tmp_path: Path
    ) -> None:
        """`localhost` is the proxy's: the client has no server there."""
        url = f"{upstreams.url(AT.proxy)},http://localhost:{HTTP_PORT}"
        del website.peers[:]
        with upstreams.microsocks(topology.proxy), \
                upstreams.tinyproxy(topology.proxy, tmp_path), \
                Sluice.capturing(topology, MACHINE, url):
            assert fetch(topology.client, AT.server, website.port, 1).code == 0
        assert website.peers == [AT.proxy_exit]

    @pytest.mark.parametrize("dead", range(3))
    def test_dead_hop_is_named(
        self, topology: Topology, servers: Servers, dead: int
    ) -> None:
        servers.start(without=dead)
        said = refusal(topology, ",".join(HOPS))
        assert f"hop {dead + 1}, {shown(HOPS[dead])}" in said
        if dead > 0:
            assert f"cannot be reached through hop {dead}, {shown(HOPS[dead - 1])}" in said
        assert PASSWORD not in said and "another-word" not in said
        named = f"hop {dead + 1}, {shown(HOPS[dead])}"
        assert_only(
            examine(topology.client, ",".join(HOPS)), "upstream", "failure", named, "start the")

    @pytest.mark.parametrize("wrong", range(2))
    def test_wrong_password_is_the_hops(
        self, topology: Topology, servers: Servers, wrong: int
    ) -> None:
        servers.start()
        schemes = ("socks5", "http")
        places = (AT.gateway_lan, upstreams.PORT), (AT.proxy, HTTP_PORT)
        urls = list(HOPS)
        urls[wrong] = upstreams.url(
            *places[wrong], credentials=(USER, "wrong-word"), scheme=schemes[wrong])
        said = refusal(topology, ",".join(urls))
        assert f"hop {wrong + 1}, {shown(urls[wrong])}" in said
        assert "rejected the user name or password" in said
        assert "wrong-word" not in said
        result = examine(topology.client, ",".join(urls))
        assert_only(
            result, "upstream", "failure", f"hop {wrong + 1}, ", "correct user and password")
        assert "wrong-word" not in json.dumps(result)


def shown(url: str) -> str:
    """A URL as people see it: without the password."""
    scheme, rest = url.split("://")
    return f"{scheme}://{USER}:***@{rest.split('@')[1]}" if "@" in rest else url


def refusal(topology: Topology, url: str) -> str:
    """What a run says that does not start."""
    done = topology.client.run(
        binary(), "run", url, "--machine", "--control", "none", check=False)
    assert done.returncode == 69, done.stderr
    return done.stderr


@pytest.fixture
def chain(topology: Topology) -> Iterator[ScriptedChain]:
    with ScriptedChain(topology.proxy, "socks5", "http", "socks4") as server:
        yield server


def receive(stream: socket.socket, count: int) -> bytes:
    """So many bytes, or those before the end."""
    received = b""
    while len(received) < count and (part := stream.recv(count - len(received))):
        received += part
    return received


@pytest.mark.parametrize("pieces", ["whole", "single-bytes"])
@pytest.mark.parametrize("kinds", itertools.permutations(SCRIPTED), ids="-".join)
def test_every_order_in_any_pieces(
    topology: Topology, kinds: tuple[str, ...], pieces: str
) -> None:
    """Each hop is asked for the next one and the last for the destination; what is behind the last
    answer is the application's."""
    banner = b"220 speaks first\r\n"
    with ScriptedChain(topology.proxy, *kinds) as chain:
        chain.single_bytes = pieces == "single-bytes"
        with Sluice.capturing(topology, MACHINE, scripted_url(kinds)) as sluice:
            chain.behind_reply = banner
            with topology.client.connect(AT.server, PORT) as stream:
                assert receive(stream, len(banner)) == banner
                stream.sendall(b"there and back")
                assert receive(stream, 14) == b"there and back"
            assert sluice.finish()["failures"] == {}
        assert chain.flows() == [["hop.invalid:1080", "192.0.2.3:1080", f"{AT.server}:{PORT}"]]


#: What a hop does once the run has begun, and what counts it.
FAULTS = {
    (hop, what): {
        "close": "closed_in_method_selection" if hop == 0 else "closed_in_reply",
        "silence": "handshake_timeout",
        "reject": "no_acceptable_method" if hop == 0 else "authentication_rejected",
        "refuse": "hop_refused" if hop < 2 else "reply_general_failure",
    }[what]
    for hop in range(3) for what in ("close", "silence", "reject", "refuse")
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"hop{fault[0] + 1}-{fault[1]}")
def test_fault_resets_the_flow_and_names_the_hop(
    topology: Topology, chain: ScriptedChain, fault: tuple[int, str]
) -> None:
    hop, what = fault
    url = scripted_url(chain.kinds)
    with Sluice.capturing(topology, MACHINE, url, "--handshake-timeout", "1") as sluice:
        chain.fault = Fault(hop, what)
        assert outcome(topology.client, AT.server, PORT) == (b"", "RST")
        (event,) = wait_until(lambda: sluice.events("failure"), "the failure to be told")
        assert event["failure"] == FAULTS[fault]
        if FAULTS[fault] != "reply_general_failure":
            assert f"hop {hop + 1}, {url.split(',')[hop]}" in event["message"]
        chain.fault = None
        with topology.client.connect(AT.server, PORT) as stream:
            stream.sendall(b"there and back")
            assert receive(stream, 14) == b"there and back"
        assert sluice.finish()["failures"] == {FAULTS[fault]: 1}


@pytest.mark.parametrize("hop", range(3))
@pytest.mark.parametrize("what", ["close", "silence", "reject"])
def test_start_names_the_hop(
    topology: Topology, chain: ScriptedChain, hop: int, what: str
) -> None:
    chain.fault = Fault(hop, what)
    url = scripted_url(chain.kinds)
    done = topology.client.run(
        binary(), "run", url, "--machine", "--control", "none", "--connect-timeout", "1",
        check=False)
    assert done.returncode == 69
    assert f"hop {hop + 1}, {url.split(',')[hop]}" in done.stderr


class TestDatagrams:
    """A hop that has none is named without a question (see test_chain_udp.py for those that have)."""

    def test_names_by_tcp_and_the_rest_rejected(
        self, topology: Topology, servers: Servers, unbound: Unbound
    ) -> None:
        servers.start()
        with Sluice.capturing(topology, MACHINE, ",".join(HOPS)) as sluice:
            (event,) = sluice.events("datagrams_refused")
            assert f"hop 2, {shown(HOPS[1])}" in event["message"]
            assert sluice.status()["udp"] == "refused"
            assert dig(topology.client, AT.server, NAME).records == [RECORDS["A"]]
            assert fate(topology.client, (AT.server, 4242)).outcome == "ECONNREFUSED"

    @pytest.mark.parametrize("option", ["--udp proxy", "--dns udp"])
    def test_refused_where_they_are_asked_for(self, topology: Topology, option: str) -> None:
        url = "socks5://192.0.2.1,http://192.0.2.2"
        done = topology.client.run(
            binary(), "run", url, "--machine", *option.split(), check=False)
        assert done.returncode == 64
        assert f"{option}: hop 2, http://192.0.2.2:8080: " in done.stderr
