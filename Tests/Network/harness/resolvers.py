"""Debian's DNS programs: unbound, which knows a few names; dnsmasq, which asks others; and dig."""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, Sequence

from .namespaces import Namespace
from .programs import Program
from .topology import ADDRESSES

PORT = 53

#: What unbound knows.
NAME = "www.example"
RECORDS = {"A": "192.0.2.80", "AAAA": "2001:db8::80"}

#: Names of the topology's server, by the families they have an address of, and of the proxy.
NAMES = {"ipv4": "ipv4.example", "ipv6": "ipv6.example", "both": "server.example"}
PROXY_NAME = "proxy.example"

#: Names with so many bytes of text at least: more than servers and clients send and take by UDP.
LARGE = {"large.example": 1232, "huge.example": 4096}

UNBOUND = """
server:
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  log-queries: yes
  verbosity: 1
  num-threads: 1
  access-control: 0.0.0.0/0 allow
  access-control: ::/0 allow
  module-config: "iterator"
  max-udp-size: 4096
  edns-buffer-size: 4096
  incoming-num-tcp: 100
  local-zone: "example." static
{lines}
remote-control:
  control-enable: no
"""


class Unbound(Program):
    """The resolver; knows who asked."""

    def __enter__(self) -> "Unbound":
        return self

    def askers(self, name: str = NAME) -> list[str]:
        """From which addresses a name was asked for, in order."""
        line = re.compile(rf"info: (\S+) {re.escape(name)}\. ")
        return [found[1] for one in list(self.lines) if (found := line.search(one))]


@contextlib.contextmanager
def unbound(
    host: Namespace, folder: Path, addresses: Sequence[str] = ()
) -> Iterator[Unbound]:
    """unbound at port 53, by UDP and TCP, of addresses: all of the topology's server's if none is
    given."""
    addresses = addresses or [one for at in ADDRESSES.values() for one in at.of_server()]
    lines = [f'  interface: "{address}"' for address in addresses]
    for kind, value in RECORDS.items():
        lines.append(f"  local-data: \"{NAME}. 60 IN {kind} {value}\"")
    for family, at in ADDRESSES.items():
        kind = {"ipv4": "A", "ipv6": "AAAA"}[family]
        for name in NAMES[family], NAMES["both"]:
            lines.append(f"  local-data: \"{name}. 60 IN {kind} {at.server}\"")
        lines.append(f"  local-data: \"{PROXY_NAME}. 60 IN {kind} {at.proxy}\"")
    for name, size in LARGE.items():
        for number in range(-(-size // 200)):
            lines.append(f"  local-data: '{name}. 60 IN TXT \"{number:0200}\"'")
    configuration = folder / "unbound.conf"
    configuration.write_text(UNBOUND.format(folder=folder, lines="\n".join(lines)))
    with Unbound(host, "unbound", "-d", "-p", "-c", str(configuration)) as program:
        program.wait_for_port(PORT, sockets=len(addresses))
        program.wait_for_output(
            lambda: "start of service" in program.output(), "start of service", 20)
        yield program


@contextlib.contextmanager
def dnsmasq(host: Namespace, upstream: str) -> Iterator[Program]:
    """dnsmasq on 0.0.0.0:53 and [::]:53, asking one resolver."""
    command = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv",
        "--pid-file=", "--user=root", "--group=root", "--log-facility=-", "--log-queries",
        f"--server={upstream}"]
    with Program(host, *command) as program:
        program.wait_for_port(PORT, sockets=2)
        yield program


@dataclass(frozen=True)
class Answer:
    """What dig got."""

    status: str
    """"NOERROR", "NXDOMAIN" …, or "none" without an answer."""
    records: list[str]
    """The data of the records, sorted."""
    server: str
    """Which address answered."""
    transport: str
    """"UDP" or "TCP"."""
    retried: bool
    """Whether the answer by UDP was truncated, so that it was asked for by TCP."""
    milliseconds: int


def dig(
    host: Namespace, server: str, name: str = NAME, kind: str = "A", *options: str
) -> Answer:
    """Asks once more every 5 s, three times in all."""
    done = host.run(
        "dig", f"@{server}", name, kind, "+noall", "+comments", "+answer", "+stats", "+time=5",
        "+tries=3", *options, check=False)
    text = done.stdout
    assert done.returncode in (0, 9), text + done.stderr
    if done.returncode == 9:
        return Answer("none", [], "", "", "retrying in TCP" in text, 0)
    status = re.search(r"status: (\w+)", text)
    place = re.search(r"SERVER: (\S+)#\d+\(.*\) \((\w+)\)", text)
    duration = re.search(r"Query time: (\d+) msec", text)
    assert status and place and duration, text
    rows = [line.split(maxsplit=4) for line in text.splitlines() if line and line[0] != ";"]
    return Answer(
        status[1], sorted(row[4].strip('"') for row in rows if len(row) == 5), place[1], place[2],
        "retrying in TCP" in text, int(duration[1]))


class Arrivals:
    """Counts on a host the TCP connections and the UDP datagrams that arrive for a port."""

    RULES = """
    table inet arrivals {{
      counter connections {{ }}
      counter datagrams {{ }}
      chain arriving {{
        type filter hook prerouting priority -300
        tcp dport {port} tcp flags & (syn | ack) == syn counter name connections
        udp dport {port} counter name datagrams
      }}
    }}
    """

    def __init__(self, host: Namespace, port: int) -> None:
        self._host, self._port = host, port

    def __enter__(self) -> "Arrivals":
        self._host.nft(self.RULES.format(port=self._port))
        return self

    def __exit__(self, *_: object) -> None:
        self._host.nft("delete table inet arrivals")

    def connections(self) -> int:
        return self._read("connections")

    def datagrams(self) -> int:
        return self._read("datagrams")

    def _read(self, name: str) -> int:
        text = self._host.run("nft", "list", "counter", "inet", "arrivals", name).stdout
        found = re.search(r"packets (\d+)", text)
        assert found, text
        return int(found[1])
