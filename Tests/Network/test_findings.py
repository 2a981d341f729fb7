"""What a run has found out of its upstream is found out again when the server may be another one."""

from typing import Iterator

import pytest

from harness import upstreams
from harness.flows import attempt, outcome
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology

AT = ADDRESSES["ipv4"]

URL = upstreams.url(AT.proxy)

MACHINE = Capture("machine", "tproxy")

#: Reply codes (RFC 1928, section 6).
ADDRESS_TYPE_NOT_SUPPORTED = 8


@pytest.fixture
def server(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy) as one:
        yield one


def test_handshake_in_one_write(topology: Topology, server: ScriptedUpstream) -> None:
    """It is not given up for ever by one flow that failed with it."""
    with Sluice.capturing(topology, MACHINE, URL) as sluice:
        assert sluice.wait_for("pipelining")["proved"] is True
        server.behaviour = Behaviour(at_pipelining="close")
        assert outcome(topology.client, AT.server, 80) == (b"", "RST")
        assert sluice.wait_for("pipelining", 2)["proved"] is False
        assert attempt(topology.client, AT.server, 80) == "answer"
        server.behaviour = Behaviour()
        assert sluice.wait_for("pipelining", 3, timeout=60)["proved"] is True
        assert attempt(topology.client, AT.server, 80) == "answer"
        assert server.to(AT.server)[-1].pipelined


def test_ipv6(topology: Topology, server: ScriptedUpstream) -> None:
    """And back."""
    at = ADDRESSES["ipv6"]
    server.behaviour = Behaviour(refusal=ADDRESS_TYPE_NOT_SUPPORTED)
    with Sluice.capturing(topology, MACHINE, URL) as sluice:
        sluice.wait_for("no_ipv6")
        with pytest.raises(OSError):
            topology.client.connect(at.server, 80)
        server.behaviour = Behaviour(at_greeting="close")
        assert outcome(topology.client, AT.server, 80) == (b"", "RST")
        server.behaviour = Behaviour()
        sluice.wait_for("ipv6", timeout=60)
        assert attempt(topology.client, at.server, 80) == "answer"
        assert [one.destination for one in server.to(at.server)] == [(at.server, 80)]
        server.behaviour = Behaviour(at_greeting="close")
        assert outcome(topology.client, AT.server, 80) == (b"", "RST")
        server.behaviour = Behaviour(refusal=ADDRESS_TYPE_NOT_SUPPORTED)
        sluice.wait_for("no_ipv6", 2, timeout=60)
        with pytest.raises(OSError):
            topology.client.connect(at.server, 80)
