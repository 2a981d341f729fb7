"""Several upstreams at once: which one a flow goes through, and what becomes of flows when one dies.

Each is on a host of its own, so that the target sees which one a flow came through.
"""

import collections
import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import upstreams
from harness.confined import Confined
from harness.datagrams import DatagramEcho, Speaker
from harness.doctor import UNAVAILABLE, examine, faults, told
from harness.flows import attempt, outcome
from harness.namespaces import Namespace
from harness.programs import Program
from harness.relaying import COMMAND_NOT_SUPPORTED, Relaying
from harness.resolvers import RECORDS, Unbound, dig
from harness.scripted import Behaviour, ScriptedUpstream
from harness.serving import serving
from harness.sluice import Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.upstreams import PORT
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

MACHINE = Capture("machine", "tproxy")

#: On the gateway, the proxy and the server.
URLS = [upstreams.url(address) for address in (AT.gateway_lan, AT.proxy, AT.third)]

#: Whom the target sees of a flow through each.
EXITS = [AT.gateway_wan, AT.proxy_exit, AT.server]


def group(*members: int, balance: str | None = None) -> list[str]:
    """The arguments that make a group of `URLS`."""
    urls = [URLS[member] for member in members]
    words = [urls[0]] + [word for url in urls[1:] for word in ("--upstream", url)]
    return words + ([] if balance is None else ["--balance", balance])


def capturing(
    topology: Topology, *arguments: str, capture: Capture = MACHINE, ready: bool = True
) -> Sluice:
    upstream, *options = arguments
    return Sluice.capturing(topology, capture, upstream, *options, ready=ready)


def way(topology: Topology, echo: Echo) -> str | None:
    """Whom the target sees of a new flow; None if that does not get there."""
    known = len(echo.peers)
    came = attempt(topology.client, AT.server, echo.port)
    new = echo.peers[known:]
    return new[0] if came == "answer" and new else None


class Late(ScriptedUpstream):
    """One that takes 100 ms longer to everything."""

    def serve(self, stream: socket.socket) -> None:
        time.sleep(0.1)
        super().serve(stream)


class Servers(contextlib.ExitStack):
    """microsocks on the gateway, Dante on the proxy, and `sluice serve` on the server."""

    def __init__(self, topology: Topology, folder: Path) -> None:
        super().__init__()
        self._makers: list[Callable[[], contextlib.AbstractContextManager[Program]]] = [
            lambda: upstreams.microsocks(topology.gateway),
            lambda: upstreams.dante(topology.proxy, folder),
            lambda: serving(topology.server),
        ]
        self.running: dict[int, Program] = {}

    def start(self, *members: int) -> None:
        for member in members:
            self.running[member] = self.enter_context(self._makers[member]())

    def kill(self, member: int) -> None:
        self.running.pop(member).end()


@pytest.fixture
def servers(topology: Topology, folder: Path) -> Iterator[Servers]:
    with Servers(topology, folder) as stack:
        yield stack


@pytest.fixture
def first(topology: Topology) -> Iterator[ScriptedUpstream]:
    """A scripted one on the gateway."""
    with ScriptedUpstream(topology.gateway) as server:
        yield server


@contextlib.contextmanager
def deaf(host: Namespace, port: int = PORT) -> Iterator[None]:
    """Packets to the port are dropped there."""
    host.nft(f"""
        table inet deaf {{
          chain in {{ type filter hook input priority filter; tcp dport {port} drop; }}
        }}""")
    try:
        yield
    finally:
        host.run("nft", "delete", "table", "inet", "deaf")


class TestFailover:
    def test_goes_through_the_first_that_lives(
        self, topology: Topology, scope: Capture, servers: Servers, echo: Echo
    ) -> None:
        """And back when it does again, with nothing for the application to notice."""
        urls = [URLS[1], "--upstream", URLS[2]]
        servers.start(1, 2)
        with capturing(topology, *urls, capture=scope) as sluice:
            assert way(topology, echo) == EXITS[1]
            servers.kill(1)
            assert [way(topology, echo) for _ in range(5)] == [EXITS[2]] * 5
            down = sluice.wait_for("member_down")
            assert (down["upstream"], down["failure"]) == (URLS[1], "connect_refused")
            servers.start(1)
            assert sluice.wait_for("member_up")["upstream"] == URLS[1]
            assert way(topology, echo) == EXITS[1]
            summary = sluice.finish()
            assert summary["failures"] == {}
            # One flow found it out, and nobody tried again.
            assert summary["handshakes_retried"] == 1

    def test_every_address_is_exempt(
        self, topology: Topology, scope: Capture, servers: Servers
    ) -> None:
        servers.start(0, 1, 2)
        with capturing(topology, *group(0, 1, 2), capture=scope):
            listing = scope.host(topology).run(
                "nft", "list", "set", "inet", "sluice", "upstream4").stdout
            for address in AT.gateway_lan, AT.proxy, AT.third:
                assert address in listing

    def test_kill_under_load(
        self, topology: Topology, servers: Servers, echo: Echo
    ) -> None:
        """No flow fails for want of an upstream, and after the detection none at all."""
        servers.start(1, 2)
        outcomes: list[str] = []
        is_over = threading.Event()

        def load() -> None:
            while not is_over.is_set():
                outcomes.append(attempt(topology.client, AT.server, echo.port))

        with capturing(topology, *group(1, 2)) as sluice:
            threads = [threading.Thread(target=load) for _ in range(8)]
            for thread in threads:
                thread.start()
            try:
                wait_until(lambda: len(outcomes) >= 100, "flows")
                servers.kill(1)
                sluice.wait_for("member_down")
                # Those that were open when it died are over by then.
                known = len(outcomes)
                wait_until(lambda: len(outcomes) >= known + 50, "more flows")
                known = len(outcomes)
                wait_until(lambda: len(outcomes) >= known + 300, "even more flows")
                assert collections.Counter(outcomes[known:]).keys() == {"answer"}
                servers.start(1)
                sluice.wait_for("member_up")
                known = len(echo.peers)
                wait_until(
                    lambda: EXITS[1] in echo.peers[known:], "flows through the first again")
            finally:
                is_over.set()
                for thread in threads:
                    thread.join()
            # What an upstream takes with it when the tunnel stands is lost.
            assert sluice.finish()["failures"].keys() <= {
                "reset_by_upstream", "reset_by_downstream"}

    @pytest.mark.parametrize("behaviour", [
        Behaviour(at_greeting="close"), Behaviour(at_greeting="reset"),
        Behaviour(at_greeting="silence"), Behaviour(version=4), Behaviour(method=0xFF),
        Behaviour(at_request="close"), Behaviour(at_request="reset"),
        Behaviour(at_request="silence"),
    ], ids=lambda one: f"{one.at_greeting}-{one.at_request}-{one.version}-{one.method}")
    def test_handshake_that_fails_begins_anew(
        self, topology: Topology, servers: Servers, echo: Echo, first: ScriptedUpstream,
        behaviour: Behaviour,
    ) -> None:
        servers.start(1)
        timeouts = "--connect-timeout", "1", "--handshake-timeout", "2"
        with capturing(topology, *group(0, 1), *timeouts) as sluice:
            first.behaviour = behaviour
            assert way(topology, echo) == EXITS[1]
            if behaviour.at_request == "answer":
                sluice.wait_for("member_down")
            summary = sluice.finish()
            assert (summary["failures"], summary["handshakes_retried"]) == ({}, 1)
        assert len(sluice.events("member_down")) == (behaviour.at_request == "answer")

    def test_one_that_hangs_is_left(
        self, topology: Topology, servers: Servers, echo: Echo, first: ScriptedUpstream
    ) -> None:
        """A flow that waits for the reply goes elsewhere when the upstream is found dead, and not only
        when its own patience ends."""
        servers.start(1)
        with capturing(topology, *group(0, 1), "--connect-timeout", "1") as sluice:
            first.behaviour = Behaviour(at_request="silence")
            with topology.client.connect(AT.server, echo.port) as stream:
                wait_until(lambda: first.to(AT.server), "the request")
                first.behaviour = Behaviour(at_greeting="close")
                stream.sendall(b"hello")
                assert stream.recv(100) == b"hello"
            assert echo.peers == [EXITS[1]]
            assert sluice.finish()["failures"] == {}

    def test_blackholed(self, topology: Topology, servers: Servers, echo: Echo) -> None:
        servers.start(1, 2)
        with capturing(topology, *group(1, 2), "--connect-timeout", "1") as sluice:
            with deaf(topology.proxy):
                assert way(topology, echo) == EXITS[2]
                assert sluice.wait_for("member_down")["failure"] == "connect_timeout"
                assert [way(topology, echo) for _ in range(20)] == [EXITS[2]] * 20
                assert sluice.status()["handshakes_retried"] == 1
            sluice.wait_for("member_up")
            assert way(topology, echo) == EXITS[1]
            assert sluice.finish()["failures"] == {}

    @pytest.mark.parametrize("reply", [3, 4, 5, 6])
    def test_word_about_the_target_is_passed_on(
        self, topology: Topology, first: ScriptedUpstream, reply: int
    ) -> None:
        with ScriptedUpstream(topology.proxy) as second, \
                capturing(topology, *group(0, 1)) as sluice:
            first.behaviour = Behaviour(reply=reply)
            for _ in range(3):
                assert outcome(topology.client, AT.server, 80) == (b"", "RST")
            assert len(first.to(AT.server)) == 3
            assert second.to(AT.server) == []
            assert sum(sluice.finish()["failures"].values()) == 3
        assert not sluice.events("member_down")

    @pytest.mark.parametrize("reply", [1, 2, 7, 8])
    def test_refusal_of_one_is_not_that_of_all(
        self, topology: Topology, servers: Servers, echo: Echo, first: ScriptedUpstream, reply: int
    ) -> None:
        """Nor is it held against it."""
        servers.start(1)
        with capturing(topology, *group(0, 1)) as sluice:
            first.behaviour = Behaviour(reply=reply)
            assert [way(topology, echo) for _ in range(3)] == [EXITS[1]] * 3
            assert len(first.to(AT.server)) == 3
            assert sluice.finish()["failures"] == {}
        assert not sluice.events("member_down")

    def test_what_all_refuse_is_refused(
        self, topology: Topology, first: ScriptedUpstream
    ) -> None:
        with ScriptedUpstream(topology.proxy) as second, \
                capturing(topology, *group(0, 1)) as sluice:
            first.behaviour = second.behaviour = Behaviour(reply=2)
            assert outcome(topology.client, AT.server, 80) == (b"", "RST")
            assert (len(first.to(AT.server)), len(second.to(AT.server))) == (1, 1)
            assert sluice.finish()["failures"] == {"reply_not_allowed": 1}

    def test_ipv6_goes_through_who_has_it(
        self, topology: Topology, servers: Servers, echo: Echo
    ) -> None:
        """The first one is spoken to by SOCKS4, which has none."""
        servers.start(1, 2)
        old = upstreams.url(AT.proxy, scheme="socks4")
        with capturing(topology, old, "--upstream", URLS[2]) as sluice:
            at = ADDRESSES["ipv6"]
            assert attempt(topology.client, at.server, echo.port) == "answer"
            assert echo.peers == [at.server]
            assert way(topology, echo) == EXITS[1]
            assert sluice.finish()["handshakes_retried"] == 0
        assert not sluice.events("no_ipv6")

    @pytest.mark.parametrize("choice", ["open", "closed"])
    def test_none_is_left(
        self, topology: Topology, servers: Servers, echo: Echo, choice: str
    ) -> None:
        servers.start(1, 2)
        with capturing(topology, *group(1, 2), "--on-upstream-down", choice) as sluice:
            servers.kill(1)
            servers.kill(2)
            if choice == "open":
                wait_until(
                    lambda: way(topology, echo) == AT.client, "connections to go directly")
                assert len(sluice.events("upstream_down")) == 1
            else:
                assert way(topology, echo) is None
                sluice.wait_for("member_down", 2)
                assert way(topology, echo) is None
            servers.start(2)
            wait_until(lambda: way(topology, echo) == EXITS[2], "connections through the second")
            servers.start(1)
            wait_until(lambda: way(topology, echo) == EXITS[1], "connections through the first")
            assert len(sluice.events("upstream_down")) == (choice == "open")


class TestStart:
    def test_one_that_is_down_is_told(
        self, topology: Topology, servers: Servers, echo: Echo
    ) -> None:
        servers.start(2)
        with capturing(topology, *group(1, 2)) as sluice:
            (down,) = sluice.events("member_down")
            assert f"cannot reach {URLS[1]}" in down["message"]
            assert way(topology, echo) == EXITS[2]
            servers.start(1)
            sluice.wait_for("member_up")
            assert way(topology, echo) == EXITS[1]

    def test_all_are_down(self, topology: Topology) -> None:
        done = topology.client.run(
            binary(), "run", *group(1, 2), "--machine", "--control", "none", check=False)
        assert done.returncode == UNAVAILABLE
        assert "none of the upstreams lets us in" in done.stderr
        for url in URLS[1:]:
            assert url in done.stderr

    def test_doctor_looks_at_each(self, topology: Topology, servers: Servers) -> None:
        servers.start(1)
        code, findings = examine(topology.client, *group(1, 2), "--machine")
        assert (code, faults(findings)) == (UNAVAILABLE, {"upstream": "failure"})
        assert f"cannot reach {URLS[2]}" in told(findings, "upstream")
        assert f"{URLS[1]} at {AT.proxy}:{PORT} lets us in" in told(findings, "upstream")


class TestShares:
    @pytest.mark.parametrize("members", [(1, 2), (0, 1, 2)], ids=["two", "three"])
    def test_turns_are_even(
        self, topology: Topology, servers: Servers, echo: Echo, members: tuple[int, ...]
    ) -> None:
        """To a hundredth; each worker's are exact."""
        servers.start(*members)
        flows, workers = 1000, 2
        with capturing(
                topology, *group(*members, balance="round-robin"), "--workers", str(workers)):
            shares = collections.Counter(way(topology, echo) for _ in range(flows))
        assert shares.keys() == {EXITS[member] for member in members}
        share = flows / len(members)
        for count in shares.values():
            assert abs(count - share) <= min(workers, share / 100)

    def test_turns_of_the_living_are_even(
        self, topology: Topology, servers: Servers, echo: Echo
    ) -> None:
        servers.start(0, 1, 2)
        with capturing(
                topology, *group(0, 1, 2, balance="round-robin"), "--workers", "1") as sluice:
            servers.kill(1)
            wait_until(
                lambda: way(topology, echo) and sluice.events("member_down"), "the death to be seen")
            shares = collections.Counter(way(topology, echo) for _ in range(100))
            assert shares == {EXITS[0]: 50, EXITS[2]: 50}

    def test_clients_stay(self, topology: Topology, servers: Servers) -> None:
        """The death of an upstream moves nobody but its own clients, and its return moves them back."""
        capture = Capture("gateway", "tproxy")
        clients = [f"11.1.0.{number}" for number in range(20, 44)]
        servers.start(1, 2)
        topology.client.ip(*(f"addr add {one}/24 dev lan0" for one in clients))
        try:
            with Echo(topology.server) as echo, capturing(
                    topology, *group(1, 2, balance="hash"), capture=capture) as sluice:

                def ways() -> list[str]:
                    del echo.peers[:]
                    for one in clients:
                        with topology.client.open_socket(socket.AF_INET) as stream:
                            stream.settimeout(20)
                            stream.bind((one, 0))
                            stream.connect((AT.server, echo.port))
                            stream.sendall(b"hello")
                            assert stream.recv(100) == b"hello"
                    return list(echo.peers)

                before = ways()
                assert set(before) == {EXITS[1], EXITS[2]}
                assert ways() == before
                servers.kill(1)
                assert ways() == [EXITS[2]] * len(clients)
                servers.start(1)
                sluice.wait_for("member_up")
                assert ways() == before
        finally:
            topology.client.ip(*(f"addr del {one}/24 dev lan0" for one in clients))

    def test_destinations_stay(self, topology: Topology, servers: Servers, echo: Echo) -> None:
        """One address, whatever the client's port."""
        servers.start(0, 1, 2)
        with capturing(topology, *group(0, 1, 2, balance="hash-destination")):
            assert len({way(topology, echo) for _ in range(12)} - {None}) == 1

    def test_fastest(self, topology: Topology, servers: Servers, echo: Echo) -> None:
        """The one that comes first answers late."""
        servers.start(0)
        with Late(topology.proxy) as late, \
                capturing(topology, *group(1, 0, balance="fastest")) as sluice:
            wait_until(lambda: way(topology, echo) == EXITS[0], "the faster to be known")
            known = len(late.to(AT.server))
            assert [way(topology, echo) for _ in range(10)] == [EXITS[0]] * 10
            assert len(late.to(AT.server)) == known
            servers.kill(0)
            assert attempt(topology.client, AT.server, echo.port) == "answer"
            assert len(late.to(AT.server)) == known + 1
            assert sluice.finish()["failures"] == {}


class TestRace:
    def test_late_one_loses(self, topology: Topology, servers: Servers, echo: Echo) -> None:
        """And its connections are closed while the flows go on elsewhere."""
        servers.start(0)
        with Late(topology.proxy) as late, \
                capturing(topology, *group(1, 0, balance="race")) as sluice:
            assert [way(topology, echo) for _ in range(10)] == [EXITS[0]] * 10
            wait_until(lambda: len(late.peers) >= 10, "connections to the late one")
            wait_until(
                lambda: all(one.over.is_set() for one in list(late.conversations)), "their ends")
            summary = sluice.finish()
            assert (summary["failures"], summary["handshakes_retried"]) == ({}, 0)

    def test_blackholed_one_costs_nothing(
        self, topology: Topology, servers: Servers, echo: Echo
    ) -> None:
        """Its connect timeout is longer than any client waits here."""
        servers.start(1, 2)
        with capturing(
                topology, *group(1, 2, balance="race"), "--connect-timeout", "600"), \
                deaf(topology.proxy):
            assert [way(topology, echo) for _ in range(10)] == [EXITS[2]] * 10

    @pytest.mark.parametrize("behaviour", [
        Behaviour(at_greeting="close"), Behaviour(at_greeting="silence"),
        Behaviour(at_request="reset"), Behaviour(reply=1),
    ], ids=lambda one: f"{one.at_greeting}-{one.at_request}-{one.reply}")
    def test_one_that_fails_is_not_waited_for(
        self, topology: Topology, servers: Servers, echo: Echo, first: ScriptedUpstream,
        behaviour: Behaviour,
    ) -> None:
        servers.start(1)
        with capturing(topology, *group(0, 1, balance="race")) as sluice:
            first.behaviour = behaviour
            assert [way(topology, echo) for _ in range(5)] == [EXITS[1]] * 5
            assert sluice.finish()["failures"] == {}

    def test_word_about_the_target_counts(
        self, topology: Topology, first: ScriptedUpstream
    ) -> None:
        with ScriptedUpstream(topology.proxy) as second, \
                capturing(topology, *group(0, 1, balance="race")) as sluice:
            first.behaviour = Behaviour(reply=5)
            second.behaviour = Behaviour(at_request="silence")
            assert outcome(topology.client, AT.server, 80) == (b"", "RST")
            assert sluice.finish()["failures"] == {"reply_connection_refused": 1}

    def test_when_all_fail_the_flow_does(
        self, topology: Topology, first: ScriptedUpstream
    ) -> None:
        with ScriptedUpstream(topology.proxy) as second, \
                capturing(topology, *group(0, 1, balance="race")) as sluice:
            first.behaviour = second.behaviour = Behaviour(at_request="close")
            assert outcome(topology.client, AT.server, 80) == (b"", "RST")
            assert sluice.finish()["failures"] == {"closed_in_reply": 1}

    def test_descriptors_are_given_back(
        self, topology: Topology, servers: Servers, echo: Echo
    ) -> None:
        servers.start(0, 1, 2)
        with capturing(topology, *group(0, 1, 2, balance="race")) as sluice:
            assert way(topology, echo) is not None
            wait_until(lambda: sluice.status()["live_sessions"] == 0, "the flow to be over")
            known = len(sluice.descriptors())
            assert None not in [way(topology, echo) for _ in range(50)]
            wait_until(lambda: len(sluice.descriptors()) <= known, "the descriptors to be closed")


class TestDatagrams:
    def test_go_through_who_carries_them(
        self, topology: Topology, servers: Servers, datagram_echo: DatagramEcho
    ) -> None:
        """microsocks, which comes first, does not."""
        servers.start(0, 1)
        known = len(datagram_echo.peers())
        with capturing(topology, *group(0, 1)), Speaker.of(topology, "ipv4") as speaker:
            assert speaker.ask(b"well?", (AT.server, datagram_echo.port)) == b"well?"
        assert datagram_echo.peers()[known:] == [AT.proxy_exit]

    def test_association_goes_to_another(
        self, topology: Topology, servers: Servers, datagram_echo: DatagramEcho
    ) -> None:
        """What waits for it arrives."""
        servers.start(1, 2)
        known = len(datagram_echo.peers())
        to = AT.server, datagram_echo.port
        with capturing(topology, *group(1, 2)) as sluice, \
                Speaker.of(topology, "ipv4") as one, Speaker.of(topology, "ipv4") as other:
            assert one.ask(b"well?", to) == b"well?"
            servers.kill(1)
            for number in range(10):
                other.send(b"%d" % number, to)
            assert sorted(other.receive()[0] for _ in range(10)) == [
                b"%d" % number for number in range(10)]
            assert sluice.finish()["failures"] == {}
        assert set(datagram_echo.peers()[known + 1:]) == {AT.server}


    def test_queries_by_tcp_go_to_another(
        self, topology: Topology, unbound: Unbound, first: ScriptedUpstream
    ) -> None:
        """Where no upstream carries UDP: the connection to the resolver is made through the next."""
        first.behaviour = Behaviour(relaying=Relaying(reply=COMMAND_NOT_SUPPORTED))
        with upstreams.microsocks(topology.proxy), capturing(topology, *group(0, 1)) as sluice:
            first.behaviour = Behaviour(at_greeting="close")
            answer = dig(topology.client, AT.server)
            assert (answer.status, answer.records) == ("NOERROR", [RECORDS["A"]])
            assert sluice.wait_for("member_down")["failure"] == "closed_in_method_selection"
            assert sluice.finish()["queries_answered"] == 1


def test_program(
    topology: Topology, servers: Servers, echo: Echo, confined: Confined
) -> None:
    """`exec` has the same, and asks until the first is back."""
    servers.start(2)
    script = (
        "import socket, sys\n"
        f"to = {AT.server!r}, {echo.port}\n"
        "for line in sys.stdin:\n"
        "    with socket.create_connection(to) as stream:\n"
        "        stream.sendall(b'hello')\n"
        "        print(stream.recv(100).decode(), flush=True)\n")
    done = confined.run(
        *group(1, 2), command=["/usr/bin/python3", "-c", script], input="once\n")
    assert done.stdout == "hello\n", done.stderr
    assert echo.peers == [EXITS[2]]
    assert f"cannot reach {URLS[1]}" in done.stderr
