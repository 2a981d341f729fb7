"""What connections to upstreams have that the system does not give them: read from the sockets themselves, and
from what arrives."""

import contextlib
import ctypes
import os
import socket
from typing import Iterator

import pytest

from harness import upstreams
from harness.doctor import UNAVAILABLE
from harness.rounds import BANNER, SPEAKS_FIRST, CountingUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

URL = upstreams.url(AT.proxy)

GATEWAY = Capture("gateway", "redirect")

#: linux/tcp.h
TCP_CONGESTION, TCP_USER_TIMEOUT, TCP_FASTOPEN = 13, 18, 23

#: The number of pidfd_getfd, the same for every architecture.
PIDFD_GETFD = 438

#: Of a run at its start: whether it is let in, and for UDP, IPv6 and a handshake in one write.
OWN_QUESTIONS = 4

#: net/ipv4/tcp_fastopen (Documentation/networking/ip-sysctl.rst): as client, as server.
CLIENT, SERVER = 1, 2

#: tcpi_options, the sixth byte of TCP_INFO: data came with the SYN (linux/tcp.h).
OPTIONS, SYN_DATA = 5, 32


@contextlib.contextmanager
def upstream_sockets(sluice: Sluice) -> Iterator[list[socket.socket]]:
    """The program's connections to the upstream, as sockets of our own."""
    system = ctypes.CDLL(None, use_errno=True)
    with contextlib.ExitStack() as stack:
        process = os.pidfd_open(sluice.process.pid)
        stack.callback(os.close, process)
        sockets = []
        for name in os.listdir(f"/proc/{sluice.process.pid}/fd"):
            copy = system.syscall(PIDFD_GETFD, process, int(name), 0)
            if copy < 0:
                continue
            try:
                stream = socket.socket(fileno=copy)
            except OSError:  # no socket
                os.close(copy)
                continue
            stack.callback(stream.close)
            with contextlib.suppress(OSError):
                if stream.getpeername()[:2] == (AT.proxy, upstreams.PORT):
                    sockets.append(stream)
        yield sockets


@contextlib.contextmanager
def flow(topology: Topology, *options: str) -> Iterator[Sluice]:
    """A run with one flow."""
    with CountingUpstream(topology.proxy) as server, \
            Sluice.capturing(topology, GATEWAY, URL, *options) as sluice:

        def is_quiet() -> bool:
            with upstream_sockets(sluice) as sockets:
                return len(server.visits) >= OWN_QUESTIONS and not sockets

        wait_until(is_quiet, "its own questions to be over")
        with topology.client.connect(AT.server, SPEAKS_FIRST) as stream:
            assert stream.recv(len(BANNER), socket.MSG_WAITALL) == BANNER
            yield sluice


@pytest.mark.parametrize("options, timeout, congestion", [
    ([], 0, None), (["--user-timeout", "7"], 7000, None),
    (["--congestion", "reno"], 0, b"reno"),
])
def test_options_of_sockets(
    topology: Topology, options: list[str], timeout: int, congestion: bytes | None
) -> None:
    usual = topology.gateway.read_sysctl("net/ipv4/tcp_congestion_control").encode()
    assert usual != b"reno"
    with flow(topology, *options) as sluice, upstream_sockets(sluice) as sockets:
        assert sockets
        for one in sockets:
            assert one.getsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT) == timeout
            name = one.getsockopt(socket.IPPROTO_TCP, TCP_CONGESTION, 16).rstrip(b"\0")
            assert name == (congestion or usual)


def test_congestion_control_that_does_not_exist(topology: Topology) -> None:
    with CountingUpstream(topology.proxy), \
            Sluice.capturing(
                topology, GATEWAY, URL, "--congestion", "nothing", ready=False) as sluice:
        assert sluice.wait() == UNAVAILABLE
        assert "--congestion nothing" in sluice.output()


@pytest.mark.parametrize("asked", [True, False], ids=["asked", "usual"])
def test_fast_open(topology: Topology, asked: bool) -> None:
    """The second flow has a cookie of the server's, and sends its request with the SYN."""
    topology.proxy.write_sysctl("net/ipv4/tcp_fastopen", str(CLIENT | SERVER))
    arrived: list[bool] = []

    class Opening(CountingUpstream):
        def serve(self, stream: socket.socket) -> None:
            state = stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, OPTIONS + 1)
            arrived.append(bool(state[OPTIONS] & SYN_DATA))
            super().serve(stream)

    server = Opening(topology.proxy)
    server.allow_fast_open()
    options = ["--tcp-fast-open"] if asked else []
    with server, Sluice.capturing(topology, GATEWAY, URL, *options) as sluice:
        sluice.wait_for("pipelining")
        for _ in range(3):
            known = len(arrived)
            with topology.client.connect(AT.server, SPEAKS_FIRST) as stream:
                assert stream.recv(len(BANNER), socket.MSG_WAITALL) == BANNER
        assert arrived[-1] == asked
        assert len(arrived) > known
        assert sluice.finish()["failures"] in ({}, {"reset_by_downstream": 3})
