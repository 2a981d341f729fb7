"""`--early-data auto`: what programs say goes along with the request where the upstream has been found to pass it
on, and never where that is not known."""

import contextlib
import socket

import pytest

from harness import upstreams
from harness.flows import outcome
from harness.probed import Faults, FaultyServer
from harness.sluice import Capture, Sluice
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

URL = upstreams.url(AT.proxy)

MACHINE = Capture("machine", "tproxy")

AUTO = ["--early-data", "auto", "--workers", "1", "--dns-server", AT.second]


def ask(topology: Topology, echo: Echo, sluice: Sluice, question: bytes) -> None:
    """A flow whose question is there when the run sees the connection, and which is answered in any case."""
    with contextlib.ExitStack() as stack:
        with sluice.stopped():
            stream = stack.enter_context(topology.client.connect(AT.server, echo.port))
            stream.sendall(question)
        assert stream.recv(len(question), socket.MSG_WAITALL) == question


def test_upstream_that_passes_it_on(topology: Topology, scope: Capture, echo: Echo) -> None:
    with FaultyServer(topology.proxy) as server, \
            Sluice.capturing(topology, scope, URL, *AUTO) as sluice:
        assert sluice.wait_for("early_data")["policy"] == "on"
        ask(topology, echo, sluice, b"question")
        assert server.early[-1] == b"question"


@pytest.mark.parametrize("faults", [
    Faults(early="drop"), Faults(early="close"), Faults(early="drop-at-once"),
    Faults(unreachable=(AT.client, AT.second)),
], ids=["drops", "closes", "drops-at-once", "nothing-tells"])
def test_upstream_that_loses_it(topology: Topology, echo: Echo, faults: Faults) -> None:
    """No flow does."""
    with FaultyServer(topology.proxy, faults) as server, \
            Sluice.capturing(topology, MACHINE, URL, *AUTO) as sluice:
        assert sluice.wait_for("early_data")["policy"] == "off"
        known = len(server.early)
        for number in range(5):
            ask(topology, echo, sluice, b"question %d" % number)
        assert server.early[known:] == []
        assert sluice.finish()["sessions_failed"] == 0


def test_pooled_connections(topology: Topology, echo: Echo) -> None:
    """Where the handshake itself cannot go out at once, the request can, behind one that is through."""
    with FaultyServer(topology.proxy, Faults(pipelining="close")) as server, \
            Sluice.capturing(topology, MACHINE, URL, *AUTO, "--pool", "1") as sluice:
        assert sluice.wait_for("early_data")["policy"] == "on"
        ask(topology, echo, sluice, b"first")
        known = len(server.early)
        wait_until(lambda: server.waiting, "a connection that waits for a flow")
        ask(topology, echo, sluice, b"question")
        assert server.early[known:] == [b"question"]
        assert sluice.finish()["pooled_used"] == 1


def test_server_that_is_replaced(topology: Topology, echo: Echo) -> None:
    """From the first trouble on nothing goes early until the new one is known."""
    with contextlib.ExitStack() as first:
        first.enter_context(FaultyServer(topology.proxy))
        with Sluice.capturing(topology, MACHINE, URL, *AUTO) as sluice:
            assert sluice.wait_for("early_data")["policy"] == "on"
            first.close()
            assert outcome(topology.client, AT.server, 1) == (b"", "RST")
            sluice.wait_for("failure")
            with FaultyServer(topology.proxy, Faults(early="drop")) as server:
                for number in range(5):
                    ask(topology, echo, sluice, b"question %d" % number)
                assert server.early == []
                assert sluice.wait_for("early_data", 2, timeout=60)["policy"] == "off"
                ask(topology, echo, sluice, b"question")
