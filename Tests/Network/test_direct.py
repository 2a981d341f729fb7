"""The upstream `direct`: connections go from Sluice straight to where they wanted to go."""

import json
import re
import socket

import pytest

from harness.confined import Confined
from harness.datagrams import DatagramEcho, ask
from harness.doctor import DONE, examine, faults, told
from harness.flows import ending, fetch, outcome
from harness.namespaces import Namespace
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice
from harness.targets import Banner, Scripted, Website, read_to_end
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

GATEWAY = Capture("gateway", "tproxy")


def exit_of(capture: Capture, family: str) -> str:
    """Whom the target sees."""
    at = ADDRESSES[family]
    return at.client if capture.scope == "machine" else at.gateway_wan


def connections_to_itself(host: Namespace) -> int:
    """Of a host, over its loopback."""
    listing = host.run("ss", "-Hnt", "state", "established").stdout
    return len(re.findall(r"127\.0\.0\.1:\d+ +127\.0\.0\.1:\d+", listing))


def test_bytes_both_ways(
    topology: Topology, capture: Capture, family: str, website: Website
) -> None:
    del website.peers[:]
    with Sluice.capturing(topology, capture, "direct") as sluice:
        for megabytes in 1, 8:
            fetched = fetch(topology.client, ADDRESSES[family].server, website.port, megabytes)
            assert (fetched.code, fetched.size) == (0, megabytes << 20)
            assert fetched.checksum == website.checksums[megabytes]
        summary = sluice.finish()
    assert website.peers == [exit_of(capture, family)] * 2
    assert (summary["sessions_opened"], summary["failures"]) == (2, {})


def test_half_close(topology: Topology, capture: Capture, family: str) -> None:
    heard: list[bytes] = []

    def answer_after_the_end(stream: socket.socket) -> None:
        heard.append(read_to_end(stream))
        stream.sendall(b"answer" * 100_000)

    with Scripted(topology.server, answer_after_the_end) as target, \
            Sluice.capturing(topology, capture, "direct"):
        with topology.client.connect(ADDRESSES[family].server, target.port) as stream:
            stream.sendall(b"question")
            stream.shutdown(socket.SHUT_WR)
            assert ending(stream) == (b"answer" * 100_000, "FIN")
        assert heard == [b"question"]


@pytest.mark.parametrize(("upstream", "connections"), [("direct", 0), ("embedded", 2)])
def test_a_flow_has_no_connection_of_ours_to_ourselves(
    topology: Topology, upstream: str, connections: int
) -> None:
    """Which the embedded server takes: one, with two ends."""
    host = GATEWAY.host(topology)
    with Banner(topology.server) as target, Sluice.capturing(topology, GATEWAY, upstream) as sluice:
        sluice.wait_for("pipelining")
        wait_until(lambda: connections_to_itself(host) == 0, "the start's questions to be over")
        with topology.client.connect(AT.server, target.port) as stream:
            assert stream.recv(100) == Banner.TEXT
            assert connections_to_itself(host) == connections


def test_failures_are_resets(topology: Topology, capture: Capture, family: str) -> None:
    at = ADDRESSES[family]
    with Sluice.capturing(topology, capture, "direct") as sluice:
        assert outcome(topology.client, at.server, 1) == (b"", "RST")
        assert outcome(topology.client, at.unreachable, 80) == (b"", "RST")
        assert sluice.finish()["failures"] == {"target_refused": 1, "target_unreachable": 1}


def test_target_that_does_not_answer(topology: Topology) -> None:
    topology.server.nft("""
        table inet deaf {
          chain in { type filter hook input priority filter; tcp dport 9 drop; }
        }""")
    try:
        with Sluice.capturing(topology, GATEWAY, "direct", "--connect-timeout", "1") as sluice:
            assert outcome(topology.client, AT.server, 9) == (b"", "RST")
            assert sluice.finish()["failures"] == {"target_timeout": 1}
    finally:
        topology.server.run("nft", "delete", "table", "inet", "deaf")


def test_datagrams(
    topology: Topology, scope: Capture, family: str, datagram_echo: DatagramEcho
) -> None:
    del datagram_echo.received[:]
    with Sluice.capturing(topology, scope, "direct"):
        ask(topology, family, datagram_echo.port)
    assert datagram_echo.peers() == [exit_of(scope, family)]


@pytest.mark.parametrize("transport", ["UDP", "TCP"])
def test_chosen_resolver(
    topology: Topology, scope: Capture, unbound: Unbound, transport: str
) -> None:
    """Of whomever is asked, nobody being there, the chosen one answers."""
    options = ["+tcp"] if transport == "TCP" else []
    with Sluice.capturing(topology, scope, "direct", "--dns-server", AT.server):
        answer = dig(topology.client, AT.unreachable, NAME, "A", *options)
    assert (answer.records, answer.transport) == ([RECORDS["A"]], transport)
    assert set(unbound.askers()) == {exit_of(scope, "ipv4")}


def test_program_and_its_audit(
    topology: Topology, website: Website, confined: Confined
) -> None:
    del website.peers[:]
    done = confined.run(
        "--audit", "--json", "direct", command=[
            "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output",
            "/dev/null", f"http://{AT.server}:{website.port}/1"])
    assert done.returncode == 0, done.stderr
    assert website.peers == [AT.client]
    report = json.loads(done.stderr.splitlines()[-1])
    (found,) = report["destinations"]
    assert (found["address"], found["port"]) == (AT.server, website.port)
    assert (found["flows"], found["failed"]) == (1, 0)
    assert found["received"] > 1 << 20


def test_doctor(topology: Topology) -> None:
    code, findings = examine(topology.client, "direct")
    assert (code, faults(findings)) == (DONE, {})
    assert "directly" in told(findings, "upstream")
