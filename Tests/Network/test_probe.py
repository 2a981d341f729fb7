"""`sluice probe` finds out what upstreams can do: real ones, and one with every fault."""

import json
import time
from pathlib import Path

import pytest

from harness import upstreams
from harness.confined import Confined, installed
from harness.probed import BOUND, NAME, Faults, FaultyServer, probe, states
from harness.scripted import Behaviour, ScriptedUpstream
from harness.serving import serving
from harness.sluice import binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology

AT = ADDRESSES["ipv4"]

URL = upstreams.url(AT.proxy)

UNAVAILABLE, USAGE = 69, 64

pytestmark = pytest.mark.usefixtures("unbound")

#: Of a server that does everything but UDP and BIND.
GOOD = {
    "connect_ipv4": "works", "connect_ipv6": "works", "connect_name": "works",
    "udp": "refused", "bind": "refused", "pipelining": "works", "early_data": "works",
    "half_close": "works", "udp_mapping": "unknown"}

#: What is found of a server with faults that is not found of a good one.
FAULTS: dict[str, tuple[Faults, dict[str, str]]] = {
    "none": (Faults(), {}),
    "single-bytes": (Faults(single_bytes=True), {}),
    "always-granted": (Faults(always_granted=True), {}),
    "no-ipv6": (Faults(refusals={"ipv6": 8}), {"connect_ipv6": "refused"}),
    "no-names": (Faults(refusals={"name": 4}), {"connect_name": "refused"}),
    "name-closes": (Faults(closes=("name",)), {"connect_name": "refused"}),
    "name-hangs": (Faults(silent=("name",)), {"connect_name": "no_answer"}),
    "udp-hangs": (Faults(silent=("udp",)), {"udp": "no_answer"}),
    "bind-hangs": (Faults(silent=("bind",)), {"bind": "no_answer"}),
    "pipelining-hangs": (Faults(pipelining="hang"), {"pipelining": "no_answer"}),
    "pipelining-closes": (Faults(pipelining="close"), {"pipelining": "refused"}),
    "early-dropped": (Faults(early="drop"), {"early_data": "no_answer"}),
    "early-closes": (Faults(early="close"), {"early_data": "refused"}),
    "end-drops": (Faults(half_close="drop"), {"half_close": "refused"}),
    # Where no target of ours can tell, the resolver without the upstream does.
    "end-drops-afar": (
        Faults(half_close="drop", unreachable=(AT.client,)), {"half_close": "refused"}),
    "early-dropped-afar": (
        Faults(early="drop", unreachable=(AT.client,)), {"early_data": "no_answer"}),
    "target-out-of-reach": (
        Faults(unreachable=(AT.server, AT.client)),
        {"connect_ipv4": "refused", "connect_name": "refused", "early_data": "unknown",
         "half_close": "unknown"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_is_found_and_nothing_else(topology: Topology, name: str) -> None:
    faults, differences = FAULTS[name]
    with FaultyServer(topology.proxy, faults):
        found = probe(topology.client, URL)
    assert states(found) == GOOD | differences
    assert {one: value["state"] for one, value in found["methods"].items()} == {
        "none": "works", "password": "refused", "gssapi": "refused"}


def test_codes_are_told(topology: Topology) -> None:
    with FaultyServer(topology.proxy, Faults(refusals={"ipv6": 8, "name": 4, "bind": 2})):
        found = probe(topology.client, URL)
    codes = {
        name: value["code"] for name, value in found.items()
        if isinstance(value, dict) and "code" in value}
    assert codes == {"connect_ipv6": 8, "connect_name": 4, "bind": 2, "udp": 7}


def test_resolver_that_is_silent_is_not_held_against_the_upstream(topology: Topology) -> None:
    """Nobody listens there: what a target of our own tells is found all the same."""
    with FaultyServer(topology.proxy, Faults(half_close="drop")):
        found = probe(topology.client, URL, resolver=f"{AT.server}:5454")
    assert states(found) == GOOD | {"half_close": "refused"}


def test_granted_association_without_an_answer(topology: Topology) -> None:
    """The server's UDP targets only echo, which answers nothing."""
    with ScriptedUpstream(topology.proxy, Behaviour(reply=1, refusal=1)):
        found = probe(topology.client, URL)
    assert found["udp"]["state"] == "no_answer"
    assert "code" not in found["udp"]
    assert found["connect_ipv4"] == {
        "state": "refused", "code": 1, "reason": found["connect_ipv4"]["reason"],
        "target": f"{AT.server}:53"}


def test_target_that_is_no_resolver_is_connected_to(topology: Topology, echo: Echo) -> None:
    with FaultyServer(topology.proxy):
        done = topology.client.run(
            binary(), "probe", "--json", URL, "--target", f"{AT.server}:{echo.port}",
            "--dns-server", AT.second)
    found = json.loads(done.stdout)
    assert found["connect_ipv4"]["state"] == "works"
    assert found["connect_ipv4"]["target"] == f"{AT.server}:{echo.port}"
    assert echo.peers == [AT.proxy_exit]


def test_table_for_people(topology: Topology) -> None:
    with FaultyServer(topology.proxy, Faults(refusals={"ipv6": 8})):
        done = topology.client.run(
            binary(), "probe", URL, "--dns-server", AT.server,
            "--target", f"[{ADDRESSES['ipv6'].server}]:53", "--target", f"{NAME}:53")
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "works" in lines["connect_ipv4"] and f"{AT.server}:53" in lines["connect_ipv4"]
    assert "refused" in lines["connect_ipv6"] and "code 8" in lines["connect_ipv6"]
    # TCP's handshake, the greeting and the request.
    assert "3 round trips" in lines["handshake:"]


class TestRealServers:
    """What SOCKS servers and proxies are known to do."""

    def test_dante(self, topology: Topology, folder: Path) -> None:
        with upstreams.dante(topology.proxy, folder):
            found = probe(topology.client, URL)
        # It looks names up by itself, and has nobody to ask.
        assert found["connect_name"]["state"] in ("refused", "no_answer")
        del found["connect_name"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "works", "udp": "works", "bind": "refused",
            "pipelining": "works", "early_data": "works", "half_close": "works",
            "udp_mapping": "endpoint_independent"}
        assert found["bind"]["code"] == 2
        assert found["round_trips"] == 3

    def test_microsocks(self, topology: Topology) -> None:
        credentials = upstreams.USER, upstreams.PASSWORD
        with upstreams.microsocks(topology.proxy, credentials=credentials):
            found = probe(topology.client, upstreams.url(AT.proxy, credentials=credentials))
        del found["connect_name"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "works", "udp": "refused", "bind": "refused",
            "pipelining": "no_answer", "early_data": "no_answer", "half_close": "refused",
            "udp_mapping": "unknown"}
        assert (found["udp"]["code"], found["bind"]["code"]) == (7, 7)
        assert {name: one["state"] for name, one in found["methods"].items()} == {
            "none": "refused", "password": "works", "gssapi": "refused"}
        assert found["round_trips"] == 4
        assert upstreams.PASSWORD not in json.dumps(found)

    def test_openssh(self, topology: Topology, folder: Path) -> None:
        with upstreams.openssh(topology.proxy, folder):
            found = probe(topology.client, URL)
        del found["connect_name"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "works", "udp": "refused", "bind": "refused",
            "pipelining": "works", "early_data": "works", "half_close": "works",
            "udp_mapping": "unknown"}
        assert "code" not in found["udp"], "it closes without a reply"

    def test_tinyproxy(self, topology: Topology, tmp_path: Path) -> None:
        with upstreams.tinyproxy(topology.proxy, tmp_path):
            found = probe(
                topology.client, upstreams.url(AT.proxy, upstreams.HTTP_PORT, scheme="http"))
        del found["connect_name"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "works", "udp": "not_offered",
            "bind": "not_offered", "pipelining": "not_offered", "early_data": "works",
            "half_close": "refused", "udp_mapping": "unknown"}
        assert "methods" not in found
        assert found["round_trips"] == 2

    def test_sluice_serve(self, topology: Topology) -> None:
        with serving(topology.proxy):
            found = probe(topology.client, URL)
        del found["connect_name"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "works", "udp": "works", "bind": "works",
            "pipelining": "works", "early_data": "works", "half_close": "works",
            "udp_mapping": "endpoint_independent"}

    def test_socks4(self, topology: Topology) -> None:
        with serving(topology.proxy):
            found = probe(topology.client, upstreams.url(AT.proxy, scheme="socks4"))
        del found["bind"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "not_offered", "connect_name": "not_offered",
            "udp": "not_offered", "pipelining": "not_offered", "early_data": "works",
            "half_close": "works", "udp_mapping": "unknown"}

    def test_chain(self, topology: Topology, tmp_path: Path) -> None:
        hop = upstreams.url(AT.gateway_lan, 1081)
        with upstreams.microsocks(topology.gateway, address=AT.gateway_lan, port=1081), \
                serving(topology.proxy):
            found = probe(topology.client, f"{hop},{URL}")
        del found["connect_name"], found["udp"]
        assert states(found) == {
            "connect_ipv4": "works", "connect_ipv6": "works", "bind": "works",
            "pipelining": "no_answer", "early_data": "works", "half_close": "refused",
            "udp_mapping": "unknown"}


def test_upstream_that_answers_no_request(topology: Topology) -> None:
    """It has let us in."""
    with ScriptedUpstream(topology.proxy, Behaviour(at_request="silence")):
        found = probe(topology.client, URL)
    unknown = {"early_data", "half_close", "udp_mapping"}
    assert states(found) == {
        name: "unknown" if name in unknown else "no_answer" for name in GOOD}


#: Servers that let nobody in, and words of what is said.
UNUSABLE: dict[str, tuple[Behaviour, tuple[str, ...]]] = {
    "hangs": (Behaviour(at_greeting="silence"), ("does not answer",)),
    "closes": (Behaviour(at_greeting="close"), ("closed",)),
    "resets": (Behaviour(at_greeting="reset"), ("closed",)),
    "not-socks": (Behaviour(version=ord("H")), ("not a SOCKS5 server",)),
    "no-method": (Behaviour(method=0xFF), ("authentication methods",)),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_unusable_upstream(topology: Topology, fault: str) -> None:
    behaviour, words = UNUSABLE[fault]
    start = time.monotonic()
    with ScriptedUpstream(topology.proxy, behaviour):
        done = topology.client.run(binary(), "probe", URL, check=False)
    assert time.monotonic() - start < BOUND
    assert (done.returncode, done.stdout) == (UNAVAILABLE, "")
    for word in words:
        assert word in done.stderr


def test_upstream_that_is_not_there(topology: Topology) -> None:
    done = topology.client.run(binary(), "probe", upstreams.url(AT.proxy, 1), check=False)
    assert done.returncode == UNAVAILABLE
    assert "connection refused" in done.stderr


def test_upstream_that_answers_nothing_at_all(topology: Topology) -> None:
    topology.proxy.nft("""
        table inet deaf {
          chain in { type filter hook input priority filter; tcp dport 1080 drop; }
        }""")
    try:
        start = time.monotonic()
        done = topology.client.run(binary(), "probe", URL, check=False)
    finally:
        topology.proxy.run("nft", "delete", "table", "inet", "deaf")
    assert done.returncode == UNAVAILABLE
    assert "timed out" in done.stderr
    assert time.monotonic() - start < BOUND


@pytest.mark.parametrize("words, named", [
    (("embedded",), "no server to ask"),
    (("direct",), "no server to ask"),
    ((URL, "--target", "server.example"), "--target server.example"),
    ((URL, "--target", "a.example:1", "--target", "b.example:1"), "second name"),
    ((URL, "--dns-server", "resolver"), "--dns-server"),
    (("socks9://host",), "socks9"),
])
def test_usage(topology: Topology, words: tuple[str, ...], named: str) -> None:
    done = topology.client.run(binary(), "probe", *words, check=False)
    assert done.returncode == USAGE
    assert named in done.stderr


def test_needs_no_privilege(topology: Topology, confined: Confined) -> None:
    """And asks the resolver that resolv.conf names."""
    with FaultyServer(topology.proxy):
        done = confined.bare(str(installed()), "probe", URL, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["connect_ipv4"]["state"] == "works"
    assert found["connect_ipv4"]["target"] == f"{AT.server}:53"
