"""An upstream that cannot carry IPv6 says so, and programs are told at once to take IPv4."""

from harness import control, upstreams
from harness.confined import Confined
from harness.flows import attempt
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, FAMILIES, Topology

#: RFC 1928, section 6.
ADDRESS_TYPE_NOT_SUPPORTED = 8

UPSTREAM = upstreams.url(ADDRESSES["ipv4"].proxy)


def test_it_is_rejected(topology: Topology, capture: Capture) -> None:
    with ScriptedUpstream(topology.proxy, Behaviour(refusal=ADDRESS_TYPE_NOT_SUPPORTED)), \
            Sluice.capturing(topology, capture, UPSTREAM) as sluice:
        sluice.wait_for("no_ipv6")
        leaked = topology.leaked(80)
        assert attempt(topology.client, ADDRESSES["ipv6"].server, 80) == "ECONNREFUSED"
        assert attempt(topology.client, ADDRESSES["ipv4"].server, 80) == "answer"
        assert topology.leaked(80) == leaked
        assert sluice.finish()["sessions_opened"] == 1


def test_the_user_may_want_it_otherwise(topology: Topology, capture: Capture) -> None:
    with ScriptedUpstream(topology.proxy, Behaviour(refusal=ADDRESS_TYPE_NOT_SUPPORTED)), \
            Sluice.capturing(topology, capture, UPSTREAM, "--ipv6", "proxy") as sluice:
        assert attempt(topology.client, ADDRESSES["ipv6"].server, 80) == "answer"
        assert not sluice.events("no_ipv6")


def test_it_is_rejected_for_programs(topology: Topology) -> None:
    """Those that the run carries, unless their own word is another."""
    doors = [f"tcp,{ADDRESSES[family].server},80" for family in FAMILIES]
    with ScriptedUpstream(topology.proxy, Behaviour(refusal=ADDRESS_TYPE_NOT_SUPPORTED)), \
            control.place() as place, \
            control.running(topology.gateway, place, UPSTREAM) as sluice, \
            Confined(topology.gateway) as user:
        sluice.wait_for("no_ipv6")
        v4, v6 = user.knock(*doors, arguments=control.by(place))
        assert (v4["outcome"], v6["outcome"]) == ("answer", "ECONNREFUSED")
        _, v6 = user.knock(*doors, arguments=[*control.by(place), "--ipv6", "proxy"])
        assert v6["outcome"] == "answer"
