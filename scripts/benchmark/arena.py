"""Where the contestants meet: three hosts in a row, and the two ends of the traffic.

    client ──lan0── gateway ──wan0── server
                  (contestant)     (SOCKS5 server and target in one program, see peer)
"""

import contextlib
import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from benchmark.distance import LongWay
from lib.netns import Lab, wait_until

PREFIX = "slb"

# Public-looking addresses: private ones are bypassed by default.
GATEWAY_LAN = "11.84.1.1"
CLIENT_NETWORK = "11.84.1.0/24"
CLIENT = "11.84.1.2"
GATEWAY_WAN = "11.84.2.1"
SERVER = "11.84.2.2"
TARGET = "11.84.3.3"
SOCKS_PORT = 1080
TARGET_PORT = 9000
# Of new connections; a host begins with that of the machine.
CONGESTION_CONTROL = Path("/proc/sys/net/ipv4/tcp_congestion_control")
# The first of the source ports of datagrams.
FIRST_PORT = 20000


class NotRelayed(Exception):
    """The traffic did not go the way that the contestant claims, or not all of it arrived."""


@dataclass(frozen=True)
class Transfer:
    """One stream from its first byte to its end, as the receiving side saw it."""

    size: int
    seconds: float

    @property
    def gibibytes(self):
        return self.size / 2**30


@dataclass(frozen=True)
class Load:
    """Datagrams that the client sends: on how many flows, of which size, and which way.

    With `echo` they come back and are counted at the client, which has at most 64 under way; else
    they are counted at the target, and the client sends as fast as it can. They arrive one by one, or,
    with `joined`, 16 as one packet of the kernel's (GSO): so they come from programs of the same
    machine and from virtual machines, and from a network card that joins what it receives.
    """

    flows: int
    size: int
    echo: bool
    joined: bool = False


@dataclass(frozen=True)
class Exchange:
    """What became of a load: `delivered` within `seconds`, `arrived` at all."""

    sent: int
    arrived: int
    delivered: int
    seconds: float
    processor_seconds: float


class Client:
    """A load that is running on the client; it speaks in lines of JSON."""

    def __init__(self, process):
        self._process = process

    def read(self):
        """The next line; raises NotRelayed when there is none."""
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise NotRelayed(f"the client failed: {self._process.stderr.read().strip()}")
        return json.loads(line)

    def proceed(self):
        """Lets it go on after a line."""
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # The next read tells why.


@dataclass(frozen=True)
class UnderWay:
    """A transfer that has been started."""

    stack: contextlib.ExitStack
    client: Client
    contestant: object
    role: str
    streams: int


class Arena:
    """The hosts, and the program that is SOCKS5 server and target; for a `with` block.

    For one visit: what a contestant leaves there is in the way of the next. Ports of ended connections
    rest for a minute, and the kernel tries one after the other for a new one; connection tracking
    remembers flows, and who leaves older ones alone would not touch these.

    `peer` is the path of the compiled program of peer/, `preload` that of the library that counts
    allocations; contestants may keep files in `folder`. All hosts have the congestion control
    `congestion`, the machine's if that is None.
    """

    def __init__(self, peer, preload, folder, congestion=None):
        self.folder = folder
        self.peer = peer
        self.allocations = folder / "allocations"
        self._preload = preload
        self._congestion = congestion
        self._lab = Lab(PREFIX, "client", "gateway", "server")
        self._served = queue.SimpleQueue()

    def __enter__(self):
        self._lab.__enter__()
        try:
            self._build()
        except BaseException:
            self._lab.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self._lab.__exit__()

    @property
    def lab(self):
        return self._lab

    @property
    def client(self):
        return self._lab["client"]

    @property
    def gateway(self):
        return self._lab["gateway"]

    @contextlib.contextmanager
    def distant_server(self, milliseconds):
        """A round trip to the server, which has the target too, takes so much longer."""
        way = LongWay(
            self.gateway, self._lab["server"], SERVER, GATEWAY_WAN, milliseconds / 1e3)
        with way:
            yield

    def environment(self, setup):
        """The environment for a contestant that is started with a setup."""
        added = {}
        if setup.single_worker:
            added["GOMAXPROCS"] = "1"
        if setup.counts_allocations:
            added |= {"LD_PRELOAD": str(self._preload), "ALLOCATIONS": str(self.allocations)}
        return os.environ | added

    def _build(self):
        client, gateway, server = self.client, self.gateway, self._lab["server"]
        if self._congestion:
            for host in (client, gateway, server):
                with host.entered():
                    CONGESTION_CONTROL.write_text(self._congestion)
        self._lab.cable(client, "lan0", gateway, "lan0")
        self._lab.cable(gateway, "wan0", server, "wan0")
        gateway.plug("lan0", f"{GATEWAY_LAN}/24")
        gateway.plug("wan0", f"{GATEWAY_WAN}/24")
        server.plug("wan0", f"{SERVER}/24")
        server.plug("lo", f"{TARGET}/32")
        gateway.forward()
        client.plug("lan0", f"{CLIENT}/24")
        client.ip(f"route add default via {GATEWAY_LAN}")
        server.ip(f"route add default via {GATEWAY_WAN}")
        gateway.ip(f"route add {TARGET} via {SERVER}")
        self._spare_ports()
        self._lab.settle()
        process = self._lab.spawn(
            server, self.peer, "serve", SERVER, str(SOCKS_PORT), TARGET, str(TARGET_PORT),
            stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()
        for port in (SOCKS_PORT, TARGET_PORT):
            wait_until(lambda port=port: server.listens(port), f"the target on port {port}")

    def _spare_ports(self):
        """Thousands of connections a second are made here: nobody is to run out of ports, nor the
        connection tracking of places."""
        with self.client.entered():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000")
        with self.gateway.entered():
            Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("13000 65000")
            # There once connection tracking is in the kernel.
            timeout = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait")
            if timeout.exists():
                timeout.write_text("5")

    def _read(self, lines):
        for line in lines:
            self._served.put(json.loads(line))

    def source(self, contestant):
        """The host that the target has to see."""
        return GATEWAY_WAN if contestant.is_relay else CLIENT

    @contextlib.contextmanager
    def loaded(self, load, contestant, *arguments):
        """Runs a load of the peer's on the contestant's client for the block; gives it as a Client."""
        route = [TARGET, TARGET_PORT]
        if contestant.socks_server:
            route = [*contestant.socks_server, "socks", *route]
        process = self._lab.spawn(
            contestant.client(self), self.peer, load, *map(str, (*route, *arguments)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with process.stdin, process.stdout, process.stderr:
            try:
                yield Client(process)
            finally:
                self._lab.stop(process)

    def transfer(self, contestant, role, seconds, streams=1):
        """So many streams of so many seconds, for which the target is "source" or "sink" or, both ends
        giving way to all other processes, "behind" as a source; checked from end to end.

        Raises NotRelayed unless the target was asked for in the way that the contestant claims, by
        the right host, and every byte sent arrived.
        """
        return self.finish_transfer(self.start_transfer(contestant, role, seconds, streams))

    def start_transfer(self, contestant, role, seconds, streams=1):
        """Only starts it; for `finish_transfer`."""
        stack = contextlib.ExitStack()
        client = stack.enter_context(self.loaded(
            "load", contestant, role, round(seconds * 1000), streams))
        return UnderWay(stack, client, contestant, role, streams)

    def finish_transfer(self, under_way):
        """Waits for the end of what was started."""
        with under_way.stack:
            loaded = under_way.client.read()
        try:
            served = [self._served.get(timeout=30) for _ in range(under_way.streams)]
        except queue.Empty:
            raise NotRelayed("the target saw no connection") from None
        expected = {
            "socks": under_way.contestant.through_socks,
            "peer": self.source(under_way.contestant),
            "destination": f"{TARGET}:{TARGET_PORT}",
        }
        for stream in served:
            seen = {name: stream[name] for name in expected}
            seen["peer"] = seen["peer"].rpartition(":")[0]
            if seen != expected:
                raise NotRelayed(f"the target saw {seen}, expected was {expected}")
        size = sum(stream["bytes"] for stream in served)
        if not 0 < size == loaded["bytes"]:
            raise NotRelayed(f"{size} bytes at the target, {loaded['bytes']} at the client")
        slowest = max(stream["seconds"] for stream in served)
        return Transfer(size, slowest if under_way.role == "sink" else loaded["seconds"])

    def exchange(self, load, seconds, contestant, clock):
        """Sends datagrams for so many seconds after each flow was opened; `clock` gives the
        processor time of the contestant.

        Raises NotRelayed unless every flow was answered, and every datagram reached the target in
        the way that the contestant claims, by the right host, and came back intact.
        """
        done = self._send_datagrams(load, seconds, contestant, clock)
        expected = {
            "socks": contestant.through_socks,
            "host": self.source(contestant),
            "foreign": 0,
            "damaged": 0,
        }
        seen = {name: done[name] for name in expected}
        if seen != expected:
            raise NotRelayed(f"the target saw {seen}, expected was {expected}")
        if not 0 < done["arrived"] <= done["sent"]:
            raise NotRelayed(f"{done['arrived']} datagrams arrived of {done['sent']}")
        return Exchange(
            done["sent"], done["arrived"], done["delivered"], done["seconds"],
            done["processor_seconds"])

    def _send_datagrams(self, load, seconds, contestant, clock):
        """The client's last line, and how far the contestant's clock went while it was measured."""
        contestant.client(self).run(
            "ethtool", "-K", contestant.interface, "tx-udp-segmentation",
            "on" if load.joined else "off")
        arguments = (
            "echo" if load.echo else "up", FIRST_PORT, load.flows, load.size,
            round(seconds * 1000))
        with self.loaded("datagrams", contestant, *arguments) as client:
            client.read()
            before = clock()
            result = client.read()
            return result | {"processor_seconds": clock() - before}
