"""UDP through chains of SOCKS5 servers: of real ones, and of one that plays every hop and misbehaves."""

import contextlib
import random
import tempfile
from pathlib import Path
from typing import Iterator

import pytest

from harness import upstreams
from harness.chained_udp import RELAYS, DatagramChain, layers
from harness.confined import Confined
from harness.datagrams import MAXIMUM, DatagramEcho, Speaker, ask, fate
from harness.doctor import examine, told
from harness.programs import Program
from harness.relaying import Relaying, encode, encode_address
from harness.resolvers import NAME, RECORDS, Arrivals, Unbound, dig
from harness.resolvers import PORT as DNS_PORT
from harness.sluice import Capture, Sluice, binary
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

pytestmark = pytest.mark.usefixtures("errors_at_any_rate")

AT = ADDRESSES["ipv4"]
MACHINE = Capture("machine", "tproxy")

SIZES = [0, 1, 1200, 1442, 1472, 1500, 9000, 60000]

#: What the server's `sluice serve` listens on beside what else is there.
LAST_PORT = 1090

#: What targets of the scripted chain are asked at.
PORT = 4242

#: By which family each of the real hops is reached.
REACHED = {
    "ipv4": ("ipv4", "ipv4", "ipv4"), "ipv6": ("ipv6", "ipv6", "ipv6"),
    "mixed": ("ipv4", "ipv6", "ipv4"),
}


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def places(reached: str) -> list[tuple[str, int]]:
    """Of the real hops: `sluice serve` on the gateway, Dante on the proxy, `sluice serve` on the server."""
    families = REACHED[reached]
    return [
        (ADDRESSES[families[0]].gateway_lan, upstreams.PORT),
        (ADDRESSES[families[1]].proxy, upstreams.PORT),
        (ADDRESSES[families[2]].server, LAST_PORT),
    ]


def chain_url(hops: list[tuple[str, int]]) -> str:
    return ",".join(upstreams.url(address, port) for address, port in hops)


@contextlib.contextmanager
def serving(topology: Topology, hop: int) -> Iterator[None]:
    """`sluice serve` as the first hop or the third, on both families."""
    host = topology.gateway if hop == 0 else topology.server
    listen = []
    for reached in "ipv4", "ipv6":
        address, port = places(reached)[hop]
        listen += ["--listen", f"[{address}]:{port}" if ":" in address else f"{address}:{port}"]
    with Program(host, binary(), "serve", *listen) as program:
        program.wait_for_port(places("ipv4")[hop][1], sockets=2)
        yield


class TestRealServers:
    """Two and three hops; each is reached by IPv4, IPv6 or now this, now that."""

    @pytest.fixture(scope="class", params=[2, 3], ids=["2-hops", "3-hops"])
    def hops(self, request: pytest.FixtureRequest, topology: Topology) -> Iterator[int]:
        folder = Path(tempfile.mkdtemp())
        folder.chmod(0o755)
        with serving(topology, 0), upstreams.dante(topology.proxy, folder), serving(topology, 2):
            yield request.param

    @pytest.fixture(params=REACHED)
    def running(
        self, request: pytest.FixtureRequest, topology: Topology, hops: int
    ) -> Iterator[Sluice]:
        url = chain_url(places(request.param)[:hops])
        with Sluice.capturing(topology, MACHINE, url) as sluice:
            sluice.wait_for_relaying()
            yield sluice

    def test_every_size(
        self, topology: Topology, hops: int, running: Sluice, family: str,
        datagram_echo: DatagramEcho,
    ) -> None:
        at = ADDRESSES[family]
        leaked = topology.leaked(datagram_echo.port, "udp")
        del datagram_echo.received[:]
        to = at.server, datagram_echo.port
        with Speaker.of(topology, family) as speaker:
            for size in SIZES:
                assert speaker.ask(payload(size), to) == payload(size), f"{size} bytes"
            assert speaker.pending() == 0
        # Two hops end at the proxy, three at the server itself.
        assert set(datagram_echo.peers()) == {at.proxy_exit if hops == 2 else at.server}
        if hops == 2:
            assert running.dropped() == {}
        assert topology.leaked(datagram_echo.port, "udp") == leaked

    def test_equal_sizes_in_a_burst(
        self, topology: Topology, running: Sluice, family: str, datagram_echo: DatagramEcho
    ) -> None:
        to = ADDRESSES[family].server, datagram_echo.port
        texts = [number.to_bytes(2, "big") + payload(1200) for number in range(60)]
        texts.append(payload(500))
        with Speaker.of(topology, family) as speaker:
            speaker.ask(b"an association, please", to)
            for text in texts:
                speaker.send(text, to)
            assert [speaker.receive()[0] for _ in texts] == texts
            assert speaker.pending() == 0

    # Dante as the last takes no second target by IPv6.
    @pytest.mark.parametrize("hops", [3], indirect=True, ids=["3-hops"])
    def test_several_targets_of_one_socket(
        self, topology: Topology, running: Sluice, family: str, datagram_echo: DatagramEcho
    ) -> None:
        opened = running.status()["associations_opened"]
        with Speaker.of(topology, family) as speaker:
            for address in ADDRESSES[family].of_server() * 2:
                to = address, datagram_echo.port
                assert speaker.ask(address.encode(), to) == address.encode()
        assert running.status()["associations_opened"] == opened + 1

    def test_dig(
        self, topology: Topology, hops: int, running: Sluice, family: str, unbound: Unbound
    ) -> None:
        """By UDP all the way."""
        at = ADDRESSES[family]
        before = len(unbound.askers())
        with Arrivals(topology.server, DNS_PORT) as arrivals:
            answer = dig(topology.client, at.server, NAME)
            assert (answer.status, answer.records) == ("NOERROR", [RECORDS["A"]])
            if hops == 2:  # three hops end on that host, whose own datagrams are not seen to arrive
                assert (arrivals.datagrams(), arrivals.connections()) == (1, 0)
        assert unbound.askers()[before:] == [at.proxy_exit if hops == 2 else at.server]


class TestHopThatDies:
    """Dante as the second of two hops."""

    def test_association_ends_and_another_works(
        self, topology: Topology, tmp_path: Path, datagram_echo: DatagramEcho
    ) -> None:
        to = AT.server, datagram_echo.port
        url = chain_url(places("ipv4")[:2])
        tmp_path.chmod(0o755)
        with serving(topology, 0), Speaker.of(topology, "ipv4") as speaker, \
                contextlib.ExitStack() as dante:
            dante.enter_context(upstreams.dante(topology.proxy, tmp_path))
            with Sluice.capturing(topology, MACHINE, url) as sluice:
                descriptors = len(sluice.descriptors())
                assert speaker.ask(b"first", to) == b"first"
                dante.close()
                sluice.wait_for_status("associations", 0)
                speaker.send(b"lost", to)
                event = sluice.wait_for("failure")
                assert event["failure"] == "hop_refused"
                assert f"hop 1, {url.split(',')[0]}" in event["message"]
                with upstreams.dante(topology.proxy, tmp_path):
                    wait_until(lambda: answered(speaker, to), "datagrams to be carried again")
                sluice.wait_for_status("associations", 0)
                wait_until(
                    lambda: len(sluice.descriptors()) <= descriptors, "the descriptors to be closed")


def answered(speaker: Speaker, to: tuple[str, int]) -> bool:
    try:
        return speaker.ask(b"and now?", to, timeout=0.5) == b"and now?"
    except TimeoutError:
        return False


@pytest.mark.parametrize("hops", ["microsocks", "http"])
def test_hop_without_udp_is_named(
    topology: Topology, tmp_path: Path, unbound: Unbound, confined: Confined, hops: str
) -> None:
    """As with an upstream without UDP: DNS by TCP, all else rejected, the hop named everywhere."""
    tmp_path.chmod(0o755)
    second = (
        upstreams.url(AT.proxy) if hops == "microsocks"
        else upstreams.url(AT.proxy, upstreams.HTTP_PORT, scheme="http"))
    url = f"{upstreams.url(AT.gateway_lan)},{second}"
    server = upstreams.microsocks if hops == "microsocks" else upstreams.tinyproxy
    named = f"hop 2, {second}"
    with serving(topology, 0), server(topology.proxy, tmp_path):
        with Sluice.capturing(topology, MACHINE, url) as sluice:
            (event,) = sluice.events("datagrams_refused")
            assert named in event["message"]
            status = sluice.status()
            assert (status["udp"], status["dns"]) == ("refused", "tcp")
            assert fate(topology.client, (AT.server, PORT)).outcome == "ECONNREFUSED"
            assert dig(topology.client, AT.server, NAME).records == [RECORDS["A"]]
        assert named in told(examine(topology.client, url)[1], "upstream_udp")
        done = confined.run(
            "--log-level", "notice", url, command=["dig", "+short", f"@{AT.server}", NAME])
        assert done.stdout.split() == [RECORDS["A"]], done.stderr
        assert f"relays no datagrams ({named}" in done.stderr


# MARK: Scripted

@pytest.fixture
def chain(topology: Topology) -> Iterator[DatagramChain]:
    with DatagramChain(topology.proxy) as server:
        yield server


#: Three hops; the servers behind the first are nowhere.
HOPS = [(AT.proxy, upstreams.PORT), ("192.0.2.2", 1081), ("hop.example", 1082)]
URL = chain_url(HOPS)

#: Bytes of all headers before a payload for an IPv4 target.
HEADERS = 10 + 22 + 10


@pytest.fixture
def running(topology: Topology, chain: DatagramChain) -> Iterator[Sluice]:
    with Sluice.capturing(topology, MACHINE, URL) as sluice:
        sluice.wait_for_relaying()
        yield sluice


def test_every_hop_is_associated_through_those_before(
    topology: Topology, chain: DatagramChain
) -> None:
    chain.single_bytes = True
    with Sluice.capturing(topology, MACHINE, URL) as sluice:
        sluice.wait_for_relaying()
        known = len(chain.legs)
        assert ask(topology, "ipv4", PORT, b"well?") == b"well?"
        (association,) = chain.used()
        assert association.requested == ("0.0.0.0", 0)
        legs = sorted(chain.legs[known:], key=lambda leg: leg.hop)
        assert [(leg.hop, leg.asked, leg.requested) for leg in legs] == [
            (1, ["192.0.2.2:1081"], ("0.0.0.0", 0)),
            (2, ["192.0.2.2:1081", "hop.example:1082"], ("0.0.0.0", 0)),
        ]
        (datagram,) = association.datagrams
        assert layers(datagram, 3) == ([RELAYS[1], RELAYS[2], (AT.server, PORT)], b"well?")
        assert sluice.dropped() == {}
        assert sluice.finish()["failures"] == {}


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", ""])
def test_relay_without_an_address_is_at_its_hop(
    topology: Topology, chain: DatagramChain, bound: str
) -> None:
    chain.bound = dict.fromkeys(range(3), encode_address(bound))
    with Sluice.capturing(topology, MACHINE, URL) as sluice:
        assert ask(topology, "ipv4", PORT, b"well?") == b"well?"
        (datagram,) = chain.used()[0].datagrams
        assert layers(datagram, 3)[0] == [
            ("192.0.2.2", 5001), ("hop.example", 5002), (AT.server, PORT)]
        assert sluice.dropped() == {}


def test_largest(topology: Topology, running: Sluice) -> None:
    """As much as fits with all headers passes; one byte more is dropped, and counted."""
    to = AT.server, PORT
    largest = MAXIMUM - HEADERS
    with Speaker.of(topology, "ipv4") as speaker:
        assert speaker.ask(payload(largest), to) == payload(largest)
        speaker.send(payload(largest + 1), to)
        assert speaker.ask(b"still there?", to) == b"still there?"
    assert running.dropped() == {"too_large": 1}


@pytest.mark.parametrize("size", [100, 1300])
def test_bursts_arrive_whole_and_in_order(
    topology: Topology, chain: DatagramChain, running: Sluice, size: int, family: str
) -> None:
    at = ADDRESSES[family]
    texts = [number.to_bytes(2, "big") + payload(size) for number in range(300)]
    with Speaker.of(topology, family) as speaker:
        speaker.ask(b"an association, please", (at.server, PORT))
        for number, text in enumerate(texts):
            speaker.send(text, (at.second if number % 100 > 90 else at.server, PORT))
        assert [speaker.receive()[0] for _ in texts] == texts
        assert speaker.pending() == 0
    assert running.dropped() == {}


@pytest.mark.parametrize("hop", range(3))
def test_control_connection_closed(
    topology: Topology, chain: DatagramChain, running: Sluice, hop: int
) -> None:
    """The end of any is the association's, and of all others; the next datagram makes another."""
    to = AT.server, PORT
    descriptors = len(running.descriptors())
    with Speaker.of(topology, "ipv4") as speaker:
        for number in range(1, 4):
            assert speaker.ask(b"well?", to) == b"well?"
            association = chain.used()[-1]
            assert len(chain.used()) == number
            if hop == 0:
                association.hang_up()
            else:
                chain.legs_to(hop)[-1].hang_up()
            running.wait_for_status("associations", 0)
            assert association.over.wait(10), "the first hop's association has not ended"
    wait_until(
        lambda: len(running.descriptors()) <= descriptors, "the descriptors to be closed")
    assert running.dropped() == {}


@pytest.mark.parametrize("hop", range(3))
def test_hop_that_associates_and_hangs_up(
    topology: Topology, chain: DatagramChain, running: Sluice, hop: int
) -> None:
    """Nothing works, and nothing runs in circles."""
    chain.closing = hop
    known = len(chain.associations)
    with Speaker.of(topology, "ipv4") as speaker:
        for number in range(5):
            tried = len(chain.associations)
            speaker.send(b"hello", (AT.server, PORT))
            wait_until(lambda: len(chain.associations) > tried, f"association {number}")
            running.wait_for_status("associations", 0)
        assert len(chain.associations) - known <= 10
        chain.closing = None
        # One may have been answered before the hop hung up.
        wait_until(
            lambda: speaker.ask(b"and now?", (AT.server, PORT)) == b"and now?", "its own answer")


@pytest.mark.parametrize("hop", range(3))
@pytest.mark.parametrize("reply", [7, 2, None])
def test_hop_that_refuses(
    topology: Topology, chain: DatagramChain, hop: int, reply: int | None
) -> None:
    chain.refusals[hop] = reply
    with Sluice.capturing(topology, MACHINE, URL) as sluice:
        (event,) = sluice.events("datagrams_refused")
        assert f"hop {hop + 1}, {URL.split(',')[hop]}: " in event["message"]
        assert sluice.status()["udp"] == "refused"
        assert fate(topology.client, (AT.server, PORT)).outcome == "ECONNREFUSED"
    assert f"hop {hop + 1}, {URL.split(',')[hop]}" in told(
        examine(topology.client, URL)[1], "upstream_udp")


@pytest.mark.parametrize("hop", range(3))
def test_hop_that_refuses_later(
    topology: Topology, chain: DatagramChain, running: Sluice, hop: int
) -> None:
    assert ask(topology, "ipv4", PORT) == b"hello"
    chain.refusals[hop] = 7
    with Speaker.of(topology, "ipv4") as speaker:
        speaker.send(b"hello", (AT.server, PORT))
        running.wait_for_status("udp", "refused")
    event = running.wait_for("datagrams_refused")
    assert f"hop {hop + 1}, {URL.split(',')[hop]}: " in event["message"]


@pytest.mark.parametrize("hop", range(3))
def test_silent_hop_is_named(topology: Topology, chain: DatagramChain, hop: int) -> None:
    with Sluice.capturing(topology, MACHINE, URL, "--handshake-timeout", "1") as sluice:
        sluice.wait_for_relaying()
        chain.silent = hop
        with Speaker.of(topology, "ipv4") as speaker:
            speaker.send(b"hello", (AT.server, PORT))
            event = sluice.wait_for("failure")
        assert event["failure"] == "handshake_timeout"
        assert f"hop {hop + 1}, {URL.split(',')[hop]}" in event["message"]
        wait_until(lambda: sluice.dropped() == {"no_association": 1}, "the datagram to be lost")
        sluice.wait_for_status("associations", 0)
        chain.silent = None
        assert ask(topology, "ipv4", PORT) == b"hello"
        assert sluice.status()["udp"] == "relayed"


@pytest.mark.parametrize("hop", [1, 2])
def test_hop_out_of_reach_is_no_refusal_of_udp(
    topology: Topology, chain: DatagramChain, running: Sluice, hop: int
) -> None:
    chain.unreachable = hop
    with Speaker.of(topology, "ipv4") as speaker:
        speaker.send(b"hello", (AT.server, PORT))
        event = running.wait_for("failure")
        assert event["failure"] == "hop_refused"
        assert f"hop {hop}, {URL.split(',')[hop - 1]}" in event["message"]
        chain.unreachable = None
        wait_until(lambda: answered(speaker, (AT.server, PORT)), "datagrams to be carried again")
    assert running.status()["udp"] == "relayed"


@pytest.mark.parametrize("option", ["--udp-timeout", "--udp-unreplied-timeout"])
def test_idle_association_ends(topology: Topology, chain: DatagramChain, option: str) -> None:
    answers = option == "--udp-timeout"
    other = "--udp-unreplied-timeout" if answers else "--udp-timeout"
    chain.relaying = Relaying(silent=not answers)
    with Sluice.capturing(topology, MACHINE, URL, option, "1", other, "600") as sluice, \
            Speaker.of(topology, "ipv4") as speaker:
        sluice.wait_for_relaying()
        speaker.send(b"hello", (AT.server, PORT))
        (association,) = wait_until(chain.used, "the datagram")
        assert association.over.wait(10), "the association has not ended"
        sluice.wait_for_status("associations", 0)


@pytest.mark.parametrize("option", ["--udp proxy", "--dns udp"])
def test_may_be_asked_for(topology: Topology, chain: DatagramChain, option: str) -> None:
    with Sluice.capturing(topology, MACHINE, URL, *option.split()) as sluice:
        sluice.wait_for_relaying()
        assert ask(topology, "ipv4", PORT) == b"hello"


def test_program(
    topology: Topology, chain: DatagramChain, confined: Confined
) -> None:
    """`exec` has the same."""
    script = (
        "import socket; one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); one.settimeout(5); "
        f"one.sendto(b'well?', ('{AT.server}', {PORT})); print(one.recv(9).decode())")
    done = confined.run(URL, command=["python3", "-c", script])
    assert done.stdout.strip() == "well?", done.stderr
    (association,) = chain.used()
    assert layers(association.datagrams[0], 3)[0] == [RELAYS[1], RELAYS[2], (AT.server, PORT)]


# MARK: Hostile answers

def wrapped(
    first: bytes | None = None, second: bytes | None = None, last: bytes | None = None
) -> bytes:
    """An answer with its three headers, some of them others than the right ones."""
    good = encode(RELAYS[1], b""), encode(RELAYS[2], b""), encode((AT.server, PORT), b"x")
    return b"".join(
        right if given is None else given for given, right in zip((first, second, last), good))


#: Answers of the first hop's relay, and the reason by which each is counted.
CRAFTED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "malformed"),
    "short-first": (encode(RELAYS[1], b"")[:-1], "malformed"),
    "first-alone": (encode(RELAYS[1], b""), "malformed"),
    "short-second": (encode(RELAYS[1], encode(RELAYS[2], b"")[:-1]), "malformed"),
    "both-alone": (wrapped(last=b""), "malformed"),
    "short-last": (wrapped(last=encode((AT.server, PORT), b"")[:-1]), "malformed"),
    "unwrapped": (encode((AT.server, PORT), b"x"), "source_not_allowed"),
    "unwrapped-once": (wrapped(second=b""), "source_not_allowed"),
    "swapped": (wrapped(encode(RELAYS[2], b""), encode(RELAYS[1], b"")), "source_not_allowed"),
    "other-first": (wrapped(encode(("192.0.2.99", 5001), b"")), "source_not_allowed"),
    "other-first-port": (wrapped(encode(("192.0.2.10", 5002), b"")), "source_not_allowed"),
    "other-second": (wrapped(second=encode(("2001:db8::99", 5002), b"")), "source_not_allowed"),
    "name-of-a-relay": (wrapped(encode(("relay.example", 5001), b"")), "source_not_allowed"),
    "first-a-fragment": (wrapped(encode(RELAYS[1], b"", 1)), "fragmented"),
    "second-a-fragment": (wrapped(second=encode(RELAYS[2], b"", 0x81)), "fragmented"),
    "last-a-fragment": (wrapped(last=encode((AT.server, PORT), b"x", 1)), "fragmented"),
    "unknown-type": (wrapped(second=bytes([0, 0, 0, 9]) + bytes(20)), "malformed"),
    "loopback": (wrapped(last=encode(("127.0.0.1", 53), b"x")), "source_not_allowed"),
    "other-family": (
        wrapped(last=encode((ADDRESSES["ipv6"].server, PORT), b"x")), "wrong_family"),
}


def test_hostile_answers_are_dropped_and_counted(
    topology: Topology, chain: DatagramChain, running: Sluice
) -> None:
    times = 3
    with Speaker.of(topology, "ipv4") as speaker:
        assert speaker.ask(b"still there?", (AT.server, PORT)) == b"still there?"
        (association,) = chain.used()
        expected: dict[str, int] = {}
        for name, (datagram, reason) in CRAFTED.items():
            for _ in range(times):
                association.send(datagram)
            expected[reason] = expected.get(reason, 0) + times
            wait_until(
                lambda: running.dropped() == expected, f"{name} to be counted as {reason}")
        association.send(wrapped())
        assert speaker.receive() == (b"x", (AT.server, PORT))
        assert speaker.pending() == 0
        assert running.status()["associations"] == 1


def test_answer_from_another_target_carries_its_source(
    topology: Topology, chain: DatagramChain, running: Sluice
) -> None:
    """Anybody may answer behind the last hop; what an IPv6 socket calls the relay is the same relay."""
    mapped = encode(("::ffff:192.0.2.10", 5001), b"")
    with Speaker.of(topology, "ipv4") as speaker:
        speaker.ask(b"well?", (AT.server, PORT))
        (association,) = chain.used()
        association.send(wrapped(mapped, last=encode((AT.unreachable, 99), b"from elsewhere")))
        assert speaker.receive() == (b"from elsewhere", (AT.unreachable, 99))
    assert running.dropped() == {}
