"""A bulk transfer holds no more in the kernel than a short path needs, and a long one all it gets."""

import itertools
import re
import socket
from typing import Iterator

import pytest

from harness import upstreams
from harness.distance import LongWay
from harness.namespaces import Namespace
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Sluice
from harness.topology import ADDRESSES, Topology

#: What a direction's sockets may hold over a short path (Sources/DataPlane/Relay/InFlightBound.swift).
RECEIVED, SENT = 2 << 20, 1 << 20

#: Much more than a direction copies before it splices.
BULK = 4 << 20

#: The far end of a long way, a public address like all others.
NEAR, FAR = "11.9.0.1", "11.9.0.2"


def send_on(stream: socket.socket) -> None:
    """Sends until the other side has enough."""
    block = bytes(1 << 16)
    for _ in itertools.count():
        stream.sendall(block)


@pytest.fixture
def source(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy, Behaviour(target=send_on)) as server:
        yield server


def buffers(host: Namespace, peer: str) -> tuple[int, int]:
    """The limits of the receive and the send buffer of a host's one connection with an address."""
    words = ["ss", "-HntmO", "state", "established", "dst", f"[{peer}]" if ":" in peer else peer]
    listing = host.run(*words).stdout.splitlines()
    assert len(listing) == 1, listing
    found = re.search(r"skmem:\(r\d+,rb(\d+),t\d+,tb(\d+)", listing[0])
    assert found, listing
    return int(found[1]), int(found[2])


def take(client: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(client.recv(min(count, 1 << 16)))


def test_over_short_paths_both_sides_are_bounded(
    topology: Topology, family: str, source: ScriptedUpstream
) -> None:
    at, gateway = ADDRESSES[family], topology.gateway
    with Sluice(gateway, upstreams.url(at.proxy), "--gateway", "lan0"), \
            topology.client.connect(at.server, 80) as client:
        take(client, BULK)
        received, sent = buffers(gateway, at.proxy)[0], buffers(gateway, at.client)[1]
    assert (received, sent) == (RECEIVED, SENT)


def test_a_long_path_is_left_to_the_kernel(topology: Topology, source: ScriptedUpstream) -> None:
    at = ADDRESSES["ipv4"]
    ends = (topology.gateway, NEAR), (topology.proxy, FAR)
    with LongWay(*ends, seconds=0.005), \
            Sluice(topology.gateway, upstreams.url(FAR), "--gateway", "lan0"), \
            topology.client.connect(at.server, 80) as client:
        take(client, BULK)
        received, sent = buffers(topology.gateway, FAR)[0], buffers(topology.gateway, at.client)[1]
    assert received != RECEIVED
    assert sent == SENT
