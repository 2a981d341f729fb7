"""Datagrams made to do harm, from the server's side: dropped, counted, and without effect on others."""

import ipaddress
from typing import Callable, Iterator

import pytest

from harness import upstreams
from harness.datagrams import Endpoint, Speaker
from harness.relaying import encode
from harness.scripted import ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

PORT = 4242

#: Where a case of many is tried: how packets are captured makes no difference to it.
GATEWAY = Capture("gateway", "tproxy")

#: How often each datagram is sent.
TIMES = 5


def target(family: str) -> Endpoint:
    return ADDRESSES[family].server, PORT


def other(family: str) -> str:
    return "ipv6" if family == "ipv4" else "ipv4"


def address_type(family: str) -> bytes:
    return b"\x04" if family == "ipv6" else b"\x01"


def with_type(kind: int) -> bytes:
    return bytes([0, 0, 0, kind]) + bytes(40)


#: What the relay sends, by the client's family, and the reason by which it is counted.
CRAFTED: dict[str, tuple[Callable[[str], bytes], str]] = {
    "empty": (lambda _: b"", "malformed"),
    "one-byte": (lambda _: b"\0", "malformed"),
    "fixed-part-only": (lambda family: bytes(3) + address_type(family), "malformed"),
    "half-an-address": (
        lambda family: encode(target(family), b"")[:6], "malformed"),
    "no-port": (lambda family: encode(target(family), b"")[:-2], "malformed"),
    "half-a-port": (lambda family: encode(target(family), b"")[:-1], "malformed"),
    "name-longer-than-datagram": (lambda _: b"\0\0\0\x03\xffshort", "malformed"),
    "type-0": (lambda _: with_type(0), "malformed"),
    "type-2": (lambda _: with_type(2), "malformed"),
    "type-255": (lambda _: with_type(255), "malformed"),
    "first-fragment": (lambda family: encode(target(family), b"part", 1), "fragmented"),
    "last-fragment": (lambda family: encode(target(family), b"part", 0x81), "fragmented"),
    "other-family": (lambda family: encode(target(other(family)), b"x"), "wrong_family"),
    "loopback": (
        lambda family: encode(("::1" if family == "ipv6" else "127.0.0.1", 53), b"x"),
        "source_not_allowed"),
    "unspecified": (
        lambda family: encode(("::" if family == "ipv6" else "0.0.0.0", 53), b"x"),
        "source_not_allowed"),
    "multicast": (
        lambda family: encode(("ff02::fb" if family == "ipv6" else "224.0.0.251", 5353), b"x"),
        "source_not_allowed"),
    "port-0": (lambda family: encode((ADDRESSES[family].server, 0), b"x"), "source_not_allowed"),
}


class Victim:
    """A flow with an association that the tests may misuse."""

    def __init__(
        self, sluice: Sluice, scripted: ScriptedUpstream, speaker: Speaker, family: str
    ) -> None:
        self.sluice, self.speaker, self.family = sluice, speaker, family
        self.check_alive()
        (self.association,) = scripted.used()

    def check_alive(self) -> None:
        """Its own question is answered, and by nothing else."""
        assert self.speaker.ask(b"still there?", target(self.family)) == b"still there?"
        assert self.speaker.pending() == 0


@pytest.fixture
def victim(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream, family: str
) -> Iterator[Victim]:
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy)
    with Sluice.capturing(topology, scope, upstream) as sluice, \
            Speaker.of(topology, family) as speaker:
        sluice.wait_for_relaying()
        yield Victim(sluice, scripted, speaker, family)


@pytest.mark.parametrize("scope", [GATEWAY], ids=str)
@pytest.mark.parametrize("crafted", CRAFTED)
def test_crafted_datagram_is_dropped_and_counted(
    victim: Victim, family: str, crafted: str
) -> None:
    make, reason = CRAFTED[crafted]
    for _ in range(TIMES):
        victim.association.send(make(family))
    wait_until(lambda: victim.sluice.dropped() == {reason: TIMES}, f"{TIMES} to be {reason}")
    victim.check_alive()
    assert victim.sluice.status()["associations"] == 1


def test_source_named_by_name(victim: Victim, family: str) -> None:
    """Nobody asked for a name, so it belongs to no answer."""
    for _ in range(TIMES):
        victim.association.send(encode(("server.example", PORT), b"x"))
    wait_until(lambda: sum(victim.sluice.dropped().values()) == TIMES, "all to be dropped")
    assert set(victim.sluice.dropped()) <= {"source_not_allowed", "malformed"}
    victim.check_alive()


def test_empty_answer_is_no_malformed_one(victim: Victim, family: str) -> None:
    """The least that is whole: a header."""
    victim.association.send(encode(target(family), b""))
    assert victim.speaker.receive() == (b"", target(family))
    assert victim.sluice.dropped() == {}


def test_datagrams_between_good_ones(victim: Victim, family: str) -> None:
    """Read in one go, each is judged by itself."""
    rounds = 50
    for number in range(rounds):
        text = f"good {number}".encode()
        for make, _ in CRAFTED.values():
            victim.association.send(make(family))
        victim.association.send(encode(target(family), text))
        assert victim.speaker.receive() == (text, target(family))
    victim.check_alive()
    assert sum(victim.sluice.dropped().values()) == rounds * len(CRAFTED)


@pytest.mark.parametrize("spoofer", ["other-address", "other-port", "both"])
def test_spoofed_relay(
    topology: Topology, victim: Victim, family: str, spoofer: str
) -> None:
    """Only the relay itself may send to an association: its address and its port."""
    at = ADDRESSES["ipv4"]
    address = at.proxy if spoofer == "other-port" else at.proxy_exit
    port = None if spoofer == "other-address" else 4343
    for _ in range(TIMES):
        victim.association.spoof(encode(target(family), b"believe me"), address, port)
    # What is sent after it and comes shows that it would have come.
    victim.association.send(encode(target(family), b"genuine"))
    assert victim.speaker.receive() == (b"genuine", target(family))
    victim.check_alive()
    assert set(victim.sluice.dropped()) <= {"source_not_allowed"}


def test_answer_larger_than_any_datagram(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream
) -> None:
    """By IPv6 a relay can send more than fits into a datagram by IPv4."""
    with Sluice.capturing(topology, scope, upstreams.url(ADDRESSES["ipv6"].proxy)) as sluice, \
            Speaker.of(topology, "ipv4") as speaker:
        sluice.wait_for_relaying()
        victim = Victim(sluice, scripted, speaker, "ipv4")
        header = len(encode(target("ipv4"), b""))
        victim.association.send(encode(target("ipv4"), bytes(65527 - header)))
        wait_until(lambda: sluice.dropped() == {"too_large": 1}, "the datagram to be dropped")
        victim.check_alive()
        victim.association.send(encode(target("ipv4"), bytes(65507)))
        assert speaker.receive() == (bytes(65507), target("ipv4"))


def test_answer_from_anywhere_carries_its_source(
    topology: Topology, victim: Victim, family: str
) -> None:
    """Whoever the server says it is from, as long as that can be: endpoint-independent filtering."""
    at = ADDRESSES[family]
    network = ipaddress.ip_network(f"{at.unreachable}/{'64' if family == 'ipv6' else '24'}", False)
    sources = [(str(network[number]), 1000 + number) for number in range(1, 200)]
    for source in sources:
        victim.association.send(encode(source, repr(source).encode()))
    for source in sources:
        assert victim.speaker.receive() == (repr(source).encode(), source)
    descriptors = len(victim.sluice.descriptors())
    victim.check_alive()
    assert victim.sluice.dropped() == {}
    assert descriptors < 100, "a descriptor per source"


def test_association_of_the_server_for_a_client_that_is_gone(
    victim: Victim, topology: Topology, family: str
) -> None:
    """Nobody listens any more: the client's host says so, and the run goes on."""
    victim.speaker.socket.close()
    for _ in range(100):
        victim.association.send(encode(target(family), b"anybody?"))
    with Speaker.of(topology, family) as speaker:
        assert speaker.ask(b"and me?", target(family)) == b"and me?"
