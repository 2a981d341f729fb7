"""`sluice expose` through a server that knows its users by GSSAPI: both replies to BIND, and what
comes behind them, are in protected messages (RFC 1961)."""

import os
import socket

import pytest

from harness import exposing
from harness.exposing import Exposing
from harness.kerberos import Realm, url
from harness.meddling import FIRST_DATA, REPLY, Meddler, at, flipped, honest
from harness.programs import Program
from harness.sluice import binary
from harness.targets import Banner, Echo
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

LEVELS = ("confidentiality", "integrity", "none")

MEDDLER_PORT = 1081

#: The second reply.
PEER = FIRST_DATA


def answered(topology: Topology, program: Exposing, payload: bytes) -> None:
    """Somebody comes to the service and has its echo; a listener that ends just then is another's."""
    def attempt() -> bool:
        try:
            return exposing.echoes(topology.server, program, payload)
        except ConnectionResetError:
            return False

    wait_until(attempt, "the echo")


@pytest.mark.usefixtures("dante_gssapi")
class TestDante:
    @pytest.mark.parametrize("level", LEVELS)
    def test_reached_repeatedly(
        self, topology: Topology, ticket: dict[str, str], level: str
    ) -> None:
        with Echo(topology.client) as echo, Exposing(
            topology.client, echo.port, url(levels=level), env=ticket
        ) as program:
            assert program.place()[0] == AT.proxy_exit
            for size in 5, 5, 200_000, 1 << 20, 5:
                answered(topology, program, os.urandom(size))
            assert len(echo.peers) >= 5
            assert {event["peer"].rpartition(":")[0] for event in program.events("arrived")} == {
                AT.server}
            program.wait_for_status("live_sessions", 0)
            assert program.finish()["failures"] == {}

    @pytest.mark.parametrize("level", LEVELS)
    def test_service_that_speaks_first(
        self, topology: Topology, ticket: dict[str, str], level: str
    ) -> None:
        with Banner(topology.client) as target, Exposing(
            topology.client, target.port, url(levels=level), env=ticket
        ) as program, exposing.connected(topology.server, program) as stream:
            size = len(Banner.TEXT)
            assert stream.recv(size, socket.MSG_WAITALL) == Banner.TEXT
            stream.sendall(b"hello")
            assert stream.recv(5, socket.MSG_WAITALL) == b"hello"

    def test_no_ticket(self, topology: Topology, realm: Realm) -> None:
        done = topology.client.run(
            binary(), "expose", "80", url(), check=False, env=realm.environment)
        assert done.returncode == 69, done.stderr
        assert "get a ticket with kinit" in done.stderr


def test_replies_byte_by_byte(
    topology: Topology, dante_gssapi: Program, ticket: dict[str, str]
) -> None:
    with Meddler(topology.proxy, MEDDLER_PORT, (AT.proxy, 1080)) as meddler, \
            Echo(topology.client) as echo:
        meddler.single_bytes = True
        with Exposing(
            topology.client, echo.port, url(port=MEDDLER_PORT), env=ticket
        ) as program:
            for _ in range(3):
                answered(topology, program, b"hello" * 1000)


def refused(topology: Topology, program: Exposing) -> bool:
    """Somebody comes, and is cut or met by nobody."""
    try:
        with topology.server.connect(*program.place()) as stream:
            return stream.recv(1) == b""
    except (ConnectionRefusedError, ConnectionResetError):
        return True


def test_forged_peer_is_nobody(
    topology: Topology, dante_gssapi: Program, ticket: dict[str, str]
) -> None:
    """Who changes the second reply leads nobody to the service."""
    with Meddler(topology.proxy, MEDDLER_PORT, (AT.proxy, 1080)) as meddler, \
            Echo(topology.client) as echo:
        meddler.meddling = at(PEER, flipped)
        with Exposing(
            topology.client, echo.port, url(port=MEDDLER_PORT), env=ticket
        ) as program:
            # The first time it is asked again without a word.
            wait_until(
                lambda: refused(topology, program) and program.events("not_listening"),
                "it to be told")
            assert "GSSAPI: " in program.events("not_listening")[0]["message"]
            assert program.events("arrived") == [] and echo.peers == []
            meddler.meddling = honest
            answered(topology, program, b"hello")


def test_forged_listener_is_none(
    topology: Topology, dante_gssapi: Program, ticket: dict[str, str]
) -> None:
    with Meddler(topology.proxy, MEDDLER_PORT, (AT.proxy, 1080)) as meddler:
        meddler.meddling = at(REPLY, flipped)
        done = topology.client.run(
            binary(), "expose", "80", url(port=MEDDLER_PORT), check=False, env=ticket)
    assert done.returncode == 69, done.stderr
    assert "GSSAPI: " in done.stderr
