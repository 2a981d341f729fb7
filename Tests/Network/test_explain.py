"""What `sluice explain` says of a flow is what becomes of it."""

import contextlib
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import kernel, upstreams
from harness.flows import attempt
from harness.namespaces import Namespace
from harness.scripted import ScriptedUpstream
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology

UPSTREAM = upstreams.url(ADDRESSES["ipv4"].proxy)

NOBODY = "65534"

#: One exchange with an echo server, for other users than that of the tests.
SPEAK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as stream:
    stream.sendall(b"hello")
    assert stream.recv(5)
"""

#: What attempt() sees of a connection.
OUTCOMES = {"captured": "answer", "direct": "answer", "rejected": "ECONNREFUSED"}


@pytest.fixture
def echo(topology: Topology) -> Iterator[Echo]:
    with Echo(topology.server) as target:
        yield target


@pytest.fixture
def scripted(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy) as upstream:
        yield upstream


def place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def explain(host: Namespace, *arguments: str) -> dict[str, Any]:
    """Its answer; it must not change anything."""
    before = kernel.snapshot(host)
    done = host.run(binary(), "explain", *arguments, "--json")
    assert not kernel.changes(before, kernel.snapshot(host)), "explain touches nothing"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def origin(capture: Capture, family: str) -> list[str]:
    """How the client's packets look to the host where Sluice runs."""
    if capture.scope == "machine":
        return []
    return ["--in", "lan0", "--from-address", ADDRESSES[family].client]


#: Choices beside the capture, and the verdicts that they make, by family.
CHOICES = {
    "all": ([], ("captured", "captured")),
    "bypass": (["--bypass", "11.3.0.0/24", "--bypass", "2a0f:3::/64"], ("direct", "direct")),
    "proxy-only": (["--proxy-only", "11.3.0.0/24"], ("captured", "direct")),
    "bypass-port": (["--bypass-port", "1024-65535"], ("direct", "direct")),
    "ipv6-reject": (["--ipv6", "reject"], ("captured", "rejected")),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_agrees_with_a_connection(
    topology: Topology, capture: Capture, family: str, echo: Echo, scripted: ScriptedUpstream,
    choice: str,
) -> None:
    options, verdicts = CHOICES[choice]
    verdict = verdicts[family == "ipv6"]
    server = ADDRESSES[family].server
    with Sluice.capturing(topology, capture, UPSTREAM, *options):
        answer = explain(
            capture.host(topology), "tcp", place(server, echo.port), UPSTREAM, *capture.flags(),
            *options, *origin(capture, family))
        assert answer["verdict"] == verdict
        assert answer.get("by") == (capture.by if verdict == "captured" else None)
        assert attempt(topology.client, server, echo.port) == OUTCOMES[verdict]
        assert len(scripted.to(server)) == (verdict == "captured")


@pytest.mark.parametrize("options, verdict", [
    ("", "captured"), ("--dns off", "captured"), ("--udp bypass", "direct"),
    ("--quic reject", "rejected")])
def test_says_what_becomes_of_a_datagram(
    topology: Topology, capture: Capture, family: str, options: str, verdict: str
) -> None:
    answer = explain(
        capture.host(topology), "udp", place(ADDRESSES[family].server, 443), UPSTREAM,
        *capture.flags(), *options.split(), *origin(capture, family))
    assert answer["verdict"] == verdict
    assert answer.get("by") == ("tproxy" if verdict == "captured" else None)


def test_agrees_with_a_datagram(topology: Topology, capture: Capture, family: str) -> None:
    server = ADDRESSES[family].server
    options = ["--udp", "reject"]
    with ScriptedUpstream(topology.proxy), Sluice.capturing(topology, capture, UPSTREAM, *options):
        answer = explain(
            capture.host(topology), "udp", place(server, 443), UPSTREAM, *capture.flags(),
            *options, *origin(capture, family))
        assert (answer["verdict"], answer["reject"]) == ("rejected", "ICMP port unreachable")
        kind = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
        with topology.client.open_socket(kind, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(20)
            datagrams.connect((server, 443))
            with contextlib.suppress(PermissionError):  # how a host refuses its own packets
                datagrams.send(b"hello")
            with pytest.raises(ConnectionRefusedError):
                datagrams.recv(1)


def test_agrees_with_the_guard(
    topology: Topology, capture: Capture, family: str, echo: Echo, scripted: ScriptedUpstream
) -> None:
    server = ADDRESSES[family].server
    options = ["--on-exit", "closed"]
    host = capture.host(topology)
    question = [
        "tcp", place(server, echo.port), UPSTREAM, *capture.flags(), *options,
        *origin(capture, family)]
    try:
        with Sluice.capturing(topology, capture, UPSTREAM, *options):
            assert explain(host, *question)["verdict"] == "captured"
            assert attempt(topology.client, server, echo.port) == "answer"
        answer = explain(host, *question, "--stopped")
        assert answer["verdict"] == "rejected"
        assert answer["decision"]["table"] == "sluice_guard"
        assert attempt(topology.client, server, echo.port) == "ECONNREFUSED"
    finally:
        host.run(binary(), "rules", "remove")
    assert len(scripted.to(server)) == 1


@pytest.mark.parametrize("by", ["redirect", "tproxy"])
def test_agrees_with_users(
    topology: Topology, family: str, echo: Echo, scripted: ScriptedUpstream, by: str
) -> None:
    server = ADDRESSES[family].server
    scope = ["--machine", "--uid", NOBODY, "--tcp", by]
    question = ["tcp", place(server, echo.port), UPSTREAM, *scope]
    with Sluice(topology.client, UPSTREAM, *scope):
        answer = explain(topology.client, *question)
        assert answer["verdict"] == "direct"
        assert answer["decision"]["reasons"] == ["user 0 is not in @users"]
        assert attempt(topology.client, server, echo.port) == "answer"
        assert not scripted.to(server)
        assert explain(topology.client, *question, "--as-uid", NOBODY)["verdict"] == "captured"
        topology.client.run(
            "setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--",
            sys.executable, "-c", SPEAK, server, str(echo.port))
        assert len(scripted.to(server)) == 1


@pytest.fixture
def control_group() -> Iterator[Path]:
    """A control group for programs of one test."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    places = [Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"]
    if not places:
        pytest.skip("control groups of version 2 are not mounted")
    group = places[0] / f"sluice-explain-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


@pytest.mark.parametrize("by", ["redirect", "tproxy"])
def test_agrees_with_control_groups(
    topology: Topology, family: str, echo: Echo, scripted: ScriptedUpstream, control_group: Path,
    by: str,
) -> None:
    server = ADDRESSES[family].server
    scope = ["--machine", "--cgroup", control_group.name, "--tcp", by]
    question = ["tcp", place(server, echo.port), UPSTREAM, *scope]
    with Sluice(topology.client, UPSTREAM, *scope):
        assert explain(topology.client, *question)["verdict"] == "direct"
        assert attempt(topology.client, server, echo.port) == "answer"
        assert not scripted.to(server)
        answer = explain(topology.client, *question, "--as-cgroup", control_group.name)
        assert answer["verdict"] == "captured"
        topology.client.run(
            "sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(control_group),
            sys.executable, "-c", SPEAK, server, str(echo.port))
        assert len(scripted.to(server)) == 1


@pytest.mark.parametrize("by", ["redirect", "tproxy"])
@pytest.mark.parametrize("flag, verdict", [
    ("--mac", "captured"), ("--except-mac", "direct"), ("--from", "captured"),
    ("--except-from", "direct"),
])
def test_agrees_with_senders(
    topology: Topology, echo: Echo, scripted: ScriptedUpstream, by: str, flag: str, verdict: str
) -> None:
    at = ADDRESSES["ipv4"]
    link = json.loads(topology.client.run("ip", "-json", "link", "show", "dev", "lan0").stdout)
    mac: str = link[0]["address"]
    scope = ["--gateway", "lan0", "--tcp", by, flag, mac if "mac" in flag else at.client]
    sender = ["--in", "lan0", "--from-address", at.client, "--source-mac", mac]
    with Sluice(topology.gateway, UPSTREAM, *scope):
        answer = explain(
            topology.gateway, "tcp", place(at.server, echo.port), UPSTREAM, *scope, *sender)
        assert answer["verdict"] == verdict
        assert attempt(topology.client, at.server, echo.port) == "answer"
        assert len(scripted.to(at.server)) == (verdict == "captured")


@pytest.mark.parametrize("by", ["redirect", "tproxy"])
def test_agrees_where_the_loopback_belongs_to_the_lan(
    topology: Topology, family: str, echo: Echo, scripted: ScriptedUpstream, by: str
) -> None:
    """What this host sends passes the chains of the gateway when it comes back in by lo."""
    server = ADDRESSES[family].server
    scope = ["--machine", "--gateway", "group:0", "--tcp", by]
    with Sluice(topology.client, UPSTREAM, *scope):
        answer = explain(topology.client, "tcp", place(server, echo.port), UPSTREAM, *scope)
        assert (answer["verdict"], answer["by"]) == ("captured", by)
        assert attempt(topology.client, server, echo.port) == "answer"
        assert len(scripted.to(server)) == 1


def test_groups_of_interfaces_are_looked_up(topology: Topology) -> None:
    topology.gateway.ip("link set lan0 group 7")
    try:
        for group, verdict in (7, "captured"), (8, "direct"):
            answer = explain(
                topology.gateway, "tcp", place(ADDRESSES["ipv4"].server, 443), UPSTREAM,
                "--gateway", f"group:{group}", *origin(Capture("gateway", "tproxy"), "ipv4"))
            assert answer["verdict"] == verdict
    finally:
        topology.gateway.ip("link set lan0 group 0")


def test_own_addresses_are_direct(topology: Topology, family: str) -> None:
    at = ADDRESSES[family]
    answer = explain(
        topology.gateway, "tcp", place(at.gateway_wan, 80), UPSTREAM, "--gateway", "lan0",
        *origin(Capture("gateway", "tproxy"), family))
    assert (answer["verdict"], answer["to"]) == ("direct", "this host")
    assert "local" in answer["decision"]["reasons"][0]


def test_a_host_without_a_route_says_so(topology: Topology) -> None:
    question = ["tcp", place(ADDRESSES["ipv4"].unreachable, 443), UPSTREAM, "--machine"]
    done = topology.proxy.run(binary(), "explain", *question, check=False)
    assert done.returncode == 69
    assert "no route" in done.stderr
    assert explain(topology.proxy, *question, "--out", "far0")["verdict"] == "captured"


@pytest.mark.parametrize("choice", CHOICES)
def test_rules_in_force(
    topology: Topology, capture: Capture, family: str, echo: Echo, scripted: ScriptedUpstream,
    choice: str,
) -> None:
    """Without a scope it reads what is in the kernel, a running daemon's as well."""
    options, verdicts = CHOICES[choice]
    verdict = verdicts[family == "ipv6"]
    server = ADDRESSES[family].server
    sender = [word.replace("--from-address", "--from") for word in origin(capture, family)]
    with Sluice.capturing(topology, capture, UPSTREAM, *options):
        answer = explain(capture.host(topology), "tcp", place(server, echo.port), *sender)
        assert answer["verdict"] == verdict
        assert attempt(topology.client, server, echo.port) == OUTCOMES[verdict]
        assert "remark" not in answer
    answer = explain(capture.host(topology), "tcp", place(server, echo.port), *sender)
    assert answer["verdict"] == "direct"
    assert "no rules of Sluice" in answer["remark"]


def test_rules_in_force_that_others_have_changed(topology: Topology) -> None:
    host, server = topology.client, place(ADDRESSES["ipv4"].server, 443)
    host.run(binary(), "rules", "apply", UPSTREAM, "--uid", "1000")
    try:
        assert explain(host, "tcp", server, "--uid", "1000")["verdict"] == "captured"
        assert explain(host, "tcp", server, "--uid", "1001")["verdict"] == "direct"
        host.run("nft", "add", "rule", "inet", "sluice", "exempt", "counter")
        assert "counter" in explain(host, "tcp", server, "--uid", "1000")["remark"]
    finally:
        host.run(binary(), "rules", "remove")


@pytest.mark.parametrize("option", ["--bypass=1.1.1.1", "--stopped", "--except-uid=5"])
def test_options_that_need_a_scope(topology: Topology, option: str) -> None:
    done = topology.client.run(binary(), "explain", "tcp", "11.3.0.2:443", option, check=False)
    assert done.returncode == 64
    assert "--machine" in done.stderr
