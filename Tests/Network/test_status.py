"""`sluice status`: what a run says of itself, to people and to programs."""

import json
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness.confined import NOBODY, STRANGER, Confined
from harness.control import EXEC, MAXIMUM_CONNECTIONS, Client, by, running
from harness.flows import attempt, outcome
from harness.namespaces import Namespace
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

#: Members of an answer that are numbers, 0 at the start.
COUNTED = {
    "sessions": ["failed", "live", "opened", "retried"], "associations": ["live", "opened"],
    "bytes": ["received", "sent"], "datagrams": ["received", "sent"],
    "queries": ["answered", "carried", "failed", "truncated"],
    "rates": ["received", "sent", "sessions"]}


@pytest.fixture
def run(topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    with running(topology.gateway, place, upstream) as sluice:
        yield sluice


def ask(host: Namespace, place: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    return host.run(binary(), "status", "--control", str(place), *flags, check=False)


def status(host: Namespace, place: Path) -> dict[str, Any]:
    """What it says to programs."""
    done = ask(host, place, "--json")
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def limits(answer: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {one["name"]: (one["used"], one["limit"]) for one in answer["limits"]}


def test_quiet_run(topology: Topology, run: Sluice, upstream: str, place: Path) -> None:
    answer = status(topology.gateway, place)
    assert answer["process"] == run.pid
    version = topology.gateway.run(binary(), "--version").stdout.strip()
    assert answer["version"] == version
    assert answer["scope"] == run.events("ready")[0]["scope"]
    assert [one["url"] for one in answer["upstreams"]] == [upstream]
    assert answer["rules"] == {"changed": 0, "phase": "capturing", "restored": 0}
    assert (answer["failures"], answer["drops"], answer["pauses"]) == ({}, {}, 0)
    for name, members in COUNTED.items():
        assert sorted(answer[name]) == members
        assert set(answer[name].values()) == {0}, name
    uses = limits(answer)
    assert set(uses) == {
        "descriptors", "pipes", "buffers", "associations", "associations of one client",
        "bytes of waiting datagrams", "known resolvers", "resolver connections", "waiting queries",
        "known names",
        "control connections", "programs"}
    assert uses["descriptors"][0] == uses["associations"][0] == uses["programs"][0] == 0
    # The one that asks.
    assert uses["control connections"] == (1, MAXIMUM_CONNECTIONS)
    assert all(limit > 0 for _, limit in uses.values())


def test_flows_are_counted(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    with topology.client.call(lambda: socket.create_connection((AT.server, echo.port))) as stream:
        stream.sendall(b"x" * 1000)
        received = 0
        while received < 1000:
            received += len(stream.recv(1000))
        # They are counted when they have been sent.
        answer = wait_until(
            lambda: (now := status(topology.gateway, place))["bytes"]["received"] == 1000 and now,
            "the bytes to be counted")
        assert answer["sessions"] == {"failed": 0, "live": 1, "opened": 1, "retried": 0}
        assert answer["bytes"] == {"received": 1000, "sent": 1000}
        assert answer["rates"]["sessions"] > 0 and answer["rates"]["sent"] > 0
        assert limits(answer)["descriptors"][0] >= 2
        text = ask(topology.gateway, place).stdout
        assert "1 open, 1 in all" in text
    wait_until(
        lambda: status(topology.gateway, place)["sessions"]["live"] == 0, "the flow to end")


def test_failures_have_names(topology: Topology, place: Path) -> None:
    with ScriptedUpstream(topology.server, Behaviour(reply=5)), \
            running(topology.gateway, place, f"socks5://{AT.third}:1080"):
        assert outcome(topology.client, AT.server, 80) == (b"", "RST")
        answer = status(topology.gateway, place)
        assert answer["failures"] == {"reply_connection_refused": 1}
        assert answer["sessions"]["failed"] == 1
        assert "1 failed: 1 reply_connection_refused" in ask(topology.gateway, place).stdout


@pytest.mark.parametrize("itself", ["embedded", "direct"])
def test_this_process_is_up(topology: Topology, place: Path, itself: str) -> None:
    with running(topology.gateway, place, itself):
        (one,) = status(topology.gateway, place)["upstreams"]
        assert (one["url"], one["health"]) == (itself, "up")


def test_member_that_is_down(topology: Topology, upstream: str, place: Path, echo: Echo) -> None:
    nobody = f"socks5://{AT.proxy}:9"
    with running(
        topology.gateway, place, nobody, "--gateway", "lan0", "--upstream", upstream
    ) as sluice:
        assert attempt(topology.client, AT.server, echo.port) == "answer"
        answer = status(topology.gateway, place)
        assert answer["balance"] == "failover"
        assert [(one["url"], one["health"]) for one in answer["upstreams"]] == [
            (nobody, "down"), (upstream, "up")]
        assert f"{nobody}: down" in ask(topology.gateway, place).stdout
        assert sluice.process.poll() is None


def test_guardian_is_counted(topology: Topology, run: Sluice, place: Path) -> None:
    for times in 1, 2:
        # One alone: flushing goes on until it finds nothing more.
        topology.gateway.run("ip", "route", "del", "local", "default", "dev", "lo", "table", "155")
        wait_until(
            lambda: status(topology.gateway, place)["rules"]["restored"] == times,
            "the repair to be counted")
    assert "put back 2 times" in ask(topology.gateway, place).stdout


def test_scope_is_the_one_in_force(topology: Topology, upstream: str, place: Path) -> None:
    """Which other settings may have changed."""
    file = place.with_name("sluice.yaml")

    def write(gateway: str) -> None:
        file.write_text(f"upstream: {upstream}\ngateway: {gateway}\n")

    write("[lan0]")
    with Sluice(topology.gateway, "--config", str(file), "--control", str(place)) as sluice:
        assert status(topology.gateway, place)["scope"].endswith(" from lan0")
        write("[lan0, lan7]")
        sluice.signal(signal.SIGHUP)
        sluice.wait_for("reloaded")
        assert status(topology.gateway, place)["scope"].endswith(" from lan0, lan7")


def test_programs_are_counted(topology: Topology, run: Sluice, place: Path) -> None:
    with Client(place) as program:
        program.ask(EXEC)
        assert limits(status(topology.gateway, place))["programs"][0] == 1
    wait_until(
        lambda: limits(status(topology.gateway, place))["programs"][0] == 0, "its end")


def test_any_number_of_times(run: Sluice, place: Path) -> None:
    with Client(place) as client:
        answers = [client.ask({"request": "status"})["status"] for _ in range(20)]
        assert len({one["process"] for one in answers}) == 1
        # And then anything else.
        assert "upstream" in client.ask(EXEC)


def test_without_a_run(topology: Topology, place: Path) -> None:
    done = ask(topology.gateway, place)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"sluice: no sluice run is reachable at {place}: start one\n"


def test_control_group(topology: Topology, upstream: str, place: Path) -> None:
    """Its members may ask, and nobody else."""
    groups = place.with_name("group")
    groups.write_text(f"root:x:0:\nwatchers:x:{STRANGER}:\n")
    within = (
        "unshare", "--mount", "--propagation", "private", "--", "sh", "-c",
        'mount --bind "$0" /etc/group && exec "$@"', str(groups))
    options = "--gateway", "lan0", "--control", str(place), "--control-group", "watchers"
    with Sluice(topology.gateway, upstream, *options, within=within):
        wait_until(place.exists, "the control socket")
        found = place.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o660, 0, STRANGER)
        for who, code in (STRANGER, 0), (NOBODY, 77):
            with Confined(topology.gateway, who) as user:
                assert user.run(*by(place), command=["true"]).returncode == code


def test_control_group_that_is_none(topology: Topology, upstream: str, place: Path) -> None:
    done = topology.gateway.run(
        binary(), "run", upstream, "--gateway", "lan0", "--control", str(place),
        "--control-group", "no-such-group", check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert "--control-group no-such-group: there is no such group" in done.stderr
    assert not place.exists()
