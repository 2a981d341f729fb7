"""An upstream that listens on a Unix socket."""

import contextlib
import os
import socket
from pathlib import Path
from typing import Iterator

import pytest

from harness import datagrams, unix, upstreams
from harness.datagrams import DatagramEcho
from harness.doctor import NO_PERMISSION, UNAVAILABLE, assert_only, examine
from harness.flows import attempt, fetch, outcome
from harness.namespaces import Namespace
from harness.programs import Program
from harness.resolvers import RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo, Website
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

NOBODY = "65534"

#: Who runs the command behind it.
AS_NOBODY = ("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--")


@pytest.fixture(scope="module")
def proxy(topology: Topology) -> Iterator[Program]:
    with upstreams.microsocks(topology.proxy) as program:
        yield program


@pytest.fixture
def path(folder: Path) -> Iterator[Path]:
    """Where nothing is at first."""
    path = folder / "socks 1"
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def door(topology: Topology, proxy: Program, path: Path) -> Iterator[unix.Door]:
    """To a server that nobody here wrote, on the proxy."""
    with unix.Door(topology.proxy, path, ADDRESSES["ipv4"].proxy, upstreams.PORT) as one:
        yield one


@contextlib.contextmanager
def relaying(host: Namespace, path: Path) -> Iterator[unix.Door]:
    """A server that carries UDP, on a host, run by nobody."""
    command = [*AS_NOBODY, binary(), "serve", "--listen", "127.0.0.1:1080"]
    with Program(host, *command, name="server") as program:
        program.wait_for_port(1080)
        with unix.Door(host, path, "127.0.0.1", 1080) as door:
            yield door


def test_fetches(topology: Topology, capture: Capture, family: str, door: unix.Door) -> None:
    """What curl gets is right to the last byte, and has come through the socket."""
    at = ADDRESSES[family]
    with Website(topology.server, 8) as site:
        with Sluice.capturing(topology, capture, unix.url(door.path)) as sluice:
            for _ in range(3):
                fetched = fetch(topology.client, at.server, site.port, 8)
                assert (fetched.code, fetched.checksum) == (0, site.checksums[8])
            assert set(site.peers) == {at.proxy_exit}
            assert sluice.status()["sessions_failed"] == 0
    assert topology.leaked(site.port)[family] == 0
    assert door.visitors > 3


def test_credentials(topology: Topology, scope: Capture, echo: Echo, path: Path) -> None:
    """They come before the path, and are asked for."""
    login = upstreams.USER, upstreams.PASSWORD
    address = ADDRESSES["ipv4"].proxy
    with upstreams.microsocks(topology.proxy, credentials=login, port=1081):
        with unix.Door(topology.proxy, path, address, 1081) as door:
            with Sluice.capturing(topology, scope, unix.url(door.path, login)) as sluice:
                assert attempt(topology.client, ADDRESSES["ipv4"].server, echo.port) == "answer"
                assert "***" in sluice.events("ready")[0]["upstream"]
            wrong = unix.url(door.path, ("sluice", "wrong"))
            done = scope.host(topology).run(binary(), "run", wrong, *scope.flags(), check=False)
            assert done.returncode == UNAVAILABLE
            assert "does not let us in" in done.stderr


def test_datagrams(
    topology: Topology, scope: Capture, family: str, path: Path, datagram_echo: DatagramEcho,
    unbound: Unbound,
) -> None:
    """The relay is on this host, where the control connection has no address."""
    at = ADDRESSES[family]
    host = scope.host(topology)
    exempt = ["--except-uid", NOBODY] if scope.scope == "machine" else []
    with relaying(host, path) as door:
        with Sluice.capturing(topology, scope, unix.url(door.path), *exempt) as sluice:
            sluice.wait_for_status("udp", "relayed")
            for size in 0, 1, 1200, 9000:
                payload = os.urandom(size)
                assert datagrams.ask(topology, family, datagram_echo.port, payload) == payload
            assert dig(topology.client, at.server).records == [RECORDS["A"]]
            status = sluice.status()
            assert status["dns"] == "udp" and status["queries_carried"] == 0
            assert status["datagrams_dropped"] == {}


def test_queries_without_udp(
    topology: Topology, scope: Capture, family: str, door: unix.Door, unbound: Unbound
) -> None:
    at = ADDRESSES[family]
    with Sluice.capturing(topology, scope, unix.url(door.path)) as sluice:
        sluice.wait_for_status("udp", "refused")
        assert dig(topology.client, at.server).records == [RECORDS["A"]]
        assert sluice.status()["queries_answered"] == 1
    assert unbound.askers() == [at.proxy_exit]


def test_socket_made_anew(
    topology: Topology, scope: Capture, echo: Echo, proxy: Program, path: Path
) -> None:
    """While there is no socket, or nobody behind it, connections are reset; then all is well again."""
    at = ADDRESSES["ipv4"]

    def door() -> unix.Door:
        return unix.Door(topology.proxy, path, at.proxy, upstreams.PORT)

    with contextlib.ExitStack() as stack:
        with door():
            sluice = stack.enter_context(Sluice.capturing(topology, scope, unix.url(path)))
            assert attempt(topology.client, at.server, echo.port) == "answer"
        assert outcome(topology.client, at.server, echo.port) == (b"", "RST")
        with socket.socket(socket.AF_UNIX) as deaf:
            deaf.bind(str(path))
            assert outcome(topology.client, at.server, echo.port) == (b"", "RST")
        path.unlink()
        assert sluice.status()["failures"]["connect_refused"] == 2
        with door():
            assert attempt(topology.client, at.server, echo.port) == "answer"


def test_socket_made_anew_while_open(
    topology: Topology, echo: Echo, proxy: Program, path: Path
) -> None:
    """Where connections may go directly meanwhile, they do."""
    at = ADDRESSES["ipv4"]
    capture = Capture("machine", "tproxy")
    with contextlib.ExitStack() as stack:
        with unix.Door(topology.proxy, path, at.proxy, upstreams.PORT):
            sluice = stack.enter_context(
                Sluice.capturing(
                    topology, capture, unix.url(path), "--on-upstream-down", "open"))
        attempt(topology.client, at.server, echo.port)
        sluice.wait_for("upstream_down")
        assert attempt(topology.client, at.server, echo.port) == "answer"
        assert echo.peers == [at.client]
        with unix.Door(topology.proxy, path, at.proxy, upstreams.PORT):
            sluice.wait_for("upstream_up")
            assert attempt(topology.client, at.server, echo.port) == "answer"
            assert echo.peers == [at.client, at.proxy_exit]


def test_full_queue(
    topology: Topology, scope: Capture, echo: Echo, proxy: Program, path: Path
) -> None:
    """A server that is slow to let in makes connections wait, not fail."""
    at = ADDRESSES["ipv4"]
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(
            unix.Door(topology.proxy, path, at.proxy, upstreams.PORT, backlog=0))
        sluice = stack.enter_context(Sluice.capturing(topology, scope, unix.url(path)))
        door.is_open.clear()
        streams = [
            stack.enter_context(topology.client.connect(at.server, echo.port)) for _ in range(10)]
        wait_until(lambda: sluice.status()["live_sessions"] == 10, "flows to wait")
        door.is_open.set()
        for stream in streams:
            stream.sendall(b"hello")
            assert stream.recv(5, socket.MSG_WAITALL) == b"hello"
        assert sluice.status()["sessions_failed"] == 0


def test_upstream_captured_by_itself(topology: Topology, family: str, path: Path) -> None:
    """The program behind the socket runs on the captured machine: it is named, and that is all."""
    at = ADDRESSES[family]
    capture = Capture("machine", "tproxy")
    with unix.server(topology.client, path, "culprit"), Echo(topology.server) as echo:
        with Sluice.capturing(topology, capture, unix.url(path)) as sluice:
            for _ in range(20):
                assert attempt(topology.client, at.server, echo.port) in ("RST", "FIN")
            message = sluice.wait_for("loop")["message"]
            assert message.startswith("loop: culprit (pid ") and "is the upstream" in message
            status = wait_until(
                lambda: (now := sluice.status())["live_sessions"] == 0 and now, "the loop to end")
            assert status["failures"]["loop"] >= 1
            assert len(sluice.events("loop")) == 1
            assert echo.peers == []


def test_exempted_upstream(topology: Topology, family: str, path: Path) -> None:
    """The same, where its user is not captured."""
    at = ADDRESSES[family]
    host = topology.client
    with relaying(host, path), Echo(topology.server) as echo:
        capture = Capture("machine", "tproxy")
        with Sluice.capturing(topology, capture, unix.url(path), "--except-uid", NOBODY):
            assert attempt(host, at.server, echo.port) == "answer"
            assert echo.peers == [at.client]


# MARK: Other commands


def test_confined_program(topology: Topology, family: str, door: unix.Door) -> None:
    at = ADDRESSES[family]
    place = f"[{at.server}]" if family == "ipv6" else at.server
    with Website(topology.server, 1) as site:
        done = topology.client.run(
            binary(), "exec", unix.url(door.path), "--", "curl", "--silent", "--noproxy", "*",
            "--max-time", "20", "--output", os.devnull, "--write-out", "%{size_download}",
            f"http://{place}:{site.port}/1")
        assert done.stdout == str(1 << 20)
        assert site.peers == [at.proxy_exit]


def test_doctor(topology: Topology, door: unix.Door) -> None:
    result = examine(topology.client, unix.url(door.path))
    assert_only(result, "upstream_udp", "warning", "no UDP", "--udp reject")


def test_doctor_without_a_server(topology: Topology, path: Path) -> None:
    result = examine(topology.client, unix.url(path))
    assert_only(
        result, "upstream", "failure", f"no SOCKS5 server listens on {path}", "correct the path")


def test_explains(topology: Topology, path: Path) -> None:
    """No address is exempted, and nobody need be there."""
    shown = topology.client.run(binary(), "rules", "show", unix.url(path), "--machine").stdout
    assert shown == topology.client.run(binary(), "rules", "show", "embedded", "--machine").stdout
    told = topology.client.run(
        binary(), "explain", "tcp", "203.0.113.7:443", unix.url(path), "--machine")
    assert f"goes to: {unix.url(path)}" in told.stdout


@pytest.mark.parametrize("fault", ["nothing", "nobody", "forbidden"])
def test_start_fails(topology: Topology, path: Path, fault: str) -> None:
    """In words that say what to do."""
    with socket.socket(socket.AF_UNIX) as listener:
        if fault != "nothing":
            listener.bind(str(path))
            path.chmod(0o700 if fault == "forbidden" else 0o777)
        if fault == "forbidden":
            listener.listen()
        done = topology.client.run(
            *AS_NOBODY, binary(), "exec", unix.url(path), "--", "true", check=False)
    if fault == "forbidden":
        assert done.returncode == NO_PERMISSION
        assert f"may not connect to {path}" in done.stderr
    else:
        assert done.returncode == UNAVAILABLE
        assert f"no SOCKS5 server listens on {path}" in done.stderr


def test_path_too_long(topology: Topology) -> None:
    done = topology.client.run(
        binary(), "run", f"socks5:///{'x' * 107}", "--machine", check=False)
    assert done.returncode == 64
    assert "longer than 107 bytes" in done.stderr
