"""SIGHUP and `sluice reload`: the settings file is read again, and what can change under a run does, with every flow that is
open left as it is."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.flows import attempt
from harness.load import change_under_load
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology

AT = ADDRESSES["ipv4"]

#: Of an upstream without UDP.
OTHER_PORT = 1081

#: In all, under load.
RELOADS = 1000

#: After so many the process has what it needs …
SETTLED = 100

#: … and may not grow by so many bytes in the others: a leak of 4 KiB each would show.
GROWTH = 2 << 20


class Settings:
    """The file, and the run that reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write()

    def write(self, **changed: str) -> None:
        lines = {"upstream": upstreams.url(AT.proxy), "gateway": "[lan0]"} | changed
        self.path.write_text("".join(
            f"{name.replace('_', '-')}: {value}\n" for name, value in lines.items()))

    def run(self, host: Namespace) -> Sluice:
        return Sluice(host, "--config", str(self.path))


@pytest.fixture
def settings(tmp_path: Path, dante: Program) -> Settings:
    return Settings(tmp_path / "sluice.yaml")


@pytest.fixture
def sluice(topology: Topology, settings: Settings) -> Iterator[Sluice]:
    with settings.run(topology.gateway) as running:
        yield running


def reload(sluice: Sluice, times: int = 1) -> None:
    sluice.signal(signal.SIGHUP)
    sluice.wait_for("reloaded", times)


def listing(topology: Topology) -> str:
    """The rules in force."""
    return topology.gateway.run("nft", "list", "table", "inet", "sluice").stdout


def exit_of(topology: Topology, echo: Echo) -> str:
    """Whom the target sees of a new connection."""
    del echo.peers[:]
    assert attempt(topology.client, AT.server, echo.port) == "answer"
    return echo.peers[-1]


def test_destinations(
    topology: Topology, settings: Settings, sluice: Sluice, echo: Echo
) -> None:
    with topology.client.connect(AT.server, echo.port) as stream:
        assert exit_of(topology, echo) == AT.proxy_exit
        settings.write(bypass=f"[{AT.server}/32]")
        reload(sluice)
        assert exit_of(topology, echo) == AT.client
        stream.sendall(b"as before")
        assert stream.recv(100) == b"as before"
    settings.write()
    reload(sluice, 2)
    assert exit_of(topology, echo) == AT.proxy_exit
    assert sluice.events("needs_restart") == []


def test_senders(topology: Topology, settings: Settings, sluice: Sluice, echo: Echo) -> None:
    settings.write(except_from=f"[{AT.client}]")
    reload(sluice)
    assert exit_of(topology, echo) == AT.client


def test_interfaces(topology: Topology, settings: Settings, sluice: Sluice, echo: Echo) -> None:
    settings.write(gateway="[other0]")
    reload(sluice)
    assert exit_of(topology, echo) == AT.client
    settings.write(gateway="[other0, lan*]")
    reload(sluice, 2)
    assert exit_of(topology, echo) == AT.proxy_exit


def test_timeouts_of_open_flows(
    topology: Topology, settings: Settings, sluice: Sluice, echo: Echo
) -> None:
    settings.write(idle_timeout="1")
    reload(sluice)
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"once")
        assert stream.recv(100) == b"once"
        with pytest.raises(ConnectionResetError):
            stream.recv(100)
    assert sluice.finish()["failures"] == {"idle_timeout": 1}


def test_what_takes_a_restart_is_named(
    topology: Topology, settings: Settings, sluice: Sluice, echo: Echo
) -> None:
    """The rest takes effect all the same."""
    settings.write(
        upstream="embedded", workers="1", on_exit="closed", bypass=f"[{AT.server}]")
    reload(sluice)
    assert sluice.wait_for("needs_restart")["settings"] == "upstream, on-exit, workers"
    assert exit_of(topology, echo) == AT.client


@pytest.mark.parametrize("changed, said", [
    ({"bypas": "[192.0.2.1]"}, "sluice.yaml:4:1: bypas is no setting: did you mean bypass?"),
    ({"udp": "maybe"}, "sluice.yaml:4:6: "),
    ({"bypass_file": "[/nowhere/list]"}, "cannot read /nowhere/list"),
    ({"uid": "[nobody-of-that-name]", "machine": "true"}, ""),
])
def test_faults_change_nothing(
    topology: Topology, settings: Settings, sluice: Sluice, echo: Echo,
    changed: dict[str, str], said: str,
) -> None:
    before = listing(topology)
    settings.write(except_from=f"[{AT.client}]", **changed)
    sluice.signal(signal.SIGHUP)
    if said:
        assert said in sluice.wait_for("not_reloaded")["message"]
        assert listing(topology) == before
        assert exit_of(topology, echo) == AT.proxy_exit
    else:
        # One scope more is what a restart is for: what it names is not looked at.
        assert "machine" in sluice.wait_for("needs_restart")["settings"]


def test_file_that_is_gone_changes_nothing(
    topology: Topology, settings: Settings, sluice: Sluice, echo: Echo
) -> None:
    settings.path.unlink()
    sluice.signal(signal.SIGHUP)
    assert "cannot read" in sluice.wait_for("not_reloaded")["message"]
    assert exit_of(topology, echo) == AT.proxy_exit


def test_what_was_found_out_of_the_upstream_stays(
    topology: Topology, settings: Settings
) -> None:
    """It has no UDP: what the rules reject for that, they still reject."""
    upstream = upstreams.url(AT.proxy, OTHER_PORT)
    settings.write(upstream=upstream)
    with upstreams.microsocks(topology.proxy, port=OTHER_PORT), \
            settings.run(topology.gateway) as sluice:
        before = listing(topology)
        assert "udp" in before
        settings.write(upstream=upstream, idle_timeout="100")
        reload(sluice)
        assert listing(topology) == before


def test_a_thousand_under_load(
    topology: Topology, settings: Settings, sluice: Sluice, echo: Echo
) -> None:
    def change(number: int) -> None:
        settings.write(bypass=f"[192.0.2.{number % 250}]", idle_timeout=str(100 + number % 7))
        reload(sluice, number)

    connections = change_under_load(
        topology, echo, sluice, change, RELOADS, SETTLED, GROWTH)
    summary = sluice.finish()
    assert summary["sessions_opened"] == connections
    assert summary["failures"] == {}


# By the control socket.


@pytest.fixture
def reachable(topology: Topology, settings: Settings, place: Path) -> Iterator[Sluice]:
    """A run that others can reach."""
    with Sluice(
        topology.gateway, "--config", str(settings.path), "--control", str(place)
    ) as running:
        yield running


def ask(topology: Topology, place: Path, *flags: str) -> "subprocess.CompletedProcess[str]":
    return topology.gateway.run(
        binary(), "reload", "--control", str(place), *flags, check=False)


def test_adopted_is_told(
    topology: Topology, settings: Settings, reachable: Sluice, place: Path, echo: Echo
) -> None:
    done = ask(topology, place)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "read the settings and lists again\n"
    assert exit_of(topology, echo) == AT.proxy_exit
    settings.write(bypass=f"[{AT.server}/32]", idle_timeout="5")
    done = ask(topology, place)
    assert (done.returncode, done.stdout) == (0, "in force now: bypass, idle-timeout\n")
    # It is so when the command has ended.
    assert exit_of(topology, echo) == AT.client
    assert reachable.wait_for("reload_asked", 2)["uid"] == 0


def test_what_takes_a_restart_is_told(
    topology: Topology, settings: Settings, reachable: Sluice, place: Path
) -> None:
    settings.write(workers="1", quic="reject")
    done = ask(topology, place)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "in force now: quic\nwhen the run is started anew: workers\n"
    done = ask(topology, place, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"adopted": [], "restart": ["workers"]}


def test_bad_file_is_told(
    topology: Topology, settings: Settings, reachable: Sluice, place: Path
) -> None:
    before = listing(topology)
    settings.write(quick="reject")
    done = ask(topology, place)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.startswith(f"sluice: the run goes on as before: {settings.path}:3:1: ")
    done = ask(topology, place, "--json")
    assert done.returncode == 64
    told = json.loads(done.stdout)
    assert f"{settings.path}:3:1" in told.pop("problem")
    assert told == {"adopted": [], "restart": []}
    assert listing(topology) == before
    reachable.wait_for("not_reloaded", 2)
    settings.write()
    assert ask(topology, place).returncode == 0


def test_reload_of_a_run_that_ends(
    topology: Topology, reachable: Sluice, place: Path, echo: Echo
) -> None:
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"
        reachable.signal(signal.SIGTERM)
        reachable.wait_for("draining")
        done = ask(topology, place)
    assert (done.returncode, done.stdout) == (69, "")
    assert "refuses: the run is ending" in done.stderr
