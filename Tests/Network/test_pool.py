"""Connections that wait for flows, and what becomes of flows when those are dead."""

import contextlib
import os
import random
import resource
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import upstreams
from harness.datagrams import Speaker
from harness.flows import Exchange, exchange
from harness.impatient import ImpatientUpstream
from harness.namespaces import Namespace
from harness.rounds import BANNER, SPEAKS_FIRST, CountingUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

URL = upstreams.url(AT.proxy)

GATEWAY = Capture("gateway", "redirect")

MACHINE = Capture("machine", "tproxy")

#: Flows at once.
TOGETHER = 50

#: Seconds without any progress of any flow that mean that it has stopped.
STANDSTILL = 20.0


@dataclass(frozen=True)
class Impatience:
    """How long a server lets clients wait, and how many flows meet it."""

    patience: Callable[[random.Random], float]
    refuses: float
    bursts: int
    flows: int
    """In each burst; before the next, one that waited has been hung up on, or has left."""


IMPATIENCES = {
    "1s": Impatience(lambda _: 1.0, 0.0, 10, 1000),
    "5s": Impatience(lambda _: 5.0, 0.0, 3, 500),
    "random": Impatience(lambda chance: chance.uniform(0.0, 2.0), 0.1, 1, 10_000),
}


@pytest.fixture(scope="module", autouse=True)
def _ports(topology: Topology) -> None:
    """Tens of thousands of connections in a minute to one address take more ports than there are, unless those
    of connections that are over are used again."""
    for host in topology.client, topology.gateway:
        host.write_sysctl("net/ipv4/tcp_tw_reuse", "1")


def carry(topology: Topology, count: int) -> list[str]:
    """That many flows, each of which has its bytes echoed; returns what went wrong."""
    errors: list[str] = []
    for first in range(0, count, TOGETHER):
        flows = [
            Exchange(topology.client, AT.server, 80, b"%d" % number * 50)
            for number in range(first, min(first + TOGETHER, count))]
        try:
            exchange(flows, 1 << 20, STANDSTILL)
            errors += [flow.error for flow in flows if flow.error]
        finally:
            for flow in flows:
                flow.close()
    return errors


def banner(topology: Topology) -> bool:
    """Whether a flow has got through."""
    with topology.client.connect(AT.server, SPEAKS_FIRST) as stream:
        return stream.recv(len(BANNER), socket.MSG_WAITALL) == BANNER


@pytest.mark.parametrize("login", [None, ("user", "word")], ids=["open", "password"])
@pytest.mark.parametrize("case", IMPATIENCES)
def test_server_that_ends_idle_connections(
    topology: Topology, case: str, login: tuple[str, str] | None
) -> None:
    impatience = IMPATIENCES[case]
    url = upstreams.url(AT.proxy, credentials=login)
    with ImpatientUpstream(
            topology.proxy, impatience.patience, impatience.refuses, login) as server, \
            Sluice.capturing(topology, GATEWAY, url, "--pool", "64") as sluice:
        assert sluice.wait_for("pipelining")["proved"] is True
        for _ in range(impatience.bursts):
            assert carry(topology, impatience.flows) == []
            ended = server.ended
            wait_until(lambda: server.ended > ended, "one that waited to be gone")
        summary = sluice.finish()
    flows = impatience.bursts * impatience.flows
    assert (summary["sessions_opened"], summary["sessions_failed"]) == (flows, 0)
    assert summary["failures"] == {}
    assert summary["pooled_used"] > flows // 10
    assert summary["pooled_dead"] >= server.refused - 1
    assert bool(server.refused) == bool(impatience.refuses)


def test_none_outlives_the_run(topology: Topology) -> None:
    with CountingUpstream(topology.proxy) as server, \
            Sluice.capturing(topology, GATEWAY, URL, "--pool", "2", "--workers", "1") as sluice:
        sluice.wait_for("pipelining")
        sluice.wait_for_relaying()
        with topology.client.connect(AT.server, SPEAKS_FIRST) as stream:
            assert stream.recv(1)
        wait_until(server.admitted, "a connection that waits for a flow")
        sluice.finish()
        wait_until(lambda: not server.admitted(), "the connection to be closed")


def test_each_upstream_has_its_own_while_it_lives(topology: Topology) -> None:
    """Flows of the one that dies go on through the other, and nothing is kept ready with the dead."""
    second = upstreams.url(AT.gateway_wan)
    with CountingUpstream(topology.gateway) as living, contextlib.ExitStack() as stack:
        death = stack.enter_context(contextlib.ExitStack())
        dying = death.enter_context(CountingUpstream(topology.proxy))
        sluice = stack.enter_context(
            Sluice.capturing(
                topology, MACHINE, URL, "--upstream", second, "--pool", "2", "--workers", "1"))
        sluice.wait_for("pipelining", 2)
        sluice.wait_for_relaying()
        assert banner(topology)
        wait_until(dying.admitted, "a connection that waits for a flow")
        assert living.to(AT.server, SPEAKS_FIRST) == []
        death.close()
        assert banner(topology)
        sluice.wait_for("member_down")
        wait_until(living.admitted, "a connection that waits with the other")
        assert banner(topology)
        summary = sluice.finish()
    assert summary["failures"] in ({}, {"reset_by_downstream": 3})
    assert summary["pooled_used"] >= 1
    assert len(living.to(AT.server, SPEAKS_FIRST)) == 2


def test_gives_way_to_flows(topology: Topology) -> None:
    """Where there are no more descriptors, those that wait for flows are closed, and a flow gets theirs."""
    with CountingUpstream(topology.proxy) as server, Sluice.capturing(
            topology, MACHINE, URL, "--pool", "16", "--workers", "1") as sluice:
        sluice.wait_for("pipelining")
        sluice.wait_for_relaying()
        with contextlib.ExitStack() as flows:
            # Each that finds none there has more of them kept.
            with sluice.stopped():
                streams = [
                    flows.enter_context(topology.client.connect(AT.server, SPEAKS_FIRST))
                    for _ in range(8)]
            assert all(stream.recv(1) for stream in streams)
            wait_until(lambda: len(server.admitted()) >= 4, "connections that wait for flows")
            ready = server.admitted()
            used = {int(name) for name in os.listdir(f"/proc/{sluice.pid}/fd")}
            _, most = resource.prlimit(sluice.pid, resource.RLIMIT_NOFILE)
            # All numbers below are in use.
            limit = min(set(range(max(used) + 2)) - used)
            resource.prlimit(sluice.pid, resource.RLIMIT_NOFILE, (limit, most))
            assert banner(topology)
            sluice.wait_for("accept_paused")
            wait_until(lambda: not any(one.is_waiting for one in ready), "their ends")
            resource.prlimit(sluice.pid, resource.RLIMIT_NOFILE, (most, most))
        assert sluice.finish()["sessions_failed"] == 0


def test_gives_way_where_the_upstream_moves(topology: Topology, tmp_path: Path) -> None:
    """What waits with the former server, which has not ended it, is for no flow."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{AT.proxy} upstream.example\n")
    within = (
        "unshare", "--mount", "sh", "-c",
        'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts))
    with CountingUpstream(topology.proxy) as former, CountingUpstream(topology.gateway) as later, \
            Sluice.capturing(
                topology, MACHINE, "socks5://upstream.example", "--pool", "1", "--workers", "1",
                within=within) as sluice, \
            Speaker.of(topology, "ipv4") as speaker:
        sluice.wait_for("pipelining")
        sluice.wait_for_relaying()
        assert banner(topology)
        wait_until(former.admitted, "a connection that waits for a flow")
        hosts.write_text(f"{AT.gateway_lan} upstream.example\n")
        with hard_of_hearing(topology.proxy):
            # An association has a connection of its own.
            speaker.send(b"anything", (AT.server, 9))
            assert sluice.wait_for("upstream_moved")["place"] == f"{AT.gateway_lan}:1080"
            assert former.admitted()
            assert banner(topology)
            assert len(later.to(AT.server, SPEAKS_FIRST)) == 1
            wait_until(lambda: not former.admitted(), "the one that waited to be closed")
        assert sluice.finish()["pooled_used"] == 0


@contextlib.contextmanager
def hard_of_hearing(host: Namespace) -> Iterator[None]:
    """New connections to the upstream's port are refused there, and old ones go on."""
    host.nft(f"""
        table inet hard_of_hearing {{
          chain in {{
            type filter hook input priority filter;
            tcp dport {upstreams.PORT} tcp flags syn / syn,ack reject with tcp reset;
          }}
        }}""")
    try:
        yield
    finally:
        host.run("nft", "delete", "table", "inet", "hard_of_hearing")
