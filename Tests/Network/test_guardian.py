"""What others take away comes back, and is told once."""

import contextlib
from typing import Callable, Iterator

import pytest

from harness import kernel
from harness.flows import attempt
from harness.namespaces import Namespace
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: Seconds that a repair may take on a machine that has much else to do; else it takes 0.2 at most.
BOUND = 5


def state(host: Namespace) -> str:
    """Our tables, rules and routes; interfaces aside."""
    commands = [*kernel.COMMANDS[:3]]
    routes = [f"ip {option} route show table 155" for option in ("-4", "-6")]
    return "\n".join(host.run(*command.split(), check=False).stdout for command in commands + routes)


@contextlib.contextmanager
def cleaned(host: Namespace) -> Iterator[None]:
    """A host whose guard is gone afterwards."""
    try:
        yield
    finally:
        host.run(binary(), "rules", "remove")


def check_repair(
    topology: Topology, capture: Capture, upstream: str, echo: Echo,
    damage: Callable[[Namespace], None], named: str,
) -> None:
    host = capture.host(topology)
    with cleaned(host), \
            Sluice.capturing(topology, capture, upstream, "--on-exit", "closed") as sluice:
        before = state(host)
        damage(host)
        wait_until(
            lambda: state(host) == before, "what was taken away to come back", BOUND, interval=0.001)
        assert named in sluice.wait_for("restored")["what"]
        leaked, visitors = topology.leaked(echo.port), len(echo.peers)
        for at in ADDRESSES.values():
            assert attempt(topology.client, at.server, echo.port) == "answer"
        assert echo.peers[visitors:] == [at.proxy_exit for at in ADDRESSES.values()]
        assert topology.leaked(echo.port) == leaked
        assert len(sluice.events("restored")) == 1, "one line each"


@pytest.mark.parametrize("capture", [Capture("machine", "tproxy"), Capture("gateway", "tproxy")], ids=str)
class TestRouting:
    def test_rules_deleted(
        self, topology: Topology, capture: Capture, upstream: str, echo: Echo
    ) -> None:
        def damage(host: Namespace) -> None:
            host.ip("rule flush protocol 155")

        check_repair(topology, capture, upstream, echo, damage, "ip rule")

    def test_ipv6_rule_deleted(
        self, topology: Topology, capture: Capture, upstream: str, echo: Echo
    ) -> None:
        def damage(host: Namespace) -> None:
            host.run("ip", "-6", "rule", "flush", "protocol", "155")

        check_repair(topology, capture, upstream, echo, damage, "ip -6 rule")

    def test_routes_deleted(
        self, topology: Topology, capture: Capture, upstream: str, echo: Echo
    ) -> None:
        def damage(host: Namespace) -> None:
            host.ip("route flush table 155")

        check_repair(topology, capture, upstream, echo, damage, "ip route")

    def test_route_replaced(
        self, topology: Topology, capture: Capture, upstream: str, echo: Echo
    ) -> None:
        def damage(host: Namespace) -> None:
            host.ip("route replace unreachable default table 155")

        check_repair(topology, capture, upstream, echo, damage, "ip route")

    def test_loopback_flapped(
        self, topology: Topology, capture: Capture, upstream: str, echo: Echo
    ) -> None:
        """The routes go with the interface, without a word from the kernel for IPv4."""
        def damage(host: Namespace) -> None:
            host.ip("link set lo down", "link set lo up")

        check_repair(topology, capture, upstream, echo, damage, "route")


@pytest.mark.parametrize("damage", [
    "flush ruleset", "delete table inet sluice_guard", "flush table inet sluice_guard",
    "delete chain inet sluice_guard gateway_refuse; delete chain inet sluice_guard machine_refuse",
    "add element inet sluice_guard bypass4 { 11.3.0.0/24 }",
])
def test_tables(
    topology: Topology, capture: Capture, upstream: str, echo: Echo, damage: str
) -> None:
    """The table that captures belongs to the process, and nobody can change it."""
    scope = f"{capture.scope}_refuse"

    def spoil(host: Namespace) -> None:
        for command in damage.split(";"):
            if "delete chain" not in command or scope in command:
                host.nft(command)

    check_repair(topology, capture, upstream, echo, spoil, "table sluice_guard")


def test_flush_with_an_open_exit_changes_nothing(
    topology: Topology, capture: Capture, upstream: str
) -> None:
    host = capture.host(topology)
    with Sluice.capturing(topology, capture, upstream) as sluice:
        before = state(host)
        host.nft("flush ruleset")
        assert state(host) == before
        assert sluice.finish()
        assert not sluice.events("restored")


def test_changed_setting_is_told(topology: Topology, upstream: str) -> None:
    host = topology.gateway
    with Sluice.capturing(topology, Capture("gateway", "tproxy"), upstream) as sluice:
        try:
            host.write_sysctl("net/ipv4/conf/all/src_valid_mark", "1")
            assert "src_valid_mark is now 1" in sluice.wait_for("setting_changed")["message"]
            host.write_sysctl("net/ipv4/ip_forward", "0")
            assert "ip_forward is now 0" in sluice.wait_for("setting_changed", 2)["message"]
        finally:
            host.write_sysctl("net/ipv4/ip_forward", "1")
            host.write_sysctl("net/ipv4/conf/all/src_valid_mark", "0")
