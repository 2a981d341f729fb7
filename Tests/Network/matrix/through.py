"""The same abilities as ordinary programs have them, which `sluice exec` sends through a server."""

import json
import subprocess
from dataclasses import dataclass
from typing import Callable

from harness import dns
from harness.confined import Confined, script
from harness.datagrams import DatagramTarget, Received
from harness.resolvers import NAME, NAMES
from harness.targets import Website
from harness.topology import ADDRESSES
from harness.upstreams import url

from .abilities import ANSWER, CLOSED_PORT, Trial
from .cells import CLOSED, NO_ANSWER, NOT_OFFERED, REFUSED, WORKS, Cell

#: Seconds for a program, what Sluice does at its start included.
DEADLINE = 15.0

#: Seconds that curl, dig and the rest wait for an answer.
PATIENCE = 5

#: A SOCKS server on the server itself, which is asked for by its name as the second hop of a chain.
HOP_PORT = 1090

#: curl(1), EXIT CODES: how an application sees that nothing comes of it.
ENDINGS = {7: "connect refused", 28: "silence", 52: "FIN", 56: "RST"}


class Answering(DatagramTarget):
    """Answers questions of the DNS on another port than the usual one, which Sluice would carry by
    TCP where a server has no UDP."""

    def answer(self, received: Received) -> bytes:
        return dns.answer_to(received.payload)


@dataclass(frozen=True)
class Through:
    """A server on trial, and what programs are sent through it for."""

    trial: Trial
    user: Confined
    website: Website
    resolver: Answering
    half_close_works: bool
    """Whether the server's own half-close does, wholly: it is what `--half-close` is chosen by."""

    @property
    def url(self) -> str:
        return self.trial.server.url

    def run(
        self, *command: str, options: tuple[str, ...] = (), upstream: str = ""
    ) -> subprocess.CompletedProcess[str] | None:
        """Runs a program to its end; None when that does not come."""
        settings = [f"{name}={value}" for name, value in self.trial.running.environment.items()]
        words = self.user.words(*options, upstream or self.url, command=command)
        try:
            return self.user.bare("env", *settings, *words, timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            self.user.kill()
            return None

    def fetch(self, address: str, port: int, upstream: str = "") -> Cell:
        """A page of 1 MiB by curl."""
        place = f"[{address}]" if ":" in address else address
        done = self.run(
            "curl", "--silent", "--show-error", "--fail", "--noproxy", "*", "--output", "/dev/null",
            "--max-time", str(PATIENCE), f"http://{place}:{port}/1", upstream=upstream)
        if done is None:
            return Cell(NO_ANSWER, text="not even an end")
        if done.returncode == 0:
            return Cell(WORKS)
        if done.returncode in ENDINGS and "curl:" in done.stderr:
            how = ENDINGS[done.returncode]
            return Cell(NO_ANSWER) if how == "silence" else Cell(CLOSED, text=how)
        return Cell(REFUSED, text=reason(done.stderr))

    def ask(self, address: str) -> Cell:
        """An address of a name by dig, which sends datagrams to a port of the server's."""
        done = self.run(
            "dig", f"@{address}", "-p", str(self.resolver.port), NAME, "A", "+short", "+notcp",
            "+tries=2", f"+time={PATIENCE // 2}")
        if done is None:
            return Cell(NO_ANSWER, text="not even an end")
        if done.returncode == 0 and dns.address_of(NAME) in done.stdout:
            return Cell(WORKS)
        if "connection refused" in done.stdout:
            return Cell(REFUSED, text="ICMP port unreachable")
        if "host unreachable" in done.stdout:
            return Cell(REFUSED, text="ICMP prohibited")
        if "timed out" in done.stdout:
            return Cell(NO_ANSWER)
        return Cell(REFUSED, text=reason(done.stderr or done.stdout))


def reason(text: str) -> str:
    """What is at the bottom of a program's last line, without what to do about it."""
    line = (text.strip().splitlines() or ["without a word"])[-1]
    return line.partition("; ")[0].rpartition(": ")[2]


def connect_ipv4(through: Through) -> Cell:
    return through.fetch(ADDRESSES["ipv4"].server, through.website.port)


def connect_ipv6(through: Through) -> Cell:
    return through.fetch(ADDRESSES["ipv6"].server, through.website.port)


def connect_name(through: Through) -> Cell:
    if through.trial.server.scheme == "socks4":
        return Cell(NOT_OFFERED)
    chain = f"{through.url},{url(NAMES['both'], HOP_PORT)}"
    return through.fetch(ADDRESSES["ipv4"].server, through.website.port, chain)


def refused_port(through: Through) -> Cell:
    """As a program sees it that looks at every error: curl does not tell a reset in its first moment
    from a refusal."""
    door = f"tcp,{ADDRESSES['ipv4'].server},{CLOSED_PORT}"
    done = through.run(*script("knock.py", "1", str(PATIENCE), door))
    if done is None:
        return Cell(NO_ANSWER, text="not even an end")
    if done.returncode != 0:
        return Cell(REFUSED, text=reason(done.stderr))
    outcome = json.loads(done.stdout)["outcome"]
    return Cell(NO_ANSWER) if outcome == "silence" else Cell(CLOSED, text=outcome)


def udp(through: Through) -> Cell:
    return through.ask(ADDRESSES["ipv4"].server)


def udp_ipv6(through: Through) -> Cell:
    return through.ask(ADDRESSES["ipv6"].server)


def half_close(through: Through) -> Cell:
    setting = "propagate" if through.half_close_works else "hold"
    target = through.trial.thinker.port
    done = through.run(
        *script("half_close.py", ADDRESSES["ipv4"].server, str(target), str(PATIENCE)),
        options=("--half-close", setting))
    if done is None:
        return Cell(NO_ANSWER, text="not even an end")
    if done.returncode != 0:
        return Cell(REFUSED, text=reason(done.stderr))
    count, end = done.stdout.split()
    if int(count) == len(ANSWER) and end == "FIN":
        return Cell(WORKS, text=f"works with {setting}")
    return Cell(CLOSED, text=f"{end} after {count} of {len(ANSWER)} bytes with {setting}")


#: By key and title, in their order.
MEASURES: dict[str, tuple[str, Callable[[Through], Cell]]] = {
    "connect_ipv4": ("curl, IPv4", connect_ipv4),
    "connect_ipv6": ("curl, IPv6", connect_ipv6),
    "connect_name": ("curl, second hop by name", connect_name),
    "refused_port": ("refused port", refused_port),
    "udp": ("dig, IPv4", udp),
    "udp_ipv6": ("dig, IPv6", udp_ipv6),
    "half_close": ("answer after the program's end", half_close),
}
