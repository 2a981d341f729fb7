"""Credentials that each flow fills in: what the upstream is shown of whom, and of where it goes."""

import os
import socket
from pathlib import Path
from typing import Callable, Iterator
from urllib.parse import quote

import pytest

from harness import control
from harness.confined import NOBODY, PYTHON, Confined
from harness.control import by, running
from harness.datagrams import Speaker
from harness.flows import attempt, outcome
from harness.relaying import ASSOCIATE
from harness.resolvers import NAME
from harness.scripted import Conversation, ScriptedUpstream
from harness.sluice import EVERY_CAPTURE, Capture, Sluice, binary
from harness.topology import ADDRESSES, Topology
from harness.tunnels import ScriptedProxy, ScriptedSOCKS4

AT, AT_V6 = ADDRESSES["ipv4"], ADDRESSES["ipv6"]

PORT = 80

GATEWAY, MACHINE = Capture("gateway", "tproxy"), Capture("machine", "tproxy")

#: User and password of a template with all that there is.
EVERYTHING = "u{uid}.{gid}!{cgroup}", "{client_ip}>{dst_host}|{dst_port}{{}}"

#: A client of TCP or UDP that waits for its answer: transport, address, port.
TALKER = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
with socket.socket(family, kind) as one:
    one.settimeout(20)
    one.connect((sys.argv[2], int(sys.argv[3])))
    one.send(b"hello")
    assert one.recv(100) == b"hello"
"""


def url(user: str, password: str = "pw", scheme: str = "socks5", raw: bool = True) -> str:
    """The upstream's URL, braces as they are or percent-encoded."""
    encode: Callable[[str], str] = lambda text: quote(text, safe="{}" if raw else "")
    login = encode(user) if scheme == "socks4" else f"{encode(user)}:{encode(password)}"
    return f"{scheme}://{login}@{AT.proxy}:{8080 if scheme == 'http' else 1080}"


def talker(transport: str, address: str, port: int = PORT) -> list[str]:
    return [PYTHON, "-S", "-c", TALKER, transport, address, str(port)]


def as_user(user: int, group: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--"]


def shown(conversation: Conversation) -> tuple[str, str]:
    assert conversation.credentials
    user, password = conversation.credentials
    return user.decode(), password.decode()


def users(conversations: list[Conversation]) -> list[str]:
    return [shown(one)[0] for one in conversations]


def associations(server: ScriptedUpstream) -> list[Conversation]:
    """The conversations that asked for a relay, but for the run's own at its start."""
    return [one for one in server.conversations if one.command == ASSOCIATE][1:]


@pytest.fixture(scope="module")
def group() -> Iterator[Path]:
    """A control group of version 2."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, top, kind, *_ = line.split()
        if kind == "cgroup2":
            break
    else:
        raise AssertionError("control groups of version 2 are not mounted")
    path = Path(top, f"sluice-tests-identity-{os.getpid()}", "inner.scope")
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        path.rmdir()
        path.parent.rmdir()


def within(group: Path) -> list[str]:
    return ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]


def name_of(group: Path) -> str:
    return f"/{group.parent.name}/{group.name}"


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "encoded"])
@pytest.mark.parametrize("capture", EVERY_CAPTURE, ids=str)
def test_client_and_destination(
    topology: Topology, scripted: ScriptedUpstream, capture: Capture, raw: bool
) -> None:
    upstream = url(
        "{{{client_ip}}}", "{dst_host}/{dst_port}/{dst_port}", raw=raw)
    with Sluice.capturing(topology, capture, upstream) as sluice:
        for at in AT, AT_V6:
            assert attempt(topology.client, at.server, PORT) == "answer"
            assert attempt(topology.client, at.second, 65535) == "answer"
            assert [shown(one) for one in scripted.to(at.server)] == [
                ("{" + at.client + "}", f"{at.server}/80/80")]
            assert [shown(one) for one in scripted.to(at.second)] == [
                ("{" + at.client + "}", f"{at.second}/65535/65535")]
        assert sluice.finish()["failures"] == {}


def test_two_clients(topology: Topology, scripted: ScriptedUpstream) -> None:
    """Of one LAN, behind one gateway."""
    other = "11.1.0.77"
    topology.client.ip(f"addr add {other}/24 dev lan0")
    try:
        with Sluice.capturing(topology, GATEWAY, url("c-{client_ip}")):
            for address in AT.client, other:
                with topology.client.open_socket(socket.AF_INET) as stream:
                    stream.settimeout(20)
                    stream.bind((address, 0))
                    stream.connect((AT.server, PORT))
                    stream.sendall(b"x")
                    assert stream.recv(1) == b"x"
                with Speaker(topology.client, address) as speaker:
                    assert speaker.ask(b"y", (AT.server, 4242)) == b"y"
    finally:
        topology.client.ip(f"addr del {other}/24 dev lan0")
    expected = [f"c-{AT.client}", f"c-{other}"]
    assert users(scripted.to(AT.server)) == expected
    assert users(associations(scripted)) == expected


@pytest.mark.parametrize("how", ["redirect", "tproxy"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_programs_of_this_host(
    topology: Topology, scripted: ScriptedUpstream, group: Path, transport: str, family: str,
    how: str
) -> None:
    at = ADDRESSES[family]
    with Sluice.capturing(topology, Capture("machine", how), url(*EVERYTHING)):
        for words in as_user(1234, 77), [*within(group), *as_user(4321, 88)], []:
            topology.client.run(*words, *talker(transport, at.server))
    conversations = associations(scripted) if transport == "udp" else scripted.to(at.server)
    own = Path("/proc/self/cgroup").read_text().partition("0::")[2].splitlines()[0]
    to = f"{at.client}>{at.server}|80{{}}"
    assert [shown(one) for one in conversations] == [
        (f"u1234.77!{own}", to), (f"u4321.88!{name_of(group)}", to), (f"u0.0!{own}", to)]


def test_dual_stack_programs(topology: Topology, scripted: ScriptedUpstream) -> None:
    """Their IPv4 flows are of IPv6 sockets."""
    mapped = f"::ffff:{AT.server}"
    with Sluice.capturing(topology, MACHINE, url("{uid}")):
        for transport in "tcp", "udp":
            topology.client.run(*as_user(1234, 77), *talker(transport, mapped))
    assert users(scripted.to(AT.server)) == ["1234"]
    assert users(associations(scripted)) == ["1234"]


def test_strangers(topology: Topology, scripted: ScriptedUpstream) -> None:
    """Of what a LAN sends nothing more is known."""
    with Sluice.capturing(topology, GATEWAY, url("{uid}-{gid}-{cgroup}"), "--machine"):
        assert attempt(topology.client, AT.server, PORT) == "answer"
        with Speaker(topology.client, "0.0.0.0") as speaker:
            assert speaker.ask(b"y", (AT.server, 4242)) == b"y"
        topology.gateway.run(*as_user(1234, 77), *talker("tcp", AT.second))
    assert users(scripted.to(AT.server)) == ["unknown-unknown-unknown"]
    assert users(associations(scripted)) == ["unknown-unknown-unknown"]
    (user,) = users(scripted.to(AT.second))
    assert user.startswith("1234-77-/")


def test_datagrams_show_the_first_one(topology: Topology, scripted: ScriptedUpstream) -> None:
    with Sluice.capturing(topology, GATEWAY, url("{dst_host}|{dst_port}")), \
            Speaker(topology.client, "0.0.0.0") as speaker:
        for to in (AT.server, 4242), (AT.second, 4243):
            assert speaker.ask(b"y", to) == b"y"
    assert users(associations(scripted)) == [f"{AT.server}|4242"]
    assert [one.destination for one in scripted.used()[0].datagrams] == [
        (AT.server, 4242), (AT.second, 4243)]


def test_own_connections(topology: Topology, scripted: ScriptedUpstream) -> None:
    """Those that ask how the server behaves have values that stand for no flow."""
    with Sluice.capturing(topology, MACHINE, url(*EVERYTHING)) as sluice:
        sluice.wait_for("pipelining")
    user = "u0.0!/"
    asked = {shown(one) for one in scripted.conversations if one.command == 1}
    # That by IPv6 may not have come so soon.
    assert asked - {(user, "127.0.0.1>::1|9{}")} == {(user, "127.0.0.1>127.0.0.1|9{}")}
    assert {shown(one) for one in scripted.conversations if one.command == ASSOCIATE} == {
        (user, "127.0.0.1>0.0.0.0|0{}")}


class TestOtherKinds:
    def test_http(self, topology: Topology) -> None:
        with ScriptedProxy(topology.proxy) as proxy, Sluice.capturing(
            topology, GATEWAY, url("{client_ip}", "{dst_host}:{dst_port}", "http")
        ) as sluice:
            assert attempt(topology.client, AT.server, PORT) == "answer"
            # A colon in the user name would part it from the password.
            assert outcome(topology.client, AT_V6.server, PORT) == (b"", "RST")
            assert sluice.finish()["failures"] == {"credentials_not_supported": 1}
        assert [one.credentials for one in proxy.flows()] == [f"{AT.client}:{AT.server}:80"]

    def test_socks4(self, topology: Topology) -> None:
        with ScriptedSOCKS4(topology.proxy) as server, Sluice.capturing(
            topology, MACHINE, url("{uid}@{dst_host}", scheme="socks4")
        ) as sluice:
            topology.client.run(*as_user(1234, 77), *talker("tcp", AT.server))
            assert sluice.finish()["failures"] == {}
        assert [one.user.decode() for one in server.flows()] == [f"1234@{AT.server}"]

    def test_queries_by_tcp(self, topology: Topology) -> None:
        """One connection carries those of several clients."""
        with ScriptedProxy(topology.proxy) as proxy, Sluice.capturing(
            topology, GATEWAY, url("{client_ip}", "{dst_host}", "http"), "--dns-timeout", "1"
        ):
            topology.client.run(
                "dig", "+tries=1", "+time=3", f"@{AT.server}", NAME, check=False)
        assert {one.credentials for one in proxy.flows()} == {f"127.0.0.1:{AT.server}"}


@pytest.mark.parametrize("field", ["user", "password"])
def test_too_long(topology: Topology, scripted: ScriptedUpstream, field: str) -> None:
    """255 bytes are carried; one more fails the flow, and is never cut."""
    # The client's address has 8 bytes, that of the run's own connections 9.
    template = "x" * 242 + "{client_ip}{dst_port}"
    upstream = url(template) if field == "user" else url("u", template)
    place = 0 if field == "user" else 1
    with Sluice.capturing(topology, GATEWAY, upstream) as sluice:
        assert attempt(topology.client, AT.server, 10000) == "answer"
        (conversation,) = scripted.to(AT.server)
        assert len(shown(conversation)[place]) == 255
        assert sluice.status()["failures"] == {}
    with Sluice.capturing(topology, GATEWAY, upstream.replace("x{", "xy{")) as sluice:
        assert outcome(topology.client, AT.server, 10000) == (b"", "RST")
        with Speaker(topology.client, "0.0.0.0") as speaker:
            speaker.send(b"y", (AT.server, 10000))
            sluice.wait_for_status("datagrams_dropped", {"no_association": 1})
        told = sluice.events("failure")
        assert told and {one["failure"] for one in told} == {"credentials_not_supported"}
        assert "longer than 255 bytes" in told[0]["message"]
        assert attempt(topology.client, AT.server, 1000) == "answer"
        assert sluice.finish()["failures"] == {"credentials_not_supported": 2}
    assert len(scripted.to(AT.server)) == 2


class TestPrograms:
    """`sluice exec`: everything is of whoever has called it."""

    def test_exec(
        self, topology: Topology, scripted: ScriptedUpstream, confined: Confined
    ) -> None:
        for transport in "tcp", "udp":
            confined.get(url("{uid}-{gid}-{dst_host}"), command=talker(transport, AT.server))
        expected = f"{NOBODY}-{NOBODY}-{AT.server}"
        assert users(scripted.to(AT.server)) == [expected]
        asked = [one for one in scripted.conversations if one.command == ASSOCIATE]
        assert expected in users(asked)

    def test_daemon(self, topology: Topology, scripted: ScriptedUpstream, group: Path) -> None:
        """The run is root's, and knows who is at the other end of its socket."""
        with control.place() as place, \
                running(topology.gateway, place, url("{uid}-{gid}-{cgroup}"), "--machine"), \
                Confined(topology.gateway) as user:
            user.get(*by(place), command=talker("tcp", AT.server))
        (shown_user,) = users(scripted.to(AT.server))
        assert shown_user.startswith(f"{NOBODY}-{NOBODY}-/")


@pytest.mark.parametrize("upstream, scope, complaint", [
    (url("{user}"), ["--machine"], "{uid}, {gid}, {cgroup}, {client_ip}, {dst_host}, {dst_port}"),
    (url("u", "{secret"), ["--machine"], "write {{ or }} for the brace itself"),
    (url("u}"), ["--machine"], "write {{ or }} for the brace itself"),
    (url("{gid}"), ["--gateway", "lan0"], "give --machine, too"),
    (url("x" * 255 + "{uid}"), ["--machine"], "user name longer than 255 bytes"),
    (url("x" * 252 + "{client_ip}"), ["--machine"], "the user name is longer than 255 bytes"),
], ids=["unknown", "open", "close", "of-nobody", "too-long", "always-too-long"])
def test_refused(topology: Topology, upstream: str, scope: list[str], complaint: str) -> None:
    done = topology.gateway.run(
        binary(), "run", upstream, *scope, "--control", "none", check=False)
    assert done.returncode == 64
    assert complaint in done.stderr
    assert "secret" not in done.stderr
    assert done.stderr.count("\n") == 1
