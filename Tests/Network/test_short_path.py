"""A bulk transfer holds no more in the kernel than a short path needs, and is not paced there; a long one has
all it gets."""

import contextlib
import itertools
import re
import signal
import socket
from pathlib import Path
from typing import Callable, Iterator, TypeVar

import pytest

from harness import upstreams
from harness.distance import LongWay
from harness.namespaces import Namespace
from harness.needs import lack
from harness.restarted import restarted
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

#: What a direction's sockets may hold over a short path (Sources/DataPlane/Relay/ShortPath.swift).
RECEIVED, SENT = 2 << 20, 1 << 20

#: What a client has before its transfer is looked at.
BULK = 4 << 20

#: What waits on the gateway while its relay stands still: several times what it copies at once, so that it takes
#: the direction for a bulk transfer. Where each packet is taken as it comes, it might not.
WAITING = 256 << 10

#: Transfers, of which one has to find its paths short.
ATTEMPTS = 5

#: The far end of a long way, a public address like all others.
NEAR, FAR = "11.9.0.1", "11.9.0.2"


def send_on(stream: socket.socket) -> None:
    """Once it is asked, sends until the other side has enough."""
    stream.recv(1)
    block = bytes(1 << 16)
    for _ in itertools.count():
        stream.sendall(block)


@pytest.fixture
def source(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy, Behaviour(target=send_on)) as server:
        yield server


def connections(host: Namespace, peer: str) -> list[str]:
    """A host's connections with an address, as ss(8) tells them."""
    words = ["ss", "-HntmO", "state", "established", "dst", f"[{peer}]" if ":" in peer else peer]
    return host.run(*words).stdout.splitlines()


def fields(host: Namespace, peer: str, pattern: str) -> tuple[int, ...]:
    """Numbers of a host's one connection with an address."""
    listing = connections(host, peer)
    assert len(listing) == 1, listing
    found = re.search(pattern, listing[0])
    assert found, listing
    return tuple(map(int, found.groups()))


def buffers(host: Namespace, peer: str) -> tuple[int, int]:
    """The limits of the receive and the send buffer of a host's one connection with an address."""
    received, sent = fields(host, peer, r"skmem:\(r\d+,rb(\d+),t\d+,tb(\d+)")
    return received, sent


def waiting(host: Namespace, peer: str) -> int:
    """Bytes that its program has not taken."""
    return fields(host, peer, r"^(\d+) ")[0]


@contextlib.contextmanager
def standing_still(relay: Sluice) -> Iterator[None]:
    relay.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        relay.signal(signal.SIGCONT)


def receive(stream: socket.socket, count: int) -> None:
    while count > 0:
        count -= len(stream.recv(min(count, 1 << 16)))


Looked = TypeVar("Looked")


def downloaded(
    relay: Sluice, gateway: Namespace, client: Namespace, target: str, upstream: str,
    look: Callable[[str], Looked],
) -> Looked:
    """What `look` sees of the connection with the client, whose address it is told, when the relay has taken a
    bulk transfer for one."""
    with client.connect(target, 80) as stream:
        stream.sendall(b"x")
        # The kernel lets more wait once it has seen some being taken.
        receive(stream, BULK // 2)
        with standing_still(relay):
            wait_until(
                lambda: waiting(gateway, upstream) >= WAITING, "that enough waits for the relay")
        receive(stream, BULK // 2)
        seen = look(stream.getsockname()[0])
    wait_until(lambda: not connections(gateway, upstream), "the transfer to be over")
    return seen


def held(
    relay: Sluice, gateway: Namespace, client: Namespace, target: str, upstream: str
) -> tuple[int, int]:
    """What a bulk transfer's receive and send buffers on the gateway are limited to."""
    return downloaded(
        relay, gateway, client, target, upstream,
        lambda sender: (buffers(gateway, upstream)[0], buffers(gateway, sender)[1]))


def short_side(attempt: Callable[[], tuple[int, int]]) -> tuple[int, int]:
    """The first transfer to whose client the way was found short: a round trip that was measured while the
    machine had other things to do is not."""
    for _ in range(ATTEMPTS):
        received, sent = attempt()
        if sent == SENT:
            break
    return received, sent


def test_over_short_paths_both_sides_are_bounded(
    topology: Topology, family: str, source: ScriptedUpstream
) -> None:
    at, gateway = ADDRESSES[family], topology.gateway
    with Sluice(gateway, upstreams.url(at.proxy), "--gateway", "lan0") as relay:
        limits = short_side(lambda: held(relay, gateway, topology.client, at.server, at.proxy))
    assert limits == (RECEIVED, SENT)


def test_a_long_path_is_left_to_the_kernel(topology: Topology, source: ScriptedUpstream) -> None:
    at = ADDRESSES["ipv4"]
    ends = (topology.gateway, NEAR), (topology.proxy, FAR)
    with LongWay(*ends, seconds=0.005), \
            Sluice(topology.gateway, upstreams.url(FAR), "--gateway", "lan0") as relay:
        received, sent = short_side(
            lambda: held(relay, topology.gateway, topology.client, at.server, FAR))
    assert received != RECEIVED
    assert sent == SENT


# Where the system has connections paced.

PACED, UNPACED = "bbr", "reno"


@pytest.fixture
def pacing(topology: Topology) -> Iterator[None]:
    """The gateway's system has connections paced."""
    name, host = "net/ipv4/tcp_congestion_control", topology.gateway
    if PACED not in host.read_sysctl("net/ipv4/tcp_allowed_congestion_control").split():
        lack(f"{PACED} is not there for everybody (net.ipv4.tcp_allowed_congestion_control)")
    before = host.read_sysctl(name)
    host.write_sysctl(name, PACED)
    try:
        yield
    finally:
        host.write_sysctl(name, before)


@pytest.fixture
def sink(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy, Behaviour(target=swallow)) as server:
        yield server


def swallow(stream: socket.socket) -> None:
    while stream.recv(1 << 16):
        pass


def congestion(host: Namespace, peer: str) -> str:
    """The congestion control of a host's one connection with an address."""
    listing = host.run("ss", "-HntiO", "state", "established", "dst", peer).stdout.splitlines()
    assert len(listing) == 1, listing
    found = re.search(rf"\s({PACED}|{UNPACED})\s", listing[0])
    assert found, listing
    return found[1]


def after_upload(relay: Sluice, topology: Topology, target: str, upstream: str) -> str:
    """Of the connection on which one goes on to the upstream."""
    with topology.client.connect(target, 80) as stream:
        stream.sendall(bytes(BULK // 2))
        with standing_still(relay):
            stream.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    stream.send(bytes(1 << 16))
            stream.setblocking(True)
            client = stream.getsockname()[0]
            wait_until(lambda: waiting(topology.gateway, client) >= WAITING, "enough to wait")
        stream.sendall(bytes(BULK // 2))
        wait_until(lambda: any(one.startswith("pipe:") for one in relay.descriptors()), "the stream to be spliced")
        name = congestion(topology.gateway, upstream)
    wait_until(lambda: not connections(topology.gateway, upstream), "the transfer to be over")
    return name


def unpaced_once(attempt: Callable[[], str]) -> bool:
    return any(attempt() == UNPACED for _ in range(ATTEMPTS))


def test_a_short_path_to_clients_is_not_paced(
    pacing: None, topology: Topology, source: ScriptedUpstream
) -> None:
    at = ADDRESSES["ipv4"]
    with Sluice(topology.gateway, upstreams.url(at.proxy), "--gateway", "lan0") as relay:
        assert unpaced_once(lambda: downloaded(
            relay, topology.gateway, topology.client, at.server, at.proxy,
            lambda client: congestion(topology.gateway, client)))


@pytest.fixture
def far_client(topology: Topology) -> Iterator[str]:
    """The client's address at a long way to the gateway, by which it goes to `unreachable`."""
    with LongWay((topology.gateway, NEAR), (topology.client, FAR), seconds=0.005):
        topology.client.ip(f"route add {ADDRESSES['ipv4'].unreachable} via {NEAR} dev long0")
        yield FAR


def leave_pacing(relay: Sluice, topology: Topology) -> None:
    """Has the relay find out that a client is near."""
    at = ADDRESSES["ipv4"]
    assert unpaced_once(lambda: downloaded(
        relay, topology.gateway, topology.client, at.server, at.proxy,
        lambda client: congestion(topology.gateway, client)))


def check_far_client_is_paced(relay: Sluice, topology: Topology, far_client: str) -> None:
    """Of clients that begin without pacing a far one gets it, and a near one does not."""
    at, gateway = ADDRESSES["ipv4"], topology.gateway
    with contextlib.ExitStack() as streams:
        with standing_still(relay):
            streams.enter_context(topology.client.connect(at.unreachable, 80))
            wait_until(lambda: connections(gateway, far_client), "the handshake's last packet")
            assert congestion(gateway, far_client) == UNPACED
        wait_until(
            lambda: congestion(gateway, far_client) == PACED, "that the far client's is paced")
    wait_until(lambda: not connections(gateway, at.proxy), "its end")

    def begun() -> str:
        with topology.client.connect(at.server, 80):
            wait_until(lambda: connections(gateway, at.proxy), "the relay to begin")
            seen = congestion(gateway, at.client)
        wait_until(lambda: not connections(gateway, at.proxy), "its end")
        return seen

    assert unpaced_once(begun)


def test_clients_begin_unpaced_and_far_ones_are_paced(
    pacing: None, topology: Topology, source: ScriptedUpstream, far_client: str
) -> None:
    with Sluice(
        topology.gateway, upstreams.url(ADDRESSES["ipv4"].proxy), "--gateway", "lan0", "--gateway", "long0",
        "--workers", "1",
    ) as relay:
        leave_pacing(relay, topology)
        check_far_client_is_paced(relay, topology, far_client)


def test_far_clients_are_paced_after_a_handover(
    pacing: None, topology: Topology, source: ScriptedUpstream, far_client: str, tmp_path: Path
) -> None:
    """The next process has listeners that accept without pacing."""
    with restarted(
        tmp_path / "notify", topology.gateway, upstreams.url(ADDRESSES["ipv4"].proxy), "--gateway", "lan0",
        "--gateway", "long0", "--workers", "1",
    ) as service:
        run = service.start()
        leave_pacing(run, topology)
        service.hand_over(run)
        run = service.start()
        check_far_client_is_paced(run, topology, far_client)
        run.finish()


def test_a_short_path_to_the_upstream_is_not_paced(
    pacing: None, topology: Topology, sink: ScriptedUpstream
) -> None:
    at = ADDRESSES["ipv4"]
    with Sluice(topology.gateway, upstreams.url(at.proxy), "--gateway", "lan0") as relay:
        assert unpaced_once(lambda: after_upload(relay, topology, at.server, at.proxy))
        with topology.client.connect(at.server, 80):
            wait_until(lambda: connections(topology.gateway, at.proxy), "the next connection")
            assert congestion(topology.gateway, at.proxy) == UNPACED


def test_a_chosen_congestion_control_stays(
    pacing: None, topology: Topology, sink: ScriptedUpstream
) -> None:
    at = ADDRESSES["ipv4"]
    with Sluice(
        topology.gateway, upstreams.url(at.proxy), "--gateway", "lan0", "--congestion", PACED
    ) as relay:
        assert not unpaced_once(lambda: after_upload(relay, topology, at.server, at.proxy))


def test_a_long_path_is_paced(
    pacing: None, topology: Topology, sink: ScriptedUpstream
) -> None:
    at = ADDRESSES["ipv4"]
    ends = (topology.gateway, NEAR), (topology.proxy, FAR)
    with LongWay(*ends, seconds=0.005), \
            Sluice(topology.gateway, upstreams.url(FAR), "--gateway", "lan0") as relay:
        assert after_upload(relay, topology, at.server, FAR) == PACED
