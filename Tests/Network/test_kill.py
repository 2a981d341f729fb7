"""`sluice kill`: a flow is ended as if both sides had reset it, and no other."""

import contextlib
import socket
from pathlib import Path
from typing import Iterator

import pytest

from harness.control import Client, running
from harness.datagrams import DatagramEcho, Speaker
from harness.listing import command, flows, wait_for_flows
from harness.sluice import Sluice
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]


@pytest.fixture
def run(topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    with running(topology.gateway, place, upstream) as sluice:
        yield sluice


@contextlib.contextmanager
def flow(topology: Topology, echo: Echo) -> Iterator[socket.socket]:
    with topology.client.connect(AT.server, echo.port) as stream:
        lives(stream)
        yield stream


def lives(stream: socket.socket) -> None:
    stream.sendall(b"x")
    assert stream.recv(1) == b"x"


def test_one_of_two(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    with flow(topology, echo) as first, flow(topology, echo) as second:
        client = f"{AT.client}:{first.getsockname()[1]}"
        (one,) = flows(topology.gateway, place, "--filter", f"client={client}")
        done = command("kill", topology.gateway, place, one["id"])
        assert (done.returncode, done.stdout, done.stderr) == (0, "ended: 1\n", "")
        with pytest.raises(ConnectionResetError):
            first.recv(1)
        lives(second)
        assert run.wait_for("killed")["uid"] == 0
        with Client(place) as asker:
            failures = asker.ask({"request": "status"})["status"]["failures"]
        assert failures == {"ended_by_request": 1}


def test_stale_id_ends_nothing(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    """The slot has another tenant: those that are vacant are taken again first."""
    with flow(topology, echo):
        (former,) = flows(topology.gateway, place)
    wait_for_flows(topology.gateway, place, 0)
    worker, index, _ = former["id"].split(".")
    with contextlib.ExitStack() as stack:

        def is_taken_again() -> bool:
            stack.enter_context(flow(topology, echo))
            return any(one["id"].startswith(f"{worker}.{index}.")
                       for one in flows(topology.gateway, place))

        wait_until(is_taken_again, "a flow in the same slot")
        before = {one["id"] for one in flows(topology.gateway, place)}
        assert former["id"] not in before
        done = command("kill", topology.gateway, place, former["id"])
        assert (done.returncode, done.stdout) == (69, "")
        assert done.stderr == f"sluice: no such flow: {former['id']} (ended: 0)\n"
        assert {one["id"] for one in flows(topology.gateway, place)} == before


def test_several_by_filter(
    topology: Topology, run: Sluice, place: Path, echo: Echo, datagram_echo: DatagramEcho
) -> None:
    with flow(topology, echo) as first, flow(topology, echo) as second, Speaker.of(
        topology, "ipv4"
    ) as speaker:
        speaker.ask(b"x", (AT.server, datagram_echo.port))
        done = command("kill", topology.gateway, place, "--filter", f"port={echo.port}")
        assert (done.returncode, done.stdout) == (0, "ended: 2\n")
        for stream in first, second:
            with pytest.raises(ConnectionResetError):
                stream.recv(1)
        (left,) = flows(topology.gateway, place)
        assert left["protocol"] == "udp"
        done = command("kill", topology.gateway, place, "--filter", "protocol=udp")
        assert done.stdout == "ended: 1\n"
        assert flows(topology.gateway, place) == []
        # The next datagram begins another.
        speaker.ask(b"x", (AT.server, datagram_echo.port))
        (new,) = flows(topology.gateway, place)
        assert new["id"] != left["id"]
        done = command("kill", topology.gateway, place, "--filter", "port=1")
        assert (done.returncode, done.stdout) == (0, "ended: 0\n")


def test_ids_of_nothing(topology: Topology, run: Sluice, place: Path, echo: Echo) -> None:
    """A worker, a slot or a tenant that there is not; one of them beside a right one."""
    with flow(topology, echo) as stream:
        (one,) = flows(topology.gateway, place)
        worker, index, generation = one["id"][1:].split(".")
        wrong = [
            f"t{worker}.{index}.{int(generation) + 1}", f"t9999.{index}.{generation}",
            f"t{worker}.268435455.{generation}", f"u{worker}.{index}.{generation}",
            f"u{worker}.268435455.0"]
        assert command("kill", topology.gateway, place, *wrong).returncode == 69
        lives(stream)
        done = command("kill", topology.gateway, place, wrong[0], one["id"])
        assert (done.returncode, done.stderr) == (
            69, f"sluice: no such flow: {wrong[0]} (ended: 1)\n")
        with pytest.raises(ConnectionResetError):
            stream.recv(1)


@pytest.mark.parametrize("words", [
    [], ["17"], ["t0.1"], ["--filter", "colour=red"], ["t0.1.2", "--filter", "port=1"]])
def test_wrong_arguments(topology: Topology, place: Path, words: list[str]) -> None:
    done = command("kill", topology.gateway, place, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (64, "", 1)


def test_wrong_requests(run: Sluice, place: Path) -> None:
    for flows in ["x"], [1], "t0.1.2", None:
        with Client(place) as client:
            assert list(client.ask({"request": "kill", "flows": flows})) == ["error"]
            assert client.hear() is None
