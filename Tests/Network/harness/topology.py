"""The line of hosts that every test stands on:

    client ──lan── gateway ──wan── proxy ──far── server

The gateway and the proxy forward packets, and every host knows the way back: without Sluice the
client reaches the server directly. So a packet that escapes it arrives, and the proxy, which it
has to pass, counts it.
"""

import ipaddress
import json
from dataclasses import dataclass
from typing import Any

from .namespaces import Namespace, join
from .waiting import wait_until

#: The families by name, as they appear in the names of the tests.
FAMILIES = ("ipv4", "ipv6")


@dataclass(frozen=True)
class Addresses:
    """Where everything is, in one family. Public addresses: Sluice bypasses private ones."""

    client: str
    gateway_lan: str
    gateway_wan: str
    proxy: str
    """Where the proxy listens."""
    proxy_exit: str
    """What the server sees of a connection that the proxy makes."""
    server: str
    unreachable: str
    """A destination for which the proxy has no way."""
    second: str
    """Another address of the server, which it answers from but never calls from by itself."""
    third: str
    """And one more."""

    @classmethod
    def of(cls, family: str) -> "Addresses":
        nets = ("11.1.0.", "11.2.0.", "11.3.0.", "11.4.0.")
        if family == "ipv6":
            nets = ("2a0f:1::", "2a0f:2::", "2a0f:3::", "2a0f:4::")
        lan, wan, far, nowhere = nets
        return cls(
            lan + "2", lan + "1", wan + "1", wan + "2", far + "1", far + "2", nowhere + "2",
            far + "3", far + "4")

    def of_server(self) -> list[str]:
        """All addresses of the server."""
        return [self.server, self.second, self.third]


ADDRESSES = {family: Addresses.of(family) for family in FAMILIES}

#: Counts, on the proxy, what passes it instead of ending there, by family and destination port:
#: nothing that Sluice captured may.
WITNESS = """
table inet witness {
  set passed {
    typeof meta nfproto . tcp dport
    size 65535
    flags dynamic
    counter
  }
  set datagrams {
    typeof meta nfproto . udp dport
    size 65535
    flags dynamic
    counter
  }
  chain passing {
    type filter hook forward priority filter
    meta l4proto tcp update @passed { meta nfproto . tcp dport }
    meta l4proto udp update @datagrams { meta nfproto . udp dport }
  }
}
"""


class Topology:
    """Four hosts in a line, joined and routed. Use as a context manager."""

    def __init__(self) -> None:
        self.hosts: list[Namespace] = []

    def __enter__(self) -> "Topology":
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        for host in self.hosts:
            host.close()

    def _host(self, role: str) -> Namespace:
        host = Namespace(role)
        self.hosts.append(host)
        return host

    def _build(self) -> None:
        self.client = self._host("client")
        self.gateway = self._host("gateway")
        self.proxy = self._host("proxy")
        self.server = self._host("server")
        join((self.client, "lan0"), (self.gateway, "lan0"))
        join((self.gateway, "wan0"), (self.proxy, "wan0"))
        join((self.proxy, "far0"), (self.server, "far0"))
        for host in (self.gateway, self.proxy):
            host.write_sysctl("net/ipv4/ip_forward", "1")
            host.write_sysctl("net/ipv6/conf/all/forwarding", "1")
        for family in FAMILIES:
            self._address(ADDRESSES[family], "64" if family == "ipv6" else "24")
        cables = (
            (self.client, "lan0"), (self.gateway, "lan0"), (self.gateway, "wan0"),
            (self.proxy, "wan0"), (self.proxy, "far0"), (self.server, "far0"))
        for host, interface in cables:
            host.ip(f"link set {interface} up")
        for family in FAMILIES:
            self._route(ADDRESSES[family])
        self.proxy.nft(WITNESS)
        for host, interface in cables:
            wait_until(
                lambda: self._settled(host, interface), f"{interface} of {host.name} to come up")

    def _address(self, at: Addresses, length: str) -> None:
        for host, interface, address in (
            (self.client, "lan0", at.client), (self.gateway, "lan0", at.gateway_lan),
            (self.gateway, "wan0", at.gateway_wan), (self.proxy, "wan0", at.proxy),
            (self.proxy, "far0", at.proxy_exit), (self.server, "far0", at.server),
        ):
            host.ip(f"addr add {address}/{length} dev {interface}")
        for address in (at.second, at.third):
            # IPv6 would call from the latest that is not deprecated.
            life = "preferred_lft 0" if ":" in address else ""
            self.server.ip(f"addr add {address}/{length} dev far0 {life}")

    def _route(self, at: Addresses) -> None:
        self.client.ip(f"route add default via {at.gateway_lan}")
        self.gateway.ip(f"route add default via {at.proxy}")
        self.server.ip(f"route add default via {at.proxy_exit}")
        length = "64" if ":" in at.client else "24"
        lan = ipaddress.ip_network(f"{at.client}/{length}", strict=False)
        self.proxy.ip(
            f"route add {lan} via {at.gateway_wan}", f"route add unreachable {at.unreachable}")

    def _settled(self, host: Namespace, interface: str) -> bool:
        """Whether the kernel has made all the IPv6 routes that come with an interface, which it
        does a while after the command: later, they would look like a change by Sluice."""
        kinds = ["local fe80:", "multicast ff00:"]
        if host in (self.gateway, self.proxy):
            kinds.append("anycast fe80:")
        routes = host.run("ip", "-6", "route", "show", "dev", interface, "table", "all").stdout
        return all(kind in routes for kind in kinds)

    def leaked(self, port: int, protocol: str = "tcp") -> dict[str, int]:
        """How many packets to a port went past the proxy so far, by family."""
        name = {"tcp": "passed", "udp": "datagrams"}[protocol]
        listing = self.proxy.run("nft", "-j", "list", "set", "inet", "witness", name).stdout
        packets = dict.fromkeys(FAMILIES, 0)
        for item in json.loads(listing)["nftables"]:
            for element in item.get("set", {}).get("elem", []):
                family, to = element["elem"]["val"]["concat"]
                if to == port:
                    packets[family] = element["elem"]["counter"]["packets"]
        return packets
