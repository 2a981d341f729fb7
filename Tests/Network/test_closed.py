"""A closed exit: what would be captured never leaves directly, whatever happens; an open one: the host
works on by itself."""

import contextlib
import signal
import socket
import threading
import time
from typing import Iterator

import pytest

from harness import kernel, upstreams
from harness.flows import attempt
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo, Scripted
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import PATIENCE, wait_until

GUARD = "table inet sluice_guard"

#: A port of the server that nobody listens on.
MARKER = 4242


class Knocking:
    """Connections to the server from two threads, one after the other, all the time."""

    def __init__(self, topology: Topology, port: int) -> None:
        self._outcomes: list[tuple[float, str]] = []
        """Each with when it was begun."""
        self._topology, self._port = topology, port
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._knock, args=(ADDRESSES[family].server,))
            for family in FAMILIES]

    def __enter__(self) -> "Knocking":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _knock(self, address: str) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            outcome = attempt(self._topology.client, address, self._port, 0.5)
            self._outcomes.append((began, outcome))

    def wait(self, count: int = 20) -> set[str]:
        """What came of those begun from now on, at least so many."""
        now = time.monotonic()

        def since() -> list[str]:
            return [outcome for began, outcome in list(self._outcomes) if began >= now]

        wait_until(lambda: len(since()) >= count, "connections to be tried")
        return set(since())


@contextlib.contextmanager
def tap(topology: Topology, echo: Echo) -> Iterator[Program]:
    """A packet capture on the uplink of whatever goes from the client or to the server itself: what goes
    through the proxy has neither address there, or is no captured traffic."""
    at4, at6 = ADDRESSES["ipv4"], ADDRESSES["ipv6"]
    watched = (
        f"(host {at4.server} or host {at6.server}) and (tcp port {echo.port} or udp or icmp)")
    with Program(
        topology.proxy, "tcpdump", "-i", "wan0", "-n", "-l", "--immediate-mode", watched
    ) as program:
        program.wait_for_output(
            lambda: any("listening on" in line for line in program.lines), "listening", 20)
        yield program


def packets(program: Program) -> list[str]:
    return [line for line in program.lines if " IP" in line]


def test_nothing_leaves_from_start_to_restart(
    topology: Topology, capture: Capture, guarded: Namespace, echo: Echo, tmp_path
) -> None:
    leaked = topology.leaked(echo.port)
    blocks = tmp_path / "list"
    blocks.write_text("198.18.0.0/15\n")
    flags = ("--on-exit", "closed", "--bypass-file", str(blocks))
    with upstreams.microsocks(topology.proxy, port=1083) as server, tap(topology, echo) as capturer:
        upstream = upstreams.url(ADDRESSES["ipv4"].proxy, 1083)
        with Sluice.capturing(topology, capture, upstream, *flags) as sluice, \
                Knocking(topology, echo.port) as knocking:
            assert "answer" in knocking.wait()
            for count in range(1, 4):
                blocks.write_text(f"198.18.{count}.0/24\n")
                sluice.signal(signal.SIGHUP)
                sluice.wait_for("reloaded", count)
                assert knocking.wait() == {"answer"}
            sluice.signal(signal.SIGKILL)
            sluice.wait()
            assert "answer" not in knocking.wait(), "the guard stays"
            assert kernel.tables(guarded) == [GUARD]
            with Sluice.capturing(topology, capture, upstream, *flags) as second:
                assert knocking.wait() == {"answer"}
                server.end()
                assert "answer" not in knocking.wait(), "a dead upstream"
                second.finish()
            assert "answer" not in knocking.wait(), "asked to end"
            assert kernel.tables(guarded) == [GUARD]
        # What nobody captures ends the capture: all before it is there by then.
        with topology.gateway.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as marker:
            marker.sendto(b"the end", (ADDRESSES["ipv4"].server, MARKER))
        wait_until(lambda: packets(capturer), "the tap to see the marker")
        assert f".{MARKER}: UDP" in packets(capturer)[0]
        assert topology.leaked(echo.port) == leaked


def test_dead_upstream_at_the_start_leaves_nothing_open(
    topology: Topology, capture: Capture, guarded: Namespace, echo: Echo
) -> None:
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy, 1)
    done = guarded.run(
        binary(), "run", upstream, *capture.flags(), "--on-exit", "closed", check=False)
    assert done.returncode == 69
    assert "sluice rules remove" in done.stderr
    assert attempt(topology.client, ADDRESSES["ipv4"].server, echo.port) != "answer"


def test_open_run_takes_an_old_guard_away(
    topology: Topology, capture: Capture, guarded: Namespace, echo: Echo, dante: Program
) -> None:
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    with Sluice.capturing(topology, capture, upstream, "--on-exit", "closed") as sluice:
        sluice.finish()
    assert kernel.tables(guarded) == [GUARD]
    with Sluice.capturing(topology, capture, upstream):
        assert kernel.tables(guarded) == ["table inet sluice"]
    assert attempt(topology.client, ADDRESSES["ipv4"].server, echo.port) == "answer"


def test_connection_tracking_flushed(
    topology: Topology, capture: Capture, guarded: Namespace, echo: Echo, dante: Program
) -> None:
    """Captured flows that connection tracking has forgotten are cut or go on, but never leave."""
    leaked = topology.leaked(echo.port)
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    # The flow has not ended when the run does.
    options = ["--on-exit", "closed", "--drain-timeout", "0"]
    with Sluice.capturing(topology, capture, upstream, *options) as sluice, \
            topology.client.connect(ADDRESSES["ipv4"].server, echo.port) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"hello"
        guarded.run("conntrack", "-F")
        with contextlib.suppress(ConnectionResetError):
            stream.sendall(b"again")
            assert stream.recv(100) == b"again"
        sluice.finish()
    assert topology.leaked(echo.port) == leaked


@pytest.mark.parametrize("exit", ["open", "closed"])
def test_hosted_services_stay_reachable(
    topology: Topology, capture: Capture, guarded: Namespace, family: str, exit: str,
    dante: Program,
) -> None:
    """From outside: of the machine itself, of the gateway, and of a host behind it; sessions from before
    the start, and new ones."""
    at = ADDRESSES[family]
    places = [(topology.client, at.client)]
    if capture.scope == "gateway":
        places.append((topology.gateway, at.gateway_wan))
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    for host, address in places:
        with Echo(host) as service, topology.server.connect(address, service.port) as old:
            old.sendall(b"before")
            assert old.recv(100) == b"before"
            with Sluice.capturing(topology, capture, upstream, "--on-exit", exit) as sluice:
                old.sendall(b"meanwhile")
                assert old.recv(100) == b"meanwhile"
                assert attempt(topology.server, address, service.port) == "answer"
                sluice.finish()
            old.sendall(b"after")
            assert old.recv(100) == b"after"


@pytest.mark.parametrize("exit", ["open", "closed"])
def test_session_in_which_the_service_speaks_first(
    topology: Topology, capture: Capture, guarded: Namespace, family: str, exit: str,
    dante: Program,
) -> None:
    """An administrator's session to this host, of which connection tracking has seen nothing before an
    answer: to it the service looks like the one who began."""
    started = threading.Event()

    def script(stream: socket.socket) -> None:
        stream.recv(100)
        started.wait(PATIENCE)
        stream.sendall(b"news")
        stream.recv(100)

    at = ADDRESSES[family]
    address = at.client if capture.scope == "machine" else at.gateway_wan
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    with Scripted(guarded, script) as service, \
            topology.server.connect(address, service.port) as session:
        session.sendall(b"hello")
        with Sluice.capturing(topology, capture, upstream, "--on-exit", exit) as sluice:
            guarded.run("conntrack", "-F")
            started.set()
            assert session.recv(100) == b"news"
            sluice.finish()


@pytest.mark.parametrize("choice", ["open", "closed"])
def test_upstream_down(
    topology: Topology, capture: Capture, guarded: Namespace, echo: Echo, choice: str
) -> None:
    at = ADDRESSES["ipv4"]
    upstream = upstreams.url(at.proxy, 1084)

    def seen() -> str | None:
        del echo.peers[:]
        attempt(topology.client, at.server, echo.port, 1)
        return echo.peers[0] if echo.peers else None

    with contextlib.ExitStack() as stack:
        server = stack.enter_context(upstreams.microsocks(topology.proxy, port=1084))
        sluice = stack.enter_context(Sluice.capturing(
            topology, capture, upstream, "--on-upstream-down", choice))
        assert seen() == at.proxy_exit
        server.end()
        if choice == "closed":
            assert seen() is None
            assert not sluice.events("upstream_down")
        else:
            wait_until(lambda: seen() == at.client, "connections to go directly")
            sluice.wait_for("upstream_down")
            assert len(sluice.events("upstream_down")) == 1
        stack.enter_context(upstreams.microsocks(topology.proxy, port=1084))
        wait_until(lambda: seen() == at.proxy_exit, "connections to be captured again")


def test_open_exit_works_directly_after_a_kill(
    topology: Topology, capture: Capture, guarded: Namespace, echo: Echo, dante: Program
) -> None:
    at = ADDRESSES["ipv4"]
    with Sluice.capturing(topology, capture, upstreams.url(at.proxy)) as sluice:
        sluice.signal(signal.SIGKILL)
        sluice.wait()
        del echo.peers[:]
        wait_until(
            lambda: attempt(topology.client, at.server, echo.port, 1) == "answer",
            "the host to work directly")
        assert echo.peers[-1] == at.client
