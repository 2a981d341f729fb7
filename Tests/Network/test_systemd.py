"""The units under a real systemd: started, restarted under load, killed, stopped."""

from pathlib import Path
from typing import Iterator

import pytest

from harness.booted import Booted
from harness.datagrams import DatagramEcho
from harness.load import Load
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

RESTARTS = 10


@pytest.fixture(scope="module")
def booted(topology: Topology, folder: Path) -> Iterator[Booted]:
    settings = "upstream: embedded\ngateway: [lan0]\n"
    with Booted(topology.gateway, folder, settings) as container:
        yield container


def tables(topology: Topology) -> str:
    return topology.gateway.run("nft", "list", "tables").stdout


def connection(topology: Topology, echo: Echo) -> None:
    with topology.client.connect(AT.server, echo.port) as stream:
        stream.sendall(b"x")
        assert stream.recv(1) == b"x"


def test_start_and_stop(topology: Topology, booted: Booted, echo: Echo) -> None:
    booted.run("systemctl", "start", "sluice")
    connection(topology, echo)
    assert booted.show("StatusText").startswith("capturing TCP (tproxy) and UDP from lan0")
    booted.run("systemctl", "stop", "sluice")
    assert tables(topology) == ""
    assert booted.show("NFileDescriptorStore") == "0"
    assert booted.show("Result") == "success"


def test_restarts_lose_no_connection(
    topology: Topology, booted: Booted, echo: Echo, datagram_echo: DatagramEcho
) -> None:
    booted.run("systemctl", "start", "sluice")
    processes = {booted.show("MainPID")}
    with Load(topology, echo, datagram_echo) as load:
        for _ in range(RESTARTS):
            load.wait_for_more()
            # So many starts are too many for a service that fails.
            booted.run("systemctl", "reset-failed", "sluice")
            booted.run("systemctl", "restart", "sluice")
            processes.add(booted.show("MainPID"))
        load.wait_for_more()
    assert load.trouble == []
    assert len(processes) == RESTARTS + 1
    assert set(echo.peers) == {AT.gateway_wan}, "some did not come through Sluice"
    booted.run("systemctl", "stop", "sluice")
    assert tables(topology) == ""


def test_killed_service_is_continued(topology: Topology, booted: Booted, echo: Echo) -> None:
    """Until systemd starts it again, connections wait."""
    booted.run("systemctl", "start", "sluice")
    before = booted.show("MainPID")
    booted.run("systemctl", "kill", "--signal=KILL", "sluice")
    connection(topology, echo)
    wait_until(lambda: booted.show("MainPID") not in (before, "0"), "another process")
    assert set(echo.peers) == {AT.gateway_wan}
    booted.run("systemctl", "stop", "sluice")
    assert tables(topology) == ""
