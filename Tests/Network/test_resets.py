"""Who resets, resets the other side; who closes, closes it; and neither passes for the other."""

import contextlib
import socket
from typing import Iterator

import pytest

from harness import upstreams
from harness.flows import ending, outcome
from harness.namespaces import Namespace
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.targets import reset
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: More than one buffer on the way takes.
LARGE = bytes(1 << 20)


@pytest.fixture
def upstream() -> str:
    return upstreams.url(ADDRESSES["ipv4"].proxy)


@pytest.fixture
def scripted(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy) as server:
        yield server


def test_reset_of_the_upstream_resets_the_client(
    topology: Topology, capture: Capture, family: str, upstream: str, scripted: ScriptedUpstream
) -> None:
    def answer_and_reset(stream: socket.socket) -> None:
        stream.sendall(stream.recv(100))
        stream.recv(100)
        reset(stream)

    scripted.behaviour = Behaviour(target=answer_and_reset)
    with Sluice.capturing(topology, capture, upstream):
        with topology.client.connect(ADDRESSES[family].server, 80) as stream:
            stream.sendall(b"first")
            assert stream.recv(100) == b"first"
            stream.sendall(b"second")
            assert ending(stream) == (b"", "RST")


def test_end_of_the_upstream_is_no_reset(
    topology: Topology, capture: Capture, family: str, upstream: str, scripted: ScriptedUpstream
) -> None:
    """The other half of the check above: what ends well must not look like a failure."""
    def answer_and_close(stream: socket.socket) -> None:
        stream.sendall(stream.recv(100))

    scripted.behaviour = Behaviour(target=answer_and_close)
    with Sluice.capturing(topology, capture, upstream):
        with topology.client.connect(ADDRESSES[family].server, 80) as stream:
            stream.sendall(b"first")
            assert ending(stream) == (b"first", "FIN")


@pytest.mark.parametrize("end", ["RST", "FIN"])
def test_end_of_the_client_reaches_the_upstream(
    topology: Topology, capture: Capture, family: str, upstream: str, scripted: ScriptedUpstream,
    end: str,
) -> None:
    heard: list[tuple[bytes, str]] = []
    scripted.behaviour = Behaviour(target=lambda stream: heard.append(ending(stream)))
    server = ADDRESSES[family].server
    with Sluice.capturing(topology, capture, upstream) as sluice:
        with topology.client.connect(server, 80) as stream:
            stream.sendall(b"first")
            # An RST throws away what the other side has not read: wait until it is under way.
            wait_until(
                lambda: sluice.status()["bytes_upstream"] >= len(b"first"), "the first bytes")
            if end == "RST":
                reset(stream)
        wait_until(lambda: heard, "the upstream to see the end")
        wait_until(lambda: sluice.status()["live_sessions"] == 0, "the session to end")
    assert heard == [(b"first", end)]


@contextlib.contextmanager
def local_ports(host: Namespace, first: int, count: int) -> Iterator[None]:
    """Meanwhile a host connects from these alone."""
    setting = "net/ipv4/ip_local_port_range"
    before = host.read_sysctl(setting)
    host.write_sysctl(setting, f"{first} {first + count - 1}")
    try:
        yield
    finally:
        host.write_sysctl(setting, before)


def test_no_port_left_to_connect_from(
    topology: Topology, upstream: str, scripted: ScriptedUpstream
) -> None:
    """One address of an upstream gets as many connections as the host has ports for it."""
    few, server = 4, ADDRESSES["ipv4"].server
    with Sluice.capturing(topology, Capture("gateway", "tproxy"), upstream) as sluice:
        with contextlib.ExitStack() as streams:
            # Other ones than those that rest after the questions of the start.
            streams.enter_context(local_ports(topology.gateway, 50000, few))
            for _ in range(few):
                stream = streams.enter_context(topology.client.connect(server, 80))
                stream.sendall(b"through")
                assert stream.recv(100) == b"through"
            assert outcome(topology.client, server, 80) == (b"", "RST")
            told = sluice.wait_for("failure")
            assert (told["failure"], told["level"]) == ("no_local_port", "warning")
            assert "tcp_tw_reuse" in told["message"]
        assert sluice.status()["failures"] == {"no_local_port": 1}


def test_client_that_resets_while_both_sides_are_full(
    topology: Topology, capture: Capture, upstream: str, scripted: ScriptedUpstream
) -> None:
    """Back-pressure holds both directions when the RST comes: the upstream sees it all the same."""
    ends: list[str] = []

    def send_for_ever(stream: socket.socket) -> None:
        try:
            while True:
                stream.sendall(LARGE)
        except ConnectionResetError:
            ends.append("RST")
        except BrokenPipeError:
            ends.append("FIN")

    scripted.behaviour = Behaviour(target=send_for_ever)
    with Sluice.capturing(topology, capture, upstream) as sluice:
        with topology.client.connect(ADDRESSES["ipv4"].server, 80) as stream:
            assert stream.recv(1)
            standing = -1

            def stands_still() -> bool:
                nonlocal standing
                before, standing = standing, sluice.status()["bytes_downstream"]
                return standing == before

            wait_until(stands_still, "back-pressure to hold the upstream", interval=0.2)
            reset(stream)
        wait_until(lambda: ends, "the upstream to see the reset")
        wait_until(lambda: sluice.status()["live_sessions"] == 0, "the session to end")
    assert ends == ["RST"]
