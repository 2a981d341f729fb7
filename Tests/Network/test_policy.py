"""Rules of the user's: through which upstream a flow goes, or directly, or nowhere.

The upstreams are on hosts of their own, so that the target sees which one a flow came through.
"""

import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Callable, Iterator

import pytest

from harness import dns, upstreams
from harness.confined import NOBODY, PYTHON
from harness.datagrams import DatagramEcho, Speaker
from harness.flows import attempt
from harness.listing import flows
from harness.programs import Program
from harness.serving import serving
from harness.sluice import EVERY_CAPTURE, Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology

AT, AT_V6 = ADDRESSES["ipv4"], ADDRESSES["ipv6"]

GATEWAY, MACHINE = Capture("gateway", "tproxy"), Capture("machine", "tproxy")

#: Where flows go without a rule, and two others: whom the target sees of a flow through each.
USUAL, OTHER, THIRD = AT.server, AT.gateway_wan, AT.proxy_exit

#: `sluice serve` on the server, microsocks on the gateway, and Dante on the proxy.
USUAL_URL, OTHER_URL, THIRD_URL = map(upstreams.url, (AT.third, AT.gateway_lan, AT.proxy))

NAME = "host.sluice.example"

#: Says something to an echo server, as whom it is run.
SPEAK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as stream:
    stream.sendall(b"hello")
    sys.exit(0 if stream.recv(5) else 1)
"""


class Servers(contextlib.ExitStack):
    def __init__(self, topology: Topology, folder: Path) -> None:
        super().__init__()
        self._makers: dict[str, Callable[[], contextlib.AbstractContextManager[Program]]] = {
            USUAL: lambda: serving(topology.server),
            OTHER: lambda: upstreams.microsocks(topology.gateway),
            THIRD: lambda: upstreams.dante(topology.proxy, folder),
        }
        self.running: dict[str, Program] = {}

    def start(self, *names: str) -> None:
        for name in names:
            self.running[name] = self.enter_context(self._makers[name]())


@pytest.fixture
def servers(topology: Topology, folder: Path) -> Iterator[Servers]:
    """The usual one and the other one, and a third on request."""
    with Servers(topology, folder) as stack:
        stack.start(USUAL, OTHER)
        yield stack


@pytest.fixture
def second_echo(topology: Topology) -> Iterator[Echo]:
    with Echo(topology.server) as target:
        yield target


def ruling(
    topology: Topology, *rules: str, capture: Capture = MACHINE, more: tuple[str, ...] = ()
) -> Sluice:
    """A run with these rules, and an upstream `other` beside the usual one."""
    words = [word for rule in rules for word in ("--rule", rule)]
    return Sluice.capturing(
        topology, capture, USUAL_URL, "--upstream", f"other={OTHER_URL}", *more, *words)


def way(topology: Topology, echo: Echo, address: str = AT.server) -> str:
    """Whom the target sees of a new flow, or what becomes of that instead."""
    known = len(echo.peers)
    came = attempt(topology.client, address, echo.port)
    return echo.peers[known] if came == "answer" else came


def as_nobody(topology: Topology, echo: Echo) -> str:
    """The same of one that another user begins; "RST" for whatever is no answer."""
    known = len(echo.peers)
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    done = topology.client.run(
        *user, PYTHON, "-S", "-c", SPEAK, AT.server, str(echo.port), check=False)
    return echo.peers[known] if done.returncode == 0 else "RST"


@pytest.mark.parametrize("capture", EVERY_CAPTURE, ids=str)
def test_ports(
    topology: Topology, servers: Servers, echo: Echo, second_echo: Echo, capture: Capture
) -> None:
    with ruling(topology, f"ports=1,{echo.port} to=other", capture=capture):
        assert way(topology, echo) == OTHER
        assert way(topology, second_echo) == USUAL


def test_addresses(topology: Topology, servers: Servers, echo: Echo) -> None:
    rules = f"addresses={AT.second},{AT_V6.server}/128 to=other", f"addresses={AT.server} to=default"
    with ruling(topology, *rules, "to=reject"):
        assert way(topology, echo) == USUAL
        assert way(topology, echo, AT.second) == OTHER
        assert way(topology, echo, AT_V6.server) == AT_V6.gateway_wan
        assert way(topology, echo, AT_V6.second) == "RST"


def test_sources(topology: Topology, servers: Servers, echo: Echo, second_echo: Echo) -> None:
    rules = (
        f"sources=11.9.0.0/16 ports={echo.port} to=reject",
        f"sources={AT.client} ports={echo.port} to=other")
    with ruling(topology, *rules, capture=GATEWAY):
        assert way(topology, echo) == OTHER
        assert way(topology, second_echo) == USUAL


def test_users(topology: Topology, servers: Servers, echo: Echo) -> None:
    with ruling(topology, f"uids={NOBODY} to=reject", f"uids={os.getuid()} to=other") as sluice:
        assert way(topology, echo) == OTHER
        assert as_nobody(topology, echo) == "RST"
        assert sluice.finish()["failures"] == {"rejected_by_rule": 1}
    with ruling(topology, "uids=nobody to=other"):
        assert way(topology, echo) == USUAL
        assert as_nobody(topology, echo) == OTHER


def test_names(topology: Topology, servers: Servers, echo: Echo) -> None:
    """As they were looked up: before that, and for other addresses, nothing is known."""
    with ruling(topology, "names=*.sluice.example to=other", "names=sluice.example to=reject"), \
            dns.OneName(topology.server, NAME), \
            Speaker.of(topology, "ipv4") as asker:
        assert way(topology, echo) == USUAL
        answer = asker.ask(dns.query(1, NAME), (AT.server, dns.PORT))
        assert dns.answered_address(answer) == AT.server
        assert way(topology, echo) == OTHER
        assert way(topology, echo, AT.second) == USUAL


@pytest.mark.parametrize("capture", EVERY_CAPTURE, ids=str)
def test_direct(
    topology: Topology, servers: Servers, echo: Echo, second_echo: Echo, capture: Capture
) -> None:
    """Past every upstream, and past the rules in the kernel."""
    here = AT.client if capture.scope == "machine" else AT.gateway_wan
    with ruling(topology, f"ports={echo.port} protocols=tcp to=direct", capture=capture) as sluice:
        assert way(topology, echo) == here
        assert way(topology, second_echo) == USUAL
        summary = sluice.finish()
    assert (summary["sessions_opened"], summary["failures"]) == (2, {})


def test_direct_that_is_refused(topology: Topology, servers: Servers) -> None:
    with ruling(topology, "ports=1 protocols=tcp to=direct") as sluice:
        assert attempt(topology.client, AT.server, 1) == "RST"
        assert sluice.finish()["failures"] == {"target_refused": 1}


def test_reject(
    topology: Topology, servers: Servers, echo: Echo, second_echo: Echo, capture: Capture
) -> None:
    """It is what somebody wants: nothing has failed."""
    with ruling(topology, f"ports={echo.port} to=reject", capture=capture) as sluice:
        assert way(topology, echo) == "RST"
        assert echo.peers == []
        assert way(topology, second_echo) == USUAL
        summary = sluice.finish()
        assert (summary["sessions_opened"], summary["sessions_failed"]) == (1, 0)
        assert summary["failures"] == {"rejected_by_rule": 1}
        levels = [one["level"] for one in sluice.events("failure")]
        assert levels == ["debug"]


@pytest.mark.parametrize("balance", ["failover", "race", "round-robin"])
def test_failover_stays_within_a_name(
    topology: Topology, servers: Servers, echo: Echo, second_echo: Echo, balance: str
) -> None:
    servers.start(THIRD)
    more = ("--upstream", f"other={THIRD_URL}", "--balance", balance)
    with ruling(topology, f"ports={echo.port} to=other", more=more) as sluice:
        assert {way(topology, echo) for _ in range(6)} <= {OTHER, THIRD}
        servers.running[OTHER].end()
        assert [way(topology, echo) for _ in range(4)] == [THIRD] * 4
        servers.running[THIRD].end()
        assert [way(topology, echo) for _ in range(4)] == ["RST"] * 4
        assert way(topology, second_echo) == USUAL
        assert sluice.wait_for("member_down", 2)["upstream"] == THIRD_URL


def test_named_ones_take_nothing_else(
    topology: Topology, servers: Servers, echo: Echo
) -> None:
    with ruling(topology, "ports=1 to=other"):
        assert way(topology, echo) == USUAL
        servers.running[USUAL].end()
        assert [way(topology, echo) for _ in range(2)] == ["RST"] * 2


def test_one_that_is_down_at_the_start(topology: Topology, servers: Servers, echo: Echo) -> None:
    servers.running[OTHER].end()
    with ruling(topology, "to=other") as sluice:
        assert "asking until it lets us in" in sluice.wait_for("member_down")["message"]
        assert way(topology, echo) == "RST"
        servers.start(OTHER)
        sluice.wait_for("member_up")
        assert way(topology, echo) == OTHER


def test_beside_the_embedded_server(topology: Topology, echo: Echo, second_echo: Echo) -> None:
    rule = f"ports={echo.port} to=reject"
    with Sluice.capturing(topology, MACHINE, "embedded", "--rule", rule):
        assert way(topology, echo) == "RST"
        assert way(topology, second_echo) == AT.client


def test_flows_and_status_tell(
    topology: Topology, servers: Servers, echo: Echo, second_echo: Echo, place: Path
) -> None:
    rules = f"name=far ports={echo.port} to=other", f"addresses={AT.second} protocols=tcp to=direct"
    with ruling(topology, *rules, more=("--control", str(place))), \
            topology.client.connect(AT.server, echo.port) as first, \
            topology.client.connect(AT.second, second_echo.port) as second, \
            topology.client.connect(AT.server, second_echo.port) as third:
        for stream in first, second, third:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
        told = {
            (one["destination"], one.get("rule"), one.get("upstream"))
            for one in flows(topology.client, place)}
        assert told == {
            (f"{AT.server}:{echo.port}", "far", OTHER_URL),
            (f"{AT.second}:{second_echo.port}", "rule 2", None),
            (f"{AT.server}:{second_echo.port}", None, USUAL_URL)}
        (one,) = flows(topology.client, place, "--filter", "rule=far")
        assert one["rule"] == "far"
        words = [binary(), "status", "--control", str(place)]
        status = json.loads(topology.client.run(*words, "--json").stdout)
        assert [one.get("name") for one in status["upstreams"]] == [None, "other"]
        assert f"other, {OTHER_URL}: up" in topology.client.run(*words).stdout


def test_reload(
    topology: Topology, servers: Servers, echo: Echo, second_echo: Echo, place: Path,
    tmp_path: Path,
) -> None:
    """Open flows stay where they are, and keep the name of the rule as long as there is one."""
    settings = tmp_path / "sluice.yaml"

    def write(*rules: str) -> None:
        settings.write_text(
            f"upstream: ['{USUAL_URL}', 'other={OTHER_URL}']\nmachine: true\n"
            f"rule: [{', '.join(rules)}]\n")

    mine = f"{{name: mine, ports: {echo.port}, to: other}}"
    write(mine)

    def told() -> str | None:
        (one,) = flows(topology.client, place, "--filter", f"port={echo.port}")
        assert one["upstream"] == OTHER_URL
        return one.get("rule")

    options = "--config", str(settings), "--control", str(place)
    with Sluice(topology.client, *options) as sluice:
        with topology.client.connect(AT.server, echo.port) as stream:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x" and told() == "mine"
            write(f"{{ports: {second_echo.port}, uids: {os.getuid()}, to: reject}}", mine)
            sluice.signal(signal.SIGHUP)
            sluice.wait_for("reloaded")
            assert way(topology, second_echo) == "RST"
            assert told() == "mine"
            write(f"{{ports: {echo.port}, protocols: tcp, to: direct}}")
            sluice.signal(signal.SIGHUP)
            sluice.wait_for("reloaded", 2)
            assert way(topology, second_echo) == USUAL
            assert told() is None
            stream.sendall(b"y")
            assert stream.recv(1) == b"y"
        assert way(topology, echo) == AT.client
        write("{uids: nosuchuser, to: reject}")
        sluice.signal(signal.SIGHUP)
        assert "nosuchuser" in sluice.wait_for("not_reloaded")["message"]
        assert way(topology, echo) == AT.client
        assert sluice.events("needs_restart") == []


@pytest.fixture
def answerers(topology: Topology) -> Iterator[tuple[DatagramEcho, DatagramEcho]]:
    """Two that echo datagrams, at ports of their own."""
    with DatagramEcho(topology.server) as one, DatagramEcho(topology.server) as other:
        yield one, other


@pytest.fixture
def third(servers: Servers) -> tuple[str, str]:
    """The words that add an upstream `third`, which has UDP."""
    servers.start(THIRD)
    return "--upstream", f"third={THIRD_URL}"


def test_datagrams_of_one_client_go_two_ways(
    topology: Topology, servers: Servers, third: tuple[str, str],
    answerers: tuple[DatagramEcho, DatagramEcho], place: Path,
) -> None:
    one, other = answerers
    rule = f"name=third protocols=udp ports={one.port} to=third"
    more = (*third, "--control", str(place))
    with ruling(topology, rule, capture=GATEWAY, more=more), \
            Speaker.of(topology, "ipv4") as speaker:
        for _ in range(3):
            for target in one, other:
                to = (AT.server, target.port)
                assert speaker.ask(b"hello", to) == b"hello"
        assert (set(one.peers()), set(other.peers())) == ({THIRD}, {USUAL})
        told = {
            (told["destination"], told.get("rule"), told["upstream"])
            for told in flows(topology.gateway, place)}
        assert told == {
            (f"{AT.server}:{one.port}", "third", THIRD_URL),
            (f"{AT.server}:{other.port}", None, USUAL_URL)}


def test_datagrams_are_rejected(
    topology: Topology, servers: Servers, answerers: tuple[DatagramEcho, DatagramEcho]
) -> None:
    one, other = answerers
    rules = f"ports={one.port} uids={os.getuid()} to=reject", "protocols=tcp to=reject"
    with ruling(topology, *rules) as sluice, Speaker.of(topology, "ipv4") as speaker:
        for _ in range(2):
            speaker.send(b"lost", (AT.server, one.port))
            assert speaker.ask(b"hello", (AT.server, other.port)) == b"hello"
        assert sluice.dropped() == {"rejected_by_rule": 2}
        assert one.payloads() == []


def test_datagrams_where_only_a_named_one_has_them(
    topology: Topology, servers: Servers, third: tuple[str, str],
    answerers: tuple[DatagramEcho, DatagramEcho],
) -> None:
    one, other = answerers
    rule = f"ports={one.port} to=third"
    with Sluice.capturing(topology, MACHINE, OTHER_URL, *third, "--rule", rule) as sluice, \
            Speaker.of(topology, "ipv4") as speaker:
        assert speaker.ask(b"hello", (AT.server, one.port)) == b"hello"
        speaker.send(b"lost", (AT.server, other.port))
        sluice.wait_for_status("datagrams_dropped", {"no_association": 1})
        assert set(one.peers()) == {THIRD} and other.payloads() == []


@pytest.mark.parametrize("flow, policy, to", [
    ("tcp 11.4.0.3:25", {
        "rule": "mail: name=mail ports=25 to=other", "decision": "upstream", "possible": []},
     f"other={OTHER_URL}"),
    ("tcp 11.4.0.3:443", {"decision": "upstream", "possible": ["lookup"]}, USUAL_URL),
    ("tcp 11.4.0.3:22", {
        "rule": "rule 3: ports=22 protocols=tcp to=direct", "decision": "direct", "possible": []},
     "11.4.0.3, directly"),
    ("tcp 11.4.0.3:23", {
        "rule": "rule 4: ports=23 uids=0,nobody to=reject", "decision": "reject", "possible": []},
     None),
    ("udp 11.4.0.3:25", {
        "rule": "mail: name=mail ports=25 to=other", "decision": "upstream", "possible": []},
     f"other={OTHER_URL}"),
    ("udp 11.4.0.3:22", {"decision": "upstream", "possible": []}, USUAL_URL),
])
def test_explain(
    topology: Topology, flow: str, policy: dict[str, object], to: str | None
) -> None:
    rules = (
        "name=mail ports=25 to=other", "name=lookup ports=443 names=example.com to=reject",
        "ports=22 protocols=tcp to=direct", "ports=23 uids=0,nobody to=reject")
    words = [
        binary(), "explain", *flow.split(), USUAL_URL, "--machine", "--as-uid", "nobody",
        "--upstream", f"other={OTHER_URL}",
        *(word for rule in rules for word in ("--rule", rule))]
    told = json.loads(topology.client.run(*words, "--json").stdout)
    assert (told["verdict"], told["policy"], told.get("to")) == ("captured", policy, to)
    assert "policy: " in topology.client.run(*words).stdout
