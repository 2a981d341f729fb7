"""Upstreams that misbehave, each in its own way: what the application sees, and what is counted."""

import select
import socket
import threading
import time
from dataclasses import replace

import pytest

from harness import upstreams
from harness.flows import Exchange, attempt, ending, exchange, outcome
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE, wait_until

GATEWAY = Capture("gateway", "redirect")

#: Flows per test of one behaviour.
FLOWS = 20

PORT = 80


@pytest.fixture
def upstream() -> str:
    return upstreams.url(ADDRESSES["ipv4"].proxy)


def check_flows_succeed(
    topology: Topology, scripted: ScriptedUpstream, family: str, count: int = FLOWS
) -> None:
    """Flows get their bytes, and each asked the upstream for its own destination."""
    server = ADDRESSES[family].server
    before = len(scripted.to(server))
    flows = [
        Exchange(topology.client, server, PORT, bytes([number]) * (number * 1000 + 1))
        for number in range(count)]
    try:
        exchange(flows, 1 << 20, timeout=20)
        assert [flow.error for flow in flows if flow.error] == []
    finally:
        for flow in flows:
            flow.close()
    asked = scripted.to(server)[before:]
    assert [one.destination for one in asked] == [(server, PORT)] * count


class TestWellBehaved:
    @pytest.mark.parametrize("bound", [
        b"\x01\x00\x00\x00\x00\x00\x00", b"\x04" + bytes(18), b"\x03\x00\x00\x00",
        b"\x03\xff" + b"n" * 255 + b"\x00\x50",
    ], ids=["ipv4", "ipv6", "empty-name", "longest-name"])
    def test_single_byte_segments(
        self, topology: Topology, upstream: str, scripted: ScriptedUpstream, family: str,
        bound: bytes,
    ) -> None:
        scripted.behaviour = Behaviour(single_bytes=True, bound=bound)
        with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
            check_flows_succeed(topology, scripted, family, 4)
            assert sluice.finish()["failures"] == {}

    def test_target_that_speaks_first_within_the_reply(
        self, topology: Topology, capture: Capture, upstream: str, scripted: ScriptedUpstream
    ) -> None:
        banner = b"220 in the same segment as the reply\r\n" * 100
        scripted.behaviour = Behaviour(behind_reply=banner)
        with Sluice.capturing(topology, capture, upstream):
            with topology.client.connect(ADDRESSES["ipv4"].server, PORT) as stream:
                received = b""
                while len(received) < len(banner):
                    received += stream.recv(1 << 16)
                assert received == banner
                stream.sendall(b"and on")
                assert stream.recv(100) == b"and on"

    def test_reply_long_after_the_client_has_spoken(
        self, topology: Topology, capture: Capture, upstream: str, scripted: ScriptedUpstream
    ) -> None:
        """What the application sends early, and its half-close, wait for the reply."""
        scripted.behaviour = Behaviour(single_bytes=True, bound=b"\x03\xff" + b"n" * 257)
        payload = bytes(range(256)) * 400
        with Sluice.capturing(topology, capture, upstream):
            with topology.client.connect(ADDRESSES["ipv4"].server, PORT) as stream:
                stream.sendall(payload)
                stream.shutdown(socket.SHUT_WR)
                received = b""
                while part := stream.recv(1 << 16):
                    received += part
        assert received == payload

    @pytest.mark.parametrize("length", [1, 255])
    def test_credentials(
        self, topology: Topology, scripted: ScriptedUpstream, length: int
    ) -> None:
        credentials = "u" * length, "p" * length
        upstream = upstreams.url(ADDRESSES["ipv4"].proxy, credentials=credentials)
        with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
            check_flows_succeed(topology, scripted, "ipv4", 2)
        expected = credentials[0].encode(), credentials[1].encode()
        assert {one.credentials for one in scripted.conversations} == {expected}
        # A single letter is in every log.
        assert length == 1 or credentials[1] not in sluice.output()


class TestPipelining:
    def test_taken_and_used(
        self, topology: Topology, upstream: str, scripted: ScriptedUpstream, family: str
    ) -> None:
        with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
            assert sluice.wait_for("pipelining")["proved"] is True
            check_flows_succeed(topology, scripted, family)
        flows = scripted.to(ADDRESSES[family].server)
        assert all(flow.pipelined for flow in flows)

    def test_closed_on(
        self, topology: Topology, upstream: str, scripted: ScriptedUpstream, family: str
    ) -> None:
        scripted.behaviour = Behaviour(at_pipelining="close")
        with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
            check_flows_succeed(topology, scripted, family)
            assert sluice.wait_for("pipelining")["proved"] is False
            check_flows_succeed(topology, scripted, family)
            assert sluice.finish()["failures"] == {}
        assert sum(one.pipelined for one in scripted.conversations) == 1

    def test_hung_on(
        self, topology: Topology, upstream: str, scripted: ScriptedUpstream
    ) -> None:
        """Flows do not wait for the proof, and none is tried on them."""
        family = "ipv4"
        scripted.behaviour = Behaviour(at_pipelining="hang")
        with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
            proofs = wait_until(
                lambda: [one for one in scripted.conversations if one.pipelined],
                "the proof to begin")
            check_flows_succeed(topology, scripted, family)
            assert not proofs[0].over.is_set(), "the proof had ended before the flows did"
            assert sluice.events("pipelining") == []
            assert sluice.wait_for("pipelining")["proved"] is False
            check_flows_succeed(topology, scripted, family)
            assert sluice.finish()["failures"] == {}
        assert sum(one.pipelined for one in scripted.conversations) == 1


#: What the upstream does once the run has begun, and the failures that count it.
FAULTS = {
    "no-acceptable-method": (Behaviour(method=0xFF), "no_acceptable_method"),
    "method-never-offered": (Behaviour(method=0x03), "protocol_violation"),
    "credentials-never-offered": (Behaviour(method=0x02), "protocol_violation"),
    "wrong-version": (Behaviour(version=4), "protocol_violation"),
    "http-server": (Behaviour(version=ord("H"), method=ord("T")), "protocol_violation"),
    "unknown-address-type": (Behaviour(bound=b"\x07" + bytes(20)), "protocol_violation"),
    "close-at-greeting": (Behaviour(at_greeting="close"), "closed_in_method_selection"),
    "reset-at-greeting": (Behaviour(at_greeting="reset"), "closed_in_method_selection"),
    "close-at-request": (Behaviour(at_request="close"), "closed_in_reply"),
    "reset-at-request": (Behaviour(at_request="reset"), "closed_in_reply"),
    "silence-at-greeting": (Behaviour(at_greeting="silence"), "handshake_timeout"),
    "silence-at-request": (Behaviour(at_request="silence"), "handshake_timeout"),
} | {
    f"reply-{code}": (Behaviour(reply=code), name)
    for code, name in {
        1: "reply_general_failure", 2: "reply_not_allowed", 3: "reply_network_unreachable",
        4: "reply_host_unreachable", 5: "reply_connection_refused", 6: "reply_ttl_expired",
        7: "reply_command_not_supported", 8: "reply_address_type_not_supported",
        9: "reply_other", 0xFF: "reply_other",
    }.items()
}


@pytest.mark.parametrize("pipelining", ["accept", "close"])
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_resets_the_flow_and_is_counted(
    topology: Topology, scripted: ScriptedUpstream, upstream: str, fault: str, pipelining: str
) -> None:
    """The server is good at the start and turns bad afterwards: a reset each, never a clean end."""
    behaviour, failure = FAULTS[fault]
    scripted.behaviour = Behaviour(at_pipelining=pipelining)
    with Sluice.capturing(topology, GATEWAY, upstream, "--handshake-timeout", "1") as sluice:
        assert sluice.wait_for("pipelining")["proved"] is (pipelining == "accept")
        scripted.behaviour = replace(behaviour, at_pipelining=pipelining)
        for at in ADDRESSES.values():
            assert outcome(topology.client, at.server, PORT) == (b"", "RST")
        status = wait_until(
            lambda: (now := sluice.status())["live_sessions"] == 0 and now, "the sessions to end")
        assert status["failures"] == {failure: 2}
        assert status["sessions_failed"] == 2
        scripted.behaviour = Behaviour(at_pipelining=pipelining)
        check_flows_succeed(topology, scripted, "ipv4", 2)


def test_rejected_credentials_are_counted(topology: Topology, scripted: ScriptedUpstream) -> None:
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy, credentials=("user", "secret-word"))
    with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
        sluice.wait_for("pipelining")
        scripted.behaviour = Behaviour(status=1)
        assert outcome(topology.client, ADDRESSES["ipv4"].server, PORT) == (b"", "RST")
        assert sluice.finish()["failures"] == {"authentication_rejected": 1}
    assert "secret-word" not in sluice.output()


def test_upstream_that_stops_answering_connections(
    topology: Topology, scripted: ScriptedUpstream, upstream: str
) -> None:
    """Its host swallows the SYN: the connect timeout ends the wait."""
    with Sluice.capturing(topology, GATEWAY, upstream, "--connect-timeout", "1") as sluice:
        sluice.wait_for("pipelining")
        topology.proxy.nft("""
            table inet deaf {
              chain in { type filter hook input priority filter; tcp dport 1080 drop; }
            }""")
        try:
            began = time.monotonic()
            assert outcome(topology.client, ADDRESSES["ipv4"].server, PORT) == (b"", "RST")
            assert time.monotonic() - began >= 0.5, "it did not even try"
        finally:
            topology.proxy.run("nft", "delete", "table", "inet", "deaf")
        assert sluice.finish()["failures"] == {"connect_timeout": 1}


def test_idle_flow_ends(topology: Topology, scripted: ScriptedUpstream, upstream: str) -> None:
    with Sluice.capturing(topology, GATEWAY, upstream, "--idle-timeout", "1") as sluice:
        with topology.client.connect(ADDRESSES["ipv4"].server, PORT) as stream:
            stream.sendall(b"hello")
            assert stream.recv(100) == b"hello"
            with pytest.raises(ConnectionResetError):
                stream.recv(100)
        assert sluice.finish()["failures"] == {"idle_timeout": 1}


def test_half_closed_flow_ends(
    topology: Topology, scripted: ScriptedUpstream, upstream: str
) -> None:
    """The client has ended and the upstream never does."""
    over = threading.Event()

    def never_end(stream: socket.socket) -> None:
        over.wait(20)

    scripted.behaviour = Behaviour(target=never_end)
    with Sluice.capturing(topology, GATEWAY, upstream, "--half-close-timeout", "1") as sluice:
        with topology.client.connect(ADDRESSES["ipv4"].server, PORT) as stream:
            stream.shutdown(socket.SHUT_WR)
            with pytest.raises(ConnectionResetError):
                stream.recv(100)
        over.set()
        assert sluice.finish()["failures"] == {"half_close_timeout": 1}


class Dropping:
    """A server that drops the rest of its answer when its client stops sending, as half of the real
    ones do."""

    QUESTION, BEGINNING, REST = b"hello", b"1" * 1000, b"2" * 100_000

    def __init__(self) -> None:
        self.turn, self._turn = socket.socketpair()
        """What is written here has it go on with the answer: a byte for each part."""

    def __call__(self, stream: socket.socket) -> None:
        stream.recv(len(self.QUESTION), socket.MSG_WAITALL)
        for part in self.BEGINNING, self.REST:
            ready, _, _ = select.select([stream, self._turn], [], [], PATIENCE)
            if stream in ready or not ready:
                return
            self._turn.recv(1)
            stream.sendall(part)


def half_close(topology: Topology, dropping: Dropping) -> socket.socket:
    """A client that has asked and stopped sending."""
    stream = topology.client.connect(ADDRESSES["ipv4"].server, PORT)
    stream.sendall(dropping.QUESTION)
    stream.shutdown(socket.SHUT_WR)
    return stream


def test_half_close_is_propagated(
    topology: Topology, scripted: ScriptedUpstream, upstream: str
) -> None:
    """Whatever the server makes of it."""
    dropping = Dropping()
    scripted.behaviour = Behaviour(target=dropping)
    with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
        with half_close(topology, dropping) as stream:
            assert ending(stream) == (b"", "FIN")
        assert sluice.finish()["failures"] == {}


def test_half_close_is_held(
    topology: Topology, capture: Capture, scripted: ScriptedUpstream, upstream: str
) -> None:
    """The server hears nothing of it, and the whole answer arrives."""
    dropping = Dropping()
    scripted.behaviour = Behaviour(target=dropping)
    host = capture.host(topology)
    with Sluice.capturing(topology, capture, upstream, "--half-close", "hold") as sluice:
        with half_close(topology, dropping) as stream:
            wait_until(
                lambda: host.run("ss", "-Hnt", "state", "close-wait").stdout, "the client's FIN")
            dropping.turn.send(b".")
            # Sluice has seen the FIN before these bytes, and has not passed it on.
            beginning = stream.recv(len(dropping.BEGINNING), socket.MSG_WAITALL)
            assert beginning == dropping.BEGINNING
            dropping.turn.send(b".")
            assert ending(stream) == (dropping.REST, "FIN")
        assert sluice.finish()["failures"] == {}


def test_held_flow_ends(
    topology: Topology, scripted: ScriptedUpstream, upstream: str
) -> None:
    """A server that waits for the end that it does not hear of is not waited for without end."""
    ends: list[str] = []
    over = threading.Event()

    def wait_for_the_end(stream: socket.socket) -> None:
        ends.append(ending(stream)[1])
        over.set()

    scripted.behaviour = Behaviour(target=wait_for_the_end)
    options = "--half-close", "hold", "--half-close-timeout", "1"
    with Sluice.capturing(topology, GATEWAY, upstream, *options) as sluice:
        with topology.client.connect(ADDRESSES["ipv4"].server, PORT) as stream:
            stream.shutdown(socket.SHUT_WR)
            assert ending(stream) == (b"", "RST")
        assert over.wait(PATIENCE)
        assert ends == ["RST"]
        assert sluice.finish()["failures"] == {"half_close_timeout": 1}


def test_client_that_leaves_before_the_reply(
    topology: Topology, scripted: ScriptedUpstream, upstream: str
) -> None:
    """Its session does not stay until the upstream finds an answer."""
    with Sluice.capturing(topology, GATEWAY, upstream, "--drain-timeout", "0") as sluice:
        sluice.wait_for("pipelining")
        scripted.behaviour = Behaviour(at_request="silence")
        server = ADDRESSES["ipv4"].server
        for _ in range(FLOWS):
            with topology.client.connect(server, PORT) as stream:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_until(lambda: sluice.status()["live_sessions"] == 0, "the sessions to end")
        assert attempt(topology.client, server, PORT, timeout=0.2) == "silence"
