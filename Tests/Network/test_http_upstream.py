"""An HTTP proxy as the upstream: a real one, and one that misbehaves in each way."""

import json
from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.confined import Confined
from harness.datagrams import fate
from harness.doctor import assert_only, examine
from harness.flows import Curl, Exchange, exchange, outcome
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.scripted import echo
from harness.sluice import Capture, Sluice, binary
from harness.targets import Website
from harness.topology import ADDRESSES, Topology
from harness.tunnels import ESTABLISHED, Behaviour, ScriptedProxy, endless
from harness.waiting import wait_until

PROXY = ADDRESSES["ipv4"].proxy

GATEWAY = Capture("gateway", "redirect")

PORT = 80

CREDENTIALS = "sluice", "secret-word"


def url(address: str = PROXY, credentials: tuple[str, str] | None = None) -> str:
    return upstreams.url(address, upstreams.HTTP_PORT, credentials, "http")


@pytest.fixture
def proxy(topology: Topology) -> Iterator[ScriptedProxy]:
    with ScriptedProxy(topology.proxy) as server:
        yield server


class TestTinyproxy:
    """Debian's, which nobody here wrote."""

    def test_fetches(
        self, topology: Topology, capture: Capture, website: Website, family: str, tmp_path: Path
    ) -> None:
        at = ADDRESSES[family]
        leaked = topology.leaked(website.port)
        with upstreams.tinyproxy(topology.proxy, tmp_path), \
                Sluice.capturing(topology, capture, url(at.proxy)) as sluice:
            for megabytes in 1, 8:
                del website.peers[:]
                with Curl(topology.client, at.server, website.port, megabytes) as curl:
                    fetched = curl.finish()
                assert (fetched.code, fetched.size) == (0, megabytes << 20)
                assert fetched.checksum == website.checksums[megabytes]
                assert website.peers == [at.proxy_exit]
            assert sluice.finish()["failures"] == {}
        assert topology.leaked(website.port) == leaked

    def test_credentials(
        self, topology: Topology, website: Website, tmp_path: Path
    ) -> None:
        at = ADDRESSES["ipv4"]
        with upstreams.tinyproxy(topology.proxy, tmp_path, CREDENTIALS):
            with Sluice.capturing(topology, GATEWAY, url(credentials=CREDENTIALS)) as sluice:
                with Curl(topology.client, at.server, website.port, 1) as curl:
                    assert curl.finish().checksum == website.checksums[1]
            assert "secret-word" not in sluice.output()
            for login, code in (None, 407), (("sluice", "wrong-word"), 401):
                done = topology.client.run(
                    binary(), "run", url(credentials=login), "--machine", "--control", "none",
                    check=False)
                assert done.returncode == 69
                assert f"user name or password, or wants some (HTTP status {code})" in done.stderr
                assert "wrong-word" not in done.stderr

    def test_unreachable_target(
        self, topology: Topology, tmp_path: Path
    ) -> None:
        with upstreams.tinyproxy(topology.proxy, tmp_path), \
                Sluice.capturing(topology, GATEWAY, url()) as sluice:
            assert outcome(topology.client, ADDRESSES["ipv4"].unreachable, PORT) == (b"", "RST")
            assert sluice.finish()["failures"] == {"reply_general_failure": 1}

    def test_program(
        self, topology: Topology, website: Website, confined: Confined, tmp_path: Path
    ) -> None:
        at = ADDRESSES["ipv4"]
        with upstreams.tinyproxy(topology.proxy, tmp_path):
            del website.peers[:]
            done = confined.run(
                "--log-level", "notice", url(), command=[
                    "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output",
                    "/dev/null", f"http://{at.server}:{website.port}/1"])
        assert done.returncode == 0, done.stderr
        assert website.peers == [at.proxy_exit]
        assert "relays no datagrams (this kind of upstream has no UDP)" in done.stderr


class TestDatagrams:
    """It has none: known without a question."""

    def test_names_and_the_rest(
        self, topology: Topology, scope: Capture, unbound: Unbound, family: str, tmp_path: Path
    ) -> None:
        at = ADDRESSES[family]
        with upstreams.tinyproxy(topology.proxy, tmp_path), \
                Sluice.capturing(topology, scope, url()) as sluice:
            (event,) = sluice.events("datagrams_refused")
            assert event["failure"] == "datagrams_not_supported"
            assert sluice.status()["udp"] == "refused"
            assert sluice.status()["dns"] == "tcp"
            assert dig(topology.client, at.server, NAME).records == [RECORDS["A"]]
            assert fate(topology.client, (at.server, 4242)).outcome == "ECONNREFUSED"
            assert sluice.status()["associations_opened"] == 0


class TestRequests:
    def test_destinations(
        self, topology: Topology, capture: Capture, proxy: ScriptedProxy, family: str
    ) -> None:
        server = ADDRESSES[family].server
        with Sluice.capturing(topology, capture, url(ADDRESSES[family].proxy)) as sluice:
            check_flow(topology, family)
            assert sluice.finish()["failures"] == {}
        (request,) = proxy.flows()
        assert request.destination == (f"[{server}]:80" if family == "ipv6" else f"{server}:80")
        assert request.credentials is None

    @pytest.mark.parametrize("login", [
        ("u", "p"), ("sluice", "pass:word@1"), ("u" * 255, "p" * 255), ("\u00fcser", "p\u00e4ss"),
    ], ids=["short", "colon", "longest", "utf8"])
    def test_credentials(
        self, topology: Topology, proxy: ScriptedProxy, login: tuple[str, str]
    ) -> None:
        with Sluice.capturing(topology, GATEWAY, url(credentials=login)):
            check_flow(topology, "ipv4")
        assert {one.credentials for one in proxy.requests} == {":".join(login)}


def check_flow(topology: Topology, family: str, count: int = 1) -> None:
    """Flows get back what they send."""
    flows = [
        Exchange(topology.client, ADDRESSES[family].server, PORT, bytes([number]) * 50_000)
        for number in range(count)]
    try:
        exchange(flows, 1 << 20, timeout=20)
        assert [flow.error for flow in flows if flow.error] == []
    finally:
        for flow in flows:
            flow.close()


#: Responses that are as good as any.
GOOD = {
    "without-reason": b"HTTP/1.1 200\r\n\r\n",
    "http-1.0": b"HTTP/1.0 200 OK\r\n\r\n",
    "other-2xx": b"HTTP/1.1 204 No Content\r\nVia: 1.1 x\r\n\r\n",
    "bare-line-feeds": b"HTTP/1.1 200 OK\nA: b\n\n",
    "length-of-nothing": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "after-a-100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "long": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 8000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("pieces", ["whole", "single-bytes"])
@pytest.mark.parametrize("kind", GOOD)
def test_good_responses(
    topology: Topology, proxy: ScriptedProxy, kind: str, pieces: str
) -> None:
    with Sluice.capturing(topology, GATEWAY, url()) as sluice:
        proxy.behaviour = Behaviour(GOOD[kind], single_bytes=pieces == "single-bytes")
        check_flow(topology, "ipv4", 4)
        assert sluice.finish()["failures"] == {}


@pytest.mark.parametrize("pieces", ["whole", "single-bytes"])
def test_target_that_speaks_first(
    topology: Topology, capture: Capture, proxy: ScriptedProxy, pieces: str
) -> None:
    """What is behind the empty line is the application's, and comes first."""
    banner = b"220 \r\n\r\n in the same segment\r\n" * 20
    with Sluice.capturing(topology, capture, url()):
        proxy.behaviour = Behaviour(
            ESTABLISHED + banner, single_bytes=pieces == "single-bytes", target=echo)
        with topology.client.connect(ADDRESSES["ipv4"].server, PORT) as stream:
            received = b""
            while len(received) < len(banner):
                part = stream.recv(1 << 16)
                assert part
                received += part
            assert received == banner
            stream.sendall(b"and on")
            assert stream.recv(100) == b"and on"


def status(code: int) -> Behaviour:
    return Behaviour(f"HTTP/1.1 {code} X\r\nContent-Length: 3\r\n\r\nno\n".encode(), target=None)


#: What the proxy does once the run has begun, and the failures that count it.
FAULTS = {
    "close": (Behaviour(at_request="close"), "closed_in_reply"),
    "reset": (Behaviour(at_request="reset"), "closed_in_reply"),
    "silence": (Behaviour(at_request="silence"), "handshake_timeout"),
    "endless-fields": (Behaviour(parts=endless), "protocol_violation"),
    "endless-100s": (
        Behaviour(parts=lambda: iter(lambda: b"HTTP/1.1 100 Continue\r\n\r\n", b"")),
        "protocol_violation"),
    "half-a-response": (
        Behaviour(parts=lambda: [b"HTTP/1.1 200 OK\r\nVia: x\r\n"]), "closed_in_reply"),
    "socks-server": (Behaviour(parts=lambda: [b"\x05\x00"]), "protocol_violation"),
    "ssh-server": (Behaviour(parts=lambda: [b"SSH-2.0-x\r\n"]), "protocol_violation"),
    "http-2": (Behaviour(parts=lambda: [b"HTTP/2 200\r\n\r\n"]), "protocol_violation"),
} | {
    f"status-{code}": (status(code), name)
    for code, name in {
        302: "reply_other", 400: "reply_command_not_supported", 403: "reply_not_allowed",
        404: "reply_host_unreachable", 405: "reply_command_not_supported",
        401: "authentication_rejected", 407: "authentication_rejected",
        500: "reply_general_failure", 502: "reply_general_failure",
        503: "reply_general_failure", 504: "reply_ttl_expired",
    }.items()
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_resets_the_flow_and_is_counted(
    topology: Topology, proxy: ScriptedProxy, fault: str
) -> None:
    """The proxy is good at the start and turns bad afterwards: a reset each, never a clean end."""
    behaviour, failure = FAULTS[fault]
    with Sluice.capturing(topology, GATEWAY, url(), "--handshake-timeout", "1") as sluice:
        proxy.behaviour = behaviour
        for at in ADDRESSES.values():
            assert outcome(topology.client, at.server, PORT) == (b"", "RST")
        now = wait_until(
            lambda: (now := sluice.status())["live_sessions"] == 0 and now, "the sessions to end")
        assert now["failures"] == {failure: 2}
        proxy.behaviour = Behaviour()
        check_flow(topology, "ipv4", 2)


def test_proxy_that_hangs_up_in_place_of_a_refusal(topology: Topology) -> None:
    """It is asked for itself then: what takes the question is an HTTP proxy."""
    with ScriptedProxy(topology.proxy, Behaviour(closes_tests=True)) as proxy, \
            Sluice.capturing(topology, GATEWAY, url()):
        assert [one.destination for one in proxy.flows()] == [f"{PROXY}:{upstreams.HTTP_PORT}"]
        check_flow(topology, "ipv4")


#: Servers that cannot be used, and words of what the doctor says about them.
UNUSABLE: dict[str, tuple[Behaviour, tuple[str, ...]]] = {
    "hangs": (Behaviour(at_request="silence"), ("does not answer", "HTTP proxy")),
    "closes": (Behaviour(at_request="close"), ("closed", "log")),
    "no-http": (Behaviour(parts=lambda: [b"\x05\x00"]), ("not an HTTP proxy", "check that")),
    "web-server": (status(405), ("does not take CONNECT", "405", "HTTP proxy")),
    "wants-credentials": (status(407), ("407", "correct user and password")),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_doctor_names_it(topology: Topology, fault: str) -> None:
    behaviour, words = UNUSABLE[fault]
    with ScriptedProxy(topology.proxy, behaviour):
        result = examine(topology.client, url(credentials=CREDENTIALS))
    assert_only(result, "upstream", "failure", *words)
    assert "secret-word" not in json.dumps(result)


def test_doctor_knows_that_it_has_no_udp(topology: Topology, proxy: ScriptedProxy) -> None:
    result = examine(topology.client, url())
    assert_only(result, "upstream_udp", "warning", "has no UDP", "DNS goes over TCP")
    assert len(proxy.requests) == 2, "asked for more than TCP by each family"
