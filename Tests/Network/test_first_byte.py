"""For how many round trips to the upstream a program waits before it has its first byte: counted by the
upstream, and not timed."""

import socket

import pytest

from harness import upstreams
from harness.rounds import ANSWER, BANNER, SPEAKS_FIRST, CountingUpstream, Visit
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

MACHINE = Capture("machine", "tproxy")

#: Without and with a user and password.
LOGINS = {0: None, 2: ("user", "word")}

WEB = 80


def url(method: int) -> str:
    return upstreams.url(AT.proxy, credentials=LOGINS[method])


def fetch(topology: Topology, server: CountingUpstream, port: int) -> Visit:
    """What one program does that awaits a banner, or asks a question; returns its way through the
    upstream, when it has its first byte."""
    server.forget()
    before = len(server.to(AT.server, port))
    with topology.client.connect(AT.server, port) as stream:
        if port == SPEAKS_FIRST:
            assert stream.recv(len(BANNER), socket.MSG_WAITALL) == BANNER
        else:
            stream.sendall(b"question")
            assert stream.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER
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
        assert server.admitted() == []
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
