"""Beside what VPNs and firewalls do with marks, rules and source validation."""

import contextlib
import json
from typing import Iterator

import pytest

from harness.flows import attempt
from harness.namespaces import Namespace
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology


def check_captured(topology: Topology, echo: Echo) -> None:
    for at in ADDRESSES.values():
        del echo.peers[:]
        assert attempt(topology.client, at.server, echo.port, 5) == "answer"
        assert echo.peers == [at.proxy_exit]


@contextlib.contextmanager
def sysctls(host: Namespace, **values: str) -> Iterator[None]:
    """Settings of all interfaces and of each for a while."""
    names = [
        f"net/ipv4/conf/{interface}/{name}"
        for interface in ("all", "lo", "lan0", *(["wan0"] if "gateway" in host.name else []))
        for name in values]
    before = {name: host.read_sysctl(name) for name in names}
    try:
        for name in names:
            host.write_sysctl(name, values[name.rpartition("/")[2]])
        yield
    finally:
        for name, value in before.items():
            host.write_sysctl(name, value)


@pytest.mark.parametrize("setting", ["net/ipv4/tcp_syncookies=2", "net/ipv4/ip_early_demux=0"])
def test_ways_to_a_socket(
    topology: Topology, capture: Capture, upstream: str, echo: Echo, setting: str
) -> None:
    """Where a connection has no socket before its last handshake segment, and where the kernel does not
    look for one before it routes."""
    host = capture.host(topology)
    name, _, value = setting.partition("=")
    before = host.read_sysctl(name)
    host.write_sysctl(name, value)
    try:
        with Sluice.capturing(topology, capture, upstream):
            check_captured(topology, echo)
    finally:
        host.write_sysctl(name, before)


@pytest.mark.parametrize("src_valid_mark", ["0", "1"])
@pytest.mark.parametrize("rp_filter", ["1", "2"])
def test_source_validation(
    topology: Topology, capture: Capture, upstream: str, echo: Echo, rp_filter: str,
    src_valid_mark: str,
) -> None:
    with sysctls(capture.host(topology), rp_filter=rp_filter, src_valid_mark=src_valid_mark), \
            Sluice.capturing(topology, capture, upstream):
        check_captured(topology, echo)


def test_both_scopes_with_strict_source_validation(
    topology: Topology, upstream: str, echo: Echo
) -> None:
    """The rule for the machine's packets, which come from lo, does not catch the question for the way
    back to a sender in the LAN."""
    with sysctls(topology.gateway, rp_filter="1", src_valid_mark="1"), \
            Sluice(topology.gateway, upstream, "--machine", "--gateway", "lan0") as sluice:
        check_captured(topology, echo)
        assert attempt(topology.gateway, ADDRESSES["ipv4"].server, echo.port) == "answer"
        assert sluice.finish()["sessions_opened"] == len(ADDRESSES) + 1


def test_firewall_that_validates_sources_with_the_mark(
    topology: Topology, capture: Capture, upstream: str, echo: Echo
) -> None:
    """As firewalld does for IPv6."""
    host = capture.host(topology)
    host.nft("""
        table inet strict {
          chain pre { type filter hook prerouting priority -140; policy accept;
            iifname "lan0" fib saddr . mark . iif oif missing drop; }
        }""")
    try:
        with Sluice.capturing(topology, capture, upstream):
            check_captured(topology, echo)
    finally:
        host.run("nft", "delete", "table", "inet", "strict")


#: A VPN's policy routing: everything without its own mark by its table, whose way works here.
WIREGUARD = ("rule add not fwmark 0xca6c lookup 51820 priority 32764",
             "rule add table main suppress_prefixlength 0 priority 32763")
TAILSCALE = ("rule add fwmark 0x80000/0xff0000 lookup main priority 5210",
             "rule add fwmark 0x80000/0xff0000 unreachable priority 5250")


@pytest.mark.parametrize("rules", [WIREGUARD, TAILSCALE], ids=["wireguard", "tailscale"])
def test_rules_of_a_vpn(
    topology: Topology, capture: Capture, upstream: str, echo: Echo, rules: tuple[str, ...]
) -> None:
    host = capture.host(topology)
    at = {"4": ADDRESSES["ipv4"], "6": ADDRESSES["ipv6"]}
    for family, addresses in at.items():
        way = addresses.gateway_lan if capture.scope == "machine" else addresses.proxy
        host.run("ip", f"-{family}", "route", "add", "default", "via", way, "table", "51820")
        for rule in rules:
            host.run("ip", f"-{family}", *rule.split())
    try:
        with Sluice.capturing(topology, capture, upstream) as sluice:
            check_captured(topology, echo)
            assert sluice.finish()["sessions_opened"] == len(ADDRESSES)
    finally:
        for family in at:
            for rule in rules:
                host.run("ip", f"-{family}", *rule.replace(" add ", " del ").split())
            host.run("ip", f"-{family}", "route", "flush", "table", "51820")


def test_marks_of_others_stay(topology: Topology, upstream: str, echo: Echo) -> None:
    """Only our bits of a packet's and of a connection's mark are written."""
    host = topology.client
    host.nft("""
        table inet foreign {
          chain first { type filter hook output priority -200; policy accept;
            meta l4proto tcp meta mark set mark or 0x80004 ct mark set ct mark or 0x70000; }
          chain last { type filter hook prerouting priority 0; policy accept;
            iifname "lo" meta mark 0x81004 ct mark 0x71000 counter
            iifname "lo" meta mark & 0x3000 == 0x1000 meta mark != 0x81004 counter
          }
        }""")
    try:
        with Sluice(host, upstream, "--machine"):
            check_captured(topology, echo)
        listing = json.loads(host.run("nft", "-j", "list", "table", "inet", "foreign").stdout)
        counted = [
            part["counter"]["packets"] for item in listing["nftables"] if "rule" in item
            for part in item["rule"]["expr"] if "counter" in part]
        assert counted[0] > 0 and counted[1] == 0
    finally:
        host.run("nft", "delete", "table", "inet", "foreign")


@pytest.mark.parametrize("taken", [
    ("rule add fwmark 0x1000/0xf000 lookup main priority 900",),
    ("rule add from all fwmark 0x7/0xff lookup main priority 155",),
    ("route add unreachable default table 155",),
    ("rule add fwmark 0x2000/0x2000 lookup main priority 156",
     "route add unreachable default table 155"),
], ids=["mark", "priority", "table", "all"])
def test_numbers_that_others_use(
    topology: Topology, capture: Capture, upstream: str, echo: Echo, taken: tuple[str, ...]
) -> None:
    """Free ones are taken, and told."""
    host = capture.host(topology)
    for family in ("-4", "-6"):
        for command in taken:
            host.run("ip", family, *command.split())
    try:
        with Sluice.capturing(topology, capture, upstream) as sluice:
            assert len(sluice.events("numbers")) == 1
            check_captured(topology, echo)
            assert sluice.finish()["sessions_opened"] == len(ADDRESSES)
    finally:
        for family in ("-4", "-6"):
            for command in taken:
                host.run("ip", family, *command.replace(" add ", " del ").split())


@pytest.fixture
def bridged(topology: Topology) -> Iterator[None]:
    """The gateway's interface becomes the port of a bridge under br_netfilter, as with containers."""
    host = topology.gateway
    setting = "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"
    before = [host.read_sysctl(name) for name in setting]
    host.ip("link add br-lan type bridge", "link set br-lan up")
    addresses = [(at.gateway_lan, "64" if ":" in at.client else "24") for at in ADDRESSES.values()]
    for address, length in addresses:
        host.ip(f"addr del {address}/{length} dev lan0")
    host.ip("link set lan0 master br-lan")
    for address, length in addresses:
        option = " nodad" if ":" in address else ""
        host.ip(f"addr add {address}/{length} dev br-lan{option}")
    for name in setting:
        host.write_sysctl(name, "1")
    try:
        yield
    finally:
        for name, value in zip(setting, before):
            host.write_sysctl(name, value)
        host.ip("link del br-lan")
        for address, length in addresses:
            host.ip(f"addr add {address}/{length} dev lan0")


def test_bridge_under_br_netfilter(bridged: None, topology: Topology, upstream: str, echo: Echo) -> None:
    with Sluice(topology.gateway, upstream, "--gateway", "br-*") as sluice:
        assert "redirect" in sluice.wait_for("ready")["scope"]
        check_captured(topology, echo)
        assert sluice.finish()["sessions_opened"] == len(ADDRESSES)
        assert "br-lan is rejected" in sluice.wait_for("note")["message"]
    for asked, other in (("--tcp tproxy", "--tcp redirect"), ("--udp proxy", "--udp reject")):
        done = topology.gateway.run(
            binary(), "run", upstream, "--gateway", "br-lan", *asked.split(), check=False)
        assert done.returncode == 69
        assert other in done.stderr
