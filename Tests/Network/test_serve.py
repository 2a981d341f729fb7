"""What `sluice serve` answers: codes by what became of the connection, rules, users, BIND, families."""

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness.associating import Associating
from harness.datagrams import DatagramEcho
from harness.namespaces import Namespace
from harness.programs import Program
from harness.serving import BIND, CONNECT, FAILED, GRANTED, Asking, place, reply_to, serving
from harness.sluice import binary
from harness.targets import Echo
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until

AT4, AT6 = ADDRESSES["ipv4"], ADDRESSES["ipv6"]

#: A port of the server that nobody listens on.
CLOSED = 9

#: What the server does to packets for these ports.
DROPPED, PROHIBITED, HOST_UNREACHABLE, NET_UNREACHABLE = 4001, 4002, 4003, 4004

VERSIONS = (5, 4)


@pytest.fixture
def served(topology: Topology) -> Iterator[Program]:
    with serving(topology.proxy) as program:
        yield program


def counts(program: Program) -> dict[str, Any]:
    """Its summary, after it has been asked to end."""
    program.signal(signal.SIGTERM)
    assert program.wait() == 0
    return json.loads(program.lines[-1])


# Reply codes


@pytest.fixture(scope="module")
def hostile(topology: Topology) -> Iterator[None]:
    """A server that answers some ports with each of the errors."""
    topology.server.nft(f"""
        table inet hostile {{
          chain incoming {{
            type filter hook input priority filter
            tcp dport {DROPPED} drop
            tcp dport {PROHIBITED} reject with icmpx type admin-prohibited
            tcp dport {HOST_UNREACHABLE} reject with icmpx type host-unreachable
            tcp dport {NET_UNREACHABLE} reject with icmpx type no-route
          }}
        }}""")
    yield
    topology.server.nft("delete table inet hostile")


@pytest.mark.parametrize("port, code", [
    (CLOSED, 5), (DROPPED, 6), (HOST_UNREACHABLE, 4), (NET_UNREACHABLE, 3),
])
def test_codes_of_the_target(
    topology: Topology, hostile: None, errors_at_any_rate: None, family: str, port: int, code: int
) -> None:
    with serving(topology.proxy, "--connect-timeout", "1"):
        to = ADDRESSES[family].server, port
        assert reply_to(topology.client, AT4.proxy, to) == code
        if family == "ipv4":
            assert reply_to(topology.client, AT4.proxy, to, version=4) == FAILED


@pytest.mark.parametrize("version", VERSIONS)
def test_no_route(topology: Topology, served: Program, version: int) -> None:
    """A route that says so, and none at all."""
    for to, code in ((AT4.unreachable, 4), ("11.9.0.1", 3)):
        got = reply_to(topology.client, AT4.proxy, (to, 80), version)
        assert got == (code if version == 5 else FAILED)
    if version == 5:
        assert reply_to(topology.client, AT4.proxy, (AT6.unreachable, 80)) == 4
        assert reply_to(topology.client, AT4.proxy, ("2a0f:9::1", 80)) == 3


def test_prohibited(topology: Topology, served: Program) -> None:
    """A route of the server's own host that forbids it."""
    topology.proxy.ip("route add prohibit 11.8.0.1")
    try:
        assert reply_to(topology.client, AT4.proxy, ("11.8.0.1", 80)) == 2
        assert reply_to(topology.client, AT4.proxy, ("11.8.0.1", 80), version=4) == FAILED
    finally:
        topology.proxy.ip("route del prohibit 11.8.0.1")


def test_no_such_family(alone: Namespace) -> None:
    """A host without IPv6."""
    alone.ip("link set lo up")
    alone.write_sysctl("net/ipv6/conf/all/disable_ipv6", "1")
    try:
        with serving(alone):
            assert reply_to(alone, "127.0.0.1", ("::1", 80)) == 8
            assert reply_to(alone, "127.0.0.1", ("127.0.0.1", CLOSED)) == 5
    finally:
        alone.write_sysctl("net/ipv6/conf/all/disable_ipv6", "0")


# Families


@pytest.mark.parametrize("client", FAMILIES)
def test_both_families(topology: Topology, served: Program, echo: Echo, client: str) -> None:
    """`[::]` is reached by either, and leads to either."""
    for target in FAMILIES:
        with Asking(topology.client, ADDRESSES[client].proxy, 5) as asking:
            reply = asking.ask(CONNECT, (ADDRESSES[target].server, echo.port))
            assert (reply.code, reply.bound[0]) == (0, ADDRESSES[target].proxy_exit)
            assert asking.echoes()


def test_several_addresses(topology: Topology, echo: Echo) -> None:
    listen = place(AT4.proxy), place(AT6.proxy), place("127.0.0.1", 1090)
    to = AT4.server, echo.port
    with serving(topology.proxy, listen=listen):
        for host, address, port in (
            (topology.client, AT4.proxy, 1080), (topology.client, AT6.proxy, 1080),
            (topology.proxy, "127.0.0.1", 1090),
        ):
            with Asking(host, address, 5, port) as asking:
                assert asking.ask(CONNECT, to).code == 0
                assert asking.echoes()
        with pytest.raises(ConnectionRefusedError):
            topology.client.connect(AT4.proxy_exit, 1080)


def test_ports_that_are_free(topology: Topology, echo: Echo) -> None:
    """It says which; all workers have the same, and so have both families."""
    with serving(topology.proxy, listen=("127.0.0.1:0", "[::]:0")) as program:
        [ready] = [line for line in program.lines if '"event":"ready"' in line]
        told = json.loads(ready)
        assert told["message"] == f"serving SOCKS5 and SOCKS4 on {told['listen']}"
        found = re.fullmatch(r"127.0.0.1:(\d+), \[::\]:(\d+), 0.0.0.0:(\d+)", told["listen"])
        assert found and found[2] == found[3] != found[1]
        workers = len(os.sched_getaffinity(program.pid))
        assert topology.proxy.listeners(int(found[1])) == workers
        assert topology.proxy.listeners(int(found[2])) == 2 * workers
        for host, address, port in (
            (topology.proxy, "127.0.0.1", found[1]), (topology.client, AT4.proxy, found[3]),
            (topology.client, AT6.proxy, found[2]),
        ):
            with Asking(host, address, 5, int(port)) as asking:
                assert asking.ask(CONNECT, (AT4.server, echo.port)).code == 0
                assert asking.echoes()


@pytest.mark.parametrize("version", VERSIONS)
def test_name(topology: Topology, served: Program, version: int) -> None:
    """`localhost` is a name that every host knows; for this client it is the server's own."""
    with Echo(topology.proxy) as echo, Asking(topology.proxy, "127.0.0.1", version) as asking:
        assert asking.ask(CONNECT, ("localhost", echo.port)).code in (0, GRANTED)
        assert asking.echoes()


# Rules


@pytest.mark.parametrize("spelling", [
    "127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "localhost",
])
def test_loopback_is_not_for_other_hosts(
    topology: Topology, served: Program, spelling: str
) -> None:
    with Echo(topology.proxy) as echo:
        to = spelling, echo.port
        assert reply_to(topology.client, AT4.proxy, to) == 2
        if ":" not in spelling:
            assert reply_to(topology.client, AT4.proxy, to, version=4) == FAILED
        assert reply_to(topology.proxy, "127.0.0.1", to) == 0
        wait_until(lambda: echo.peers, "the connection of the server's own host")
        assert len(echo.peers) == 1
    assert counts(served)["failures"]["destination_not_allowed"] >= 1


def test_destinations(topology: Topology, echo: Echo) -> None:
    with serving(
        topology.proxy, "--allow-destination", f"11.3.0.0/30:{echo.port}",
        "--allow-destination", "localhost", "--deny-destination", AT4.second,
    ) as program:
        ask = lambda address, port=echo.port, version=5: reply_to(
            topology.client, AT4.proxy, (address, port), version)
        assert ask(AT4.server) == 0
        assert ask(AT4.server, version=4) == GRANTED
        assert ask(AT4.server, CLOSED) == 2
        assert ask(AT4.second) == 2
        assert ask(AT4.second, version=4) == FAILED
        assert ask(AT6.server) == 2
        # The name is allowed, and leads where nobody may go.
        assert ask("localhost") == 2
        assert counts(program)["failures"]["destination_not_allowed"] == 5
    assert set(echo.peers) == {AT4.proxy_exit}


def test_datagrams(topology: Topology, datagram_echo: DatagramEcho) -> None:
    port = datagram_echo.port
    with serving(topology.proxy, "--deny-destination", AT4.second) as program:
        with Associating(topology.client, AT4.proxy) as association:
            before = len(datagram_echo.received)
            for forbidden in AT4.second, "127.0.0.1", "localhost":
                association.send(b"forbidden", (forbidden, port))
            assert association.ask(b"allowed", (AT4.server, port)) == b"allowed"
            assert [one.payload for one in datagram_echo.received[before:]] == [b"allowed"]
            # A look-up may end after what was asked later.
            association.send(b"forbidden", ("localhost", port))
            association.ask(b"allowed", (AT4.server, port))
        dropped = counts(program)["datagrams_dropped"]
        assert dropped["forbidden"] + dropped.get("evicted", 0) == 4
        assert dropped["forbidden"] >= 2


def test_clients(topology: Topology, echo: Echo) -> None:
    with serving(topology.proxy, "--allow-client", AT4.client) as program:
        assert reply_to(topology.client, AT4.proxy, (AT4.server, echo.port)) == 0
        for host, address in (topology.gateway, AT4.proxy), (topology.client, AT6.proxy):
            # It may come before the client has seen its connection.
            with pytest.raises(ConnectionResetError):
                with host.connect(address, 1080) as stream:
                    stream.recv(1)
        assert '"open_server"' not in program.output()
        assert counts(program)["failures"]["client_not_allowed"] == 2


def test_warns_of_an_open_server(topology: Topology, served: Program) -> None:
    assert '"open_server"' in served.output()


# Users


def test_users_file(topology: Topology, echo: Echo, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("# who may\nalice:one\nbob:t:wo\n")
    password = tmp_path / "password"
    password.write_text("three\n")
    with serving(
        topology.proxy, "--users-file", str(users), "--user", "carol", "--password-file",
        str(password),
    ) as program:
        for user, secret, status in (
            ("alice", "one", 0), ("bob", "t:wo", 0), ("carol", "three", 0), ("alice", "t:wo", 1),
            ("dave", "one", 1),
        ):
            with topology.client.connect(AT4.proxy, 1080) as stream:
                stream.sendall(
                    b"\x05\x01\x02\x01" + bytes([len(user)]) + user.encode()
                    + bytes([len(secret)]) + secret.encode())
                assert stream.recv(4, socket.MSG_WAITALL) == bytes([5, 2, 1, status])
        # SOCKS4 has no password.
        assert reply_to(topology.client, AT4.proxy, (AT4.server, echo.port), version=4) == FAILED
        assert '"open_server"' not in program.output()
        for secret in "t:wo", "three":
            assert secret not in program.output()


def test_users_file_errors(topology: Topology, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("alice:one\nhush\n")
    result = topology.proxy.run(binary(), "serve", "--users-file", str(users), check=False)
    assert (result.returncode, result.stderr) == (
        64, f"sluice: {users}:2: expected USER:PASSWORD\n")


@pytest.mark.parametrize("options", [
    ("--allow-client", "11.1.0.2/24"), ("--allow-destination", "*.*"),
    ("--deny-destination", "example.com:http"), ("--listen", "1080"), ("--bind-timeout", "0"),
])
def test_bad_options(topology: Topology, options: tuple[str, str]) -> None:
    result = topology.proxy.run(binary(), "serve", *options, check=False)
    assert result.returncode == 64
    assert options[0] in result.stderr


# BIND


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("peer", ["anybody", "named"])
def test_bind(topology: Topology, served: Program, version: int, peer: str) -> None:
    granted = 0 if version == 5 else GRANTED
    with Asking(topology.client, AT4.proxy, version) as asking:
        first = asking.ask(BIND, ("0.0.0.0" if peer == "anybody" else AT4.server, 21))
        assert first.code == granted
        # Where the client has reached the server, or where the peer will.
        address = AT4.proxy if peer == "anybody" else AT4.proxy_exit
        assert first.bound[0] == address
        if peer == "named":
            # Somebody else comes first, and is sent away.
            with topology.gateway.connect(*first.bound) as stranger:
                assert stranger.recv(1) == b""
        with topology.server.connect(*first.bound) as stream:
            second = asking.reply()
            assert (second.code, second.bound) == (granted, stream.getsockname()[:2])
            stream.sendall(b"from the peer")
            assert asking.stream.recv(13, socket.MSG_WAITALL) == b"from the peer"
            asking.stream.sendall(b"from the client")
            assert stream.recv(15, socket.MSG_WAITALL) == b"from the client"
            # It listens for one.
            with pytest.raises(ConnectionRefusedError):
                topology.server.connect(*first.bound)
            stream.shutdown(socket.SHUT_WR)
            assert asking.stream.recv(1) == b""
            asking.stream.sendall(b"the rest")
            assert stream.recv(8, socket.MSG_WAITALL) == b"the rest"


def test_bind_by_ipv6(topology: Topology, served: Program) -> None:
    with Asking(topology.client, AT6.proxy, 5) as asking:
        first = asking.ask(BIND, ("::", 0))
        assert (first.code, first.bound[0]) == (0, AT6.proxy)
        with topology.server.connect(*first.bound) as stream:
            assert asking.reply().bound == stream.getsockname()[:2]
            stream.sendall(b"hello")
            assert asking.stream.recv(5, socket.MSG_WAITALL) == b"hello"


@pytest.mark.parametrize("version", VERSIONS)
def test_bind_times_out(topology: Topology, version: int) -> None:
    with serving(topology.proxy, "--bind-timeout", "1") as program:
        with Asking(topology.client, AT4.proxy, version) as asking:
            first = asking.ask(BIND, (AT4.server, 0))
            second = asking.reply()
            assert second.code == (6 if version == 5 else FAILED)
            assert asking.has_ended()
            with pytest.raises(ConnectionRefusedError):
                topology.server.connect(*first.bound)
        assert counts(program)["failures"] == {"peer_timeout": 1}


def test_bind_ends_with_its_client(topology: Topology, served: Program) -> None:
    with Asking(topology.client, AT4.proxy, 5) as asking:
        bound = asking.ask(BIND, (AT4.server, 0)).bound
        asking.stream.shutdown(socket.SHUT_WR)
        assert asking.has_ended()
    with pytest.raises(ConnectionRefusedError):
        topology.server.connect(*bound)


def test_bind_rules(topology: Topology) -> None:
    with serving(topology.proxy, "--deny-destination", AT4.server):
        assert reply_to(topology.client, AT4.proxy, (AT4.server, 0), command=BIND) == 2
        with Asking(topology.client, AT4.proxy, 5) as asking:
            bound = asking.ask(BIND, ("0.0.0.0", 0)).bound
            with topology.server.connect(*bound) as stranger:
                assert stranger.recv(1) == b""
            with topology.gateway.connect(*bound):
                assert asking.reply().code == 0
    with serving(topology.proxy, "--no-bind"):
        assert reply_to(topology.client, AT4.proxy, (AT4.server, 0), command=BIND) == 7


def test_listeners_are_limited(topology: Topology) -> None:
    """A worker has 64 at once; who asks for more is told so, and all are free again afterwards."""
    one_worker = "taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))
    with serving(topology.proxy, prefix=one_worker):
        clients = [Asking(topology.client, AT4.proxy, 5) for _ in range(66)]
        try:
            codes = [client.ask(BIND, (AT4.server, 0)).code for client in clients]
        finally:
            for client in clients:
                client.stream.close()
        assert codes == [0] * 64 + [1] * 2
        ask = lambda: reply_to(topology.client, AT4.proxy, (AT4.server, 0), command=BIND)
        wait_until(lambda: ask() == 0, "a listener that is free again")
