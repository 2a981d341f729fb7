"""`sluice doctor` finds nothing where all is well, and of an injected fault exactly that one."""

import contextlib
import re
from typing import Iterator

import pytest

from harness import kernel, upstreams
from harness.datagrams import Speaker
from harness.doctor import (
    DONE, NO_PERMISSION, UNAVAILABLE, USAGE, assert_only, examine, faults, told)
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import PORT, Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

UPSTREAM = upstreams.url(ADDRESSES["ipv4"].proxy)

GATEWAY = ("--gateway", "lan0")


@pytest.fixture
def alone() -> Iterator[Namespace]:
    """A host without any cable."""
    host = Namespace("alone")
    try:
        yield host
    finally:
        host.close()


# All is well.

#: What the doctor tries in the kernel, whatever the scope.
TRIED = {
    f"tcp_{by}_{family}" for by in ("tproxy", "redirect") for family in ("ipv4", "ipv6")
} | {"udp_ipv4", "udp_ipv6", "owned_tables", "nat", "tproxy", "socket", "fib", "reject", "cgroups"}


def test_all_is_well(
    topology: Topology, dante: Program, capture: Capture, family: str
) -> None:
    upstream = upstreams.url(ADDRESSES[family].proxy)
    code, findings = examine(capture.host(topology), upstream, *capture.flags())
    assert faults(findings) == {}
    assert code == DONE
    checks = [one["check"] for one in findings]
    assert len(set(checks)) == len(checks)
    assert TRIED < set(checks)
    assert {"upstream", "upstream_ipv6", "upstream_udp"} < set(checks)
    assert ("forwarding" in checks) == (capture.scope == "gateway")


def test_machine_and_embedded_are_taken_for_granted(alone: Namespace) -> None:
    code, findings = examine(alone)
    assert (code, faults(findings)) == (DONE, {})
    assert f":{PORT + 1}" in told(findings, "ports")
    assert "embedded" in told(findings, "upstream")


def test_text_is_a_line_per_check(alone: Namespace) -> None:
    limit = ["prlimit", "--nofile=1024:1024", "--"]
    done = alone.run(*limit, binary(), "doctor")
    for line in done.stdout.splitlines():
        assert re.fullmatch(r"(ok|warning|failure) +[a-z0-9_]+: .+", line)
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning")]
    assert len(warnings) == 1 and " -> raise the hard limit" in warnings[0]


def test_wrong_usage(alone: Namespace) -> None:
    done = alone.run(binary(), "doctor", "gopher://11.2.0.2", check=False)
    assert done.returncode == USAGE
    assert done.stdout == ""


def test_nothing_of_the_trials_is_left(alone: Namespace) -> None:
    before = kernel.snapshot(alone)
    examine(alone)
    assert not kernel.changes(before, kernel.snapshot(alone))
    assert kernel.tables(alone) == []


# Privileges.

def test_without_net_admin(topology: Topology, dante: Program) -> None:
    result = examine(
        topology.client, UPSTREAM, "--machine",
        within=("setpriv", "--bounding-set", "-net_admin", "--"))
    assert_only(result, "privileges", "failure", "CAP_NET_ADMIN", "sudo", code=NO_PERMISSION)


def test_root_of_a_user_namespace_only(topology: Topology, dante: Program) -> None:
    result = examine(
        topology.client, UPSTREAM, "--machine", within=("unshare", "--user", "--map-root-user"))
    assert_only(result, "privileges", "failure", "CAP_NET_ADMIN", "sudo", code=NO_PERMISSION)


def test_without_sys_admin(topology: Topology, dante: Program) -> None:
    result = examine(
        topology.client, UPSTREAM, "--machine",
        within=("setpriv", "--bounding-set", "-sys_admin", "--"))
    assert_only(result, "privileges", "warning", "CAP_SYS_ADMIN", "sudo")


def test_where_no_namespace_can_be_made(alone: Namespace) -> None:
    forbid = "echo 0 >/proc/sys/user/max_net_namespaces && ip link set lo up && exec \"$@\""
    result = examine(
        alone,
        within=("unshare", "--user", "--map-root-user", "--net", "sh", "-c", forbid, "sh"))
    assert_only(result, "sandbox", "warning", "were not tried", "container")


# This host.

@contextlib.contextmanager
def sysctls(host: Namespace, **values: str) -> Iterator[None]:
    """Sets sysctls, named with double underscores for slashes, and puts them back."""
    before = {}
    for key, value in values.items():
        name = key.replace("__", "/")
        before[name] = host.read_sysctl(name)
        host.write_sysctl(name, value)
    try:
        yield
    finally:
        for name, value in reversed(before.items()):
            host.write_sysctl(name, value)


@contextlib.contextmanager
def configured(host: Namespace, add: str, remove: str) -> Iterator[None]:
    """What one `ip` command adds and another removes."""
    host.run("ip", *add.split())
    try:
        yield
    finally:
        host.run("ip", *remove.split())


def test_forwarding_off(topology: Topology, dante: Program) -> None:
    with sysctls(topology.gateway, net__ipv4__ip_forward="0"):
        result = examine(topology.gateway, UPSTREAM, *GATEWAY)
    assert_only(
        result, "forwarding", "warning", "run turns it on itself", "sysctl -w net.ipv4.ip_forward=1")


def test_forwarding_that_cannot_be_set(topology: Topology, dante: Program) -> None:
    read_only = (
        "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec \"$@\"")
    with sysctls(topology.gateway, net__ipv4__ip_forward="0"):
        result = examine(
            topology.gateway, UPSTREAM, *GATEWAY,
            within=("unshare", "--mount", "sh", "-c", read_only, "sh"))
    assert_only(result, "forwarding", "failure", "cannot be set", "net.ipv4.ip_forward=1")


STRICT = {
    "net__ipv4__conf__lan0__rp_filter": "1", "net__ipv4__conf__lan0__src_valid_mark": "1"}


def test_strict_source_validation(topology: Topology, dante: Program) -> None:
    with sysctls(topology.gateway, **STRICT):
        code, findings = examine(topology.gateway, UPSTREAM, *GATEWAY)
    assert (code, faults(findings)) == (DONE, {})
    assert "lan0: our rules are scoped" in told(findings, "rp_filter")


def test_strict_source_validation_and_an_earlier_rule(
    topology: Topology, dante: Program
) -> None:
    rule = "fwmark 0x3000/0x3000 lookup 100 priority 100"
    with sysctls(topology.gateway, **STRICT):
        with configured(topology.gateway, f"rule add {rule}", f"rule del {rule}"):
            code, findings = examine(topology.gateway, UPSTREAM, *GATEWAY)
    assert (code, faults(findings)) == (DONE, {"marks": "warning", "rp_filter": "warning"})
    assert "net.ipv4.conf.lan0.rp_filter=2" in told(findings, "rp_filter")


@pytest.mark.parametrize("option", ["", "-6 "], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("mark", ["0x1000/0x1000", "0x2000/0xf000", "0x3000"])
def test_mark_taken(topology: Topology, dante: Program, mark: str, option: str) -> None:
    rule = f"fwmark {mark} lookup 100 priority 300"
    with configured(topology.client, f"{option}rule add {rule}", f"{option}rule del {rule}"):
        result = examine(topology.client, UPSTREAM)
    assert_only(
        result, "marks", "warning", f"ip {option}rule priority 300 fwmark",
        f"ip {option}rule del priority 300")


def test_mark_of_wireguard_is_no_conflict(topology: Topology, dante: Program) -> None:
    rule = "not fwmark 0xca6c lookup 100 priority 300"
    with configured(topology.client, f"rule add {rule}", f"rule del {rule}"):
        code, findings = examine(topology.client, UPSTREAM)
    assert (code, faults(findings)) == (DONE, {})


def test_priority_taken(topology: Topology, dante: Program) -> None:
    rule = "from 11.9.0.0/24 lookup 100 priority 156"
    with configured(topology.client, f"rule add {rule}", f"rule del {rule}"):
        result = examine(topology.client, UPSTREAM)
    assert_only(result, "rule_priority", "warning", "priority 156", "ip rule del priority 156")


@pytest.mark.parametrize(
    "option, destination", [("", "11.9.0.0/24"), ("-6 ", "2a0f:9::/64")], ids=["ipv4", "ipv6"])
def test_route_table_taken(
    topology: Topology, dante: Program, option: str, destination: str
) -> None:
    route = f"unreachable {destination} table 155"
    with configured(topology.client, f"{option}route add {route}", f"{option}route del {route}"):
        result = examine(topology.client, UPSTREAM)
    assert_only(
        result, "route_table", "warning", "table 155", f"ip {option}route flush table 155")


def test_table_of_another_program(topology: Topology, dante: Program) -> None:
    # Its input stays open, and so does the socket that owns the table.
    script = "(echo 'add table inet sluice { flags owner; }'; exec sleep 600) | nft -i"
    with Program(topology.client, "sh", "-c", script, name="nft"):
        wait_until(
            lambda: any("inet sluice" in line for line in kernel.tables(topology.client)),
            "the table of another program")
        result = examine(topology.client, UPSTREAM)
    assert_only(result, "instance", "failure", "nft", "end that program")


@pytest.mark.parametrize("options", [[], ["--port", "20880"]], ids=["same-port", "other-port"])
def test_second_instance(
    topology: Topology, dante: Program, capture: Capture, options: list[str]
) -> None:
    with Sluice.capturing(topology, capture, UPSTREAM) as first:
        result = examine(capture.host(topology), UPSTREAM, *capture.flags(), *options)
        assert_only(result, "instance", "failure", "sluice", f"kill {first.pid}")


def test_rules_without_an_owner_are_no_fault(
    topology: Topology, dante: Program, capture: Capture
) -> None:
    host = capture.host(topology)
    host.run(binary(), "rules", "apply", UPSTREAM, *capture.flags())
    try:
        code, findings = examine(host, UPSTREAM, *capture.flags())
    finally:
        host.run(binary(), "rules", "remove")
    assert (code, faults(findings)) == (DONE, {})
    assert "run replaces it" in told(findings, "instance")


@pytest.mark.parametrize("by, port", [("redirect", PORT), ("tproxy", PORT + 1)])
def test_port_taken(topology: Topology, dante: Program, by: str, port: int) -> None:
    with Echo(topology.client, port):
        result = examine(topology.client, UPSTREAM, "--machine", "--tcp", by)
    code, findings = result
    assert faults(findings) == {"ports": "failure"}
    assert code == UNAVAILABLE
    assert re.search(rf"\b{port}\b.*python", told(findings, "ports"))
    assert "--port" in told(findings, "ports")


def test_port_taken_for_datagrams(topology: Topology, dante: Program) -> None:
    with Speaker(topology.client, "0.0.0.0", PORT + 1):
        result = examine(topology.client, UPSTREAM, "--machine")
    code, findings = result
    assert faults(findings) == {"ports": "failure"}
    assert code == UNAVAILABLE
    assert re.search(rf"\b{PORT + 1}\b.*python", told(findings, "ports"))


def test_few_descriptors(topology: Topology, dante: Program) -> None:
    result = examine(
        topology.client, UPSTREAM, within=("prlimit", "--nofile=1024:1024", "--"))
    assert_only(result, "descriptors", "warning", "1024", "LimitNOFILE=")


def test_host_without_loopback_of_ipv6(alone: Namespace) -> None:
    alone.ip("addr del ::1/128 dev lo")
    assert_only(examine(alone), "ipv6", "warning", "::1", "disable_ipv6")


def test_interface_missing(topology: Topology, dante: Program) -> None:
    result = examine(topology.gateway, UPSTREAM, *GATEWAY, "--gateway", "lan9")
    assert_only(result, "interfaces", "warning", "lan9", "ip link")


def test_interface_down(topology: Topology, dante: Program) -> None:
    add = "link add lan9 type veth peer name lan10"
    with configured(topology.gateway, add, "link del lan9"):
        result = examine(topology.gateway, UPSTREAM, *GATEWAY, "--gateway", "lan9")
    assert_only(result, "interfaces", "warning", "lan9 is down", "ip link set lan9 up")


def test_interfaces_by_beginning_and_group(topology: Topology, dante: Program) -> None:
    with configured(
        topology.gateway, "link set lan0 group 7", "link set lan0 group default"
    ):
        code, findings = examine(
            topology.gateway, UPSTREAM, "--gateway", "wan*", "--gateway", "group:7")
        assert (code, faults(findings)) == (DONE, {})
        assert {"lan0", "wan0"} <= set(re.findall(r"\w+", told(findings, "interfaces")))
        result = examine(topology.gateway, UPSTREAM, *GATEWAY, "--gateway", "group:8")
    assert_only(result, "interfaces", "warning", "group 8", "ip link set")


@pytest.fixture
def bridge(alone: Namespace) -> Namespace:
    """A gateway of a bridge whose packets br_netfilter hands to the rules."""
    try:
        alone.write_sysctl("net/bridge/bridge-nf-call-iptables", "1")
    except FileNotFoundError:
        pytest.skip("br_netfilter is not loaded")
    alone.write_sysctl("net/ipv4/ip_forward", "1")
    alone.write_sysctl("net/ipv6/conf/all/forwarding", "1")
    alone.ip("link add lan0 type bridge", "link set lan0 up")
    return alone


def test_bridge_under_br_netfilter(bridge: Namespace) -> None:
    assert_only(
        examine(bridge, *GATEWAY), "br_netfilter", "warning", "lan0", "UDP", "--udp reject")


def test_bridge_with_redirect(bridge: Namespace) -> None:
    code, findings = examine(
        bridge, *GATEWAY, "--tcp", "redirect", "--udp", "reject", "--dns", "off")
    assert (code, faults(findings)) == (DONE, {})
