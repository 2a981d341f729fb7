"""An upstream that knows its users by GSSAPI: a real one in a realm of its own."""

import os
import re
import socket
import threading
from typing import Iterator

import pytest

from harness import kerberos
from harness.confined import Confined
from harness.datagrams import DatagramEcho
from harness.flows import Curl, Exchange, ending, exchange, outcome
from harness.kerberos import Realm, url
from harness.meddling import (
    CONTEXT, FIRST_DATA, PROTECTION, REPLY, Meddler, Meddling, at, flipped, honest)
from harness.programs import Program
from harness.protecting import ProtectingServer
from harness.resolvers import NAME, RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice, binary
from harness.targets import Banner, Echo, Scripted, Website
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE

AT = ADDRESSES["ipv4"]

GATEWAY = Capture("gateway", "redirect")

LEVELS = ("confidentiality", "integrity", "none")

#: What the website has.
MEGABYTES = 100


@pytest.mark.usefixtures("dante_gssapi")
class TestDante:
    @pytest.mark.parametrize("level", LEVELS)
    def test_fetches(
        self, topology: Topology, website: Website, ticket: dict[str, str], level: str
    ) -> None:
        leaked = topology.leaked(website.port)
        with Sluice.capturing(
            topology, GATEWAY, url(levels=level), env=ticket
        ) as sluice:
            for megabytes in 1, MEGABYTES:
                del website.peers[:]
                with Curl(topology.client, AT.server, website.port, megabytes) as curl:
                    fetched = curl.finish()
                assert (fetched.code, fetched.size) == (0, megabytes << 20)
                assert fetched.checksum == website.checksums[megabytes]
                assert website.peers == [AT.proxy_exit]
            summary = sluice.finish()
            assert summary["failures"] == {}
        assert topology.leaked(website.port) == leaked

    @pytest.mark.parametrize("level", LEVELS)
    def test_both_ways_at_once(
        self, topology: Topology, capture: Capture, ticket: dict[str, str], level: str,
        echo: Echo,
    ) -> None:
        flows = []
        with Sluice.capturing(topology, capture, url(levels=level), env=ticket) as sluice:
            try:
                flows = [
                    Exchange(topology.client, AT.server, echo.port, os.urandom(3 << 20))
                    for _ in range(8)]
                exchange(flows, 4 << 20, timeout=30)
                assert [flow.error for flow in flows if flow.error] == []
            finally:
                for flow in flows:
                    flow.close()
            assert sluice.finish()["failures"] == {}

    @pytest.mark.parametrize("level", LEVELS)
    def test_target_that_speaks_first(
        self, topology: Topology, ticket: dict[str, str], level: str
    ) -> None:
        with Banner(topology.server) as target, \
                Sluice.capturing(topology, GATEWAY, url(levels=level), env=ticket):
            with topology.client.connect(AT.server, target.port) as stream:
                received = b""
                while len(received) < len(Banner.TEXT):
                    part = stream.recv(100)
                    assert part
                    received += part
                assert received == Banner.TEXT
                stream.sendall(b"and on")
                assert stream.recv(100) == b"and on"

    @pytest.mark.parametrize("level", LEVELS)
    def test_datagrams(
        self, topology: Topology, ticket: dict[str, str], datagram_echo: DatagramEcho, level: str
    ) -> None:
        leaked = topology.leaked(datagram_echo.port, "udp")
        with Sluice.capturing(topology, GATEWAY, url(levels=level), env=ticket) as sluice:
            sluice.wait_for_relaying()
            with topology.client.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                one.settimeout(PATIENCE)
                one.connect((AT.server, datagram_echo.port))
                for size in 1, 1200, 8000:
                    payload = os.urandom(size)
                    one.send(payload)
                    assert one.recv(1 << 16) == payload
            assert sluice.dropped() == {}
            assert sluice.finish()["failures"] == {}
        assert topology.leaked(datagram_echo.port, "udp") == leaked

    @pytest.mark.parametrize("level", LEVELS)
    def test_names_by_tcp(
        self, topology: Topology, ticket: dict[str, str], unbound: Unbound, level: str
    ) -> None:
        with Sluice.capturing(
            topology, GATEWAY, url(levels=level), "--dns", "tcp", env=ticket
        ) as sluice:
            for _ in range(3):
                assert dig(topology.client, AT.server, NAME).records == [RECORDS["A"]]
            assert sluice.finish()["failures"] == {}

    def test_refused_target(self, topology: Topology, ticket: dict[str, str]) -> None:
        with Sluice.capturing(topology, GATEWAY, url(), env=ticket) as sluice:
            assert outcome(topology.client, AT.server, 4242) == (b"", "RST")
            assert sluice.finish()["failures"] == {"reply_connection_refused": 1}

    def test_keytab(
        self, topology: Topology, realm: Realm, website: Website
    ) -> None:
        with Sluice.capturing(topology, GATEWAY, url(), env=realm.by_keytab()):
            with Curl(topology.client, AT.server, website.port, 1) as curl:
                assert curl.finish().checksum == website.checksums[1]


@pytest.mark.usefixtures("dante_gssapi")
def test_program(
    topology: Topology, realm: Realm, website: Website, confined: Confined
) -> None:
    """A user's own ticket, and no privilege."""
    environment = realm.ticket("program")
    for name in "krb5.conf", "program":
        (realm.folder / name).chmod(0o644)
    del website.peers[:]
    settings = [f"{name}={environment[name]}" for name in ("KRB5_CONFIG", "KRB5CCNAME")]
    done = confined.bare(
        "env", *settings, *confined.words(url(), command=[
            "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output",
            "/dev/null", f"http://{AT.server}:{website.port}/1"]))
    assert done.returncode == 0, done.stderr
    assert website.peers == [AT.proxy_exit]


def refusal(topology: Topology, environment: dict[str, str], upstream: str) -> str:
    """What a run says that cannot begin."""
    done = topology.client.run(
        binary(), "run", upstream, "--machine", "--control", "none", check=False, env=environment)
    assert done.returncode == 69, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.usefixtures("dante_gssapi")
class TestRefusals:
    def test_no_ticket(self, topology: Topology, realm: Realm) -> None:
        said = refusal(topology, realm.environment, url())
        assert "does not let us in: GSSAPI: " in said
        assert "get a ticket with kinit" in said

    def test_expired_ticket(self, topology: Topology, realm: Realm) -> None:
        said = refusal(topology, realm.expired_ticket(), url())
        assert re.search(r"GSSAPI: .*expired.*get a ticket with kinit", said), said

    def test_service_that_the_realm_does_not_know(
        self, topology: Topology, ticket: dict[str, str]
    ) -> None:
        said = refusal(topology, ticket, url("http"))
        assert f"http/{AT.proxy}@{kerberos.NAME} not found" in said
        assert "?gssapi=SERVICE@HOST" in said

    def test_service_that_is_another(
        self, topology: Topology, ticket: dict[str, str]
    ) -> None:
        """The ticket is genuine, but the server has not its key."""
        said = refusal(topology, ticket, url("other@proxy.example"))
        assert "does not let us in" in said

    def test_method_that_is_not_offered(
        self, topology: Topology, ticket: dict[str, str]
    ) -> None:
        said = refusal(topology, ticket, f"socks5://{AT.proxy}")
        assert "accepts none of the offered authentication methods" in said

    def test_level_that_the_server_does_not_have(
        self, topology: Topology, ticket: dict[str, str]
    ) -> None:
        """Dante hangs up, whatever else might do."""
        said = refusal(topology, ticket, url(levels="selective,integrity"))
        assert "the server closed the connection during authentication" in said


MEDDLER_PORT = 1081
PROTECTING_PORT = 1082


@pytest.fixture(scope="module")
def meddler(topology: Topology, dante_gssapi: Program) -> Iterator[Meddler]:
    with Meddler(topology.proxy, MEDDLER_PORT, (AT.proxy, 1080)) as one:
        yield one


def through(
    meddler: Meddler, topology: Topology, ticket: dict[str, str], query: str = ""
) -> Sluice:
    """A run that has met an honest server."""
    meddler.meddling, meddler.single_bytes = honest, False
    return Sluice.capturing(
        topology, GATEWAY, url(port=MEDDLER_PORT) + query,
        "--handshake-timeout", "2", env=ticket)


#: What becomes of the server's messages, and the failure that counts it.
MEDDLINGS = {
    "forged-context": (at(CONTEXT, flipped), "gssapi_failed"),
    "forged-level": (at(PROTECTION, flipped), "gssapi_failed"),
    "forged-reply": (at(REPLY, flipped), "gssapi_failed"),
    "forged-data": (at(FIRST_DATA, flipped), "gssapi_failed"),
    "repeated-reply": (at(REPLY, lambda message: message * 2), "gssapi_failed"),
    "repeated-data": (at(FIRST_DATA, lambda message: message * 2), "gssapi_failed"),
    "abort-of-the-context": (at(CONTEXT, lambda _: b"\x01\xff"), "gssapi_aborted"),
    "abort-of-the-level": (at(PROTECTION, lambda _: b"\x01\xff"), "gssapi_aborted"),
    "abort-of-data": (at(FIRST_DATA, lambda _: b"\x01\xff"), "gssapi_aborted"),
    "other-version": (at(CONTEXT, lambda message: b"\x02" + message[1:]), "protocol_violation"),
    "other-type": (at(FIRST_DATA, lambda message: b"\x01\x09" + message[2:]), "protocol_violation"),
    "level-in-the-stream": (
        at(FIRST_DATA, lambda message: b"\x01\x02" + message[2:]), "protocol_violation"),
    "plain-reply": (
        at(REPLY, lambda _: b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"), "protocol_violation"),
    "empty-token": (at(FIRST_DATA, lambda _: b"\x01\x03\x00\x00"), "gssapi_failed"),
    "length-too-small": (
        at(FIRST_DATA, lambda message: b"\x01\x03\x00\x10" + message[4:]), "gssapi_failed"),
    "longest-context": (
        at(CONTEXT, lambda _: b"\x01\x01\xff\xff" + bytes(65535)), "gssapi_failed"),
    "longest-data": (
        at(FIRST_DATA, lambda _: b"\x01\x03\xff\xff" + bytes(65535)), "gssapi_failed"),
    "more-than-its-length": (at(CONTEXT, lambda message: message + b"\0"), "protocol_violation"),
    "length-of-nothing": (at(CONTEXT, lambda _: b"\x01\x01\xff\xff"), "handshake_timeout"),
    "cut-context": (at(CONTEXT, lambda _: None), "closed_in_authentication"),
    "cut-reply": (at(REPLY, lambda _: None), "closed_in_reply"),
}


@pytest.mark.parametrize("kind", MEDDLINGS)
def test_meddling_resets_the_flow_and_is_counted(
    topology: Topology, meddler: Meddler, ticket: dict[str, str], kind: str
) -> None:
    """The application gets nothing that the server has not said, and no end that looks clean."""
    meddling, failure = MEDDLINGS[kind]
    with Banner(topology.server) as target, through(meddler, topology, ticket) as sluice:
        meddler.meddling = meddling
        received, end = outcome(topology.client, AT.server, target.port)
        assert Banner.TEXT.startswith(received)
        assert end == "RST"
        failures = sluice.finish()["failures"]
        assert failures.pop(failure, 0) >= 1, failures


def cut(count: int, message: bytes) -> bytes | None:
    """Half of the first message of data, and the end."""
    if count < FIRST_DATA:
        return message
    return message[:-5] if count == FIRST_DATA else None


@pytest.mark.parametrize("meddling, failure", [
    (cut, "protocol_violation"), (at(FIRST_DATA, lambda _: b""), "gssapi_failed"),
], ids=["cut", "missing"])
def test_message_that_does_not_arrive(
    topology: Topology, meddler: Meddler, ticket: dict[str, str], meddling: Meddling, failure: str
) -> None:
    """An end within a message is not the end of the stream, and what is left out is missed."""
    met = threading.Event()

    def meddle(count: int, message: bytes) -> bytes | None:
        if count == FIRST_DATA:
            met.set()
        return meddling(count, message)

    def say_twice(stream: socket.socket) -> None:
        stream.sendall(b"one")
        assert met.wait(PATIENCE)
        stream.sendall(b"two")

    with Scripted(topology.server, say_twice) as target, \
            through(meddler, topology, ticket) as sluice:
        meddler.meddling = meddle
        with topology.client.connect(AT.server, target.port) as stream:
            assert ending(stream) == (b"", "RST")
        assert sluice.finish()["failures"].get(failure) == 1


@pytest.mark.parametrize("level, is_readable", [("confidentiality", False), ("integrity", True)])
def test_what_others_can_read(
    topology: Topology, meddler: Meddler, ticket: dict[str, str], level: str, is_readable: bool
) -> None:
    seen: list[bytes] = []

    def watch(_: int, message: bytes) -> bytes:
        seen.append(message)
        return message

    with Banner(topology.server) as target, \
            through(meddler, topology, ticket, f"&protection={level}") as sluice:
        meddler.meddling = watch
        with topology.client.connect(AT.server, target.port) as stream:
            received = b""
            while len(received) < len(Banner.TEXT):
                part = stream.recv(100)
                assert part
                received += part
            assert received == Banner.TEXT
            stream.shutdown(socket.SHUT_WR)
            assert ending(stream) == (b"", "FIN")
        assert sluice.finish()["failures"] == {}
    assert len(seen) > FIRST_DATA
    assert (Banner.TEXT in b"".join(seen)) is is_readable


@pytest.mark.parametrize("levels, answer", [
    ("selective", 3), ("selective,confidentiality", 2), ("selective,integrity", 1)])
def test_selective_protection(
    topology: Topology, realm: Realm, ticket: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    levels: str, answer: int,
) -> None:
    """At level 3 the request is not to be read on its way, the stream is, and what the server does with its
    own messages is the server's choice."""
    monkeypatch.setenv("KRB5_CONFIG", realm.environment["KRB5_CONFIG"])
    with ProtectingServer(
        topology.proxy, PROTECTING_PORT, str(realm.keytab), answer
    ) as server, Sluice.capturing(
        topology, GATEWAY, url(levels=levels, port=PROTECTING_PORT), env=ticket
    ) as sluice:
        flow = Exchange(topology.client, AT.server, 80, os.urandom(300_000))
        try:
            exchange([flow], 300_000, timeout=20)
            assert flow.error is None
        finally:
            flow.close()
        assert sluice.finish()["failures"] == {}
        assert set(server.asked) == {3}
        assert b"\x05\x01\x00\x01" + socket.inet_aton(AT.server) + b"\x00\x50" in dict(server.requests)
        assert {is_secret for _, is_secret in server.requests} == {answer != 1}
        assert {is_secret for _, is_secret in server.data} == {answer == 2}


def test_single_bytes(
    topology: Topology, meddler: Meddler, ticket: dict[str, str], echo: Echo
) -> None:
    with through(meddler, topology, ticket) as sluice:
        meddler.single_bytes = True
        flows = [Exchange(topology.client, AT.server, echo.port, os.urandom(20_000))]
        try:
            exchange(flows, 1 << 20, timeout=20)
            assert [flow.error for flow in flows if flow.error] == []
        finally:
            flows[0].close()
        assert sluice.finish()["failures"] == {}
