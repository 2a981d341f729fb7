"""How runs end: killed, asked, asked twice; and what is there before, meanwhile and after."""

import signal
import socket

import pytest

from harness import kernel
from harness.flows import Curl, attempt, fetch
from harness.sluice import Capture, Sluice
from harness.targets import MEBIBYTE, Echo, Mirror, Website, read_to_end
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

MEGABYTES = 50


def check_direct(topology: Topology, website: Website) -> None:
    """The client reaches the target by itself, in both families."""
    for at in ADDRESSES.values():
        del website.peers[:]
        got = fetch(topology.client, at.server, website.port, 1)
        assert (got.code, got.checksum) == (0, website.checksums[1])
        assert website.peers == [at.client]


def check_captured(topology: Topology, website: Website) -> None:
    for at in ADDRESSES.values():
        del website.peers[:]
        got = fetch(topology.client, at.server, website.port, 1)
        assert (got.code, got.checksum) == (0, website.checksums[1])
        assert website.peers == [at.proxy_exit]


def test_killed_run_leaves_no_table_and_the_next_one_starts(
    topology: Topology, capture: Capture, upstream: str, website: Website
) -> None:
    host = capture.host(topology)
    before = kernel.snapshot(host)
    with Sluice.capturing(topology, capture, upstream) as sluice:
        with Curl(topology.client, ADDRESSES["ipv4"].server, website.port, MEGABYTES) as curl:
            curl.take(MEBIBYTE)
            assert kernel.tables(host) == ["table inet sluice"]
            sluice.signal(signal.SIGKILL)
            sluice.wait()
            wait_until(lambda: kernel.tables(host) == [], "the table to go")
            check_direct(topology, website)
    with Sluice.capturing(topology, capture, upstream):
        check_captured(topology, website)
    assert not kernel.changes(before, kernel.snapshot(host))
    check_direct(topology, website)


def test_start_after_a_kill_with_another_capture(
    topology: Topology, upstream: str, website: Website
) -> None:
    """What a killed run left behind goes even when the next one would not have made it."""
    before = kernel.snapshot(topology.client)
    with Sluice.capturing(topology, Capture("machine", "tproxy"), upstream) as sluice:
        sluice.signal(signal.SIGKILL)
        sluice.wait()
    with Sluice.capturing(topology, Capture("machine", "redirect"), upstream):
        check_captured(topology, website)
    assert not kernel.changes(before, kernel.snapshot(topology.client))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_drain_finishes_what_runs_and_lets_the_rest_go_directly(
    topology: Topology, capture: Capture, upstream: str, website: Website, number: signal.Signals
) -> None:
    at = ADDRESSES["ipv4"]
    with Sluice.capturing(topology, capture, upstream, "--drain-timeout", "60") as sluice:
        with Curl(topology.client, at.server, website.port, MEGABYTES) as curl:
            curl.take(MEBIBYTE)
            sluice.signal(number)
            sluice.wait_for("draining")
            check_direct(topology, website)
            got = curl.finish()
        assert (got.code, got.checksum) == (0, website.checksums[MEGABYTES])
        assert sluice.wait() == 0
        assert sluice.wait_for("summary")["bytes_downstream"] >= MEGABYTES * MEBIBYTE


def test_drain_ends_after_its_time(topology: Topology, capture: Capture, upstream: str) -> None:
    with Echo(topology.server) as echo, \
            Sluice.capturing(topology, capture, upstream, "--drain-timeout", "1") as sluice, \
            topology.client.connect(ADDRESSES["ipv4"].server, echo.port) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
        sluice.signal(signal.SIGTERM)
        assert sluice.wait() == 0


def test_second_signal_ends_at_once(topology: Topology, capture: Capture, upstream: str) -> None:
    with Echo(topology.server) as echo, \
            Sluice.capturing(topology, capture, upstream, "--drain-timeout", "600") as sluice, \
            topology.client.connect(ADDRESSES["ipv4"].server, echo.port) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
        sluice.signal(signal.SIGINT)
        sluice.wait_for("draining")
        stream.sendall(b"still there?")
        assert stream.recv(100) == b"still there?"
        sluice.signal(signal.SIGINT)
        sluice.wait()
        sluice.wait_for("summary")
    assert kernel.tables(capture.host(topology)) == []


def test_connections_from_before_the_start_live_on(
    topology: Topology, capture: Capture, family: str, upstream: str
) -> None:
    """The administrator's own session, above all: opened, kept across start and end, and used
    at every moment."""
    with Echo(topology.server) as echo:
        at = ADDRESSES[family]
        with topology.client.connect(at.server, echo.port) as outbound:
            check_echo(outbound, b"before")
            with Sluice.capturing(topology, capture, upstream) as sluice:
                check_echo(outbound, b"meanwhile")
                assert attempt(topology.client, at.server, echo.port) == "answer"
                assert sluice.finish()["sessions_opened"] == 1
            check_echo(outbound, b"after")
        assert echo.peers == [at.client, at.proxy_exit]


def test_services_of_the_host_stay_reachable(
    topology: Topology, capture: Capture, family: str, upstream: str
) -> None:
    """Replies of what the client serves are no flows of its own, new connections and old."""
    at = ADDRESSES[family]
    with Echo(topology.client) as service:
        with topology.server.connect(at.client, service.port) as old:
            check_echo(old, b"before")
            with Sluice.capturing(topology, capture, upstream) as sluice:
                check_echo(old, b"meanwhile")
                assert attempt(topology.server, at.client, service.port) == "answer"
                assert sluice.finish()["sessions_opened"] == 0
            check_echo(old, b"after")
        assert service.peers == [at.server, at.server]


def check_echo(stream: socket.socket, text: bytes) -> None:
    stream.sendall(text)
    assert stream.recv(100) == text


def test_ports_of_captured_connections_are_free_after_the_end(
    topology: Topology, capture: Capture, upstream: str, family: str
) -> None:
    """TPROXY's side of one waits for a minute (TIME_WAIT), and the kernel drops what is to be forwarded between
    the same addresses and ports meanwhile."""
    at = ADDRESSES[family]

    def visit(mirror: Mirror, port: int) -> tuple[str, int]:
        """Whom the target sees, which hangs up first, and the port that we had."""
        number = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
        with topology.client.open_socket(number) as stream:
            stream.settimeout(5)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stream.bind((at.client, port))
            stream.connect((at.server, mirror.port))
            return read_to_end(stream).decode(), stream.getsockname()[1]

    with Mirror(topology.server) as mirror:
        with Sluice.capturing(topology, capture, upstream) as sluice:
            seen, port = visit(mirror, 0)
            assert seen == at.proxy_exit
            assert visit(mirror, port) == (at.proxy_exit, port)
            assert sluice.finish()["sessions_failed"] == 0
        assert visit(mirror, port) == (at.client, port)


def test_gateway_turns_forwarding_on_and_back() -> None:
    """A gateway has to forward what it bypasses; where the machine did not, it does meanwhile."""
    switches = "net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"
    with Topology() as hosts:
        for switch in switches:
            hosts.gateway.write_sysctl(switch, "0")
        before = kernel.snapshot(hosts.gateway)
        with Sluice(hosts.gateway, "embedded", "--gateway", "lan0"):
            assert [hosts.gateway.read_sysctl(switch) for switch in switches] == ["1", "1"]
        after = kernel.snapshot(hosts.gateway)
        assert not kernel.changes(before, after)


def test_foreign_rules_and_routes_are_left_alone(
    topology: Topology, capture: Capture, upstream: str, website: Website
) -> None:
    host = capture.host(topology)
    host.nft("""
        table inet foreign {
          chain in { type filter hook input priority 5; ct state new accept; }
        }""")
    host.ip("rule add fwmark 7 lookup 77", "route add unreachable default table 77")
    try:
        before = kernel.snapshot(host)
        with Sluice.capturing(topology, capture, upstream):
            check_captured(topology, website)
        assert not kernel.changes(before, kernel.snapshot(host))
        with Sluice.capturing(topology, capture, upstream) as sluice:
            sluice.signal(signal.SIGKILL)
            sluice.wait()
        with Sluice.capturing(topology, capture, upstream):
            check_captured(topology, website)
        assert not kernel.changes(before, kernel.snapshot(host))
    finally:
        host.run("nft", "delete", "table", "inet", "foreign")
        host.ip("rule del fwmark 7 lookup 77", "route del unreachable default table 77")
