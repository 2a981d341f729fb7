"""Nothing that a confined program sends ever leaves directly: not while the engine is stopped, not
when it is gone, not when the upstream is."""

import contextlib
import os
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

import pytest

from harness import resolvers, upstreams
from harness.confined import Confined, Way, script
from harness.datagrams import DatagramEcho
from harness.knocking import Knocking, Tap, knocking
from harness.namespaces import Namespace
from harness.programs import Program
from harness.resolvers import Unbound
from harness.targets import Echo
from harness.topology import ADDRESSES, FAMILIES, Topology
from harness.waiting import PATIENCE, wait_until

#: Ends of what the engine says to an upstream on the proxy, or on localhost.
ENGINES = [
    "127.0.0.1", "::1",
    *(address for at in ADDRESSES.values() for address in (at.client, at.proxy))]

#: Seconds within which an attempt has failed that does not hang: about one, on a machine that has
#: the time.
SOON = 5.0


@dataclass(frozen=True)
class Doors:
    """What the program tries."""

    echo: Echo
    datagram_echo: DatagramEcho

    def carried(self, datagrams: bool = True) -> set[str]:
        """Those that are answered as long as the upstream works."""
        doors = set()
        for at in ADDRESSES.values():
            doors |= {f"tcp,{at.server},{self.echo.port}", f"dns,{at.server},{resolvers.PORT}"}
            if datagrams:
                doors.add(f"udp,{at.server},{self.datagram_echo.port}")
        return doors

    def all(self) -> list[str]:
        """Those, and all that have to be shut."""
        doors = self.carried()
        for at in ADDRESSES.values():
            doors |= {f"{kind},{at.server},7" for kind in ("icmp", "raw", "udplite")}
            # The next host, by a port that nobody needs.
            doors |= {f"tcp,{at.gateway_lan},4711", f"udp,{at.gateway_lan},4711"}
        # Everybody, by whichever interface there is.
        return sorted(doors | {
            "udp,255.255.255.255,67", "udp,224.0.0.251,5353", "udp,ff0e::fb,5353",
            "udp,ff02::fb%lan0,5353", "udp,ff02::fb%lo,5353"})


@pytest.fixture
def doors(echo: Echo, datagram_echo: DatagramEcho, unbound: Unbound) -> Doors:
    return Doors(echo, datagram_echo)


@dataclass(frozen=True)
class Fragile(Way):
    """An upstream that can be killed."""

    servers: tuple[Program, ...] = ()

    def kill(self) -> None:
        for one in self.servers:
            one.end()


@contextlib.contextmanager
def fragile(name: str, topology: Topology, folder: Path) -> Iterator[Fragile]:
    folder = Path(tempfile.mkdtemp(dir=folder))
    folder.chmod(0o755)
    if name == "dante":
        with upstreams.dante(topology.proxy, folder) as server:
            yield Fragile(name, upstreams.url(ADDRESSES["ipv4"].proxy), True, (server,))
    elif name == "openssh":
        with upstreams.openssh(topology.proxy, folder, topology.client) as server:
            yield Fragile(name, "socks5://localhost", False, (server,))
    else:
        yield Fragile(name, "embedded")


@pytest.fixture(params=["dante", "openssh"])
def elsewhere(
    request: pytest.FixtureRequest, topology: Topology, folder: Path
) -> Iterator[Fragile]:
    """An upstream of which the host sees all that the engine says to it."""
    with fragile(request.param, topology, folder) as way:
        yield way


def passed(topology: Topology, doors: Doors) -> list[dict[str, int]]:
    """What came past the proxy for any of the doors that are there."""
    return [
        topology.leaked(port, protocol)
        for port in (doors.echo.port, doors.datagram_echo.port, resolvers.PORT)
        for protocol in ("tcp", "udp")]


@contextlib.contextmanager
def watched(topology: Topology, doors: Doors) -> Iterator[None]:
    """Nothing may leave the client but what the engine says to an upstream."""
    before = passed(topology, doors)
    with Tap(topology.client, ENGINES) as tap:
        yield
        packets = tap.finish()
    assert not packets, "\n".join(packets[:20])
    assert passed(topology, doors) == before


@contextlib.contextmanager
def confined_knocking(
    user: Confined, way: Way, doors: Doors, *options: str
) -> Iterator[Knocking]:
    """A program that knocks at all doors, and is heard where it should be."""
    with knocking(user, [*options, way.url], doors.all()) as knocks:
        knocks.wait_for_answers(doors.carried(way.carries_datagrams))
        yield knocks


def test_tap_sees_what_leaves(
    topology: Topology, confined: Confined, doors: Doors, errors_at_any_rate: None
) -> None:
    """The checks below can fail: without `sluice exec` each door is seen to be tried."""
    topology.client.write_sysctl("net/ipv4/ping_group_range", f"0 {confined.user}")
    before = passed(topology, doors)
    with Tap(topology.client, ENGINES) as tap:
        confined.bare(*script("knock.py", "1", "0.2", *doors.all()))
        packets = tap.finish()
    at4, at6 = ADDRESSES["ipv4"], ADDRESSES["ipv6"]
    for words in (
        f"{at4.server}.{doors.echo.port}: Flags [S]", f"{at6.server}.{doors.echo.port}: Flags [S]",
        f"{at4.server}.{doors.datagram_echo.port}: ", f"{at6.server}.{doors.datagram_echo.port}: ",
        f"{at4.server}.53: ", f"{at6.server}.53: ",
        f"{at4.server}: ICMP echo request", f"{at6.server}: ICMP6, echo request",
        f"{at4.server}:  ip-proto-136", f"{at6.server}:  ip-proto-136",
        f"{at4.gateway_lan}.4711: ", f"{at6.gateway_lan}.4711: ",
        "255.255.255.255.67: ", "224.0.0.251.5353: ", "ff0e::fb.5353: ", "ff02::fb.5353: ",
    ):
        assert any(words in line for line in packets), (words, packets)
    for old, new in zip(before[:3], passed(topology, doors)):
        assert all(new[family] >= old[family] for family in FAMILIES)
    assert passed(topology, doors) != before


def check_silence(knocks: Knocking) -> None:
    assert knocks.answering() == set()


def test_stopped_engine(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    """It is stopped for a while, and goes on."""
    with watched(topology, doors), confined_knocking(confined, elsewhere, doors) as knocks:
        knocks.program.stop()
        check_silence(knocks)
        knocks.program.signal(signal.SIGCONT)
        knocks.wait_for_answers(doors.carried(elsewhere.carries_datagrams))


def test_killed_engine(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    """The program lives on, cut off."""
    with watched(topology, doors), confined_knocking(confined, elsewhere, doors) as knocks:
        knocks.program.signal(signal.SIGKILL)
        assert knocks.program.process.wait(PATIENCE) == -signal.SIGKILL
        check_silence(knocks)


def test_connections_fail_soon_when_the_engine_is_killed(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    with watched(topology, doors), patient_knocking(confined, elsewhere, doors) as knocks:
        knocks.program.signal(signal.SIGKILL)
        assert knocks.program.process.wait(PATIENCE) == -signal.SIGKILL
        check_quick_failures(knocks)


def test_engine_that_does_not_linger(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    """What a program leaves behind is cut off when the engine has ended."""
    command = ["setsid", "--fork", *script("knock.py", "0", "0.5", *doors.all())]
    with watched(topology, doors):
        program = confined.start("--linger", "0", elsewhere.url, command=command)
        try:
            assert program.process.wait(PATIENCE) == 0
            if confined.inside():  # it may as well have been ended
                check_silence(Knocking(program, doors.all()))
        finally:
            confined.kill()
            program.end()


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_embedded_engine(
    topology: Topology, confined: Confined, doors: Doors, number: signal.Signals
) -> None:
    """What it sends passes the same places: nothing is added from when it is stopped."""
    way = Way("embedded", "embedded")
    with confined_knocking(confined, way, doors) as knocks:
        if number == signal.SIGSTOP:
            knocks.program.stop()
        else:
            knocks.program.signal(number)
            knocks.program.process.wait(PATIENCE)
        # What it had begun is over with these.
        check_silence(knocks)
        before, visitors = passed(topology, doors), len(doors.echo.peers)
        check_silence(knocks)
        assert passed(topology, doors) == before
        assert len(doors.echo.peers) == visitors


def check_quick_failures(knocks: Knocking) -> None:
    """Whoever connects hears of it; nobody is answered."""
    knocked = knocks.wait()
    assert not [one for one in knocked if one.outcome == "answer"]
    connections = [one for one in knocked if one.kind == "tcp"]
    hanging = [
        one for one in connections
        if one.outcome not in ("RST", "ECONNREFUSED") or one.seconds > SOON]
    assert not hanging, hanging


@contextlib.contextmanager
def patient_knocking(
    user: Confined, way: Way, doors: Doors, *options: str
) -> Iterator[Knocking]:
    """As above, by TCP alone, and waiting for longer than anything may take."""
    connections = sorted(door for door in doors.all() if door.startswith("tcp"))
    command = script("knock.py", "0", str(2 * SOON), *connections)
    program = user.start(*options, way.url, command=command)
    try:
        knocks = Knocking(program, connections)
        answered = {door for door in doors.carried() if door.startswith("tcp")}
        knocks.wait_for_answers(answered)
        yield knocks
    finally:
        user.kill()
        program.end()


def test_dead_upstream(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    with watched(topology, doors), confined_knocking(confined, elsewhere, doors) as knocks:
        elsewhere.kill()
        check_silence(knocks)


def test_connections_fail_soon_when_the_upstream_is_dead(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    with watched(topology, doors), patient_knocking(confined, elsewhere, doors) as knocks:
        elsewhere.kill()
        check_quick_failures(knocks)


#: Looks a name up, tells, and looks another up when it is told to: how that ends, and after how
#: many seconds.
LOOKING_UP = """
getent ahosts ipv4.example > /dev/null && echo found
read
SECONDS=0
getent ahosts server.example > /dev/null; echo status $? after $SECONDS
"""


def test_names_fail_soon_when_the_upstream_is_dead(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    """A connection begins by them."""
    with watched(topology, doors):
        program = confined.start(
            elsewhere.url, command=["bash", "-c", LOOKING_UP], stdin=subprocess.PIPE)
        program.wait_for_output(lambda: "found" in program.lines, "that it has found", PATIENCE)
        elsewhere.kill()
        assert program.process.stdin
        program.process.stdin.write("\n")
        program.process.stdin.close()
        assert program.wait(60) == 0
    (ending,) = [line.split() for line in program.lines if line.startswith("status")]
    assert ending[1] != "0"
    assert int(ending[3]) <= SOON


@contextlib.contextmanager
def out_of_reach(host: Namespace) -> Iterator[None]:
    """Whatever comes to the host itself is lost, as with a cable cut."""
    host.nft("""
        table inet cut {
          chain arriving { type filter hook input priority filter; meta l4proto tcp drop; }
        }""")
    try:
        yield
    finally:
        host.nft("delete table inet cut")


def test_connections_fail_in_time_when_the_upstream_is_out_of_reach(
    topology: Topology, confined: Confined, doors: Doors, folder: Path
) -> None:
    """It neither accepts nor refuses: that takes as long as is allowed."""
    with fragile("dante", topology, folder) as way, watched(topology, doors), \
            patient_knocking(confined, way, doors, "--connect-timeout", "1") as knocks, \
            out_of_reach(topology.proxy):
        check_quick_failures(knocks)


def test_end_of_the_caller(
    topology: Topology, elsewhere: Fragile, confined: Confined, doors: Doors
) -> None:
    """The program and the engine are killed with their whole group; who has left that lives on, cut
    off."""
    command = [
        "sh", "-c", 'setsid "$@" & wait', "sh", *script("knock.py", "0", "0.5", *doors.all())]
    with watched(topology, doors):
        program = confined.start(elsewhere.url, command=command)
        try:
            knocks = Knocking(program, doors.all())
            knocks.wait_for_answers(doors.carried(elsewhere.carries_datagrams))
            os.killpg(program.pid, signal.SIGKILL)
            assert program.process.wait(PATIENCE) == -signal.SIGKILL
            wait_until(lambda: len(engines(confined)) == 0, "the engine to end")
            check_silence(knocks)
        finally:
            confined.kill()
            program.end()


def engines(user: Confined) -> list[int]:
    """What of it runs in the host's own namespace."""
    inside = set(user.inside())
    return [pid for pid in user.processes() if pid not in inside]


def test_start_with_a_dead_upstream(topology: Topology, confined: Confined, doors: Doors) -> None:
    """The program is not even begun."""
    upstream = upstreams.url(ADDRESSES["ipv4"].proxy, 1)
    with watched(topology, doors):
        done = confined.run(upstream, command=["touch", "begun"])
    assert done.returncode == 69
    assert upstream in done.stderr
    assert not (confined.home / "begun").exists()
