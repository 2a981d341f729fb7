"""Other upstreams under a run, by `sluice reload`: what is open lives on through the one that it has, what is new goes by
the new settings alone, and the rules let both through.

Each upstream is on a host of its own, so that the target sees which one a flow came through.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import upstreams
from harness.confined import Confined
from harness.control import by, read
from harness.datagrams import DatagramEcho, Speaker
from harness.flows import attempt
from harness.load import change_under_load
from harness.metrics import scrape
from harness.programs import Program
from harness.resolvers import RECORDS, Unbound, dig
from harness.scripted import Behaviour, ScriptedUpstream
from harness.serving import serving
from harness.sluice import Sluice, binary
from harness.targets import Echo, Mirror
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

#: Dante on the proxy, `sluice serve` on the server, and nobody.
FIRST, SECOND = upstreams.url(AT.proxy), upstreams.url(AT.third)
DEAD = upstreams.url(AT.second, 9)

#: Reloads, in all, under load.
RELOADS = 200

#: After so many the process has what it needs, and may not grow by so many bytes in the others.
SETTLED, GROWTH = 100, 1 << 20


def exits(family: str) -> dict[str, str]:
    """Whom the target sees of a flow through each."""
    at = ADDRESSES[family]
    return {FIRST: at.proxy_exit, SECOND: at.server}


class Run:
    """`sluice run` on the gateway with a settings file, and what is said of it."""

    def __init__(self, topology: Topology, folder: Path, place: Path) -> None:
        self.topology = topology
        self.path = folder / "sluice.yaml"
        self.place = place
        self.sluice: Sluice

    def write(self, *urls: str, **changed: Any) -> None:
        lines = {"upstream": list(urls), "gateway": ["lan0"]} | changed
        self.path.write_text("".join(
            f"{name.replace('_', '-')}: {json.dumps(value)}\n" for name, value in lines.items()))

    @contextlib.contextmanager
    def running(self, *urls: str, **settings: Any) -> Iterator["Run"]:
        self.write(*urls, **settings)
        with Sluice(
            self.topology.gateway, "--config", str(self.path), "--control", str(self.place)
        ) as self.sluice:
            yield self

    def ask(self, *words: str) -> Any:
        """What a command of the control socket says in JSON."""
        done = self.topology.gateway.run(
            binary(), *words, "--control", str(self.place), "--json", check=False)
        return json.loads(done.stdout)

    def reload(self, *urls: str, **settings: Any) -> list[str]:
        """Goes on with these settings; what is in force by that, all of it."""
        self.write(*urls, **settings)
        outcome = self.ask("reload")
        assert outcome["restart"] == [] and "problem" not in outcome, outcome
        return outcome["adopted"]

    def refused(self, *urls: str, **settings: Any) -> str:
        """Why these settings cannot be gone on with."""
        self.write(*urls, **settings)
        outcome = self.ask("reload")
        assert (outcome["adopted"], outcome["restart"]) == ([], [])
        return outcome["problem"]

    def exempt(self) -> set[str]:
        """The addresses of this test's upstreams that the rules let through."""
        rules = self.topology.gateway.run("nft", "list", "table", "inet", "sluice").stdout
        return {one for one in (AT.proxy, AT.second, AT.third) if one in rules}

    def way(self, echo: Echo, family: str = "ipv4") -> str | None:
        """Whom the target sees of a new connection; None if that does not get there."""
        known = len(echo.peers)
        came = attempt(self.topology.client, ADDRESSES[family].server, echo.port)
        new = echo.peers[known:]
        return new[0] if came == "answer" and new else None

    def upstreams(self) -> list[str]:
        return [one["url"] for one in self.ask("status")["upstreams"]]

    def flows(self) -> list[tuple[str, str]]:
        """Protocol and upstream of each."""
        return [(one["protocol"], one["upstream"]) for one in self.ask("flows")["flows"]]


@pytest.fixture
def run(topology: Topology, tmp_path: Path, place: Path) -> Run:
    return Run(topology, tmp_path, place)


@pytest.fixture(scope="module", autouse=True)
def _servers(topology: Topology, dante: Program) -> Iterator[None]:
    with serving(topology.server):
        yield


@pytest.mark.parametrize("family", FAMILIES)
def test_open_connection_lives_on(run: Run, echo: Echo, family: str) -> None:
    with run.running(FIRST):
        at, ways = ADDRESSES[family], exits(family)
        with run.topology.client.connect(at.server, echo.port) as stream:
            for number, url in enumerate((SECOND, FIRST, SECOND)):
                stream.sendall(b"%d" % number)
                assert stream.recv(100) == b"%d" % number
                assert run.reload(url) == ["upstream"]
                assert run.way(echo, family) == ways[url]
                assert run.upstreams() == [url]
                assert ("tcp", FIRST) in run.flows()
            stream.sendall(b"still")
            assert stream.recv(100) == b"still"
        assert run.sluice.finish()["failures"] == {}


def test_connection_on_its_way_takes_the_new_one(run: Run) -> None:
    """Its upstream does not say a word; the next one hears whose it is."""
    settings = {"handshake_timeout": 2, "udp": "bypass", "dns": "off"}
    present = f"socks5://{{client_ip}}:x@{AT.client}"
    with ScriptedUpstream(run.topology.gateway) as silent, \
            ScriptedUpstream(run.topology.client) as server, \
            run.running(upstreams.url(AT.gateway_lan), **settings):
        silent.behaviour = Behaviour(at_greeting="silence")
        known = len(silent.conversations)
        with run.topology.client.connect(AT.server, 7) as stream:
            wait_until(lambda: len(silent.conversations) > known, "it to be on its way")
            assert run.reload(present, **settings) == ["upstream"]
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
        flow, = server.to(AT.server)
        assert flow.credentials == (AT.client.encode(), b"x")


@pytest.mark.parametrize("family", FAMILIES)
def test_open_association_lives_on(run: Run, family: str) -> None:
    at, ways = ADDRESSES[family], exits(family)
    with DatagramEcho(run.topology.server) as target, run.running(FIRST), \
            Speaker.of(run.topology, family) as early:
        assert early.ask(b"1", (at.server, target.port)) == b"1"
        assert run.reload(SECOND) == ["upstream"]
        # As the same mapping: the target sees the same port, too.
        assert early.ask(b"2", (at.server, target.port)) == b"2"
        first, second = (one.sender for one in target.received)
        assert first == second and first[0] == ways[FIRST]
        with Speaker.of(run.topology, family) as late:
            assert late.ask(b"3", (at.server, target.port)) == b"3"
        assert target.peers()[-1] == ways[SECOND]
        assert sorted(run.flows()) == sorted([("udp", FIRST), ("udp", SECOND)])


def test_exemptions_follow(run: Run, echo: Echo) -> None:
    """Those of a former upstream stay as long as a flow goes through it."""
    with run.running(FIRST):
        assert run.exempt() == {AT.proxy}
        with run.topology.client.connect(AT.server, echo.port) as stream:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
            run.reload(SECOND)
            assert run.exempt() == {AT.proxy, AT.third}
        wait_until(lambda: run.exempt() == {AT.third}, "the former upstream to be forgotten")
        assert run.way(echo) == AT.server


def test_order_and_number(run: Run, echo: Echo) -> None:
    """`failover` goes by the order of the new settings, whichever upstream was there first."""
    with run.running(FIRST):
        for urls, way, adopted in [
            ((FIRST, SECOND), AT.proxy_exit, ["upstream"]),
            ((SECOND, FIRST), AT.server, ["upstream"]),
            ((DEAD, SECOND, FIRST), AT.server, ["upstream"]),
            ((FIRST, SECOND), AT.proxy_exit, ["upstream"]),
            ((SECOND,), AT.server, ["upstream"]),
        ]:
            assert run.reload(*urls) == adopted
            assert [run.way(echo) for _ in range(3)] == [way] * 3
            assert run.upstreams() == list(urls)
        assert run.sluice.finish()["failures"] == {}


def test_balance(run: Run, echo: Echo) -> None:
    with run.running(SECOND, FIRST, workers=1):
        def reload(*urls: str, **settings: str) -> list[str]:
            return run.reload(*urls, workers=1, **settings)

        assert {run.way(echo) for _ in range(4)} == {AT.server}
        assert reload(SECOND, FIRST, balance="round-robin") == ["balance"]
        assert sorted(str(run.way(echo)) for _ in range(6)) \
            == sorted([AT.server, AT.proxy_exit] * 3)
        assert run.ask("status")["balance"] == "round-robin"
        assert reload(FIRST) == ["upstream", "balance"]
        assert {run.way(echo) for _ in range(4)} == {AT.proxy_exit}
        assert reload(FIRST, SECOND, balance="race") == ["upstream", "balance"]
        assert {run.way(echo) for _ in range(4)} <= {AT.server, AT.proxy_exit}


def test_one_of_several_may_be_dead(run: Run, echo: Echo) -> None:
    """As at the start, it is told and out until it lets us in; one that dies later is noticed as well."""
    with run.running(SECOND):
        assert run.reload(DEAD, SECOND) == ["upstream"]
        assert "is the SOCKS5 server running?" in run.sluice.wait_for("member_down")["message"]
        assert run.way(echo) == AT.server
        health = {one["url"]: one["health"] for one in run.ask("status")["upstreams"]}
        assert health == {DEAD: "down", SECOND: "up"}
        with serving(run.topology.server, listen=(f"{AT.second}:9",)):
            assert run.sluice.wait_for("member_up")["upstream"] == DEAD


@pytest.mark.parametrize("url, said", [
    (DEAD, "is the SOCKS5 server running?"),
    ("socks5://nowhere.invalid", "cannot resolve nowhere.invalid"),
    ("socks5:///", "upstream"),
])
def test_unusable_upstream_changes_nothing(run: Run, echo: Echo, url: str, said: str) -> None:
    with run.running(FIRST):
        rules = run.topology.gateway.run("nft", "list", "table", "inet", "sluice").stdout
        assert said in run.refused(url, bypass=[AT.server])
        assert "not_reloaded" in str(run.sluice.wait_for("not_reloaded"))
        assert run.topology.gateway.run("nft", "list", "table", "inet", "sluice").stdout == rules
        assert (run.way(echo), run.upstreams()) == (AT.proxy_exit, [FIRST])
        # Nothing of the attempt is left in the way of the next one.
        assert run.reload(SECOND) == ["upstream"]
        assert run.way(echo) == AT.server


def test_changed_password(run: Run, echo: Echo, tmp_path: Path) -> None:
    """The file alone has changed: new connections show the new one."""
    password = tmp_path / "password"
    password.write_text("one\n")
    with ScriptedUpstream(run.topology.gateway) as server:
        url = f"socks5://me@{AT.gateway_lan}:1080"

        def shown() -> tuple[bytes, bytes] | None:
            assert attempt(run.topology.client, AT.server, echo.port) == "answer"
            return server.to(AT.server)[-1].credentials

        settings = {"password_file": str(password), "udp": "bypass", "dns": "off"}
        with run.running(url, **settings):
            assert shown() == (b"me", b"one")
            password.write_text("two\n")
            assert run.reload(url, **settings) == ["upstream"]
            assert shown() == (b"me", b"two")
            assert "two" not in run.sluice.output() and run.upstreams() == [
                f"socks5://me:***@{AT.gateway_lan}:1080"]
            assert run.reload(url, **settings) == []


def test_rules_name_upstreams(run: Run, echo: Echo) -> None:
    """Rules and the upstreams that they name change in one step."""
    port = str(echo.port)
    with run.running(f"a={FIRST}", rule=[f"ports={port} to=a"]):
        assert run.way(echo) == AT.proxy_exit
        assert run.reload(
            f"b={FIRST}", f"c={SECOND}", rule=[f"ports={port} to=c"]) == ["upstream", "rule"]
        assert run.way(echo) == AT.server
        assert run.reload(f"c={SECOND}", f"b={FIRST}", rule=[f"ports={port} to=b"]) \
            == ["upstream", "rule"]
        assert run.way(echo) == AT.proxy_exit
        with run.topology.client.connect(AT.server, echo.port) as stream:
            stream.sendall(b"x")
            assert stream.recv(1) == b"x"
            assert run.reload(SECOND) == ["upstream", "rule"]
            assert run.way(echo) == AT.server
            stream.sendall(b"y")
            assert stream.recv(1) == b"y"


def test_what_the_upstream_cannot_do(run: Run, echo: Echo) -> None:
    """What is rejected for it is captured again where the next one can do it, and the other way round."""
    poor = upstreams.url(AT.proxy, 1086)
    with upstreams.microsocks(run.topology.proxy, port=1086), \
            DatagramEcho(run.topology.server) as target, run.running(FIRST):
        assert run.reload(poor) == ["upstream"]
        run.sluice.wait_for("datagrams_refused")
        assert run.way(echo) == AT.proxy_exit
        assert run.reload(SECOND) == ["upstream"]
        with Speaker.of(run.topology, "ipv4") as speaker:
            assert speaker.ask(b"x", (AT.server, target.port)) == b"x"
        assert target.peers() == [AT.server]


def test_kept_connections_are_closed(run: Run, echo: Echo) -> None:
    """Those to an upstream that is gone; the next one gets its own."""
    def kept(address: str) -> int:
        listing = run.topology.gateway.run(
            "ss", "--no-header", "-tn", "state", "established", "dst", f"{address}:1080").stdout
        return len(listing.splitlines())

    with run.running(FIRST, pool=2):
        assert run.way(echo) == AT.proxy_exit
        wait_until(lambda: kept(AT.proxy) > 0, "a connection to be kept")
        run.reload(SECOND, pool=2)
        wait_until(lambda: kept(AT.proxy) == 0, "those of the former to be closed")
        assert run.way(echo) == AT.server
        wait_until(lambda: kept(AT.third) > 0, "a connection to the new one to be kept")


def test_metrics_tell_them_apart(run: Run, echo: Echo) -> None:
    place = "127.0.0.1:10882"
    with run.running(FIRST, metrics=place):
        assert run.way(echo) == AT.proxy_exit
        run.reload(SECOND, metrics=place)
        assert [run.way(echo) for _ in range(3)] == [AT.server] * 3
        counts = {
            dict(labels)["upstream"]: value
            for (name, labels), value in scrape(run.topology.gateway).samples.items()
            if name == "sluice_handshake_duration_seconds_count"
            and dict(labels)["phase"] == "request"}
        assert counts == {SECOND: 3}


def test_programs_follow(run: Run, tmp_path: Path) -> None:
    """One of `exec --daemon` that is running, and one to come."""
    os.chmod(tmp_path, 0o755)
    go = tmp_path / "go"
    with Mirror(run.topology.server) as mirror, run.running(FIRST), \
            Confined(run.topology.gateway, 0) as user:
        ask = " ".join(f"'{word}'" for word in read(AT.server, mirror.port))
        script = f"{ask}; until [ -e {go} ]; do sleep 0.02; done; {ask}"
        with user.start(*by(run.place), command=["sh", "-c", script]) as program:
            wait_until(lambda: mirror.peers == [AT.proxy_exit], "the first connection")
            assert run.reload(SECOND) == ["upstream"]
            go.touch()
            wait_until(lambda: mirror.peers[1:] == [AT.server], "one through the new upstream")
            program.wait()
        user.get(*by(run.place), command=read(AT.server, mirror.port))
        assert mirror.peers[2:] == [AT.server]


def test_takes_the_place_of_a_dead_one(run: Run, echo: Echo) -> None:
    """While it was down, everything went directly: with the other one that is over."""
    settings = {"on_upstream_down": "open"}
    with contextlib.ExitStack() as server:
        server.enter_context(serving(run.topology.server, listen=(f"{AT.second}:9",)))
        with run.running(DEAD, **settings):
            assert run.way(echo) == AT.server
            server.close()
            assert run.way(echo) is None
            run.sluice.wait_for("upstream_down")
            assert run.way(echo) == AT.client
            assert run.reload(FIRST, **settings) == ["upstream"]
            assert run.way(echo) == AT.proxy_exit
            health = [one["health"] for one in run.ask("status")["upstreams"]]
            assert health == ["up"]


class Asking:
    """`sluice reload` as a program of its own, as it may take a while."""

    def __init__(self, run: Run, *urls: str, **settings: Any) -> None:
        known = len(run.sluice.events("reload_asked"))
        run.write(*urls, **settings)
        self.program = Program(
            run.topology.gateway, binary(), "reload", "--control", str(run.place), "--json",
            name="sluice")
        run.sluice.wait_for("reload_asked", known + 1)

    def outcome(self) -> Any:
        self.program.wait()
        return json.loads(self.program.output())

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: Any) -> None:
        self.program.end()


@pytest.fixture
def silent(topology: Topology) -> Iterator[str]:
    """The URL of one that accepts connections and says nothing."""
    with ScriptedUpstream(topology.gateway, Behaviour(at_greeting="silence")):
        yield upstreams.url(AT.gateway_lan)


def test_run_goes_on_while_upstreams_are_asked(run: Run, echo: Echo, silent: str) -> None:
    """Flows, signals and questions; who asks again meanwhile is answered for what there is then."""
    patience = {"connect_timeout": 3}
    with run.running(FIRST, **patience), Asking(run, silent, **patience) as first:
        assert run.way(echo) == AT.proxy_exit
        assert run.sluice.status()["live_sessions"] <= 1
        assert run.upstreams() == [FIRST]
        with Asking(run, SECOND, **patience) as second:
            assert "accepts connections but does not answer" in first.outcome()["problem"]
            assert second.outcome()["adopted"] == ["upstream"]
        assert run.way(echo) == AT.server


def test_run_that_ends_meanwhile(run: Run, silent: str) -> None:
    with run.running(FIRST), Asking(run, silent) as asking:
        run.sluice.finish()
        assert asking.program.wait() == 69
        assert "the run is ending" in asking.program.output()


def test_queries_by_tcp(run: Run, unbound: Unbound) -> None:
    """The connection to a resolver is of the former upstream, and made anew through the next."""
    with run.running(FIRST, dns="tcp"):
        for url, seen in ((FIRST, AT.proxy_exit), (SECOND, AT.server), (FIRST, AT.proxy_exit)):
            run.reload(url, dns="tcp")
            for _ in range(2):
                assert dig(run.topology.client, AT.server).records == [RECORDS["A"]]
                assert unbound.askers()[-1] == seen


def test_embedded_takes_a_restart(run: Run, echo: Echo) -> None:
    with run.running(FIRST):
        run.write("embedded")
        assert run.ask("reload") == {"adopted": [], "restart": ["upstream"]}
        assert run.way(echo) == AT.proxy_exit


def test_two_hundred_under_load(run: Run, echo: Echo) -> None:
    """Nobody notices, and nothing piles up."""
    def change(number: int) -> None:
        assert run.reload(SECOND if number % 2 else FIRST) == ["upstream"]

    with run.running(FIRST):
        connections = change_under_load(
            run.topology, echo, run.sluice, change, RELOADS, SETTLED, GROWTH)
        # Two workers, and the control socket.
        wait_until(lambda: len(run.sluice.descriptors()) < 64, "descriptors to be closed")
        summary = run.sluice.finish()
        assert summary["failures"] == {}
        assert summary["sessions_opened"] == connections
