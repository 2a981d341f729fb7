"""What becomes of UDP by choice, and that none of what is captured ever leaves directly."""

import contextlib
import signal
import threading
from typing import Iterator

import pytest

from harness import kernel, traffic
from harness.datagrams import DatagramEcho, Endpoint, Speaker, ask, fate
from harness.namespaces import Namespace
from harness.resolvers import RECORDS, Unbound, dig
from harness.sluice import Capture, Sluice, binary
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until

pytestmark = pytest.mark.usefixtures("errors_at_any_rate")


def seen(topology: Topology, family: str, target: DatagramEcho) -> str:
    """Whom a target sees of a new flow to it."""
    del target.received[:]
    ask(topology, family, target.port)
    (peer,) = target.peers()
    return peer


def check_refused(topology: Topology, sluice: Sluice, to: Endpoint) -> None:
    """At once: by the kernel."""
    with sluice.stopped():
        assert fate(topology.client, to).outcome == "ECONNREFUSED"


@pytest.fixture
def web(topology: Topology) -> Iterator[DatagramEcho]:
    """What answers at the port of QUIC."""
    with DatagramEcho(topology.server, port=traffic.QUIC_PORT) as target:
        yield target


def test_udp_by_default(
    topology: Topology, scope: Capture, upstream: str, family: str, datagram_echo: DatagramEcho,
    web: DatagramEcho,
) -> None:
    with Sluice.capturing(topology, scope, upstream):
        for target in datagram_echo, web:
            assert seen(topology, family, target) == ADDRESSES[family].proxy_exit


def test_udp_bypass(
    topology: Topology, scope: Capture, upstream: str, family: str, datagram_echo: DatagramEcho,
    unbound: Unbound,
) -> None:
    """DNS is captured all the same."""
    at = ADDRESSES[family]
    with Sluice.capturing(topology, scope, upstream, "--udp", "bypass") as sluice:
        assert seen(topology, family, datagram_echo) == at.client
        assert dig(topology.client, at.server).records == [RECORDS["A"]]
        assert unbound.askers()[-1] == at.proxy_exit
        assert sluice.status()["associations_opened"] <= 2


def test_udp_reject(
    topology: Topology, scope: Capture, upstream: str, family: str, datagram_echo: DatagramEcho,
    unbound: Unbound,
) -> None:
    """DNS works all the same."""
    at = ADDRESSES[family]
    with Sluice.capturing(topology, scope, upstream, "--udp", "reject") as sluice:
        del datagram_echo.received[:]
        check_refused(topology, sluice, (at.server, datagram_echo.port))
        assert datagram_echo.received == []
        assert dig(topology.client, at.server).records == [RECORDS["A"]]
        assert unbound.askers()[-1] == at.proxy_exit


@pytest.mark.parametrize("dns", ["off", "udp"])
def test_dns_off_is_like_other_udp(
    topology: Topology, scope: Capture, upstream: str, family: str, unbound: Unbound, dns: str
) -> None:
    at = ADDRESSES[family]
    with Sluice.capturing(topology, scope, upstream, "--udp", "bypass", "--dns", dns) as sluice:
        assert dig(topology.client, at.server).records == [RECORDS["A"]]
        assert unbound.askers()[-1] == (at.client if dns == "off" else at.proxy_exit)
        assert sluice.status()["dns"] == dns


def test_quic_reject(
    topology: Topology, scope: Capture, upstream: str, family: str, datagram_echo: DatagramEcho,
    web: DatagramEcho,
) -> None:
    """At once, so that browsers take TCP; other UDP is carried."""
    at = ADDRESSES[family]
    with Sluice.capturing(topology, scope, upstream, "--quic", "reject") as sluice:
        check_refused(topology, sluice, (at.server, web.port))
        assert web.received == []
        assert seen(topology, family, datagram_echo) == at.proxy_exit


# Leaks.


class Chatting:
    """Datagrams from the client to a port of the server, of both families, all the time: from one
    socket each, and each tenth from a new one."""

    def __init__(self, topology: Topology, port: int) -> None:
        self.sent = 0
        self._topology, self._port = topology, port
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._chat)

    def __enter__(self) -> "Chatting":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _chat(self) -> None:
        with contextlib.ExitStack() as stack:
            old = {
                family: stack.enter_context(Speaker.of(self._topology, family))
                for family in FAMILIES}
            # Not all at once: a queue that overflows would hide what this is about.
            while not self._over.wait(0.002):
                for family in FAMILIES:
                    to = ADDRESSES[family].server, self._port
                    with contextlib.suppress(OSError):  # it may be refused, but not sent
                        if self.sent % 10:
                            old[family].send(b"hello", to)
                        else:
                            with Speaker.of(self._topology, family) as new:
                                new.send(b"hello", to)
                self.sent += 1

    def wait(self, count: int = 100) -> None:
        """Until so many more have been sent, of each family."""
        goal = self.sent + count
        wait_until(lambda: self.sent >= goal, f"{count} datagrams to be sent")


def test_nothing_leaves_from_start_to_restart(
    topology: Topology, capture: Capture, guarded: Namespace, upstream: str,
    datagram_echo: DatagramEcho,
) -> None:
    """A closed exit: neither when it is killed nor before it has started anew."""
    port = datagram_echo.port
    exits = {at.proxy_exit for at in ADDRESSES.values()}
    del datagram_echo.received[:]
    flags = ("--on-exit", "closed")
    with Sluice.capturing(topology, capture, upstream, *flags) as sluice:
        leaked = topology.leaked(port, "udp")
        with Chatting(topology, port) as chat:
            chat.wait()
            wait_until(lambda: set(datagram_echo.peers()) == exits, "both families' datagrams")
            sluice.signal(signal.SIGKILL)
            sluice.wait()
            assert kernel.tables(guarded) == ["table inet sluice_guard"]
            chat.wait()
            with Sluice.capturing(topology, capture, upstream, *flags) as second:
                del datagram_echo.received[:]
                chat.wait()
                wait_until(
                    lambda: set(datagram_echo.peers()) == exits, "flows to be carried again")
                second.finish()
            chat.wait()
    assert topology.leaked(port, "udp") == leaked
    assert set(datagram_echo.peers()) == exits


def test_nothing_leaves_while_it_is_stopped(
    topology: Topology, capture: Capture, upstream: str, datagram_echo: DatagramEcho
) -> None:
    port = datagram_echo.port
    with Sluice.capturing(topology, capture, upstream) as sluice:
        leaked = topology.leaked(port, "udp")
        with Chatting(topology, port) as chat:
            chat.wait()
            with sluice.stopped():
                chat.wait()
                assert topology.leaked(port, "udp") == leaked
        assert ask(topology, "ipv6", port) == b"hello"
        assert topology.leaked(port, "udp") == leaked


def test_nothing_leaves_without_a_listener(
    topology: Topology, capture: Capture, upstream: str, datagram_echo: DatagramEcho
) -> None:
    """Rules and routes without a daemon."""
    host = capture.host(topology)
    host.run(binary(), "rules", "apply", upstream, *capture.flags())
    try:
        leaked = topology.leaked(datagram_echo.port, "udp")
        for family in FAMILIES:
            to = ADDRESSES[family].server, datagram_echo.port
            assert fate(topology.client, to, 0.5).outcome != "answer"
        assert topology.leaked(datagram_echo.port, "udp") == leaked
    finally:
        host.run(binary(), "rules", "remove")


def test_without_rules_every_datagram_leaves(
    topology: Topology, datagram_echo: DatagramEcho
) -> None:
    """The checks above can fail: this is what they see where nothing is captured."""
    port = datagram_echo.port
    leaked = topology.leaked(port, "udp")
    with Chatting(topology, port) as chat:
        chat.wait(20)
    after = topology.leaked(port, "udp")
    assert all(after[family] >= leaked[family] + 20 for family in FAMILIES)


#: A gateway that translates the addresses of its LAN, as most do.
TRANSLATION = """
table inet translation {
  chain leaving {
    type nat hook postrouting priority srcnat
    oifname "wan0" masquerade
  }
}
"""


def test_flow_goes_on_translated_after_the_end(
    topology: Topology, upstream: str, family: str, datagram_echo: DatagramEcho
) -> None:
    """While it was captured nothing translated it, and connection tracking would leave it at that."""
    at = ADDRESSES[family]
    to = at.server, datagram_echo.port
    topology.gateway.nft(TRANSLATION)
    try:
        with Speaker.of(topology, family) as speaker:
            with Sluice.capturing(topology, Capture("gateway", "tproxy"), upstream):
                assert speaker.ask(b"during", to) == b"during"
                assert datagram_echo.received[-1].sender[0] == at.proxy_exit
            assert speaker.ask(b"after", to) == b"after"
            assert datagram_echo.received[-1].sender[0] == at.gateway_wan
    finally:
        topology.gateway.run("nft", "delete", "table", "inet", "translation")
