"""The metrics of `sluice run`: what Prometheus reads there, and who else connects."""

import json
import os
import re
import socket
import threading
import time
from pathlib import Path
from typing import Iterator

import pytest

from harness import control, metrics
from harness.control import Client, running
from harness.datagrams import DatagramEcho, Speaker
from harness.flows import attempt, outcome
from harness.metrics import DOCUMENTS, PLACE, PORT, Metrics, documented, judge, scrape
from harness.namespaces import Namespace
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE, wait_until

AT = ADDRESSES["ipv4"]

MONITORING = DOCUMENTS / "monitoring"

#: Connections that are served at once.
MOST = 8

#: Nobody listens there.
DEAD = f"socks5://{AT.proxy}:9"

#: Where `ScriptedUpstream` is, beside Dante.
SCRIPTED = f"socks5://{AT.third}:1080"

PHASES = ["connect", "authentication", "request", "first_byte"]


@pytest.fixture
def run(topology: Topology, upstream: str) -> Iterator[Sluice]:
    """A group of which one is dead: what is known of a member is shown for groups alone."""
    with Sluice(
        topology.gateway, DEAD, "--upstream", upstream, "--gateway", "lan0", "--metrics", PLACE,
        "--pool", "2", "--probe-interval", "1",
    ) as sluice:
        yield sluice


def carry(topology: Topology, echo: Echo, count: int, size: int) -> None:
    """So many flows of so many bytes each way, one after the other, each over before the next."""
    for _ in range(count):
        with topology.client.connect(AT.server, echo.port) as stream:
            stream.sendall(b"x" * size)
            received = 0
            while received < size:
                received += len(stream.recv(size))
        wait_until(
            lambda: scrape(topology.gateway).value("tcp_sessions") == 0, "the flow to be over")


class TestTraffic:
    def test_counts_what_was_sent(
        self, topology: Topology, upstream: str, echo: Echo, datagram_echo: DatagramEcho
    ) -> None:
        with Sluice(
            topology.gateway, upstream, "--gateway", "lan0", "--metrics", PLACE
        ) as sluice:
            sluice.wait_for_relaying()
            before = scrape(topology.gateway)
            assert before.value("tcp_sessions_opened_total") == 0
            assert before.value("udp_datagrams_total", direction="sent") == 0
            carry(topology, echo, 3, 1000)
            with Speaker.of(topology, "ipv4") as speaker:
                for payload in (b"a", b"bc", b"def"):
                    assert speaker.ask(payload, (AT.server, datagram_echo.port)) == payload
            now = scrape(topology.gateway)
        for direction in ("sent", "received"):
            assert now.value("tcp_bytes_total", direction=direction) == 3000
            assert now.value("udp_datagrams_total", direction=direction) == 3
            assert now.value("udp_bytes_total", direction=direction) == 6
        assert now.value("tcp_sessions_opened_total") == 3
        assert now.value("tcp_sessions_failed_total") == 0
        assert now.value("udp_associations") == now.value("udp_associations_opened_total") == 1
        assert now.value("bound_used", bound="associations") == 1
        assert now.value("bound_used", bound="associations_of_one_client") == 1
        for phase in PHASES:
            count = now.value("handshake_duration_seconds_count", phase=phase)
            # In one write it may be answered along with the request.
            assert count == 3 or phase == "authentication" and count < 3, phase
            assert now.value("handshake_duration_seconds_bucket", phase=phase, le="+Inf") == count
            assert 0 <= now.value("handshake_duration_seconds_sum", phase=phase) < 3 * 20
        assert now.value("worker_turns_total") > before.value("worker_turns_total")
        grown = now.counters()
        for series, value in before.counters().items():
            assert grown[series] >= value, series

    def test_phases_are_measured(self, topology: Topology) -> None:
        """Of a handshake step by step, and the last one by a target that has its clients wait."""
        asked = threading.Event()

        def target(stream: socket.socket) -> None:
            stream.recv(1)
            asked.wait(PATIENCE)
            stream.sendall(b"x")

        with ScriptedUpstream(
            topology.server, Behaviour(target=target, at_pipelining="close")
        ), Sluice(
            topology.gateway, SCRIPTED, "--gateway", "lan0", "--metrics", PLACE
        ), topology.client.connect(AT.server, 80) as stream:
            begin = time.monotonic()
            stream.sendall(b"?")
            before = wait_until(
                lambda: (now := scrape(topology.gateway)).value(
                    "handshake_duration_seconds_count", phase="request") == 1 and now,
                "the reply")
            assert before.value("handshake_duration_seconds_count", phase="first_byte") == 0
            asked.set()
            assert stream.recv(1) == b"x"
            now = wait_until(
                lambda: (now := scrape(topology.gateway)).value(
                    "handshake_duration_seconds_count", phase="first_byte") == 1 and now,
                "the first byte to be counted")
            end = time.monotonic()
        for phase in PHASES:
            assert now.value("handshake_duration_seconds_count", phase=phase) == 1, phase
        total = sum(
            now.value("handshake_duration_seconds_sum", phase=phase) for phase in PHASES)
        assert 0 < total < end - begin + 1
        assert 0 < now.value("handshake_duration_seconds_sum", phase="first_byte") < end - begin

    def test_failures_have_reply_codes(self, topology: Topology) -> None:
        with ScriptedUpstream(topology.server, Behaviour(reply=5)), Sluice(
            topology.gateway, SCRIPTED, "--gateway", "lan0", "--metrics", PLACE
        ):
            assert outcome(topology.client, AT.server, 80) == (b"", "RST")
            now = scrape(topology.gateway)
        assert now.value("tcp_failures_total", reason="reply_connection_refused") == 1
        assert now.value("tcp_sessions_failed_total") == 1
        assert now.value("handshake_duration_seconds_count", phase="connect") == 1
        assert now.value("handshake_duration_seconds_count", phase="request") == 0

    def test_upstreams_and_guardian(self, topology: Topology, run: Sluice, echo: Echo) -> None:
        assert attempt(topology.client, AT.server, echo.port) == "answer"
        topology.gateway.run("ip", "route", "del", "local", "default", "dev", "lo", "table", "155")
        now = wait_until(
            lambda: (one := scrape(topology.gateway)).value("rules_restored_total") == 1 and one,
            "the repair to be counted")
        assert now.value("upstream_up", upstream=DEAD, member="0") == 0
        assert now.value("upstream_up", member="1") == 1
        assert now.value("rules_phase", phase="capturing") == 1
        assert now.value("rules_trouble") == 0


class TestForm:
    @pytest.fixture
    def told(self, topology: Topology, run: Sluice, echo: Echo) -> Metrics:
        """All that there is, after some traffic."""
        carry(topology, echo, 2, 100)
        later = {"sluice_upstream_udp", "sluice_upstream_probe_duration_seconds"}
        wait_until(lambda: later <= set(scrape(topology.gateway).kinds), "both kinds of questions")
        return scrape(topology.gateway)

    def test_promtool_has_nothing_against_it(self, told: Metrics) -> None:
        judge("check", "metrics", text=told.text)

    def test_is_what_is_documented(self, told: Metrics) -> None:
        """Every family, with its kind and its labels."""
        labels: dict[str, set[str]] = {name: set() for name in told.kinds}
        for name, pairs in told.samples:
            labels[told.family(name)] |= {label for label, _ in pairs} - {"le"}
        assert documented() == {
            name: (kind, labels[name]) for name, kind in told.kinds.items()}

    def test_bounds_are_documented(self, told: Metrics, topology: Topology) -> None:
        listed = set(re.findall(r"^\| `(\w+)` \| [a-z]", (DOCUMENTS / "metrics.md").read_text(), re.M))
        shown = {
            dict(labels)["bound"] for name, labels in told.samples if name == "sluice_bound_limit"}
        assert {"descriptors", "pipes", "associations", "pooled_connections"} <= shown <= listed
        for bound in shown:
            used = told.value("bound_used", bound=bound)
            assert 0 <= used <= told.value("bound_limit", bound=bound)

    def test_dashboard_and_rules_use_what_there_is(self, told: Metrics) -> None:
        dashboard = json.loads((MONITORING / "grafana.json").read_text())
        queries = [
            target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        assert len(queries) > 10
        rules = (MONITORING / "alerts.yml").read_text()
        for text in (*queries, rules):
            used = set(re.findall(r"\bsluice_\w+", text))
            assert used or text is not rules
            for name in used:
                assert told.family(name) in told.kinds, name


class TestMonitoring:
    def test_rules(self) -> None:
        judge("check", "rules", str(MONITORING / "alerts.yml"))

    def test_alerts(self) -> None:
        judge("test", "rules", str(MONITORING / "alerts.test.yml"))

    def test_each_alert_is_tested(self) -> None:
        alerts = re.findall(r"- alert: (\w+)", (MONITORING / "alerts.yml").read_text())
        tested = re.findall(r"alertname: (\w+)", (MONITORING / "alerts.test.yml").read_text())
        assert alerts and set(alerts) == set(tested)


def say(host: Namespace, request: bytes) -> bytes:
    """What a client is answered that says this."""
    with host.connect("127.0.0.1", PORT) as stream:
        stream.sendall(request)
        return b"".join(iter(lambda: stream.recv(1 << 16), b""))


class TestClients:
    @pytest.fixture
    def host(self, topology: Topology) -> Iterator[Namespace]:
        with Sluice(topology.gateway, "embedded", "--gateway", "lan0", "--metrics", PLACE):
            yield topology.gateway

    @pytest.mark.parametrize("request_, status", [
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200), (b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404), (b"POST /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (8 << 10), 431), (b"GET /" + b"x" * (8 << 10), 414),
        (b"\x16\x03\x01", 400), (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
    ], ids=["1.0", "head", "elsewhere", "post", "long-head", "long-target", "tls", "version"])
    def test_request(self, host: Namespace, request_: bytes, status: int) -> None:
        answer = say(host, request_)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status)
        if request_.startswith(b"HEAD"):
            assert body == b""
        else:
            assert f"Content-Length: {len(body)}".encode() in head.split(b"\r\n")

    def test_silent_ones_hold_nobody(self, topology: Topology, host: Namespace, echo: Echo) -> None:
        silent = [host.connect("127.0.0.1", PORT) for _ in range(MOST)]
        assert say(host, b"").startswith(b"HTTP/1.1 503 ")
        assert attempt(topology.client, AT.server, echo.port) == "answer"
        for stream in silent:
            # Until its time is up.
            with stream:
                assert stream.recv(1 << 16).startswith(b"HTTP/1.1 408 ")
        wait_until(lambda: say(host, b"GET /metrics HTTP/1.0\r\n\r\n")[9:12] == b"200", "room again")

    def test_each_of_a_crowd_is_answered(self, host: Namespace) -> None:
        """Who cannot even be turned away waits for that, and is not reset."""
        crowd = [host.connect("127.0.0.1", PORT) for _ in range(5 * MOST // 2)]
        for stream in crowd:
            stream.sendall(b"GET")
        answers = []
        for stream in crowd:
            with stream:
                answers.append(b"".join(iter(lambda: stream.recv(1 << 16), b""))[9:12])
        assert set(answers) == {b"408", b"503"}

    def test_one_that_is_gone_leaves_nothing(self, host: Namespace) -> None:
        for _ in range(50):
            with host.connect("127.0.0.1", PORT) as stream:
                stream.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        used = wait_until(
            lambda: say(host, b"GET /metrics HTTP/1.0\r\n\r\n")[9:12] == b"200" and scrape(host),
            "them to be over")
        wait_until(
            lambda: scrape(host).value("bound_used", bound="metrics_connections") == 1, "the last")
        assert used.value("bound_limit", bound="metrics_connections") == MOST


class TestPlaces:
    def test_file_has_the_group(self, topology: Topology, upstream: str) -> None:
        with control.place() as path:
            place = path.with_name("metrics.sock")
            with running(
                topology.gateway, path, upstream, "--gateway", "lan0", "--metrics", f"unix:{place}"
            ):
                found, other = place.stat(), Path(path).stat()
                assert (found.st_mode, found.st_uid) == (other.st_mode, 0)
                told = topology.gateway.run(
                    "curl", "--silent", "--show-error", "--fail", "--unix-socket", str(place),
                    "http://localhost/metrics").stdout
                now = Metrics.parse(told)
                assert now.value("bound_limit", bound="control_connections") > 0
                with Client(path) as client:
                    bounds = {
                        one["name"]: one["limit"]
                        for one in client.ask({"request": "status"})["status"]["limits"]}
                # The same that the status tells, and the server's own.
                shown = {
                    dict(labels)["bound"]: value for (name, labels), value in now.samples.items()
                    if name == "sluice_bound_limit"}
                assert shown.pop("metrics_connections") == MOST
                assert shown == {
                    name.lower().replace(" ", "_"): limit for name, limit in bounds.items()}
            assert not place.exists()

    @pytest.mark.parametrize("place", ["0.0.0.0:10882", "192.0.2.1:80", "[::]:1", "10882", "unix:a"])
    def test_others_are_refused(self, topology: Topology, place: str) -> None:
        done = topology.gateway.run(
            binary(), "run", "embedded", "--gateway", "lan0", "--control", "none", "--metrics", place,
            check=False)
        assert (done.returncode, done.stdout) == (64, "")
        assert f"--metrics {place}: " in done.stderr and "expected" in done.stderr

    def test_taken_port_ends_the_start(self, topology: Topology) -> None:
        with topology.gateway.listen("127.0.0.1", PORT):
            done = topology.gateway.run(
                binary(), "run", "embedded", "--gateway", "lan0", "--control", "none", "--metrics",
                PLACE, check=False)
        assert (done.returncode, done.stdout) == (69, "")
        assert f"--metrics {PLACE}: the port is in use by python" in done.stderr
        assert f"(pid {os.getpid()}): choose another" in done.stderr

    def test_ipv6(self, topology: Topology) -> None:
        with Sluice(
            topology.gateway, "embedded", "--gateway", "lan0", "--metrics", f"[::1]:{PORT}"
        ), topology.gateway.connect("::1", PORT) as stream:
            stream.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert stream.recv(12) == b"HTTP/1.1 200"
