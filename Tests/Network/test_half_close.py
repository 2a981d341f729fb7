"""Half-close in both directions through a real server, and targets that it cannot reach."""

import re
import socket
import threading

import pytest

from harness import upstreams
from harness.flows import ending, outcome
from harness.programs import Program
from harness.sluice import Capture, Sluice
from harness.targets import Scripted, read_to_end
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: Larger than every buffer on the way, so that an end overtakes nothing.
LARGE = bytes(range(256)) * (16 << 10)


@pytest.fixture
def upstream(dante: Program) -> str:
    """Dante passes a half-close on; not every server does."""
    return upstreams.url(ADDRESSES["ipv4"].proxy)


def test_client_that_stops_sending_gets_the_rest(
    topology: Topology, capture: Capture, family: str, upstream: str
) -> None:
    heard: list[bytes] = []

    def answer_after_the_end(stream: socket.socket) -> None:
        heard.append(read_to_end(stream))
        stream.sendall(LARGE)

    with Scripted(topology.server, answer_after_the_end) as target, \
            Sluice.capturing(topology, capture, upstream):
        with topology.client.connect(ADDRESSES[family].server, target.port) as stream:
            stream.sendall(LARGE)
            stream.shutdown(socket.SHUT_WR)
            assert ending(stream) == (LARGE, "FIN")
        assert heard == [LARGE]
        assert target.peers == [ADDRESSES[family].proxy_exit]


def test_target_that_stops_sending_gets_the_rest(
    topology: Topology, capture: Capture, family: str, upstream: str
) -> None:
    heard: list[bytes] = []
    done = threading.Event()

    def listen_after_the_end(stream: socket.socket) -> None:
        stream.sendall(LARGE)
        stream.shutdown(socket.SHUT_WR)
        heard.append(read_to_end(stream))
        done.set()

    with Scripted(topology.server, listen_after_the_end) as target, \
            Sluice.capturing(topology, capture, upstream):
        with topology.client.connect(ADDRESSES[family].server, target.port) as stream:
            assert ending(stream) == (LARGE, "FIN")
            stream.sendall(LARGE)
            stream.shutdown(socket.SHUT_WR)
            assert done.wait(20)
        assert heard == [LARGE]
        assert target.peers == [ADDRESSES[family].proxy_exit]


def test_silent_half_closed_flow_is_kept_alive(topology: Topology, upstream: str) -> None:
    """Connection tracking would forget it after a minute, and the rules with it."""
    capture = Capture("machine", "tproxy")
    host = capture.host(topology)
    answer = threading.Event()

    def answer_when_told(stream: socket.socket) -> None:
        read_to_end(stream)
        assert answer.wait(60)
        stream.sendall(LARGE)

    def probes_soon() -> bool:
        """Whether the listener's end has a keepalive timer in seconds, not in minutes."""
        sockets = host.run("ss", "-Hnto", "state", "close-wait")
        return re.search(r"timer:\(keepalive,\d+(\.\d+)?(ms|sec)", sockets.stdout) is not None

    with Scripted(topology.server, answer_when_told) as target, \
            Sluice.capturing(topology, capture, upstream):
        with topology.client.connect(ADDRESSES["ipv4"].server, target.port) as stream:
            stream.shutdown(socket.SHUT_WR)
            wait_until(probes_soon, "a keepalive timer", timeout=40)
            answer.set()
            assert ending(stream) == (LARGE, "FIN")


def test_refused_target_is_reset(
    topology: Topology, capture: Capture, family: str, upstream: str
) -> None:
    """Nothing listens on port 1 of the server: reply 5."""
    check_failure(
        topology, capture, upstream, ADDRESSES[family].server, 1, "reply_connection_refused")


def test_unreachable_target_is_reset(
    topology: Topology, capture: Capture, family: str, upstream: str
) -> None:
    """The proxy has no way there, which Dante tells by reply 3 or 4."""
    check_failure(
        topology, capture, upstream, ADDRESSES[family].unreachable, 80,
        "reply_network_unreachable", "reply_host_unreachable")


def test_unanswered_target_is_reset(
    topology: Topology, capture: Capture, upstream: str
) -> None:
    """The server drops what is sent to this port, and Dante gives up after a while."""
    topology.server.nft("""
        table inet deaf {
          chain in { type filter hook input priority filter; tcp dport 9 drop; }
        }""")
    try:
        check_failure(
            topology, capture, upstream, ADDRESSES["ipv4"].server, 9,
            "reply_host_unreachable", "reply_ttl_expired", "reply_general_failure",
            "reply_network_unreachable")
    finally:
        topology.server.run("nft", "delete", "table", "inet", "deaf")


def check_failure(
    topology: Topology, capture: Capture, upstream: str, address: str, port: int, *reasons: str
) -> None:
    """A flow that fails is reset and counted once, by one of the reasons."""
    with Sluice.capturing(topology, capture, upstream) as sluice:
        assert outcome(topology.client, address, port) == (b"", "RST")
        summary = sluice.finish()
    assert summary["sessions_failed"] == 1
    failures = summary["failures"]
    assert list(failures.values()) == [1]
    assert failures.keys() <= set(reasons)
