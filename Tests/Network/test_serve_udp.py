"""`sluice serve` relays datagrams between hosts: sizes beyond the links' MTU, bursts, third parties."""

import contextlib
import socket
import struct
from typing import Iterator

import pytest

from harness.associating import Associating, Refused
from harness.datagrams import bind, number_of
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Capture, Sluice, binary
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import PATIENCE, wait_until

PORT = 1080

#: linux/udp.h
UDP_SEGMENT = 103


@contextlib.contextmanager
def serving(topology: Topology, family: str, *options: str) -> Iterator[Program]:
    address = ADDRESSES[family].proxy
    listen = f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"
    with Program(topology.proxy, binary(), "serve", "--listen", listen, *options) as program:
        program.wait_for_port(PORT)
        yield program


def target(host: Namespace, address: str) -> socket.socket:
    receiver = bind(host, address)
    receiver.settimeout(PATIENCE)
    return receiver


@pytest.fixture(params=FAMILIES)
def served(request: pytest.FixtureRequest, topology: Topology) -> Iterator[str]:
    """A server that clients reach by this family."""
    with serving(topology, request.param):
        yield request.param


@pytest.fixture
def association(topology: Topology, served: str) -> Iterator[Associating]:
    with Associating(topology.client, ADDRESSES[served].proxy, PORT) as client:
        yield client


def test_every_size_echoes(topology: Topology, association: Associating, family: str) -> None:
    at = ADDRESSES[family]
    with target(topology.server, at.server) as server:
        port = server.getsockname()[1]
        for size in 0, 1, 1452, 1472, 1473, 1500, 9000, 60000:
            payload = bytes(index * 7 & 255 for index in range(size))
            association.send(payload, (at.server, port))
            heard, source = server.recvfrom(65536)
            assert heard == payload
            assert source[0] == at.proxy_exit
            server.sendto(heard, source)
            assert association.receive() == (payload, (at.server, port))


def test_burst_of_answers(topology: Topology, association: Associating) -> None:
    """Each in one message of the target's; the last are too large for the link behind a header."""
    at = ADDRESSES["ipv4"]
    with target(topology.server, at.server) as server:
        port = server.getsockname()[1]
        association.send(b"?", (at.server, port))
        _, source = server.recvfrom(65536)
        for size in 64, 1200, 1472:
            payloads = [bytes([index]) * size for index in range(40)]
            segment = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("H", size))]
            server.sendmsg([b"".join(payloads)], segment, 0, source)
            for payload in payloads:
                assert association.receive() == (payload, (at.server, port))


def test_third_party(topology: Topology, association: Associating, family: str) -> None:
    at = ADDRESSES[family]
    with target(topology.server, at.server) as server, \
            target(topology.gateway, at.gateway_wan) as third:
        association.send(b"1", (at.server, server.getsockname()[1]))
        _, source = server.recvfrom(64)
        association.send(b"2", (at.gateway_wan, third.getsockname()[1]))
        _, other = third.recvfrom(64)
        assert other[1] == source[1]
        third.sendto(b"3", source)
        assert association.receive() == (b"3", (at.gateway_wan, third.getsockname()[1]))


def test_ends_with_the_control_connection(
    topology: Topology, served: str, association: Associating
) -> None:
    with target(topology.server, ADDRESSES["ipv4"].server) as server:
        association.send(b"1", (ADDRESSES["ipv4"].server, server.getsockname()[1]))
        server.recvfrom(64)
    sockets = lambda: topology.proxy.run("ss", "-Huna").stdout
    assert f":{association.relay[1]} " in sockets()
    association.control.close()
    wait_until(lambda: not sockets(), "the sockets of the association to be closed")


def test_captured_datagrams_are_counted_once(topology: Topology, family: str) -> None:
    """Through the embedded server of `run`: the target sees the gateway, the summary one sender."""
    at = ADDRESSES[family]
    sizes = 0, 1, 1472, 9000, 60000
    sluice = Sluice.capturing(topology, Capture("gateway", "tproxy"), "embedded")
    with sluice, target(topology.server, at.server) as server, \
            topology.client.open_socket(number_of(at.client), socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.connect(server.getsockname()[:2])
        for size in sizes:
            client.send(bytes(size))
            heard, source = server.recvfrom(65536)
            assert (heard, source[0]) == (bytes(size), at.gateway_wan)
            server.sendto(heard, source)
            assert client.recv(65536) == bytes(size)
        summary = sluice.finish()
    assert int(summary["associations_opened"]) == 1
    assert int(summary["datagrams_upstream"]) == len(sizes)
    assert int(summary["datagrams_downstream"]) == len(sizes)
    assert not summary["datagrams_dropped"]


def test_refused(topology: Topology) -> None:
    with serving(topology, "ipv4", "--no-udp"):
        with pytest.raises(Refused, match="7"):
            Associating(topology.client, ADDRESSES["ipv4"].proxy, PORT)
