"""`sluice drain`: a run ends when open flows have finished, or the time is up."""

import contextlib
import signal
import socket
from pathlib import Path
from typing import Iterator

import pytest

from harness.control import Client, running
from harness.programs import Program
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology

AT = ADDRESSES["ipv4"]

#: Seconds that nobody waits for in a test that passes.
LONG = 600


@pytest.fixture
def run(topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    with running(
        topology.gateway, place, upstream, "--gateway", "lan0", "--drain-timeout", str(LONG)
    ) as sluice:
        yield sluice


@contextlib.contextmanager
def flow(topology: Topology, echo: Echo) -> Iterator[socket.socket]:
    """One that has carried something."""
    with topology.client.call(
        lambda: socket.create_connection((AT.server, echo.port), timeout=20)
    ) as stream:
        check(stream)
        yield stream


def check(stream: socket.socket) -> None:
    """It carries what is sent, and back."""
    stream.sendall(b"x")
    assert stream.recv(1) == b"x"


def drain(topology: Topology, place: Path, *flags: str) -> Program:
    return Program(
        topology.gateway, binary(), "drain", "--control", str(place), *flags, name="sluice drain")


def test_idle_run_ends_at_once(topology: Topology, run: Sluice, place: Path) -> None:
    with drain(topology, place) as command:
        assert command.wait() == 0
    assert command.output() == ""
    assert run.wait() == 0
    assert run.events("drain_asked")[0]["pid"] == command.pid
    assert not place.exists()
    assert "sluice" not in topology.gateway.run("nft", "list", "tables").stdout


def test_open_flow_may_finish(
    topology: Topology, run: Sluice, place: Path, echo: Echo
) -> None:
    with flow(topology, echo) as stream, drain(topology, place) as command:
        run.wait_for("draining")
        check(stream)
        with Client(place) as client:
            rules = client.ask({"request": "status"})["status"]["rules"]
        assert rules["phase"] == "draining"
        # Whom the target sees now is the client itself.
        known = len(echo.peers)
        with flow(topology, echo):
            assert echo.peers[known:] == [AT.client]
        check(stream)
        assert command.process.poll() is None
        stream.close()
        assert command.wait() == 0
    assert run.wait() == 0


def test_time_may_be_up(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    with flow(topology, echo) as stream, drain(topology, place, "--timeout", "1") as command:
        assert command.wait() == 0
        with pytest.raises(ConnectionResetError):
            stream.recv(1)
    assert run.wait() == 0


def test_no_time_at_all(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    with flow(topology, echo) as stream, drain(topology, place, "--timeout", "0") as command:
        assert command.wait() == 0
        with pytest.raises(ConnectionResetError):
            stream.recv(1)
    assert run.events("draining") == []


def test_first_one_decides(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    with flow(topology, echo) as stream, Client(place) as first, Client(place) as second:
        assert first.ask({"request": "drain"}) == {"draining": True}
        run.wait_for("draining")
        assert second.ask({"request": "drain", "timeout": 0}) == {"draining": True}
        check(stream)
        stream.close()
        assert (first.hear(), second.hear()) == (None, None)
    assert run.wait() == 0


def test_after_a_signal_it_waits(
    topology: Topology, run: Sluice, place: Path, echo: Echo
) -> None:
    with flow(topology, echo) as stream:
        run.signal(signal.SIGTERM)
        run.wait_for("draining")
        with drain(topology, place, "--timeout", "0") as command:
            run.wait_for("drain_asked")
            check(stream)
            stream.close()
            assert command.wait() == 0
    assert run.wait() == 0


def test_signal_ends_it_at_once(
    topology: Topology, run: Sluice, place: Path, echo: Echo
) -> None:
    with flow(topology, echo) as stream, Client(place) as client:
        client.ask({"request": "drain"})
        run.wait_for("draining")
        run.signal(signal.SIGTERM)
        with pytest.raises(ConnectionResetError):
            stream.recv(1)
        assert client.hear() is None
    assert run.wait() == 0


@pytest.mark.parametrize("timeout", [-1, 2_592_001, "1", 1.5])
def test_timeout_that_is_none(run: Sluice, place: Path, timeout: object) -> None:
    with Client(place) as client:
        assert set(client.ask({"request": "drain", "timeout": timeout})) == {"error"}
        assert client.hear() is None
    with Client(place) as client:
        assert "status" in client.ask({"request": "status"})
    assert run.events("drain_asked") == []


@pytest.mark.parametrize("timeout", ["-1", "2592001"])
def test_command_with_timeout_that_is_none(
    topology: Topology, place: Path, timeout: str
) -> None:
    done = topology.gateway.run(
        binary(), "drain", "--control", str(place), f"--timeout={timeout}", check=False)
    assert (done.returncode, done.stdout) == (64, "")
    assert f"--timeout {timeout}: expected seconds" in done.stderr
