"""SOCKS4 and SOCKS4a servers as the upstream: Dante, and one that misbehaves in each way."""

import json
import struct
from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.confined import Confined
from harness.datagrams import fate
from harness.doctor import examine, faults, told
from harness.flows import Exchange, attempt, exchange, fetch, outcome
from harness.programs import Program
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice
from harness.targets import Echo, Website
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.tunnels import GRANTED, Behaviour, ScriptedSOCKS4
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

GATEWAY = Capture("gateway", "redirect")

PORT = 80

SCHEMES = ("socks4", "socks4a")


def url(scheme: str = "socks4", user: str = "") -> str:
    return upstreams.url(AT.proxy, scheme=scheme).replace("://", f"://{user}@" if user else "://")


@pytest.fixture
def server(topology: Topology) -> Iterator[ScriptedSOCKS4]:
    with ScriptedSOCKS4(topology.proxy) as one:
        yield one


@pytest.fixture
def dante(topology: Topology, tmp_path: Path) -> Iterator[Program]:
    """For one test: the scripted server listens on the same port."""
    with upstreams.dante(topology.proxy, tmp_path) as program:
        yield program


@pytest.mark.parametrize("scheme", SCHEMES)
class TestDante:
    def test_fetches(
        self, topology: Topology, capture: Capture, website: Website, dante: Program, scheme: str
    ) -> None:
        leaked = topology.leaked(website.port)
        with Sluice.capturing(topology, capture, url(scheme)) as sluice:
            for megabytes in 1, 8:
                del website.peers[:]
                fetched = fetch(topology.client, AT.server, website.port, megabytes)
                assert fetched.checksum == website.checksums[megabytes]
                assert website.peers == [AT.proxy_exit]
            assert sluice.finish()["failures"] == {}
        assert topology.leaked(website.port) == leaked

    def test_neither_ipv6_nor_udp(
        self, topology: Topology, scope: Capture, dante: Program, unbound: Unbound, scheme: str
    ) -> None:
        """Both are known without a question."""
        leaked = topology.leaked(PORT)
        with Sluice.capturing(topology, scope, url(scheme)) as sluice:
            (event,) = sluice.events("datagrams_refused")
            assert event["failure"] == "datagrams_not_supported"
            sluice.wait_for("no_ipv6")
            assert attempt(topology.client, ADDRESSES["ipv6"].server, PORT) == "ECONNREFUSED"
            assert dig(topology.client, AT.server, NAME).records == [RECORDS["A"]]
            assert fate(topology.client, (AT.server, 4242)).outcome == "ECONNREFUSED"
            status = sluice.status()
            assert (status["udp"], status["dns"], status["associations_opened"]) == (
                "refused", "tcp", 0)
        assert topology.leaked(PORT) == leaked

    def test_refused_target(
        self, topology: Topology, dante: Program, scheme: str
    ) -> None:
        with Sluice.capturing(topology, GATEWAY, url(scheme)) as sluice:
            assert outcome(topology.client, AT.unreachable, PORT) == (b"", "RST")
            assert sluice.finish()["failures"] == {"reply_general_failure": 1}

    def test_program(self, dante: Program, confined: Confined, echo: Echo, scheme: str) -> None:
        doors = [f"tcp,{ADDRESSES[family].server},{echo.port}" for family in FAMILIES]
        v4, v6 = confined.knock(*doors, arguments=[url(scheme)])
        assert echo.peers == [AT.proxy_exit]
        assert (v4["outcome"], v6["outcome"]) == ("answer", "ECONNREFUSED")


def check_flow(topology: Topology, count: int = 1) -> None:
    """Flows get back what they send."""
    flows = [
        Exchange(topology.client, AT.server, PORT, bytes([number]) * 50_000)
        for number in range(count)]
    try:
        exchange(flows, 1 << 20, timeout=20)
        assert [flow.error for flow in flows if flow.error] == []
    finally:
        for flow in flows:
            flow.close()


@pytest.mark.parametrize("user", ["", "me", "u" * 255], ids=["none", "short", "longest"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_request(topology: Topology, server: ScriptedSOCKS4, scheme: str, user: str) -> None:
    with Sluice.capturing(topology, GATEWAY, url(scheme, user)) as sluice:
        check_flow(topology)
        assert sluice.finish()["failures"] == {}
    (request,) = server.flows()
    assert request.destination == (AT.server, PORT)
    assert {one.user for one in server.requests} == {user.encode()}


@pytest.mark.parametrize("pieces", ["whole", "single-bytes"])
def test_target_that_speaks_first(
    topology: Topology, server: ScriptedSOCKS4, pieces: str
) -> None:
    banner = bytes(range(256)) * 4
    with Sluice.capturing(topology, GATEWAY, url()):
        server.behaviour = Behaviour(GRANTED + banner, single_bytes=pieces == "single-bytes")
        with topology.client.connect(AT.server, PORT) as stream:
            received = b""
            while len(received) < len(banner):
                part = stream.recv(1 << 16)
                assert part
                received += part
            assert received == banner
            stream.sendall(b"and on")
            assert stream.recv(100) == b"and on"


def test_server_that_hangs_up_in_place_of_a_refusal(topology: Topology) -> None:
    """It is asked for itself then: what takes the question is a SOCKS4 server."""
    with ScriptedSOCKS4(topology.proxy, Behaviour(GRANTED, closes_tests=True)) as server, \
            Sluice.capturing(topology, GATEWAY, url()):
        assert [one.destination for one in server.flows()] == [(AT.proxy, upstreams.PORT)]
        check_flow(topology)


def code(number: int) -> Behaviour:
    return Behaviour(struct.pack("!BB6x", 0, number), target=None)


#: What the server does once the run has begun, and the failures that count it.
FAULTS = {
    "close": (Behaviour(at_request="close"), "closed_in_reply"),
    "reset": (Behaviour(at_request="reset"), "closed_in_reply"),
    "silence": (Behaviour(at_request="silence"), "handshake_timeout"),
    "half-a-reply": (Behaviour(parts=lambda: [GRANTED[:5]]), "closed_in_reply"),
    "socks5-server": (Behaviour(parts=lambda: [b"\x05\xff"]), "protocol_violation"),
    "http-server": (Behaviour(parts=lambda: [b"HTTP/1.1 400 X\r\n\r\n"]), "protocol_violation"),
    "rejected": (code(0x5B), "reply_general_failure"),
    "no-identd": (code(0x5C), "authentication_rejected"),
    "other-user": (code(0x5D), "authentication_rejected"),
    "unassigned": (code(0x5E), "reply_other"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_resets_the_flow_and_is_counted(
    topology: Topology, server: ScriptedSOCKS4, fault: str
) -> None:
    """The server is good at the start and turns bad afterwards: a reset each, never a clean end."""
    behaviour, failure = FAULTS[fault]
    with Sluice.capturing(topology, GATEWAY, url(), "--handshake-timeout", "1") as sluice:
        server.behaviour = behaviour
        for _ in range(2):
            assert outcome(topology.client, AT.server, PORT) == (b"", "RST")
        now = wait_until(
            lambda: (now := sluice.status())["live_sessions"] == 0 and now, "the sessions to end")
        assert now["failures"] == {failure: 2}
        server.behaviour = Behaviour(GRANTED)
        check_flow(topology, 2)


def test_ipv6_that_the_user_wants(topology: Topology, server: ScriptedSOCKS4) -> None:
    """It cannot be asked for, so that its flows fail by themselves."""
    with Sluice.capturing(topology, GATEWAY, url(), "--ipv6", "proxy") as sluice:
        assert outcome(topology.client, ADDRESSES["ipv6"].server, PORT) == (b"", "RST")
        assert sluice.finish()["failures"] == {"reply_address_type_not_supported": 1}
    assert server.flows() == []


def test_doctor(topology: Topology, server: ScriptedSOCKS4) -> None:
    status, findings = examine(topology.client, url())
    assert status == 0
    assert faults(findings) == {"upstream_ipv6": "warning", "upstream_udp": "warning"}
    assert "has no UDP" in told(findings, "upstream_udp")
    assert "--ipv6 reject" in told(findings, "upstream_ipv6")
    server.behaviour = code(0x5D)
    status, findings = examine(topology.client, url(user="me"))
    assert (status, faults(findings)) == (69, {"upstream": "failure"})
    assert "identd" in told(findings, "upstream")
    server.behaviour = Behaviour(parts=lambda: [b"\x05\xff"])
    _, findings = examine(topology.client, url())
    assert "not a SOCKS4 server" in told(findings, "upstream")
    assert "***" not in json.dumps(findings)
