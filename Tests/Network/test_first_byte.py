"""For how many round trips to the upstream a program waits before it has its first byte: counted by the
upstream, and not timed."""

import contextlib
import fcntl
import socket
import struct
import termios
from typing import Any

import pytest

from harness import upstreams
from harness.impatient import ImpatientUpstream
from harness.rounds import ANSWER, BANNER, REPLY, SPEAKS_FIRST, CountingUpstream, Visit
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

MACHINE = Capture("machine", "tproxy")

#: Without and with a user and password.
LOGINS = {0: None, 2: ("user", "word")}

WEB = 80

QUESTION = b"question"


def unacknowledged(stream: socket.socket) -> int:
    """Bytes sent that the peer has not confirmed (SIOCOUTQ, tcp(7))."""
    count: Any = fcntl.ioctl(stream.fileno(), termios.TIOCOUTQ, b"\0" * 4)
    return struct.unpack("i", count)[0]


def url(method: int) -> str:
    return upstreams.url(AT.proxy, credentials=LOGINS[method])


def fetch(
    topology: Topology, server: CountingUpstream, port: int, stopped: Sluice | None = None
) -> Visit:
    """What one program does that awaits a banner, or asks a question; returns its way through the
    upstream, when it has its first byte. A run that is stopped meanwhile finds the question there with the
    connection."""
    server.forget()
    before = len(server.to(AT.server, port))
    with contextlib.ExitStack() as stack:
        with stopped.stopped() if stopped else contextlib.nullcontext():
            stream = stack.enter_context(topology.client.connect(AT.server, port))
            if port != SPEAKS_FIRST:
                stream.sendall(QUESTION)
                wait_until(lambda: unacknowledged(stream) == 0, "the question to have arrived")
        first = BANNER if port == SPEAKS_FIRST else ANSWER
        assert stream.recv(len(first), socket.MSG_WAITALL) == first
    (visit,) = server.to(AT.server, port)[before:]
    return visit


@pytest.mark.parametrize("method, rounds", [(0, 3), (2, 4)], ids=["none", "password"])
def test_step_by_step(
    topology: Topology, capture: Capture, method: int, rounds: int
) -> None:
    """TCP, the methods, the password, the request; the first byte may come with the reply."""
    with CountingUpstream(topology.proxy, method, takes_pipelining=False) as server, \
            Sluice.capturing(topology, capture, url(method)) as sluice:
        assert sluice.wait_for("pipelining")["proved"] is False
        assert fetch(topology, server, SPEAKS_FIRST).rounds == rounds
        assert fetch(topology, server, WEB).rounds == rounds + 1


@pytest.mark.parametrize("method", LOGINS, ids=["none", "password"])
def test_all_at_once(topology: Topology, capture: Capture, method: int) -> None:
    """TCP, then everything."""
    with CountingUpstream(topology.proxy, method) as server, \
            Sluice.capturing(topology, capture, url(method)) as sluice:
        assert sluice.wait_for("pipelining")["proved"] is True
        assert fetch(topology, server, SPEAKS_FIRST).rounds == 2
        assert fetch(topology, server, WEB).rounds == 3


@pytest.mark.parametrize("method", LOGINS, ids=["none", "password"])
@pytest.mark.parametrize("takes_pipelining", [True, False], ids=["pipelining", "stepwise"])
def test_pooled(
    topology: Topology, capture: Capture, method: int, takes_pipelining: bool
) -> None:
    """The request alone, whatever the server thinks of pipelining."""
    with CountingUpstream(topology.proxy, method, takes_pipelining) as server, \
            Sluice.capturing(
                topology, capture, url(method), "--pool", "1", "--workers", "1") as sluice:
        sluice.wait_for("pipelining")
        # What asks for a relay waits for a moment, too.
        sluice.wait_for_relaying()
        wait_until(lambda: not server.admitted(), "its own questions to be over")
        fetch(topology, server, WEB)
        for port, rounds in ((SPEAKS_FIRST, 1), (WEB, 2), (SPEAKS_FIRST, 1)):
            wait_until(server.admitted, "a connection that waits for a flow")
            visit = fetch(topology, server, port)
            assert (visit.is_old, visit.rounds) == (True, rounds)
        summary = sluice.finish()
    assert (summary["pooled_used"], summary["pooled_dead"]) == (3, 0)
    expected = {b"user:word"} if method else {b""}
    assert {one.credentials for one in server.visits if one.is_admitted} == expected


def test_credentials_that_tell_of_the_flow(topology: Topology) -> None:
    """Nothing can be made ready for those."""
    of_flow = f"socks5://%7Buid%7D:word@{AT.proxy}:{upstreams.PORT}"
    with CountingUpstream(topology.proxy, 2) as server, \
            Sluice.capturing(topology, MACHINE, of_flow, "--pool", "1") as sluice:
        sluice.wait_for("pipelining")
        for _ in range(3):
            assert fetch(topology, server, SPEAKS_FIRST).rounds == 2
        assert server.admitted() == []
        assert sluice.finish()["pooled_used"] == 0


EARLY = ["--early-data", "on", "--workers", "1"]


@pytest.mark.parametrize("method", LOGINS, ids=["none", "password"])
def test_early_data(topology: Topology, capture: Capture, method: int) -> None:
    """The question goes with the request; who waits for a banner does not wait longer for it."""
    with CountingUpstream(topology.proxy, method) as server, \
            Sluice.capturing(topology, capture, url(method), *EARLY) as sluice:
        sluice.wait_for("pipelining")
        visit = fetch(topology, server, WEB, sluice)
        assert visit.rounds == 2 and visit.flights[0].endswith(QUESTION)
        assert fetch(topology, server, SPEAKS_FIRST).rounds == 2
        summary = sluice.finish()
    assert summary["bytes_upstream"] == len(QUESTION)


def test_early_data_on_a_pooled_connection(topology: Topology, capture: Capture) -> None:
    with CountingUpstream(topology.proxy) as server, \
            Sluice.capturing(topology, capture, url(0), *EARLY, "--pool", "1") as sluice:
        sluice.wait_for("pipelining")
        sluice.wait_for_relaying()
        fetch(topology, server, WEB)
        wait_until(server.admitted, "a connection that waits for a flow")
        visit = fetch(topology, server, WEB, sluice)
        assert (visit.is_old, visit.rounds) == (True, 1)
        assert visit.flights[0].endswith(QUESTION)


def test_early_data_is_said_again_to_another_upstream(topology: Topology) -> None:
    """The first refuses the flow when it has heard the question already."""
    not_allowed = REPLY[:1] + b"\x02" + REPLY[2:]
    second = upstreams.url(AT.gateway_wan)
    with CountingUpstream(topology.proxy, reply=not_allowed) as refusing, \
            CountingUpstream(topology.gateway) as other, \
            Sluice.capturing(
                topology, MACHINE, url(0), "--upstream", second, *EARLY) as sluice:
        sluice.wait_for("pipelining", 2)
        visit = fetch(topology, other, WEB, sluice)
        assert visit.rounds == 2 and visit.flights[0].endswith(QUESTION)
        (refused,) = refusing.to(AT.server, WEB)
        assert refused.flights[0].endswith(QUESTION)
        assert sluice.finish()["handshakes_retried"] == 1


def test_early_data_larger_than_a_segment(topology: Topology) -> None:
    """All bytes arrive once, and in order, however many had gone before the reply."""
    payload = bytes(range(251)) * 80
    with ImpatientUpstream(topology.proxy, lambda _: 60.0), \
            Sluice.capturing(topology, MACHINE, url(0), *EARLY) as sluice:
        sluice.wait_for("pipelining")
        with contextlib.ExitStack() as stack:
            with sluice.stopped():
                stream = stack.enter_context(topology.client.connect(AT.server, WEB))
                stream.sendall(payload[:12_000])
            received = b""
            stream.sendall(payload[12_000:])
            stream.shutdown(socket.SHUT_WR)
            while part := stream.recv(1 << 16):
                received += part
        assert received == payload
        assert sluice.finish()["bytes_upstream"] == len(payload)
