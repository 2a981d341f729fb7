"""`sluice expose`: a service without inbound reachability is reached through the upstream's BIND."""

import contextlib
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Iterator

import pytest

from harness import exposing, upstreams
from harness.datagrams import Endpoint
from harness.exposing import Exposing, ScriptedBinder, connected, echoes, reply
from harness.namespaces import Namespace
from harness.programs import Program
from harness.serving import serving
from harness.sluice import binary
from harness.targets import Banner, Echo, Scripted, read_to_end
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT4 = ADDRESSES["ipv4"]

PORT = 8080

#: What curl says to a listener that is gone: refused, or reset before it could be accepted.
GONE = (7, 52, 55, 56)

URL = upstreams.url(AT4.proxy)


@pytest.fixture(scope="module", autouse=True)
def closed(topology: Topology) -> None:
    """Nobody gets in to the client."""
    topology.gateway.nft("""
        table inet closed {
          chain passing {
            type filter hook forward priority filter
            iifname "wan0" ct state new drop
          }
        }""")


@pytest.fixture(scope="module")
def website(topology: Topology, folder: Path) -> Iterator[Program]:
    """Python's server, on the client's loopback."""
    content = folder / "content"
    content.mkdir()
    (content / "page").write_bytes(b"published" * 30_000)
    command = [
        "python3", "-u", "-m", "http.server", str(PORT), "--bind", "127.0.0.1", "--directory",
        str(content)]
    with Program(topology.client, *command, name="http.server") as program:
        program.wait_for_port(PORT)
        yield program


@contextlib.contextmanager
def server(name: str, topology: Topology, folder: Path) -> Iterator[Program]:
    """A server on the proxy that has BIND."""
    if name == "dante":
        with exposing.dante(topology.proxy, folder) as program:
            yield program
    else:
        with serving(topology.proxy) as program:
            yield program


@pytest.fixture(params=["dante", "sluice"])
def served(
    request: pytest.FixtureRequest, topology: Topology, folder: Path
) -> Iterator[str]:
    with server(request.param, topology, folder):
        yield request.param


def fetch(host: Namespace, place: Endpoint) -> bool:
    """Whether the page is there; false if nobody listens just now."""
    address, port = place
    url = f"http://{f'[{address}]' if ':' in address else address}:{port}/page"
    done = host.run("curl", "--silent", "--fail", "--max-time", "20", url, check=False)
    if done.returncode in GONE:
        return False
    assert done.returncode == 0, f"curl ended with {done.returncode}"
    assert done.stdout == "published" * 30_000
    return True


def fetch_soon(host: Namespace, program: Exposing) -> None:
    wait_until(lambda: fetch(host, program.place()), "the page")


def arrived(host: Namespace, program: Exposing, number: int) -> socket.socket:
    """The same of the connection with this number, when Sluice has heard of it: a listener that has
    had somebody may take more for a moment, and drops them."""
    for _ in range(4):
        stream = connected(host, program)
        with contextlib.suppress(AssertionError):
            program.wait_for("arrived", number, timeout=5)
            return stream
        stream.close()
    raise AssertionError(f"nobody has arrived {number} times:\n{program.output()}")


def requests(website: Program) -> int:
    return len(re.findall(r'"GET /page HTTP/1\.\d" 200', website.output()))


# Real servers


def test_fetched_repeatedly(topology: Topology, website: Program, served: str) -> None:
    with pytest.raises(OSError):
        topology.server.connect(AT4.client, PORT, timeout=1)
    before = requests(website)
    with Exposing(topology.client, PORT, URL) as program:
        first = program.place()
        assert first == (AT4.proxy if served == "sluice" else AT4.proxy_exit, PORT)
        for _ in range(20):
            fetch_soon(topology.server, program)
        wait_until(lambda: requests(website) - before >= 20, "the last line of the server's log")
        if served == "sluice":
            # Dante gives another port as long as its kernel remembers the connection before.
            assert [event["address"] for event in program.events("listening")] == [
                f"{first[0]}:{PORT}"]
        program.wait_for("arrived", 20)
        assert {event["peer"].rpartition(":")[0] for event in program.events("arrived")} == {
            AT4.server}
        program.wait_for_status("live_sessions", 0)
        summary = program.finish()
    assert (summary["failures"], summary["live_sessions"]) == ({}, 0)
    assert summary["sessions_opened"] >= 20


def test_fetched_by_several_at_once(topology: Topology, website: Program, served: str) -> None:
    with Exposing(topology.client, PORT, URL) as program, ThreadPoolExecutor(8) as pool:
        for done in [
            pool.submit(fetch_soon, topology.server, program) for _ in range(16)
        ]:
            done.result()


def test_several_stay_open(topology: Topology, served: str) -> None:
    """Ten connections at the same time, each to the service itself."""
    with Echo(topology.client) as echo, contextlib.ExitStack() as stack:
        program = stack.enter_context(Exposing(topology.client, echo.port, URL))
        streams = []
        for number in range(10):
            streams.append(stack.enter_context(arrived(topology.server, program, number + 1)))
        for number, stream in enumerate(streams):
            payload = bytes([number]) * 100_000
            threading.Thread(target=stream.sendall, args=(payload,), daemon=True).start()
            received = b""
            while len(received) < len(payload):
                received += stream.recv(len(payload))
            assert received == payload
        assert program.status()["live_sessions"] == 10


@pytest.mark.parametrize("scheme", ["socks4", "socks4a"])
def test_socks4(topology: Topology, website: Program, scheme: str) -> None:
    with serving(topology.proxy), Exposing(
        topology.client, PORT, upstreams.url(AT4.proxy, scheme=scheme)
    ) as program:
        assert program.place() == (AT4.proxy, PORT)
        for _ in range(3):
            fetch_soon(topology.server, program)


def test_socks4_of_dante(topology: Topology, website: Program, folder: Path) -> None:
    with exposing.dante(topology.proxy, folder), Exposing(
        topology.client, PORT, upstreams.url(AT4.proxy, scheme="socks4")
    ) as program:
        fetch_soon(topology.server, program)


def test_ipv6(topology: Topology, website: Program) -> None:
    with serving(topology.proxy), Exposing(
        topology.client, PORT, upstreams.url(ADDRESSES["ipv6"].proxy)
    ) as program:
        assert program.place() == (ADDRESSES["ipv6"].proxy, PORT)
        fetch_soon(topology.server, program)


def test_login(topology: Topology, website: Program, tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text(upstreams.PASSWORD + "\n")
    login = "--user", upstreams.USER, "--password-file", str(password)
    with serving(topology.proxy, *login):
        with Exposing(
            topology.client, PORT, f"socks5://{upstreams.USER}@{AT4.proxy}", "--password-file",
            str(password),
        ) as program:
            fetch_soon(topology.server, program)
            assert upstreams.PASSWORD not in program.output()
        refused = refusal(
            topology, upstreams.url(AT4.proxy, credentials=(upstreams.USER, "wrong")), 69)
    assert "does not let us in" in refused and "wrong" not in refused


@pytest.mark.parametrize("first", ["socks5", "http", "socks4"])
def test_chain(topology: Topology, website: Program, folder: Path, first: str) -> None:
    """The last hop listens."""
    with contextlib.ExitStack() as stack:
        hop = upstreams.url(AT4.gateway_lan, scheme=first)
        if first == "http":
            hop = upstreams.url(AT4.gateway_lan, upstreams.HTTP_PORT, scheme=first)
            stack.enter_context(upstreams.tinyproxy(topology.gateway, folder))
        else:
            stack.enter_context(serving(topology.gateway))
        stack.enter_context(serving(topology.proxy))
        program = stack.enter_context(Exposing(topology.client, PORT, f"{hop},{URL}"))
        assert program.place() == (AT4.proxy, PORT)
        for _ in range(3):
            fetch_soon(topology.server, program)


# The service


@pytest.mark.parametrize("service", ["127.0.0.1", "localhost", "elsewhere"])
def test_service_at(topology: Topology, service: str) -> None:
    """A service that speaks first, here or on another host that is reached from here."""
    host = topology.gateway if service == "elsewhere" else topology.client
    with Banner(host) as target, serving(topology.proxy):
        address = AT4.gateway_lan if service == "elsewhere" else service
        with Exposing(topology.client, f"{address}:{target.port}", URL) as program:
            with topology.server.connect(*program.place()) as stream:
                size = len(Banner.TEXT)
                assert stream.recv(size, socket.MSG_WAITALL) == Banner.TEXT
                stream.sendall(b"hello")
                assert stream.recv(5, socket.MSG_WAITALL) == b"hello"


def test_service_is_down(topology: Topology) -> None:
    with Echo(topology.client) as echo:
        port = echo.port
    with serving(topology.proxy), Exposing(topology.client, port, URL) as program:
        for count in 1, 2:
            with connected(topology.server, program) as stream:
                with contextlib.suppress(ConnectionResetError):
                    assert stream.recv(1) == b""
            wait_until(lambda: program.status()["failures"].get("target_refused", 0) >= count,
                       "the failure to be counted")
            failures = program.status()["failures"]
            assert failures.keys() == {"target_refused"}
            assert failures["target_refused"] <= count + program.resets
        assert f"127.0.0.1:{port} refuses connections" in program.wait_for("service_failed")["message"]
        echo = Scripted(topology.client, lambda stream: stream.sendall(read_to_end(stream)), port)
        with echo:
            assert echoes(topology.server, program)


# Who may come


def echoed(host: Namespace, program: Exposing) -> bool:
    """The same, false if the listener ends just then."""
    try:
        return echoes(host, program)
    except ConnectionResetError:
        return False


def test_stranger_at_a_real_server(topology: Topology, served: str) -> None:
    with Echo(topology.client) as echo, Exposing(
        topology.client, echo.port, URL, "--from", AT4.server
    ) as program:
        for _ in range(2):
            with connected(topology.gateway, program) as stranger:
                with contextlib.suppress(ConnectionResetError):
                    assert stranger.recv(1) == b""
            # Dante's listener has ended with that, and the next one may be at another port.
            wait_until(lambda: echoed(topology.server, program), "the one who may come to be served")
        assert len(echo.peers) == 2


def test_stranger_whom_the_server_lets_in(topology: Topology) -> None:
    """The second reply is looked at, too; a server that does not say who has come lets nobody in."""
    ends: list[bytes] = []

    def let_in(peer: Endpoint) -> exposing.Script:
        def script(stream: socket.socket) -> None:
            stream.sendall(reply(ScriptedBinder.LISTENER) + reply(peer) + b"hello")
            try:
                ends.append(stream.recv(5, socket.MSG_WAITALL))
            except ConnectionResetError:
                ends.append(b"reset")
        return script

    with ScriptedBinder(
        topology.proxy, let_in((AT4.second, 1)), let_in(("0.0.0.0", 0)), let_in((AT4.server, 2)),
        let_in(("::ffff:" + AT4.server, 3)),
    ) as binder, Echo(topology.client) as echo, Exposing(
        topology.client, echo.port, URL, "--from", AT4.server
    ) as program:
        wait_until(lambda: len(ends) == 4, "all of them to come")
        assert ends[:2] == [b"reset"] * 2
        assert sorted(ends[2:]) == [b"hello"] * 2
        assert [event["peer"] for event in program.events("turned_away")] == [
            f"{AT4.second}:1", "0.0.0.0:0"]
        assert set(binder.asked) == {
            (AT4.server, echo.port), (AT4.server, ScriptedBinder.LISTENER[1])}


# Servers that behave oddly


SECOND = reply((AT4.server, 50_000))


@pytest.mark.parametrize("pieces", ["bytes", "one", "replies", "late"])
def test_pieces(topology: Topology, pieces: str) -> None:
    """However both replies and the first bytes come."""
    first, payload = reply(ScriptedBinder.LISTENER), b"first bytes"
    parts = {
        "bytes": [bytes([one]) for one in first + SECOND + payload],
        "one": [first + SECOND + payload], "replies": [first + SECOND, payload],
        "late": [first, SECOND, payload],
    }[pieces]
    answers: list[bytes] = []

    def script(stream: socket.socket) -> None:
        for part in parts:
            stream.sendall(part)
        answers.append(stream.recv(len(payload), socket.MSG_WAITALL))
        stream.shutdown(socket.SHUT_WR)
        answers.append(read_to_end(stream))

    with ScriptedBinder(topology.proxy, script, script) as binder, Echo(topology.client) as echo:
        with Exposing(topology.client, echo.port, URL) as program:
            wait_until(lambda: len(answers) == 4, "both connections to end")
            assert sorted(answers) == [b"", b"", payload, payload]
            assert program.place() == ScriptedBinder.LISTENER
            # The port that it gave is asked for again, and the one who waits is the third.
            wait_until(lambda: len(binder.asked) == 3, "the next request")
            assert [port for _, port in binder.asked] == [echo.port, 4321, 4321]
            assert len(program.events("listening")) == 1
            program.wait_for_status("live_sessions", 0)
            assert program.finish()["failures"] == {}


def test_address_of_the_upstream_itself(topology: Topology) -> None:
    """Zeros in the first reply."""
    def script(stream: socket.socket) -> None:
        stream.sendall(reply(("0.0.0.0", 7777)))
        stream.recv(1)

    with ScriptedBinder(topology.proxy, script):
        with Exposing(topology.client, PORT, URL) as program:
            assert program.place() == (AT4.proxy, 7777)


def test_wished_port(topology: Topology, website: Program) -> None:
    with serving(topology.proxy):
        with Exposing(topology.client, PORT, URL, "--public-port", "9999") as program:
            assert program.place() == (AT4.proxy, 9999)
            fetch_soon(topology.server, program)
        with Exposing(topology.client, PORT, URL, "--public-port", "80") as program:
            # A client gets no port that needs privilege, and keeps the one that it gets.
            place = program.place()
            assert place[1] >= 1024
            for _ in range(3):
                fetch_soon(topology.server, program)
            assert len(program.events("listening")) == 1
        with topology.proxy.listen(AT4.proxy, PORT):
            with Exposing(topology.client, PORT, URL) as program:
                assert program.place()[1] != PORT
                fetch_soon(topology.server, program)


def test_refused_port(topology: Topology) -> None:
    """A server that would rather refuse than give another port."""
    refuse = lambda stream: stream.sendall(reply(("0.0.0.0", 0), code=1))
    with ScriptedBinder(topology.proxy, refuse) as binder:
        with Exposing(topology.client, PORT, URL):
            assert binder.asked == [("0.0.0.0", PORT), ("0.0.0.0", 0)]


def test_server_ends_the_wait(topology: Topology, website: Program) -> None:
    """Servers wait for a limited time: that is no failure, and nobody hears of it."""
    with serving(topology.proxy, "--bind-timeout", "6") as server:
        with Exposing(topology.client, PORT, URL) as program:
            wait_until(lambda: server.output().count('"peer_timeout"') >= 1, "the time to be over")
            fetch_soon(topology.server, program)
            assert len(program.events("listening")) == 1
            assert program.events("not_listening") == []


# Upstreams that are not there


def refusal(topology: Topology, upstream: str, code: int, *options: str) -> str:
    """What is said by a command that cannot begin."""
    done = topology.client.run(
        binary(), "expose", str(PORT), upstream, *options, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("\n") == 1 or code == 69, done.stderr
    return done.stderr


def test_upstream_is_down_at_start(topology: Topology) -> None:
    assert f"cannot reach {URL}" in refusal(topology, URL, 69)


def test_upstream_without_bind(topology: Topology) -> None:
    with serving(topology.proxy, "--no-bind"):
        said = refusal(topology, URL, 69)
        assert "does not listen for us: command not supported (reply code 7)" in said
        said = refusal(topology, upstreams.url(AT4.proxy, scheme="socks4"), 69)
        assert "does not listen for us: general failure" in said
    with upstreams.microsocks(topology.proxy):
        assert "does not listen for us: command not supported" in refusal(topology, URL, 69)


def test_silence_at_start(topology: Topology) -> None:
    """The first reply is waited for, but not for ever."""
    with ScriptedBinder(topology.proxy, lambda stream: stream.recv(1)):
        said = refusal(topology, URL, 69, "--handshake-timeout", "1")
    assert "does not listen for us: it does not answer" in said


@pytest.mark.parametrize("upstream, said", [
    ("http://11.2.0.2", "an HTTP proxy cannot listen for us"),
    (f"{URL},http://11.2.0.2", "hop 2, http://11.2.0.2:8080: an HTTP proxy cannot listen for us"),
    ("embedded", "by a server elsewhere"), ("direct", "by a server elsewhere"),
])
def test_upstreams_that_never_listen(topology: Topology, upstream: str, said: str) -> None:
    assert said in refusal(topology, upstream, 64)


@pytest.mark.parametrize("arguments", [
    ("0", URL), ("http", URL), ("1.2.3.4:0", URL), (str(PORT), URL, "--from", "example.com"),
    (str(PORT), URL, "--from", "0.0.0.0"), (str(PORT), URL, "--public-port", "65536"),
    (str(PORT), "socks4://11.2.0.2", "--from", "::1"), (str(PORT), "ftp://11.2.0.2"), (),
])
def test_bad_arguments(topology: Topology, arguments: tuple[str, ...]) -> None:
    done = topology.client.run(binary(), "expose", *arguments, check=False)
    assert done.returncode == 64
    assert done.stderr.startswith("sluice: ") and done.stderr.count("\n") == 1


def test_upstream_dies(topology: Topology, website: Program) -> None:
    """It is asked again, and each trouble is told once."""
    with contextlib.ExitStack() as stack:
        with serving(topology.proxy):
            program = stack.enter_context(Exposing(topology.client, PORT, URL))
            fetch_soon(topology.server, program)
        # Perhaps it dies while it is being asked: that is a trouble of its own.
        wait_until(
            lambda: any(f"cannot reach {URL}" in one["message"] for one in program.events("not_listening")),
            "it to be missed")
        # It accepts, and hangs up: another trouble, several times.
        hang_up = [lambda stream: None] * 2
        with ScriptedBinder(topology.proxy, *hang_up) as binder:
            wait_until(lambda: len(binder.asked) >= 3, "it to be asked again")
            program.wait_for("listening", 2)
            # Before this one goes, too.
            told = [event["message"] for event in program.events("not_listening")]
        assert 2 <= len(told) <= 3 and all(one != next for one, next in zip(told, told[1:])), told
        assert "closed the connection without a reply" in told[-1]
        with serving(topology.proxy):
            program.wait_for("listening", 3)
            fetch_soon(topology.server, program)
            assert program.finish()["live_sessions"] == 0


# The end


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_cleanly(topology: Topology, number: int) -> None:
    """Both who waits and who talks."""
    with serving(topology.proxy) as server, Echo(topology.client) as echo:
        program = Exposing(topology.client, echo.port, URL)
        try:
            place = program.place()
            with topology.server.connect(*place) as stream:
                stream.sendall(b"hello")
                assert stream.recv(5, socket.MSG_WAITALL) == b"hello"
                program.signal(number)
                assert program.wait() == 0
                with contextlib.suppress(ConnectionResetError):
                    assert stream.recv(1) == b""
            assert program.wait_for("summary")["sessions_opened"] == 1
            wait_until(lambda: topology.proxy.listeners(place[1]) == 0, "the listener to go")
        finally:
            program.end()
        assert server.process.poll() is None
