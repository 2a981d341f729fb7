"""`--half-close auto` finds out what the upstream makes of an end, and does what suits it."""

import contextlib
import queue
import select
import socket
import subprocess

import pytest

from harness import upstreams
from harness.confined import Confined
from harness.flows import ending, outcome
from harness.probed import Faults, FaultyServer
from harness.sluice import Capture, Sluice
from harness.targets import Scripted
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE

AT = ADDRESSES["ipv4"]

URL = upstreams.url(AT.proxy)

MACHINE = Capture("machine", "tproxy")

#: How long a target waits for the client's end before it answers.
WHILE = 1.0


def exchange(topology: Topology) -> tuple[bool, bytes]:
    """Whether a target hears the end that follows a client's question, and what comes of its
    answer."""
    heard: queue.Queue[bool] = queue.Queue()

    def answer_after_a_while(stream: socket.socket) -> None:
        stream.recv(1 << 16)
        ready, _, _ = select.select([stream], [], [], WHILE)
        heard.put(bool(ready) and not stream.recv(1))
        stream.sendall(b"answer")

    with Scripted(topology.server, answer_after_a_while) as target, \
            topology.client.connect(AT.server, target.port) as stream:
        stream.sendall(b"question")
        stream.shutdown(socket.SHUT_WR)
        answer, _ = ending(stream)
        return heard.get(timeout=PATIENCE), answer


@pytest.mark.parametrize("half_close, policy", [("drop", "hold"), ("pass", "propagate")])
def test_upstream_gets_what_suits_it(
    topology: Topology, scope: Capture, half_close: str, policy: str
) -> None:
    with FaultyServer(topology.proxy, Faults(half_close=half_close)), \
            Sluice.capturing(topology, scope, URL, "--half-close", "auto") as sluice:
        assert sluice.wait_for("half_close")["policy"] == policy
        assert exchange(topology) == (policy == "propagate", b"answer")
        assert len(sluice.events("half_close")) == 1


@pytest.mark.parametrize("choice, half_close, answer", [
    ("propagate", "drop", b""), ("hold", "pass", b"answer")])
def test_what_is_chosen_by_hand_counts(
    topology: Topology, choice: str, half_close: str, answer: bytes
) -> None:
    with FaultyServer(topology.proxy, Faults(half_close=half_close)), \
            Sluice.capturing(topology, MACHINE, URL, "--half-close", choice) as sluice:
        assert exchange(topology) == (choice == "propagate", answer)
        assert not sluice.events("half_close")


def test_upstream_that_nothing_tells_of(topology: Topology) -> None:
    """Neither a resolver nor we ourselves are in its reach: its ends are passed on."""
    faults = Faults(unreachable=(AT.client, AT.second))
    with FaultyServer(topology.proxy, faults), Sluice.capturing(
        topology, MACHINE, URL, "--half-close", "auto", "--dns-server", AT.second
    ) as sluice:
        assert "nothing tells" in sluice.wait_for("half_close")["message"]
        assert exchange(topology) == (True, b"answer")


def test_server_that_is_replaced(topology: Topology) -> None:
    """What was found is asked for again once the upstream has been away."""
    with contextlib.ExitStack() as dropping:
        dropping.enter_context(FaultyServer(topology.proxy, Faults(half_close="drop")))
        with Sluice.capturing(topology, MACHINE, URL, "--half-close", "auto") as sluice:
            assert sluice.wait_for("half_close")["policy"] == "hold"
            dropping.close()
            assert outcome(topology.client, AT.server, 1) == (b"", "RST")
            with FaultyServer(topology.proxy):
                assert sluice.wait_for("half_close", 2, timeout=60)["policy"] == "propagate"
                assert exchange(topology) == (True, b"answer")


def test_confined_program(topology: Topology, confined: Confined) -> None:
    options = ["--half-close", "auto", "--log-level", "info", "--json"]
    with FaultyServer(topology.proxy, Faults(half_close="drop")), \
            confined.start(*options, URL, command=["cat"], stdin=subprocess.PIPE) as program:
        program.wait_for_output(
            lambda: '"policy":"hold"' in program.output().replace(" ", ""), "what it found", PATIENCE)
        assert program.process.stdin
        program.process.stdin.close()
        assert program.wait() == 0
