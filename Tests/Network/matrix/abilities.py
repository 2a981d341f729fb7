"""The columns of the matrix: each ability asked for by a conversation of its own."""

import contextlib
import ipaddress
import socket
import time
from dataclasses import dataclass
from typing import Callable, Iterator

from harness import dns
from harness.datagrams import Endpoint, Speaker
from harness.namespaces import Namespace
from harness.relaying import Relayed, encode
from harness.resolvers import NAME, NAMES, RECORDS
from harness.targets import Echo, Target
from harness.topology import ADDRESSES, Topology

from .cells import CLOSED, LOST, NO_ANSWER, REFUSED, WORKS, Cell, Ended
from .servers import CREDENTIALS, Running, Server
from .wire import (
    ASSOCIATE, BIND, CONNECT, GSSAPI, HTTP, NONE, PASSWORD, SOCKS5, Conversation, Dialect)

AT = ADDRESSES["ipv4"]

#: Where nobody listens on the server.
CLOSED_PORT = 4242

#: A network to which the proxy has no route; to `unreachable` it has one that says so of the host.
ROUTELESS = "11.9.0.2"

#: What nobody has an address for, in a zone that the resolver knows all of.
UNKNOWN_NAME = "nowhere.example"

#: Seconds for which a target thinks, so that a proxy which ends a connection once its client has
#: ended, and not when the target has, does so.
THOUGHT = 0.5

#: Larger than every buffer on the way.
ANSWER = bytes(range(256)) * (8 << 10)

#: Seconds in which what was sent to an echo server is back, if it has not been lost.
ECHO_TIME = 1.5


class Thinker(Target):
    """Takes a question, thinks about it, and answers, whether its client has ended meanwhile or not."""

    def __init__(self, host: Namespace) -> None:
        super().__init__(host)
        self.ends = 0
        """How many clients had ended when it answered."""

    def serve(self, stream: socket.socket) -> None:
        stream.recv(1 << 10)
        answer_at = time.monotonic() + THOUGHT
        stream.settimeout(THOUGHT)
        with contextlib.suppress(TimeoutError):
            self.ends += stream.recv(1) == b""
        time.sleep(max(0, answer_at - time.monotonic()))
        stream.settimeout(None)
        stream.sendall(ANSWER)


@dataclass(frozen=True)
class Trial:
    """A server that is on trial, and what it is asked to reach."""

    topology: Topology
    server: Server
    running: Running
    echo: Echo
    thinker: Thinker

    @property
    def dialect(self) -> Dialect:
        return self.running.dialect

    def talk(self) -> Conversation:
        """A connection on which nothing has been said."""
        return Conversation(self.topology.client, self.server.endpoint)

    @contextlib.contextmanager
    def connected(self, to: Endpoint, early: bytes = b"") -> Iterator[Conversation]:
        """A connection to a target; `early`: sent in one segment with the request."""
        request = self.dialect.request(CONNECT, to)
        with self.talk() as talk:
            self.dialect.enter(talk)
            talk.send(request, early)
            self.dialect.reply(talk)
            yield talk


def echoed(talk: Conversation, words: bytes = b"hello") -> None:
    """Raises Ended unless an echo server is at the other end."""
    talk.send(words)
    if talk.take(len(words)) != words:
        raise Ended(Cell(LOST, text="other bytes came back"))


def methods(trial: Trial) -> Cell:
    """Which ways of proving who the client is the server takes."""
    dialect = trial.dialect
    if isinstance(dialect, HTTP):
        return _http_methods(trial)
    if not isinstance(dialect, SOCKS5):
        return _admits(trial, dialect, "user ID")
    found = []
    for method, name in (NONE, "none"), (PASSWORD, "password"), (GSSAPI, "GSSAPI"):
        with trial.talk() as talk:
            talk.send(bytes([5, 1, method]))
            try:
                chosen = talk.take(2)[1]
            except Ended:
                continue
        if chosen == method:
            found.append(name)
        elif chosen == NONE:
            found.append(f"none when {name} is offered")
    text = ", ".join(found)
    if dialect.credentials is not None:
        text += f"; wrong password: {_wrong_password(trial)}"
    return Cell(WORKS, text=text or "nothing")


def _wrong_password(trial: Trial) -> str:
    with trial.talk() as talk:
        try:
            SOCKS5((CREDENTIALS[0], "wrong")).enter(talk)
        except Ended as end:
            return str(end.cell) if end.cell.code is None else f"status {end.cell.code}"
    return "taken"


def _http_methods(trial: Trial) -> Cell:
    dialect = HTTP(trial.server.credentials)
    if dialect.credentials is None:
        return _admits(trial, dialect, "none")
    without = _admits(trial, HTTP(), "none")
    return Cell(WORKS, text=f"{_admits(trial, dialect, 'Basic')}; without: {without}")


def _admits(trial: Trial, dialect: Dialect, name: str) -> Cell:
    """Whether it connects to the target when asked that way."""
    with trial.talk() as talk:
        try:
            talk.send(dialect.request(CONNECT, (AT.server, trial.echo.port)))
            dialect.reply(talk)
        except Ended as end:
            return end.cell
    return Cell(WORKS, text=name)


def _connect(trial: Trial, address: str) -> Cell:
    with trial.connected((address, trial.echo.port)) as talk:
        echoed(talk)
    return Cell(WORKS)


def connect_ipv4(trial: Trial) -> Cell:
    return _connect(trial, AT.server)


def connect_ipv6(trial: Trial) -> Cell:
    return _connect(trial, ADDRESSES["ipv6"].server)


def connect_name(trial: Trial) -> Cell:
    return _connect(trial, NAMES["both"])


def _failure(trial: Trial, to: Endpoint) -> Cell:
    """What the server says of a target that cannot be reached."""
    with trial.connected(to) as talk:
        # It said that it is connected. Some look for the target only when there is something for it.
        try:
            talk.send(b"hello")
            talk.take(1)
        except Ended as end:
            if end.cell.result == CLOSED:
                return Cell(CLOSED, 0, f"granted, then {end.cell.text}")
            return Cell(end.cell.result, 0, "granted")
        return Cell(WORKS, text="answered by nobody")


def refused_port(trial: Trial) -> Cell:
    return _failure(trial, (AT.server, CLOSED_PORT))


def unreachable(trial: Trial) -> Cell:
    return _failure(trial, (AT.unreachable, CLOSED_PORT))


def no_route(trial: Trial) -> Cell:
    return _failure(trial, (ROUTELESS, CLOSED_PORT))


def unknown_name(trial: Trial) -> Cell:
    return _failure(trial, (UNKNOWN_NAME, CLOSED_PORT))


def relay_of(bound: Endpoint, talk: Conversation) -> Endpoint:
    """Where datagrams go: what the reply says, repaired where that is nowhere."""
    try:
        nowhere = ipaddress.ip_address(bound[0]).is_unspecified
    except ValueError:
        nowhere = True
    return (talk.peer if nowhere else bound[0]), bound[1]


def _query(trial: Trial, resolver: str) -> Cell:
    """A question to a resolver and its answer, each in a datagram."""
    request = trial.dialect.request(ASSOCIATE, ("0.0.0.0", 0))
    with trial.talk() as talk:
        trial.dialect.enter(talk)
        talk.send(request)
        relay = relay_of(trial.dialect.reply(talk), talk)
        question = encode((resolver, dns.PORT), dns.query(0x1928, NAME))
        protection = talk.protection
        if protection is not None:
            question = protection.seal(question)
        with Speaker(trial.topology.client, talk.local) as speaker:
            for _ in range(2):
                speaker.send(question, relay)
                try:
                    answer, _ = speaker.receive(min(1, talk.remaining()))
                    break
                except TimeoutError:
                    continue
            else:
                return Cell(NO_ANSWER)
        if protection is not None:
            answer = protection.open_datagram(answer)
        relayed = Relayed.of(answer)
        if dns.answered_address(relayed.payload) != RECORDS["A"]:
            return Cell(LOST, text="another answer came")
        source = relayed.destination[0]
        return Cell(WORKS, text=f"works, answers from {_kind(source)}" if source != resolver else "")


def _kind(address: str) -> str:
    """An address or a name, for the table."""
    try:
        return f"an IPv{ipaddress.ip_address(address).version} address"
    except ValueError:
        return "a name"


def udp(trial: Trial) -> Cell:
    return _query(trial, AT.server)


def udp_ipv6(trial: Trial) -> Cell:
    return _query(trial, ADDRESSES["ipv6"].server)


def udp_name(trial: Trial) -> Cell:
    return _query(trial, NAMES["ipv4"])


def bind(trial: Trial) -> Cell:
    """The server takes a connection from the target's host, and tells of both."""
    with trial.topology.server.open_socket(socket.AF_INET) as caller, trial.talk() as talk:
        caller.bind((AT.server, 0))
        request = trial.dialect.request(BIND, caller.getsockname())
        trial.dialect.enter(talk)
        talk.send(request)
        place = relay_of(trial.dialect.reply(talk), talk)
        caller.settimeout(talk.remaining())
        try:
            caller.connect(place)
        except OSError:
            return Cell(CLOSED, 0, "nobody listens where the reply says")
        peer = trial.dialect.reply(talk)
        caller.sendall(b"hello")
        if talk.take(5) != b"hello":
            raise Ended(Cell(LOST))
        if peer != caller.getsockname():
            return Cell(WORKS, text=f"works, the peer's address is {peer[0]}:{peer[1]}")
    return Cell(WORKS)


def pipelining(trial: Trial) -> Cell:
    """The greeting, the password and the request in one segment."""
    first = trial.dialect.opening()
    request = trial.dialect.request(CONNECT, (AT.server, trial.echo.port))
    with trial.talk() as talk:
        talk.send(first + request)
        trial.dialect.admitted(talk)
        try:
            trial.dialect.reply(talk)
        except Ended as end:
            if end.cell.result != REFUSED:
                raise
            # The request has been read all the same.
            return Cell(WORKS, text=f"works up to the reply, code {end.cell.code}")
        echoed(talk)
    return Cell(WORKS)


def early_data(trial: Trial) -> Cell:
    """What stands behind the request in the same segment reaches the target."""
    early, late = b"early-", b"later-"
    with trial.connected((AT.server, trial.echo.port), early) as talk:
        talk.limit(ECHO_TIME)
        with contextlib.suppress(Ended):
            if talk.take(len(early)) == early:
                return Cell(WORKS)
        talk.limit(ECHO_TIME)
        talk.send(late)
        if talk.take(1) == early[:1]:
            return Cell(NO_ANSWER, text="before more was sent")
        return Cell(LOST)


def half_close(trial: Trial) -> Cell:
    """All of an answer arrives that begins after the client has ended its stream."""
    ends = trial.thinker.ends
    with trial.connected((AT.server, trial.thinker.port)) as talk:
        talk.send(b"question")
        talk.stop_sending()
        received = 0
        try:
            while received < len(ANSWER):
                size = min(1 << 14, len(ANSWER) - received)
                talk.take(size)
                received += size
        except Ended as end:
            text = " ".join(filter(None, (end.cell.text, _share(received))))
            return Cell(end.cell.result, text=text)
    heard = trial.thinker.ends > ends
    return Cell(WORKS, text="" if heard else "works, the target does not hear of the end")


def _share(received: int) -> str:
    return "before the answer" if received == 0 else "within the answer"


@dataclass(frozen=True)
class Ability:
    """A column."""

    key: str
    title: str
    measure: Callable[[Trial], Cell]

    def of(self, trial: Trial) -> Cell:
        try:
            return self.measure(trial)
        except Ended as end:
            return end.cell


#: The columns by the tables they stand in.
TABLES = {
    "Connections": [
        Ability("methods", "who the client is", methods),
        Ability("connect_ipv4", "IPv4", connect_ipv4),
        Ability("connect_ipv6", "IPv6", connect_ipv6),
        Ability("connect_name", "name", connect_name),
        Ability("refused_port", "refused port", refused_port),
        Ability("unreachable", "unreachable host", unreachable),
        Ability("no_route", "no route", no_route),
        Ability("unknown_name", "unknown name", unknown_name),
    ],
    "Datagrams and BIND": [
        Ability("udp", "UDP, IPv4", udp),
        Ability("udp_ipv6", "UDP, IPv6", udp_ipv6),
        Ability("udp_name", "UDP, name", udp_name),
        Ability("bind", "BIND", bind),
    ],
    "Streams": [
        Ability("pipelining", "request behind the greeting", pipelining),
        Ability("early_data", "data behind the request", early_data),
        Ability("half_close", "answer after the client's end", half_close),
    ],
}

ABILITIES = [ability for columns in TABLES.values() for ability in columns]
