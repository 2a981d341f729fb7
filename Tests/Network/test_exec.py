"""`sluice exec`: whatever one program sends goes through the upstream, and nobody is root."""

import hashlib
from pathlib import Path
from typing import Iterator

import pytest

from harness import resolvers, unix, upstreams
from harness.confined import NOBODY, STRANGER, Confined, Way, script
from harness.datagrams import DatagramEcho
from harness.namespaces import Namespace, join
from harness.programs import Program
from harness.resolvers import NAME, NAMES, PROXY_NAME, RECORDS, Arrivals, Unbound
from harness.sites import place
from harness.sluice import CAPTURES, Capture, Sluice
from harness.targets import MEBIBYTE, Echo, Website
from harness.topology import ADDRESSES, FAMILIES, Topology

MEGABYTES = 20


def curl(website: Website, host: str, megabytes: int = 1) -> list[str]:
    return [
        "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--max-time", "60",
        f"http://{place(host)}:{website.port}/{megabytes}"]


def check_fetch(
    website: Website, user: Confined, *arguments: str, host: str, seen: str, megabytes: int = 1
) -> None:
    """One fetch: the right bytes, by whom they should have been fetched, and not a word more."""
    del website.peers[:]
    done = user.run(
        *arguments, command=curl(website, host, megabytes), text=False, errors=None)
    assert (done.returncode, done.stderr) == (0, b"")
    assert hashlib.sha256(done.stdout).hexdigest() == website.checksums[megabytes]
    assert website.peers == [seen]


def test_without_exec_it_goes_directly(
    topology: Topology, confined: Confined, website: Website, family: str
) -> None:
    """What the tests below see is not always so."""
    at = ADDRESSES[family]
    leaked = topology.leaked(website.port)[family]
    del website.peers[:]
    done = confined.bare(*curl(website, at.server), text=False, errors=None)
    assert hashlib.sha256(done.stdout).hexdigest() == website.checksums[1]
    assert website.peers == [at.client]
    assert topology.leaked(website.port)[family] > leaked


def test_fetches_by_address(
    topology: Topology, way: Way, confined: Confined, website: Website, family: str
) -> None:
    leaked = topology.leaked(website.port)
    check_fetch(
        website, confined, way.url, host=ADDRESSES[family].server, seen=way.exit(family),
        megabytes=MEGABYTES)
    if way.url != "embedded":  # what the embedded server sends passes there as well
        assert topology.leaked(website.port) == leaked


@pytest.mark.parametrize("resolver", FAMILIES, ids=lambda one: f"resolver-{one}")
def test_fetches_by_name(
    topology: Topology, way: Way, confined: Confined, website: Website, unbound: Unbound,
    family: str, resolver: str,
) -> None:
    """The resolver of resolv.conf is asked through the upstream too."""
    ports = (website.port, "tcp"), (resolvers.PORT, "udp"), (resolvers.PORT, "tcp")
    leaked = [topology.leaked(*one) for one in ports]
    confined.resolve_by(ADDRESSES[resolver].server)
    check_fetch(website, confined, way.url, host=NAMES[family], seen=way.exit(family))
    assert set(unbound.askers(NAMES[family])) == {way.exit(resolver)}
    if way.url != "embedded":
        assert [topology.leaked(*one) for one in ports] == leaked


@pytest.mark.parametrize("name", ["dante", "embedded"])
def test_on_a_gateway(
    topology: Topology, dante: Program, website: Website, unbound: Unbound, family: str, name: str
) -> None:
    """Another host, with two interfaces."""
    at = ADDRESSES[family]
    upstream, seen = {
        "dante": (upstreams.url(at.proxy), at.proxy_exit), "embedded": ("embedded", at.gateway_wan),
    }[name]
    with Confined(topology.gateway) as user:
        check_fetch(website, user, upstream, host=at.server, seen=seen)
        check_fetch(website, user, upstream, host=NAMES[family], seen=seen)


@pytest.mark.parametrize("user", [0, NOBODY, STRANGER], ids=["root", "nobody", "stranger"])
def test_users(
    topology: Topology, upstream: str, website: Website, family: str, user: int
) -> None:
    """Root too, and one without a name. Each stays who it is."""
    at = ADDRESSES[family]
    with Confined(topology.client, user) as caller:
        check_fetch(website, caller, upstream, host=at.server, seen=at.proxy_exit)
        ids = caller.get(upstream, command=["sh", "-c", "id -u; id -g"]).split()
    assert ids == [str(user)] * 2


def test_embedded_is_what_it_does_unasked(
    topology: Topology, confined: Confined, website: Website, unbound: Unbound, family: str
) -> None:
    at = ADDRESSES[family]
    check_fetch(website, confined, host=at.server, seen=at.client)
    check_fetch(website, confined, host=NAMES[family], seen=at.client)


def test_upstream_with_a_name(
    topology: Topology, dante: Program, confined: Confined, website: Website, unbound: Unbound,
    family: str,
) -> None:
    """The name is looked up where `sluice exec` was called."""
    at = ADDRESSES[family]
    check_fetch(
        website, confined, f"socks5://{PROXY_NAME}", host=at.server, seen=at.proxy_exit)
    assert set(unbound.askers(PROXY_NAME)) == {ADDRESSES["ipv4"].client}


def test_upstream_over_ipv6(
    topology: Topology, dante: Program, confined: Confined, website: Website, family: str
) -> None:
    at = ADDRESSES[family]
    check_fetch(
        website, confined, upstreams.url(ADDRESSES["ipv6"].proxy), host=at.server,
        seen=at.proxy_exit)


def test_upstream_on_a_unix_socket(
    topology: Topology, confined: Confined, website: Website, unbound: Unbound, folder: Path,
    family: str,
) -> None:
    """The path is one of where `sluice exec` was called."""
    at = ADDRESSES[family]
    with upstreams.microsocks(topology.proxy, port=1081), \
            unix.Door(topology.proxy, folder / "socks", at.proxy, 1081) as door:
        door.path.chmod(0o666)
        for host in at.server, NAMES[family]:
            check_fetch(website, confined, unix.url(door.path), host=host, seen=at.proxy_exit)


def test_password(topology: Topology, confined: Confined, website: Website, family: str) -> None:
    """The upstream gets it; the program, and whoever reads its environment, does not."""
    at, credentials, port = ADDRESSES[family], (upstreams.USER, upstreams.PASSWORD), 1081
    upstream = upstreams.url(at.proxy, port, credentials)
    with upstreams.microsocks(topology.proxy, credentials=credentials, port=port):
        check_fetch(website, confined, upstream, host=at.server, seen=at.proxy_exit)
        environment = confined.get(upstream, command=["env"]).splitlines()
    told = [line for line in environment if line.startswith("SLUICE=")]
    assert len(told) == 1
    assert f"{place(at.proxy)}:{port}" in told[0]
    encoded = upstream.partition("@")[0].rpartition(":")[2]
    assert not any(upstreams.PASSWORD in line or encoded in line for line in environment)


def test_ask_another_resolver(
    topology: Topology, way: Way, website: Website, unbound: Unbound, family: str
) -> None:
    """resolv.conf names one that cannot be reached."""
    at = ADDRESSES[family]
    with Confined(topology.client, resolvers=[at.unreachable]) as user:
        check_fetch(
            website, user, way.url, "--dns-server", at.server, host=NAMES[family],
            seen=way.exit(family))
    assert set(unbound.askers(NAMES[family])) == {way.exit(family)}


def test_resolver_on_localhost(
    topology: Topology, way: Way, website: Website, unbound: Unbound, family: str
) -> None:
    """Such as systemd-resolved's, of which the program has none: the one that is given is asked."""
    at = ADDRESSES[family]
    with Confined(topology.client, resolvers=["127.0.0.53"]) as user:
        check_fetch(
            website, user, way.url, "--dns-server", at.server, host=NAMES[family],
            seen=way.exit(family))
    assert set(unbound.askers(NAMES[family])) == {way.exit(family)}


def test_one_in_another(
    topology: Topology, way: Way, confined: Confined, website: Website, unbound: Unbound,
    family: str,
) -> None:
    """The inner engine is part of the program: what it sends goes where the outer one says."""
    leaked = topology.leaked(website.port)
    for host in ADDRESSES[family].server, NAMES[family]:
        inner = confined.words("embedded", command=curl(website, host))
        del website.peers[:]
        done = confined.run(way.url, command=inner, text=False, errors=None)
        assert (done.returncode, done.stderr) == (0, b"")
        assert hashlib.sha256(done.stdout).hexdigest() == website.checksums[1]
        assert website.peers == [way.exit(family)]
    if way.url != "embedded":
        assert topology.leaked(website.port) == leaked


@pytest.mark.parametrize("by", CAPTURES)
def test_on_a_machine_that_is_captured(
    topology: Topology, upstream: str, confined: Confined, website: Website, unbound: Unbound,
    family: str, by: str,
) -> None:
    """What the engine sends itself is the machine's traffic like any other."""
    at = ADDRESSES[family]
    with Sluice.capturing(topology, Capture("machine", by), upstream) as sluice:
        sluice.wait_for_relaying()
        for own in "embedded", upstream:
            for host in at.server, NAMES[family]:
                check_fetch(website, confined, own, host=host, seen=at.proxy_exit)


@pytest.fixture
def without_ipv6(topology: Topology) -> Iterator[Namespace]:
    """A host on the gateway's uplink that has been told not to speak it."""
    host = Namespace("old")
    try:
        for scope in "all", "default":
            host.write_sysctl(f"net/ipv6/conf/{scope}/disable_ipv6", "1")
        join((host, "old0"), (topology.proxy, "old0"))
        host.ip("addr add 11.9.0.2/24 dev old0", "link set old0 up")
        topology.proxy.ip("addr add 11.9.0.1/24 dev old0", "link set old0 up")
        host.ip("route add default via 11.9.0.1")
        yield host
    finally:
        host.close()


@pytest.mark.parametrize("kind", ["dante", "embedded"])
def test_host_without_ipv6(
    topology: Topology, without_ipv6: Namespace, dante: Program, website: Website, unbound: Unbound,
    kind: str,
) -> None:
    """The program finds what IPv4 reaches, also by names that have addresses of both families."""
    at = ADDRESSES["ipv4"]
    upstream, seen = {
        "dante": (upstreams.url(at.proxy), at.proxy_exit), "embedded": ("embedded", "11.9.0.2"),
    }[kind]
    with Confined(without_ipv6, resolvers=[at.server]) as user:
        for host in at.server, NAMES["both"]:
            check_fetch(website, user, upstream, host=host, seen=seen)


@pytest.mark.parametrize("options", [[], ["+tcp"]], ids=["udp", "tcp"])
def test_dig(
    topology: Topology, way: Way, confined: Confined, unbound: Unbound, family: str,
    options: list[str],
) -> None:
    """What is asked by UDP is carried by UDP where the upstream can, else by TCP."""
    at = ADDRESSES[family]
    leaked = topology.leaked(resolvers.PORT, "udp"), topology.leaked(resolvers.PORT)
    with Arrivals(topology.server, resolvers.PORT) as arrivals:
        for kind, value in RECORDS.items():
            answer = confined.get(way.url, command=[
                "dig", f"@{at.server}", NAME, kind, "+short", "+time=5", *options])
            assert answer.split() == [value]
        datagrams, connections = arrivals.datagrams(), arrivals.connections()
    by_datagrams = way.carries_datagrams and not options
    assert datagrams == (len(RECORDS) if by_datagrams else 0)
    assert bool(connections) != by_datagrams
    assert set(unbound.askers()) == {way.exit(family)}
    if way.url != "embedded":
        assert leaked == (topology.leaked(resolvers.PORT, "udp"), topology.leaked(resolvers.PORT))


def test_datagrams(
    topology: Topology, way: Way, confined: Confined, datagram_echo: DatagramEcho, family: str
) -> None:
    """They are carried, or refused at once: who waits for an answer hears that there is none."""
    leaked = topology.leaked(datagram_echo.port, "udp")
    del datagram_echo.received[:]
    door = f"udp,{ADDRESSES[family].server},{datagram_echo.port}"
    (told,) = confined.knock(door, arguments=[way.url])
    if way.carries_datagrams:
        assert told["outcome"] == "answer"
        assert datagram_echo.peers() == [way.exit(family)]
    else:
        assert told["outcome"] == "ECONNREFUSED"
        assert told["seconds"] < 2
        assert datagram_echo.peers() == []
    if way.url != "embedded":
        assert topology.leaked(datagram_echo.port, "udp") == leaked


def test_datagrams_of_every_size(
    topology: Topology, confined: Confined, datagram_echo: DatagramEcho, family: str
) -> None:
    sizes = ["0", "1", "1472", "1500", "9000", "60000", "65000", "0", "1"]
    command = script("datagrams.py", ADDRESSES[family].server, str(datagram_echo.port), *sizes)
    assert confined.get(command=command).split() == sizes


@pytest.mark.parametrize("kind", ["mptcp", "fastopen"])
def test_connections_of_another_kind(
    topology: Topology, way: Way, confined: Confined, echo: Echo, family: str, kind: str
) -> None:
    """Which servers that do not know them take for usual ones."""
    for _ in range(2):
        (told,) = confined.knock(
            f"{kind},{ADDRESSES[family].server},{echo.port}", arguments=[way.url])
        assert told["outcome"] == "answer"
    assert echo.peers == [way.exit(family)] * 2


def test_datagrams_rejected_by_choice(
    topology: Topology, upstream: str, confined: Confined, datagram_echo: DatagramEcho, family: str
) -> None:
    del datagram_echo.received[:]
    door = f"udp,{ADDRESSES[family].server},{datagram_echo.port}"
    (told,) = confined.knock(door, arguments=["--udp", "reject", upstream])
    assert told["outcome"] == "ECONNREFUSED"
    assert told["seconds"] < 2
    assert datagram_echo.received == []


def test_quic_rejected_by_choice(
    topology: Topology, upstream: str, confined: Confined, datagram_echo: DatagramEcho, family: str
) -> None:
    """Browsers then go on by TCP; other datagrams are carried."""
    at = ADDRESSES[family]
    doors = f"udp,{at.server},443", f"udp,{at.server},{datagram_echo.port}"
    with DatagramEcho(topology.server, port=443) as quic:
        told = confined.knock(*doors, arguments=["--quic", "reject", upstream])
        assert quic.received == []
    assert told[0]["outcome"] == "ECONNREFUSED"
    assert told[0]["seconds"] < 2
    assert told[1]["outcome"] == "answer"


def test_ipv6_rejected_by_choice(
    topology: Topology, upstream: str, confined: Confined, echo: Echo, datagram_echo: DatagramEcho
) -> None:
    doors = [
        f"{kind},{ADDRESSES[family].server},{port}"
        for family in FAMILIES for kind, port in (("tcp", echo.port), ("udp", datagram_echo.port))]
    told = confined.knock(*doors, arguments=["--ipv6", "reject", upstream])
    outcomes = [one["outcome"] for one in told]
    assert outcomes[:2] == ["answer"] * 2
    assert not {"answer", "silence", "FIN"} & set(outcomes[2:])
    assert all(one["seconds"] < 2 for one in told)
    assert set(echo.peers) == {ADDRESSES["ipv4"].proxy_exit}


def test_target_that_refuses(
    topology: Topology, way: Way, confined: Confined, family: str
) -> None:
    """The program hears of it; it does not wait."""
    with topology.server.listen("::") as listener:
        port = listener.getsockname()[1]
    door = f"tcp,{ADDRESSES[family].server},{port}"
    (told,) = confined.knock(door, arguments=[way.url])
    assert told["outcome"] in ("RST", "ECONNREFUSED")
    assert told["seconds"] < 5


@pytest.mark.parametrize("kind", ["icmp", "raw", "udplite"])
def test_other_protocols_fail_at_once(
    topology: Topology, upstream: str, confined: Confined, family: str, kind: str
) -> None:
    door = f"{kind},{ADDRESSES[family].server},7"
    (told,) = confined.knock(door, arguments=[upstream])
    assert told["outcome"] not in ("answer", "silence")
    assert told["seconds"] < 2


def test_megabytes_both_ways(
    topology: Topology, way: Way, confined: Confined, echo: Echo, family: str
) -> None:
    """Every byte, and the end of each direction by itself."""
    at = ADDRESSES[family]
    command = script("exchange.py", at.server, str(echo.port), str(4 * MEBIBYTE))
    assert confined.get(way.url, command=command).split() == ["4194304", "same"]
    assert echo.peers == [way.exit(family)]


def test_nothing_inside_is_paced(upstream: str, confined: Confined) -> None:
    """All ways there are short: BBR would pace the program's streams to the engine by a timer for each packet."""
    setting = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    outside = setting.read_text().strip()
    inside = confined.get(upstream, command=["cat", str(setting)]).strip()
    assert inside == {"bbr": "reno"}.get(outside, outside)
