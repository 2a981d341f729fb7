"""The UDP half of the scripted SOCKS5 server: relays that do what a test tells them, and remember
every datagram with its header (RFC 1928 section 7)."""

import contextlib
import ipaddress
import select
import socket
import struct
import threading
from dataclasses import dataclass, field

from .datagrams import BUFFER, SO_RCVBUFFORCE, Endpoint, bind
from .namespaces import Namespace

#: Reply code of a server that carries no UDP.
COMMAND_NOT_SUPPORTED = 7

ASSOCIATE = 3

#: Before the address: two reserved bytes, the fragment's number and the address's type.
FIXED = 4

#: The types of addresses.
IPV4, NAME, IPV6 = 1, 3, 4


def encode_address(address: str) -> bytes:
    """An address with its type; what is no address is taken for a name."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return bytes([NAME, len(address)]) + address.encode()
    return bytes([IPV4 if parsed.version == 4 else IPV6]) + parsed.packed


def encode(source: Endpoint, payload: bytes, fragment: int = 0) -> bytes:
    """A datagram between client and relay."""
    address, port = source
    return bytes([0, 0, fragment]) + encode_address(address) + struct.pack("!H", port) + payload


@dataclass(frozen=True)
class Relayed:
    """A datagram as the relay got it."""

    header: bytes
    destination: Endpoint
    payload: bytes

    @classmethod
    def of(cls, datagram: bytes) -> "Relayed":
        """Takes a whole datagram apart. Raises ValueError where it is malformed."""
        kind = datagram[FIXED - 1]
        match kind:
            case 1:
                end = FIXED + 4
                address = str(ipaddress.IPv4Address(datagram[FIXED:end]))
            case 4:
                end = FIXED + 16
                address = str(ipaddress.IPv6Address(datagram[FIXED:end]))
            case 3:
                end = FIXED + 1 + datagram[FIXED]
                address = datagram[FIXED + 1:end].decode()
            case _:
                raise ValueError(f"address type {kind}")
        (port,) = struct.unpack("!H", datagram[end:end + 2])
        return cls(datagram[:end + 2], (address, port), datagram[end + 2:])


@dataclass(frozen=True)
class Relaying:
    """How the server associates and relays; the default is a good server, behind which every
    target sends back what it gets."""

    reply: int | None = 0
    """The code of the reply; None: it hangs up instead, as ssh does."""
    bound: bytes | None = None
    """Type and address in the reply; None: where the client came to."""
    bound_port: int | None = None
    """The port in the reply; None: the true one."""
    port: int = 0
    """Where it relays; 0: anywhere."""
    gate: threading.Event | None = None
    """The reply waits for this."""
    close_after: int | None = None
    """It hangs up after so many datagrams, 0: with the reply; None: never."""
    silent: bool = False
    """Its targets never answer."""


@dataclass
class Association:
    """One client's relay."""

    host: Namespace
    control: socket.socket
    relay: socket.socket
    requested: Endpoint
    """The address and port of the request: where the client says it will send from."""
    client: Endpoint | None = None
    """Where the first datagram came from, to which answers go."""
    datagrams: list[Relayed] = field(default_factory=list)
    """All that came, in order."""
    strangers: list[Endpoint] = field(default_factory=list)
    """Who else has sent here."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self) -> int:
        port: int = self.relay.getsockname()[1]
        return port

    def send(self, datagram: bytes) -> None:
        """Sends the client any bytes, from the relay."""
        assert self.client, "the client has not sent anything"
        address, port = self.client
        mapped = address if ":" in address else f"::ffff:{address}"
        self.relay.sendto(datagram, (mapped, port))

    def spoof(self, datagram: bytes, address: str, port: int | None = None) -> None:
        """Sends the client any bytes from another address of the host, and from the relay's port
        unless told otherwise."""
        assert self.client, "the client has not sent anything"
        with bind(self.host, address, self.port if port is None else port, shared=True) as one:
            one.sendto(datagram, self.client)

    def hang_up(self) -> None:
        """Ends the control connection, which ends the association."""
        with contextlib.suppress(OSError):  # it has ended by itself
            self.control.shutdown(socket.SHUT_RDWR)

    def run(self, behaviour: Relaying) -> None:
        """Relays until either side ends the control connection."""
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.relay, select.POLLIN)
        self.relay.setblocking(False)
        left = behaviour.close_after
        while left is None or left > 0:
            ready = [descriptor for descriptor, _ in poll.poll()]
            if self.control.fileno() in ready and not self.control.recv(1 << 16):
                return
            if self.relay.fileno() in ready:
                count = self._take(behaviour, left)
                left = None if left is None else left - count

    def _take(self, behaviour: Relaying, maximum: int | None) -> int:
        """Takes what is there, up to so many datagrams; returns how many of the client's it were."""
        count = 0
        while maximum is None or count < maximum:
            try:
                datagram, sender = self.relay.recvfrom(1 << 16)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error: the client's socket is gone
                continue
            peer = sender[0].removeprefix("::ffff:"), sender[1]
            if self.client is None:
                self.client = peer
            if peer != self.client:
                self.strangers.append(peer)
                continue
            self.datagrams.append(Relayed.of(datagram))
            count += 1
            if not behaviour.silent:
                self.relay.sendto(datagram, sender)
        return count


def open_relay(host: Namespace, port: int) -> socket.socket:
    """A socket that is reached at every address of the host, of either family."""
    relay = host.open_socket(socket.AF_INET6, socket.SOCK_DGRAM)
    relay.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # For those who send in its name.
    relay.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    relay.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER)
    relay.bind(("::", port))
    return relay
