"""SOCKS5 by GSSAPI (RFC 1961), spoken by Debian's python3-gssapi."""

import struct
from dataclasses import dataclass

import gssapi

from harness.namespaces import Namespace

from .cells import closed, not_offered
from .wire import GSSAPI, SOCKS5, Conversation, take_selection

#: The kinds of messages (RFC 1961 sections 3 to 5).
CONTEXT, LEVEL, DATA = 1, 2, 3

#: The level: integrity and confidentiality.
CONFIDENTIALITY = 2

#: Plain bytes in one message, at most: wrapped, they have to fit 16 bits.
LARGEST = 32 << 10


def message(kind: int, token: bytes) -> bytes:
    return struct.pack("!BBH", 1, kind, len(token)) + token


def take_message(talk: Conversation, kind: int) -> bytes:
    version, found = talk.take_plainly(2)
    if (version, found) != (1, kind):
        raise closed("FIN")  # an abort has nothing but these two bytes
    (length,) = struct.unpack("!H", talk.take_plainly(2))
    return talk.take_plainly(length)


@dataclass(frozen=True)
class Sealed:
    """A context that both sides have agreed on."""

    context: gssapi.SecurityContext

    def seal(self, data: bytes) -> bytes:
        pieces = [data[at:at + LARGEST] for at in range(0, len(data), LARGEST)]
        return b"".join(message(DATA, self.context.wrap(one, True).message) for one in pieces)

    def open_stream(self, take: Conversation) -> bytes:
        return bytes(self.context.unwrap(take_message(take, DATA)).message)

    def open_datagram(self, data: bytes) -> bytes:
        return bytes(self.context.unwrap(data[4:]).message)


@dataclass(frozen=True)
class GSSAPISOCKS5(SOCKS5):
    """With a ticket that the environment of this process names."""

    host: Namespace | None = None
    """Where the client is: the key distribution centre is asked from there."""
    service: str = ""
    """As SERVICE@HOST."""

    @property
    def method(self) -> int:
        return GSSAPI

    def opening(self) -> bytes:
        raise not_offered()

    def enter(self, talk: Conversation) -> None:
        assert self.host is not None
        talk.send(self.greeting())
        take_selection(talk, GSSAPI)
        name = gssapi.Name(self.service, gssapi.NameType.hostbased_service)
        flags = [
            gssapi.RequirementFlag.mutual_authentication, gssapi.RequirementFlag.integrity,
            gssapi.RequirementFlag.confidentiality]
        context = gssapi.SecurityContext(name=name, flags=flags, usage="initiate")
        token = self.host.call(context.step, None)
        while token:
            talk.send_plainly(message(CONTEXT, token))
            if context.complete:
                break
            token = self.host.call(context.step, take_message(talk, CONTEXT))
        level = context.wrap(bytes([CONFIDENTIALITY]), False).message
        talk.send_plainly(message(LEVEL, level))
        context.unwrap(take_message(talk, LEVEL))
        talk.protection = Sealed(context)

    def admitted(self, talk: Conversation) -> None:
        raise not_offered()

