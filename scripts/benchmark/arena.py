"""Where the contestants meet: three hosts in a row, and the two ends of the traffic.

    client ──lan0── gateway ──wan0── server
                  (contestant)     (SOCKS5 server and target in one program, see peer)
"""

import itertools
import json
import queue
import subprocess
import threading
from dataclasses import dataclass

from lib.netns import Lab, wait_until

PREFIX = "slb"

# Public-looking addresses: private ones are bypassed by default.
CLIENT = "11.84.1.2"
GATEWAY_LAN = "11.84.1.1"
GATEWAY_WAN = "11.84.2.1"
SERVER = "11.84.2.2"
TARGET = "11.84.3.3"
SOCKS_PORT = 1080
TARGET_PORT = 9000


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


class Arena:
    """The hosts, and the program that is SOCKS5 server and target; for a `with` block.

    `peer` is the path of the compiled program of peer/; contestants may keep files in `folder`.
    """

    def __init__(self, peer, folder):
        self.folder = folder
        self._peer = peer
        self._lab = Lab(PREFIX, "client", "gateway", "server")
        self._served = queue.SimpleQueue()
        self._port_ranges = itertools.cycle(range(20000, 60000, 1000))
        self._first_port = next(self._port_ranges)

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

    def _build(self):
        client, gateway, server = self._lab["client"], self._lab["gateway"], self._lab["server"]
        self._lab.cable(client, "lan0", gateway, "lan0")
        self._lab.cable(gateway, "wan0", server, "wan0")
        client.plug("lan0", f"{CLIENT}/24")
        gateway.plug("lan0", f"{GATEWAY_LAN}/24")
        gateway.plug("wan0", f"{GATEWAY_WAN}/24")
        server.plug("wan0", f"{SERVER}/24")
        server.plug("lo", f"{TARGET}/32")
        gateway.forward()
        client.ip(f"route add default via {GATEWAY_LAN}")
        server.ip(f"route add default via {GATEWAY_WAN}")
        gateway.ip(f"route add {TARGET} via {SERVER}")
        self._lab.settle()
        process = self._lab.spawn(
            server, self._peer, "serve", SERVER, str(SOCKS_PORT), TARGET, str(TARGET_PORT),
            stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(process.stdout,), daemon=True).start()
        for port in (SOCKS_PORT, TARGET_PORT):
            wait_until(lambda port=port: server.listens(port), f"the target on port {port}")

    def _read(self, lines):
        for line in lines:
            self._served.put(json.loads(line))

    def transfer(self, upload, seconds, contestant):
        """One stream of so many seconds from the contestant's client; checked from end to end.

        Raises NotRelayed unless the target was asked for in the way that the contestant claims, by
        the right host, and every byte sent arrived.
        """
        through_socks = contestant.through_socks
        done = contestant.client(self).run(
            self._peer, "load", TARGET, str(TARGET_PORT), "sink" if upload else "source",
            str(round(seconds * 1000)), check=False, timeout=seconds + 60)
        if done.returncode != 0:
            raise NotRelayed(f"the client failed: {done.stderr.strip()}")
        loaded = json.loads(done.stdout)
        try:
            served = self._served.get(timeout=30)
        except queue.Empty:
            raise NotRelayed("the target saw no connection") from None
        expected = {
            "socks": through_socks,
            "peer": GATEWAY_WAN if through_socks else CLIENT,
            "destination": f"{TARGET}:{TARGET_PORT}",
            "bytes": loaded["bytes"],
        }
        seen = {name: served[name] for name in expected}
        seen["peer"] = seen["peer"].rpartition(":")[0]
        if seen != expected:
            raise NotRelayed(f"the target saw {seen}, expected was {expected}")
        receiver = served if upload else loaded
        if receiver["bytes"] == 0:
            raise NotRelayed("no byte arrived")
        return Transfer(receiver["bytes"], receiver["seconds"])

    def renew_ports(self):
        """Before a visit: connection tracking remembers the flows of the one before for a while, and
        who leaves older flows alone would not touch these."""
        self._first_port = next(self._port_ranges)

    def exchange(self, load, seconds, contestant, clock):
        """Sends datagrams for so many seconds after each flow was opened; `clock` gives the
        processor time of the contestant.

        Raises NotRelayed unless every flow was answered, and every datagram reached the target in
        the way that the contestant claims, by the right host, and came back intact.
        """
        done = self._send_datagrams(load, seconds, contestant, clock)
        expected = {
            "socks": contestant.through_socks,
            "host": GATEWAY_WAN if contestant.is_relay else CLIENT,
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
        client = contestant.client(self)
        client.run(
            "ethtool", "-K", contestant.interface, "tx-udp-segmentation",
            "on" if load.joined else "off")
        place = [TARGET, str(TARGET_PORT)]
        if contestant.through_socks and not contestant.is_relay:
            place = [SERVER, str(SOCKS_PORT), "socks", *place]
        process = self._lab.spawn(
            client, self._peer, "datagrams", *place,
            "echo" if load.echo else "up", str(self._first_port), str(load.flows),
            str(load.size), str(round(seconds * 1000)),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            opened, before = process.stdout.readline(), clock()
            result, after = process.stdout.readline(), clock()
            if not opened or not result:
                raise NotRelayed(f"the client failed: {process.stderr.read().strip()}")
            return json.loads(result) | {"processor_seconds": after - before}
        finally:
            self._lab.stop(process)
            process.stdout.close()
            process.stderr.close()
