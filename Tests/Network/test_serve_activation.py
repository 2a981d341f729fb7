"""`sluice serve` on sockets that a service manager has opened (sd_listen_fds(3))."""

import contextlib
import os
import re
import resource
import signal
import socket
from collections import Counter
from pathlib import Path
from typing import Iterator

import pytest

from harness.namespaces import Namespace
from harness.needs import need
from harness.notified import ServiceManager, manager
from harness.programs import Program
from harness.serving import CONNECT, GREETING, SELECTION, Asking, Customer
from harness.sluice import binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.upstreams import PORT
from harness.waiting import PATIENCE, wait_until

AT = ADDRESSES["ipv4"]

RESTARTS = 5


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceManager]:
    with manager(tmp_path / "notify") as one:
        yield one


@contextlib.contextmanager
def started(
    host: Namespace, service: ServiceManager, *options: str, prefix: tuple[str, ...] = ()
) -> Iterator[Program]:
    """`prefix`: a command that becomes the program."""
    command = [*service.handing_over(), *prefix, binary(), "serve", "--json", *options]
    with Program(
        host, *command, name="sluice", env=service.keeping(0), pass_fds=service.inherited()
    ) as program:
        yield program


def keep_listener(service: ServiceManager, host: Namespace, address: str) -> None:
    with host.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        if ":" in address:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, PORT))
        listener.listen(4096)
        service.keep("sluice-serve.socket", listener.fileno())


def end(program: Program) -> None:
    program.signal(signal.SIGTERM)
    assert program.wait() == 0, program.output()


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_client_waits_for_the_server(
    topology: Topology, service: ServiceManager, echo: Echo, family: str
) -> None:
    """Its connection is there before the server is."""
    at = ADDRESSES[family]
    keep_listener(service, topology.proxy, "0.0.0.0")
    keep_listener(service, topology.proxy, "::")
    with topology.gateway.connect(at.proxy, PORT) as waiting, \
            started(topology.proxy, service) as program:
        waiting.sendall(b"\x05\x01\x00")
        assert waiting.recv(2, socket.MSG_WAITALL) == b"\x05\x00"
        told = service.wait_for("READY")["STATUS"]
        assert told == f"serving SOCKS5 and SOCKS4 on 0.0.0.0:{PORT}, [::]:{PORT}"
        with Asking(topology.gateway, at.proxy, 5) as client:
            assert client.ask(CONNECT, (at.server, echo.port)).code == 0
            assert client.echoes()
        end(program)
        service.wait_for("STOPPING")


def test_restarts_lose_no_connection(
    topology: Topology, service: ServiceManager, echo: Echo
) -> None:
    """Clients come all the time, and each gets what it has asked for."""
    keep_listener(service, topology.proxy, "0.0.0.0")
    with Customer(topology.gateway, AT.proxy, (AT.server, echo.port)) as customer:
        try:
            for count in range(1, RESTARTS + 1):
                with started(topology.proxy, service) as program:
                    service.wait_for("READY", count)
                    customer.wait_for_more(20)
                    end(program)
            with started(topology.proxy, service) as program:
                customer.leave()
                end(program)
        finally:
            service.empty()
    assert customer.trouble == []


def test_client_wakes_one_worker(
    topology: Topology, service: ServiceManager, echo: Echo, tmp_path: Path
) -> None:
    """Though all wait for the same socket; and each of them in its turn."""
    keep_listener(service, topology.proxy, "0.0.0.0")
    trace = tmp_path / "trace"
    tracing = (
        need("strace"), "--daemonize", "--follow-forks", "--trace=accept4", f"--output={trace}", "--")
    with started(topology.proxy, service, prefix=tracing) as program, contextlib.ExitStack() as opened:
        service.wait_for("READY")
        workers = len(os.sched_getaffinity(program.pid))
        clients = 40 * workers
        for _ in range(clients):
            client = opened.enter_context(Asking(topology.gateway, AT.proxy, 5))
            # Afterwards nobody is awake.
            assert client.ask(CONNECT, (AT.server, echo.port)).code == 0
            assert client.echoes()
        end(program)
    wait_until(lambda: "+++ exited with 0 +++" in trace.read_text().split("\n")[-2], "strace to end")
    results = re.findall(r"^(\d+) .*accept4.* = (-?\d+)", trace.read_text(), re.MULTILINE)
    accepted = Counter(thread for thread, result in results if int(result) >= 0)
    assert accepted.total() == clients
    assert len(accepted) == workers and min(accepted.values()) >= clients / workers / 2, accepted
    # Whoever has taken one looks whether there are more. Some find that another has been quicker.
    empty = len(results) - clients
    assert empty <= clients * 1.25, f"{empty} times woken for nothing or at the end, of {clients}"


def test_client_waits_for_room(topology: Topology, service: ServiceManager) -> None:
    """Where there are no more descriptors no worker looks for clients, and then all do again."""
    keep_listener(service, topology.proxy, "0.0.0.0")
    with started(topology.proxy, service) as program, contextlib.ExitStack() as opened:
        service.wait_for("READY")
        opened.enter_context(Asking(topology.gateway, AT.proxy, 5))
        used = {int(name) for name in os.listdir(f"/proc/{program.pid}/fd")}
        _, most = resource.prlimit(program.pid, resource.RLIMIT_NOFILE)
        # All numbers below are in use.
        limit = min(set(range(max(used) + 2)) - used)
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (limit, most))
        waiting = [
            opened.enter_context(topology.gateway.connect(AT.proxy, PORT)) for _ in range(20)]
        program.wait_for_output(
            lambda: "accept_paused" in program.output(), "that it takes no more", PATIENCE)
        resource.prlimit(program.pid, resource.RLIMIT_NOFILE, (most, most))
        for client in waiting:
            client.sendall(GREETING)
            assert client.recv(2, socket.MSG_WAITALL) == SELECTION
        end(program)


def test_listen_may_say_the_same(topology: Topology, service: ServiceManager) -> None:
    keep_listener(service, topology.proxy, "127.0.0.1")
    with started(topology.proxy, service, "--listen", f"127.0.0.1:{PORT}") as program:
        service.wait_for("READY")
        end(program)


def test_listen_contradicts(topology: Topology, service: ServiceManager) -> None:
    keep_listener(service, topology.proxy, "127.0.0.1")
    with started(topology.proxy, service, "--listen", "127.0.0.1:9999") as program:
        assert program.wait() == 64
        assert "leave --listen out" in program.output()


@pytest.mark.parametrize("kind", ["file", "datagrams", "connected", "unix", "both families"])
def test_refused(
    topology: Topology, service: ServiceManager, echo: Echo, tmp_path: Path, kind: str
) -> None:
    with contextlib.ExitStack() as made:
        if kind == "file":
            one = made.enter_context(open(tmp_path / "file", "w"))
        elif kind == "datagrams":
            one = made.enter_context(topology.proxy.open_socket(socket.AF_INET, socket.SOCK_DGRAM))
        elif kind == "connected":
            one = made.enter_context(topology.proxy.connect(AT.server, echo.port))
        elif kind == "unix":
            one = made.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(str(tmp_path / "unix"))
            one.listen()
        else:
            one = made.enter_context(topology.proxy.open_socket(socket.AF_INET6))
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            one.bind(("::", PORT))
            one.listen()
        service.keep("odd", one.fileno())
    with started(topology.proxy, service) as program:
        assert program.wait() == 64
        expected = "BindIPv6Only=ipv6-only" if kind == "both families" else "ListenStream="
        assert expected in program.output()
        assert "handed over as" in program.output()
