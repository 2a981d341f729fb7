"""A crowd of clients on one host: every address of a network is the client's, and its datagrams may
come from any of them."""

import ipaddress
import socket
import struct
from typing import Any

from .datagrams import Endpoint, bind
from .topology import ADDRESSES, Topology

#: One network per family, beside those of the topology.
NETWORKS = {"ipv4": "11.9.0.0/16", "ipv6": "2a0f:9::/64"}

#: linux/in.h
IP_PKTINFO = 8


class Crowd:
    """The addresses, and one socket that sends from all of them. Use as a context manager."""

    def __init__(self, topology: Topology, family: str) -> None:
        self._client, self._gateway = topology.client, topology.gateway
        self._at = ADDRESSES[family]
        self._network = ipaddress.ip_network(NETWORKS[family])
        self._local = f"local {self._network} dev lo"
        self._way = f"{self._network} via {self._at.client}"
        self._back = topology.proxy, f"{self._network} via {self._at.gateway_wan}"

    def __enter__(self) -> "Crowd":
        proxy, way = self._back
        self._client.ip(f"route add {self._local}")
        self._gateway.ip(f"route add {self._way}")
        proxy.ip(f"route add {way}")
        self._socket = bind(self._client, "::" if ":" in self._at.client else "0.0.0.0")
        return self

    def __exit__(self, *_: Any) -> None:
        proxy, way = self._back
        self._socket.close()
        proxy.ip(f"route del {way}")
        self._gateway.ip(f"route del {self._way}")
        self._client.ip(f"route del {self._local}")

    def address(self, number: int) -> str:
        """That of a client; there are 65,000."""
        return str(self._network[256 + number])

    def send(self, number: int, payload: bytes, to: Endpoint) -> None:
        """Sends a datagram from a client's address: its endpoint is like no other's."""
        address = ipaddress.ip_address(self.address(number))
        if address.version == 4:
            # struct in_pktinfo: interface, source, and a field of received datagrams.
            information = struct.pack("=i4s4s", 0, address.packed, bytes(4))
            header = socket.IPPROTO_IP, IP_PKTINFO, information
        else:
            information = struct.pack("=16si", address.packed, 0)
            header = socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, information
        self._socket.sendmsg([payload], [header], 0, to)
