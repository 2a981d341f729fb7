"""The control socket of `sluice run`: where it is, who may use it, and clients that are none."""

import contextlib
import os
import resource
import signal
import socket
import time
from pathlib import Path
from typing import Iterator

import pytest

from harness.confined import NOBODY, STRANGER, Confined
from harness.control import EXEC, MAXIMUM_CONNECTIONS, PATIENCE, Client, by, caller, running
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Sluice, binary
from harness.targets import Mirror
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until


@pytest.fixture(scope="module")
def mirror(topology: Topology) -> Iterator[Mirror]:
    with Mirror(topology.server) as target:
        yield target


@pytest.fixture
def run(topology: Topology, upstream: str, place: Path) -> Iterator[Sluice]:
    """A run on the gateway, which nobody and root may use."""
    with running(topology.gateway, place, upstream) as sluice:
        yield sluice


@pytest.fixture
def user(topology: Topology) -> Iterator[Confined]:
    """A user of the gateway without any privilege."""
    with Confined(topology.gateway) as one:
        yield one


def test_socket_is_for_root_and_the_group(topology: Topology, upstream: str, place: Path) -> None:
    """A group of the name sluice, if there is one: the run sees a list of groups of the test's."""
    groups = place.with_name("group")
    groups.write_text(f"root:x:0:\nsluice:x:{STRANGER}:\n")
    command = [
        "unshare", "--mount", "--propagation", "private", "--", "sh", "-c",
        'mount --bind "$0" /etc/group && exec "$@"', str(groups),
        binary(), "run", upstream, "--gateway", "lan0", "--control", str(place)]
    with Program(topology.gateway, *command, name="sluice run") as program:
        wait_until(place.exists, "the control socket")
        program.wait_for_output(lambda: "capturing" in program.output(), "that it captures", 20)
        status = place.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o660, 0, STRANGER)
        for who, code in (STRANGER, 0), (NOBODY, 77):
            with Confined(topology.gateway, who) as user:
                assert user.run(*by(place), command=["true"]).returncode == code
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    assert not place.exists()


def test_peer_is_logged(run: Sluice, user: Confined, place: Path) -> None:
    with user.start(*by(place), command=["sleep", "1"]) as program:
        entry = run.wait_for("serving")
        assert (entry["pid"], entry["uid"]) == (program.pid, user.user)
    assert entry["level"] == "info"


def test_abandoned_socket_is_replaced(topology: Topology, upstream: str, place: Path) -> None:
    with running(topology.gateway, place, upstream) as first:
        first.end()
    with running(topology.gateway, place, upstream), Client(place) as client:
        assert client.ask(EXEC)["upstream"] == upstream
    assert not place.exists()


def test_socket_of_another_run_is_left_alone(
    topology: Topology, upstream: str, place: Path, run: Sluice
) -> None:
    before = place.stat().st_ino
    with Sluice(
        topology.client, upstream, "--machine", "--control", str(place)
    ) as other:
        assert "another process answers there" in other.wait_for("no_control")["message"]
    assert place.stat().st_ino == before
    with Client(place) as client:
        assert "upstream" in client.ask(EXEC)


def test_file_of_somebody_is_left_alone(topology: Topology, upstream: str, place: Path) -> None:
    place.write_text("precious")
    with Sluice(topology.gateway, upstream, "--gateway", "lan0", "--control", str(place)) as sluice:
        assert "file exists" in sluice.wait_for("no_control")["message"]
    assert place.read_text() == "precious"


@pytest.mark.parametrize("path", ["/proc/nowhere/control.sock", "/no/such/folder/control.sock"])
def test_place_that_cannot_be_used(topology: Topology, upstream: str, path: str) -> None:
    with Sluice(topology.gateway, upstream, "--gateway", "lan0", "--control", path) as sluice:
        sluice.wait_for("no_control")


def test_socket_that_was_replaced_is_not_removed(
    topology: Topology, upstream: str, place: Path
) -> None:
    with running(topology.gateway, place, upstream), socket.socket(socket.AF_UNIX) as other:
        place.unlink()
        other.bind(str(place))
    assert place.exists()


# Clients that are none.


SERVE = {"request": "serve", "ipv6": True, "datagrams": True}

#: What belongs to that: family, type and protocol, and whether it listens.
SOCKETS = [
    (socket.AF_INET, socket.SOCK_STREAM, 0, True), (socket.AF_INET6, socket.SOCK_STREAM, 0, True),
    (socket.AF_INET, socket.SOCK_DGRAM, 0, False),
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP, False),
    (socket.AF_INET6, socket.SOCK_DGRAM, 0, False),
    (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_UDP, False)]


@contextlib.contextmanager
def sockets(host: Namespace) -> Iterator[list[socket.socket]]:
    """Such sockets as the run wants, of another namespace than its own."""
    def make() -> list[socket.socket]:
        made = []
        for family, kind, protocol, listens in SOCKETS:
            one = socket.socket(family, kind, protocol)
            if listens:
                one.listen()
            made.append(one)
        return made

    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(one) for one in host.call(make)]


def test_right_descriptors(topology: Topology, run: Sluice, place: Path) -> None:
    with sockets(topology.client) as made, Client(place) as client:
        assert client.ask(EXEC) == {
            "upstream": run.upstream, "datagrams": "relayed", "ipv6": True}
        assert client.ask(SERVE, [one.fileno() for one in made]) == {"serving": True}


def test_descriptors_of_its_own_namespace(
    topology: Topology, run: Sluice, place: Path
) -> None:
    """What the run sent for them would arrive at them."""
    with sockets(topology.gateway) as made, Client(place) as client:
        client.ask(EXEC)
        error = client.ask(SERVE, [one.fileno() for one in made])["error"]
        assert error == "descriptor 0 is of this host's own network namespace"


def test_wrong_descriptors(topology: Topology, run: Sluice, place: Path, tmp_path: Path) -> None:
    before = len(run.descriptors())
    with sockets(topology.client) as made, contextlib.ExitStack() as stack:
        right = [one.fileno() for one in made]
        unbound = stack.enter_context(topology.client.open_socket(socket.AF_INET))
        connected = stack.enter_context(socket.socketpair()[0])
        file = os.open(tmp_path, os.O_RDONLY)
        stack.callback(os.close, file)
        wrong: dict[str, list[int]] = {
            "none": [], "one too few": right[:-1], "one too many": [*right, right[0]],
            "another order": right[::-1], "no listener": [unbound.fileno(), *right[1:]],
            "no internet": [connected.fileno(), *right[1:]], "no socket": [file] * 6,
            "the last": [*right[:-1], right[0]],
            "too many": right * 3, "very many": [file] * 253}
        for what, descriptors in wrong.items():
            with Client(place) as client:
                client.ask(EXEC)
                answer = client.ask(SERVE, descriptors)
                assert list(answer) == ["error"], what
                assert client.hear() is None
        # One line with many messages.
        with Client(place) as client, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1000):
                client.say(b" ", [file] * 10)
        with Client(place) as client:  # those of a client that asks for nothing
            client.say(b"{", right)
        with Client(place) as client:
            client.say(EXEC, right)
            assert "upstream" in client.hear()
    wait_until(lambda: len(run.descriptors()) <= before, "all descriptors to be closed")


@pytest.mark.parametrize("line", [
    b"\n", b"{}\n", b"[]\n", b"null\n", b"\0\n", b"\xff\xfe\n", b"GET / HTTP/1.1\r\n\r\n",
    b'{"request":"exec"}\n', b'{"request":"exec","version":"1"}\n',
    b'{"request":"exec","version":1e99}\n', b'{"request":"exec","version":2}\n',
    b'{"request":"exec","version":99999999999999999999999999}\n',
    b'{"request":"unknown","version":1}\n', b'{"request":["exec"]}\n',
    b'{"request":"serve","ipv6":true,"datagrams":true}\n',
    b'{"request":"exec","version":1', b"[" * 50000 + b"\n", b'{"a":' * 10000 + b"\n",
    b'"' + b"\\u0000" * 10000 + b'"\n', b"x" * (1 << 20), b"x" * (1 << 20) + b"\n"],
    ids=lambda one: repr(one[:30]))
def test_garbage(run: Sluice, place: Path, line: bytes) -> None:
    """An error and the end, and the run goes on."""
    with Client(place) as client:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            client.stream.sendall(line)
            client.stream.shutdown(socket.SHUT_WR)
        answer = client.hear()
        assert answer is None or list(answer) == ["error"]
        assert client.hear() is None
    with Client(place) as client:
        assert "upstream" in client.ask(EXEC)


def test_garbage_after_serve(topology: Topology, run: Sluice, place: Path) -> None:
    for line in EXEC, b"garbage\n", b"x" * (1 << 20):
        with sockets(topology.client) as made, Client(place) as client:
            client.ask(EXEC)
            client.ask(SERVE, [one.fileno() for one in made])
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.say(line)
            assert list(client.hear()) == ["error"]
            assert client.hear() is None


def test_resolver_that_is_none(topology: Topology, run: Sluice, place: Path) -> None:
    for more in {"resolver": "nobody"}, {"resolver": 5}, {"dns": "dot"}, {"ipv6": 1}:
        with sockets(topology.client) as made, Client(place) as client:
            client.ask(EXEC)
            assert "error" in client.ask(SERVE | more, [one.fileno() for one in made])


def test_client_that_says_nothing(
    run: Sluice, user: Confined, place: Path, mirror: Mirror
) -> None:
    """It is waited for, for a while, and keeps nobody else waiting."""
    began = time.monotonic()
    with Client(place) as silent, Client(place) as slow, Client(place) as later:
        slow.say(b'{"request"')
        later.ask(EXEC)
        assert caller(user, place, mirror, "ipv4") == ADDRESSES["ipv4"].proxy_exit
        assert time.monotonic() - began < PATIENCE
        for client in silent, slow, later:
            assert "nothing came for 10 s" in client.hear()["error"]
            assert client.hear() is None
    assert PATIENCE - 1 < time.monotonic() - began < PATIENCE + 5


def test_connections_at_once(run: Sluice, user: Confined, place: Path) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(place)) for _ in range(MAXIMUM_CONNECTIONS)]
        with Client(place) as one_more:
            assert "64 connections already" in one_more.hear()["error"]
            assert one_more.hear() is None
        done = user.run(*by(place), command=["true"])
        assert done.returncode == 69 and "refuses: there are 64 connections" in done.stderr
        clients[0].stream.close()
        wait_until(
            lambda: user.run(*by(place), command=["true"]).returncode == 0, "room for one more")


def test_programs_at_once(run: Sluice, place: Path) -> None:
    """As many as there are descriptors for: a quarter of what the run may have open."""
    _, limit = resource.prlimit(run.pid, resource.RLIMIT_NOFILE)
    count = min(limit // 4 // max(limit // 4 // MAXIMUM_CONNECTIONS, 256), MAXIMUM_CONNECTIONS)
    if count == MAXIMUM_CONNECTIONS:
        pytest.skip("no more connections than programs here")
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            assert "upstream" in stack.enter_context(Client(place)).ask(EXEC)
        with Client(place) as one_more:
            assert "programs already" in one_more.ask(EXEC)["error"]

    def has_room() -> bool:
        with Client(place) as client:
            return "upstream" in client.ask(EXEC)

    wait_until(has_room, "room for another")


def test_client_that_makes_a_worker_wait(
    topology: Topology, run: Sluice, user: Confined, place: Path, mirror: Mirror
) -> None:
    """It shares the sockets, and can have each call wait: no other program's, and not the run's
    end."""
    with sockets(topology.client) as made, Client(place) as client:
        port = made[0].getsockname()[1]
        client.ask(EXEC)
        assert client.ask(SERVE, [one.fileno() for one in made]) == {"serving": True}
        for one in made:
            one.setblocking(True)
        # It is taken for a loop, and reset.
        with contextlib.suppress(ConnectionResetError), topology.client.connect("127.0.0.1", port):
            pass
        assert caller(user, place, mirror, "ipv4") == ADDRESSES["ipv4"].proxy_exit
        began = time.monotonic()
        run.finish()
        assert time.monotonic() - began < 5
