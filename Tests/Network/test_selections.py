"""Who is captured, who is not, and what becomes of the rest: each choice with a positive and a
negative case, proved by whom the target saw."""

import errno
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator

import pytest

from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import CAPTURES, Capture, Sluice
from harness.targets import Mirror
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

pytestmark = pytest.mark.usefixtures("errors_at_any_rate")

CAPTURED, DIRECT, REFUSED = "captured", "direct", "refused"

#: Prints what the target says of us, or the name of the error.
VISITOR = """
import errno, socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 3) as stream:
        print(stream.recv(100).decode())
except TimeoutError:
    print("silence")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


@pytest.fixture(scope="module")
def mirror(topology: Topology) -> Iterator[Mirror]:
    with Mirror(topology.server) as target:
        yield target


def visit(
    host: Namespace, family: str, port: int, *prefix: str, address: str | None = None
) -> str:
    """What becomes of a connection that a program makes, started by the words of `prefix`."""
    at = ADDRESSES[family]
    command = [*prefix, "/usr/bin/python3", "-S", "-c", VISITOR, address or at.server, str(port)]
    seen = host.run(*command).stdout.strip()
    if seen == "ECONNREFUSED":
        return REFUSED
    return {at.proxy_exit: CAPTURED, at.client: DIRECT}.get(seen, seen)


def as_user(user: int, group: int = 0) -> list[str]:
    return ["setpriv", "--reuid", str(user), "--regid", str(group), "--clear-groups", "--"]


@dataclass(frozen=True)
class Case:
    """Flags, and what they make of programs started so."""

    flags: str
    captured: list[list[str]] = field(default_factory=lambda: [[]])
    direct: list[list[str]] = field(default_factory=list)


MACHINE = {
    "all": Case("--machine", [[], as_user(1234)]),
    "uid": Case("--uid 1234", [as_user(1234)], [[], as_user(1235)]),
    "uid-range": Case(
        "--uid 1000-1999 --uid 0", [[], as_user(1000), as_user(1999)], [as_user(2000)]),
    "uid-name": Case("--uid nobody", [as_user(65534)], [[]]),
    "except-uid": Case("--machine --except-uid 1234", [[], as_user(1235)], [as_user(1234)]),
    "gid": Case("--gid 77", [as_user(0, 77)], [[], as_user(77)]),
    "except-gid": Case("--except-gid nogroup", [[]], [as_user(0, 65534)]),
    "uid-and-gid": Case(
        "--uid 1234 --gid 77", [as_user(1234, 77)], [as_user(1234), as_user(0, 77)]),
    "out-interface": Case("--out-interface lan0"),
    "out-interface-prefix": Case("--out-interface la*"),
    "other-out-interface": Case("--out-interface wan0", [], [[]]),
    "except-out-interface": Case("--except-out-interface lan0", [], [[]]),
}

GATEWAY = {
    "name": Case("--gateway lan0"),
    "other-name": Case("--gateway lan1", [], [[]]),
    "prefix": Case("--gateway la*"),
    "other-prefix": Case("--gateway wl* --gateway lan1", [], [[]]),
    "group": Case("--gateway group:7"),
    "other-group": Case("--gateway group:8", [], [[]]),
    "name-or-group": Case("--gateway wlan0 --gateway group:7"),
    "from": Case("--gateway lan0 --from 11.1.0.0/24 --from 2a0f:1::/64"),
    "from-others": Case("--gateway lan0 --from 11.7.0.0/24 --from 2a0f:7::/64", [], [[]]),
    "except-from": Case(
        "--gateway lan0 --from 11.0.0.0/8 --except-from 11.1.0.2 --from 2a0f::/16 "
        "--except-from 2a0f:1::2", [], [[]]),
    "mac": Case("--gateway lan0 --mac {mac}"),
    "other-mac": Case("--gateway lan0 --mac 02:00:5e:00:00:01", [], [[]]),
    "except-mac": Case("--gateway lan0 --except-mac {mac}", [], [[]]),
    "except-other-mac": Case("--gateway lan0 --except-mac 02:00:5e:00:00:01"),
    "prefix-from-and-mac": Case(
        "--gateway la* --from 11.1.0.2 --from 2a0f:1::2 --mac {mac} --mac 02:00:5e:00:00:01"),
}

#: With `--machine` or `--gateway lan0` before them.
DESTINATIONS = {
    "bypass": Case("--bypass 11.3.0.0/24 --bypass 2a0f:3::2", [], [[]]),
    "bypass-others": Case("--bypass 11.3.0.0/31 --bypass 2a0f:3::/127"),
    "bypass-port": Case("--bypass-port {port}", [], [[]]),
    "bypass-other-port": Case("--bypass-port 1-{below}"),
    "only": Case("--proxy-only 11.3.0.0/24 --proxy-only 2a0f:3::/64"),
    "only-others": Case("--proxy-only 11.4.0.0/24", [], [[]]),
    "only-but": Case(
        "--proxy-only 11.0.0.0/8 --proxy-only 2a0f::/16 --bypass 11.3.0.2 --bypass 2a0f:3::/64",
        [], [[]]),
    "only-port": Case("--proxy-only-port {port}"),
    "only-other-port": Case("--proxy-only-port 1-{below}", [], [[]]),
}


def check(
    topology: Topology, host: Namespace, flags: str, upstream: str, mirror: Mirror, case: Case
) -> None:
    words = flags.format(
        mac=hardware_address(topology), port=mirror.port, below=mirror.port - 1).split()
    with Sluice(host, upstream, *words) as sluice:
        for family in ADDRESSES:
            for prefix in case.captured:
                assert visit(topology.client, family, mirror.port, *prefix) == CAPTURED
            for prefix in case.direct:
                assert visit(topology.client, family, mirror.port, *prefix) == DIRECT
        opened = sluice.finish()["sessions_opened"]
    assert opened == len(ADDRESSES) * len(case.captured)


def hardware_address(topology: Topology) -> str:
    words = topology.client.run("ip", "-o", "link", "show", "lan0").stdout.split()
    return words[words.index("link/ether") + 1]


@pytest.mark.parametrize("by", CAPTURES)
@pytest.mark.parametrize("name", MACHINE)
def test_machine(topology: Topology, upstream: str, mirror: Mirror, name: str, by: str) -> None:
    case = MACHINE[name]
    check(topology, topology.client, f"{case.flags} --tcp {by}", upstream, mirror, case)


@pytest.fixture
def grouped(topology: Topology) -> Iterator[None]:
    topology.gateway.ip("link set lan0 group 7")
    yield
    topology.gateway.ip("link set lan0 group 0")


@pytest.mark.parametrize("by", CAPTURES)
@pytest.mark.parametrize("name", GATEWAY)
def test_gateway(
    topology: Topology, upstream: str, mirror: Mirror, grouped: None, name: str, by: str
) -> None:
    case = GATEWAY[name]
    check(topology, topology.gateway, f"{case.flags} --tcp {by}", upstream, mirror, case)


@pytest.mark.parametrize("name", DESTINATIONS)
def test_destinations(
    topology: Topology, upstream: str, mirror: Mirror, capture: Capture, name: str
) -> None:
    case = DESTINATIONS[name]
    flags = " ".join([*capture.flags(), case.flags])
    check(topology, capture.host(topology), flags, upstream, mirror, case)


# Control groups.

def control_groups() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise AssertionError("control groups of version 2 are not mounted")


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group of two levels."""
    top = control_groups() / f"slt{os.getpid()}.slice"
    # Found by its name alone, wherever it is.
    inner = top / f"inner{os.getpid()}.service"
    inner.mkdir(parents=True)
    yield inner
    inner.rmdir()
    top.rmdir()


def inside(group: Path) -> list[str]:
    return ["sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh"]


@pytest.mark.parametrize("by", CAPTURES)
@pytest.mark.parametrize("named", ["path", "slice", "unit", "two"])
def test_control_group(
    topology: Topology, upstream: str, mirror: Mirror, group: Path, named: str, by: str
) -> None:
    top = group.parent.name
    flags = {
        "path": f"--cgroup {top}/{group.name}", "slice": f"--cgroup {top}",
        "unit": f"--cgroup {group.name}", "two": f"--cgroup {group.name} --cgroup {top}",
    }[named]
    case = Case(f"{flags} --tcp {by}", [inside(group)], [[]])
    check(topology, topology.client, case.flags, upstream, mirror, case)
    case = Case(flags.replace("--", "--except-") + f" --tcp {by}", [[]], [inside(group)])
    check(topology, topology.client, case.flags, upstream, mirror, case)


def test_control_group_made_anew(
    topology: Topology, upstream: str, mirror: Mirror, group: Path
) -> None:
    """As when a unit is started again."""
    def captured() -> bool:
        return visit(topology.client, "ipv4", mirror.port, *inside(group)) == CAPTURED

    with Sluice(topology.client, upstream, "--cgroup", group.name):
        assert captured()
        group.rmdir()
        group.mkdir()
        wait_until(captured, "the new group to be captured")


# Traffic that is not captured.

PASSED = "passed"

#: A protocol that is none of those with a class of their own.
ESP = 50


def send(topology: Topology, family: str, kind: str, port: int) -> str:
    """Sends a datagram of this kind to the server, which answers: "passed", or the errno that the
    sender sees."""
    number = socket.AF_INET6 if family == "ipv6" else socket.AF_INET
    icmp = socket.IPPROTO_ICMPV6 if family == "ipv6" else socket.IPPROTO_ICMP
    form, protocol = {
        "udp": (socket.SOCK_DGRAM, 0), "icmp": (socket.SOCK_RAW, icmp),
        "other": (socket.SOCK_RAW, ESP),
    }[kind]
    with topology.client.call(socket.socket, number, form, protocol) as sender:
        sender.settimeout(5)
        try:
            sender.connect((ADDRESSES[family].server, port if kind == "udp" else 0))
            if kind == "icmp":
                sender.send(echo_request(family))
            else:
                # An ICMP error is worth something to a socket if it quotes 8 bytes.
                sender.send(b"hello from a test")
            return PASSED if sender.recv(1000) else "empty"
        except TimeoutError:
            return "silence"
        except OSError as error:
            return errno.errorcode[error.errno or 0]


def echo_request(family: str) -> bytes:
    message = bytearray([128 if family == "ipv6" else 8, 0, 0, 0, 0, 1, 0, 1])
    if family == "ipv4":
        total = sum(message[0::2]) * 256 + sum(message[1::2])
        total = (total & 0xFFFF) + (total >> 16)
        message[2:4] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(message)


#: Sends back what comes by UDP and by another protocol, in both families. A raw IPv4
#: socket gets the header as well.
PARROT = """
import select, socket, sys
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", 7))
raw4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, int(sys.argv[1]))
raw6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, int(sys.argv[1]))
print("bound", flush=True)
while True:
    for one in select.select([udp, raw4, raw6], [], [])[0]:
        data, sender = one.recvfrom(2000)
        one.sendto(data[20:] if one is raw4 else data, sender)
"""


@pytest.fixture(scope="module")
def parrot(topology: Topology) -> Iterator[int]:
    """The port of a server that sends back what comes."""
    command = ["/usr/bin/python3", "-S", "-c", PARROT, str(ESP)]
    with Program(topology.server, *command, name="parrot") as server:
        server.wait_for_output(lambda: "bound" in server.lines, "bound", 20)
        yield 7


#: What the sender sees of a rejected datagram, on the machine itself and behind the gateway.
REJECTIONS = {"machine": {"EPERM"}, "gateway": {"ECONNREFUSED", "EHOSTUNREACH", "EACCES"}}


@pytest.mark.parametrize("treatment", ["bypass", "reject"])
@pytest.mark.parametrize("exit", ["open", "closed"])
@pytest.mark.parametrize("kind", ["udp", "icmp", "other"])
def test_classes(
    topology: Topology, upstream: str, parrot: int, capture: Capture, guarded: Namespace, kind: str,
    exit: str, treatment: str,
) -> None:
    flags = [*capture.flags(), "--on-exit", exit, f"--{kind}", treatment]
    with Sluice(guarded, upstream, *flags) as sluice:
        for family in ADDRESSES:
            fate = send(topology, family, kind, parrot)
            if treatment == "bypass":
                assert fate == PASSED
            else:
                assert fate in REJECTIONS[capture.scope]
        sluice.finish()


@pytest.mark.parametrize("exit", ["open", "closed"])
def test_classes_by_default(
    topology: Topology, upstream: str, parrot: int, capture: Capture, guarded: Namespace, exit: str
) -> None:
    with Sluice(guarded, upstream, *capture.flags(), "--on-exit", exit) as sluice:
        fates = {send(topology, family, kind, parrot) for family in ADDRESSES
            for kind in ("icmp", "other")}
        assert (fates == {PASSED}) == (exit == "open")
        assert (PASSED not in fates) == (exit == "closed")
        sluice.finish()


@pytest.mark.parametrize("udp", ["proxy", "bypass"])
def test_quic_gives_way(
    topology: Topology, upstream: str, parrot: int, capture: Capture, udp: str
) -> None:
    flags = [*capture.flags(), "--quic", "reject", "--udp", udp]
    with Sluice(capture.host(topology), upstream, *flags):
        for family in ADDRESSES:
            assert send(topology, family, "udp", 443) in REJECTIONS[capture.scope]
            if udp == "bypass":
                assert send(topology, family, "udp", parrot) == PASSED


@pytest.mark.parametrize("treatment, fate", [("bypass", DIRECT), ("reject", REFUSED), ("proxy", CAPTURED)])
def test_ipv6(
    topology: Topology, upstream: str, mirror: Mirror, capture: Capture, treatment: str, fate: str
) -> None:
    with Sluice(capture.host(topology), upstream, *capture.flags(), "--ipv6", treatment):
        assert visit(topology.client, "ipv4", mirror.port) == CAPTURED
        assert visit(topology.client, "ipv6", mirror.port) == fate
