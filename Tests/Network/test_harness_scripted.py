"""That the servers which the tests of UDP script behave as told: seen without Sluice."""

import random
import threading
from pathlib import Path

import pytest

from harness import dns, upstreams
from harness.associating import Associating, Refused
from harness.relaying import COMMAND_NOT_SUPPORTED, Relaying, encode
from harness.scripted import Behaviour, ScriptedUpstream
from harness.topology import ADDRESSES, Topology

SIZES = [0, 1, 1472, 1500, 9000, 60000]

TARGET = "192.0.2.7", 7


def payload(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_counting_resolver(topology: Topology) -> None:
    """Questions asked at once are answered in reverse."""
    names = ["one.example", "two.example"]
    with dns.CountingResolver(topology.server, round=2) as resolver, \
            topology.client.connect(ADDRESSES["ipv4"].server, dns.PORT) as stream:
        for number, name in enumerate(names):
            question = dns.query(number, name)
            stream.sendall(len(question).to_bytes(2, "big") + question)
        for number in (1, 0):
            answer = dns.take_message(stream)
            assert answer
            assert dns.Message.of(answer).number == number
            assert dns.answered_address(answer) == dns.address_of(names[number])
    assert (resolver.names, len(resolver.peers)) == (names, 1)


class TestScriptedRelay:
    def test_echo_and_log(
        self, topology: Topology, scripted: ScriptedUpstream, family: str
    ) -> None:
        with Associating(topology.client, ADDRESSES[family].proxy) as association:
            for size in SIZES:
                assert association.ask(payload(size), TARGET) == payload(size)
            (seen,) = scripted.used()
            assert [one.payload for one in seen.datagrams] == [payload(size) for size in SIZES]
            assert {one.destination for one in seen.datagrams} == {TARGET}
            assert seen.requested == ("::" if family == "ipv6" else "0.0.0.0", 0)
            seen.hang_up()
            assert association.control.recv(1) == b""

    def test_refuses(self, topology: Topology, scripted: ScriptedUpstream) -> None:
        scripted.behaviour = Behaviour(relaying=Relaying(reply=COMMAND_NOT_SUPPORTED))
        with pytest.raises(Refused, match="7"):
            Associating(topology.client, ADDRESSES["ipv4"].proxy)
        scripted.behaviour = Behaviour(relaying=Relaying(reply=None))
        with pytest.raises(AssertionError, match="hung up"):
            Associating(topology.client, ADDRESSES["ipv4"].proxy)

    def test_closes_after_so_many(self, topology: Topology, scripted: ScriptedUpstream) -> None:
        scripted.behaviour = Behaviour(relaying=Relaying(close_after=2))
        with Associating(topology.client, ADDRESSES["ipv4"].proxy) as association:
            for _ in range(2):
                assert association.ask(b"hello", TARGET) == b"hello"
            assert association.control.recv(1) == b""

    def test_waits(self, topology: Topology, scripted: ScriptedUpstream) -> None:
        gate = threading.Event()
        scripted.behaviour = Behaviour(relaying=Relaying(gate=gate))
        opener = threading.Timer(0.3, gate.set)
        opener.start()
        with Associating(topology.client, ADDRESSES["ipv4"].proxy):
            assert gate.is_set()
        opener.join()

    def test_sends_in_its_name(self, topology: Topology, scripted: ScriptedUpstream) -> None:
        at = ADDRESSES["ipv4"]
        with Associating(topology.client, at.proxy) as association:
            association.ask(b"hello", TARGET)
            (seen,) = scripted.used()
            seen.send(b"anything")
            assert association.speaker.receive() == (b"anything", association.relay)
            seen.spoof(encode(TARGET, b"not from the relay"), at.proxy_exit)
            assert association.speaker.receive()[1] == (at.proxy_exit, seen.port)
            seen.spoof(b"", at.proxy, 4242)
            assert association.speaker.receive()[1] == (at.proxy, 4242)


def test_microsocks_and_openssh_carry_no_udp(topology: Topology, folder: Path) -> None:
    for name in ("microsocks", "openssh"):
        place = folder / f"no-udp-{name}"
        place.mkdir(mode=0o755)
        with upstreams.SERVERS[name](topology.proxy, place):
            with pytest.raises((AssertionError, ConnectionResetError, Refused)):
                Associating(topology.client, ADDRESSES["ipv4"].proxy)
