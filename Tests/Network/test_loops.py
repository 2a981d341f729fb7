"""Loops made on purpose: seen, named in one line, and harmless."""

import pytest

from harness import metrics, upstreams
from harness.flows import attempt, outcome
from harness.scripted import ScriptedUpstream
from harness.sluice import CAPTURES, PORT, Capture, Sluice
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: Descriptors that a loop may take beyond those of an idle run: far below any limit, far above what
#: one flow needs.
MAXIMUM_DESCRIPTORS = 400

FLOWS = 20


def check_calm(sluice: Sluice, idle: int) -> None:
    """The loop was named once, is over, and the process still listens to us."""
    assert len(sluice.events("loop")) == 1
    status = wait_until(
        lambda: (now := sluice.status())["live_sessions"] == 0 and now, "the loop to end")
    assert status["failures"]["loop"] >= 1
    assert len(sluice.descriptors()) < idle + MAXIMUM_DESCRIPTORS


@pytest.mark.parametrize("scope", ["machine", "gateway"])
def test_foreign_rules_redirect_our_own_connections(
    topology: Topology, scope: str, family: str, scripted: ScriptedUpstream
) -> None:
    """Somebody else's NAT catches what goes to the upstream and gives it to our listener."""
    at = ADDRESSES[family]
    capture = Capture(scope, "redirect")
    host = capture.host(topology)
    version = "ip6" if family == "ipv6" else "ip"
    with Sluice.capturing(
        topology, capture, upstreams.url(at.proxy), "--metrics", metrics.PLACE
    ) as sluice:
        sluice.wait_for("pipelining")
        idle = len(sluice.descriptors())
        host.nft(f"""
            table inet foreign {{
              chain out {{
                type nat hook output priority -150
                {version} daddr {at.proxy} tcp dport {upstreams.PORT} redirect to :{PORT}
              }}
            }}""")
        try:
            for _ in range(FLOWS):
                assert outcome(topology.client, at.server, 80) == (b"", "RST")
            sluice.wait_for("loop")
            check_calm(sluice, idle)
            assert metrics.scrape(host).value("rules_foreign_total") >= 1
        finally:
            host.run("nft", "delete", "table", "inet", "foreign")
        # Without the foreign rules all is well again.
        assert attempt(topology.client, at.server, 80) == "answer"


@pytest.mark.parametrize("by", CAPTURES)
def test_upstream_on_the_same_host(topology: Topology, by: str, family: str) -> None:
    """The upstream runs on the captured machine: what it sends is captured and sent to it again."""
    at = ADDRESSES[family]
    with upstreams.microsocks(topology.client), Echo(topology.server) as echo:
        upstream = upstreams.url(at.client)
        with Sluice.capturing(topology, Capture("machine", by), upstream) as sluice:
            idle = len(sluice.descriptors())
            for _ in range(FLOWS):
                assert attempt(topology.client, at.server, echo.port) in ("RST", "FIN")
            sluice.wait_for("loop")
            check_calm(sluice, idle)
            assert "microsocks" in sluice.events("loop")[0]["message"]
            assert echo.peers == []


def test_connection_to_the_listener_itself(
    topology: Topology, capture: Capture, family: str
) -> None:
    """A port scanner, or a browser of the curious, is refused instead of sent round."""
    host = capture.host(topology)
    port = PORT if capture.by == "redirect" else PORT + 1
    at = ADDRESSES[family]
    own = {"machine": at.client, "gateway": at.gateway_lan}[capture.scope]
    local = "::1" if family == "ipv6" else "127.0.0.1"
    with ScriptedUpstream(topology.proxy) as scripted:
        with Sluice.capturing(topology, capture, upstreams.url(at.proxy)) as sluice:
            sluice.wait_for("pipelining")
            for address in own, local:
                try:
                    assert outcome(host, address, port) == (b"", "RST")
                except ConnectionRefusedError:  # it does not listen there, which is as good
                    pass
            assert sluice.status()["live_sessions"] == 0
            # Nobody but Sluice itself, which asks what the upstream can do, has been there.
            assert port not in {
                one.destination[1] for one in scripted.conversations if one.destination}
            assert len(sluice.events("loop")) <= 1
