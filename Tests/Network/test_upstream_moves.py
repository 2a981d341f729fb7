"""An upstream by its name: whichever of its addresses answers is used, and another one when that fails."""

from pathlib import Path

import pytest

from harness import upstreams
from harness.flows import fetch, outcome
from harness.namespaces import Namespace
from harness.sluice import Capture, Sluice
from harness.targets import Website
from harness.topology import ADDRESSES, Topology

AT = ADDRESSES["ipv4"]

NAME = "upstream.example"

URL = f"socks5://{NAME}"


class Hosts:
    """What a run takes for /etc/hosts."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def lead_to(self, *addresses: str) -> None:
        self._path.write_text("".join(f"{address} {NAME}\n" for address in addresses))

    def within(self) -> tuple[str, ...]:
        """The command that runs another with it."""
        return (
            "unshare", "--mount", "sh", "-c",
            'mount --bind "$0" /etc/hosts && exec "$@"', str(self._path))


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    return Hosts(tmp_path / "hosts")


def exempt(host: Namespace) -> str:
    """The addresses that are never captured."""
    return host.run("nft", "list", "set", "inet", "sluice", "upstream4").stdout


def test_moves_where_the_name_leads(
    topology: Topology, scope: Capture, website: Website, hosts: Hosts
) -> None:
    """From the proxy to the server itself, without a new start."""
    hosts.lead_to(AT.proxy)
    with upstreams.microsocks(topology.proxy) as former, \
            Sluice.capturing(topology, scope, URL, within=hosts.within()) as sluice, \
            upstreams.microsocks(topology.server):
        del website.peers[:]
        assert fetch(topology.client, AT.server, website.port, 1).code == 0
        assert website.peers == [AT.proxy_exit]
        former.end()
        hosts.lead_to(AT.second)
        assert outcome(topology.client, AT.server, website.port) == (b"", "RST")
        event = sluice.wait_for("upstream_moved")
        assert event["place"] == f"{AT.second}:1080"
        listing = exempt(scope.host(topology))
        assert AT.second in listing and AT.proxy not in listing
        assert fetch(topology.client, AT.server, website.port, 1).code == 0
        assert website.peers == [AT.proxy_exit, AT.server]
        assert sluice.finish()["failures"] == {"connect_refused": 1}


def test_member_of_a_group_moves(
    topology: Topology, website: Website, hosts: Hosts
) -> None:
    """Although no flow goes there any more that could tell."""
    hosts.lead_to(AT.proxy)
    machine = Capture("machine", "tproxy")
    with upstreams.microsocks(topology.proxy) as former, upstreams.microsocks(topology.server), \
            Sluice.capturing(
                topology, machine, URL, "--upstream", upstreams.url(AT.third),
                within=hosts.within()) as sluice:
        del website.peers[:]
        assert fetch(topology.client, AT.server, website.port, 1).code == 0
        former.end()
        assert fetch(topology.client, AT.server, website.port, 1).code == 0
        assert website.peers == [AT.proxy_exit, AT.server]
        hosts.lead_to(AT.gateway_lan)
        with upstreams.microsocks(topology.gateway):
            assert sluice.wait_for("upstream_moved")["place"] == f"{AT.gateway_lan}:1080"
            sluice.wait_for("member_up")
            listing = exempt(topology.client)
            assert AT.gateway_lan in listing and AT.third in listing and AT.proxy not in listing
            assert fetch(topology.client, AT.server, website.port, 1).code == 0
            assert website.peers[-1] == AT.gateway_wan
            assert sluice.finish()["failures"] == {}


def test_takes_another_address_of_the_same_name(
    topology: Topology, website: Website, hosts: Hosts
) -> None:
    hosts.lead_to(AT.proxy, AT.second)
    with upstreams.microsocks(topology.proxy) as former, \
            Sluice.capturing(
                topology, Capture("gateway", "tproxy"), URL, within=hosts.within()) as sluice, \
            upstreams.microsocks(topology.server):
        former.end()
        assert outcome(topology.client, AT.server, website.port) == (b"", "RST")
        assert sluice.wait_for("upstream_moved")["place"] == f"{AT.second}:1080"
        del website.peers[:]
        assert fetch(topology.client, AT.server, website.port, 1).code == 0
        assert website.peers == [AT.server]


def test_start_is_not_held_up_by_an_address_that_does_not_answer(
    topology: Topology, website: Website, hosts: Hosts
) -> None:
    """It would take ten minutes to give up."""
    topology.proxy.nft("""
        table inet deaf {
          chain in { type filter hook input priority filter; meta nfproto ipv6 tcp dport 1080 drop; }
        }""")
    hosts.lead_to(ADDRESSES["ipv6"].proxy, AT.proxy)
    try:
        with upstreams.microsocks(topology.proxy), \
                Sluice.capturing(
                    topology, Capture("machine", "tproxy"), URL, "--connect-timeout", "600",
                    within=hosts.within()):
            assert fetch(topology.client, AT.server, website.port, 1).code == 0
    finally:
        topology.proxy.run("nft", "delete", "table", "inet", "deaf")
