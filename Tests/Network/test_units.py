"""The units of systemd, judged by systemd, and the rights that they leave."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import kernel
from harness.associating import Associating
from harness.confined import NOBODY
from harness.datagrams import DatagramEcho, ask
from harness.flows import attempt
from harness.needs import need
from harness.serving import BIND, CONNECT, Asking, serving
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.units import (
    FOLDER, RUN, RUN_TEMPLATE, SERVE, SERVICES, UNITS, restriction, setting)
from harness.waiting import wait_until

#: Above this systemd calls a service "exposed".
MAXIMUM_EXPOSURE = 5.0


def prepared(name: str, folder: Path) -> Path:
    """A unit beside the others, all of which have the program that is tested, and no manual yet."""
    for one in UNITS:
        text = (FOLDER / one).read_text().replace("/usr/bin/sluice", binary())
        text = re.sub("^Documentation=.*\n", "", text, flags=re.MULTILINE)
        (folder / one.replace("@.", "@lan0.")).write_text(text)
    return folder / name.replace("@.", "@lan0.")


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return prepared(request.param, tmp_path)


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_verify(unit: Path) -> None:
    answer = analyze("verify", "--man=no", str(unit))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_verify_finds_faults(unit: Path) -> None:
    """Else the test above could not fail."""
    unit.write_text(unit.read_text() + "[Unit]\nAllowIsolate=often\n")
    assert "often" in analyze("verify", "--man=no", str(unit)).stderr


def exposure(service: Path) -> tuple[float, str]:
    """How systemd rates it, and what it calls that."""
    answer = analyze("security", "--offline=true", "--no-pager", str(service))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+) (\w+)", answer.stdout)
    assert level, answer.stdout + answer.stderr
    return float(level[1]), level[2]


@pytest.mark.parametrize("name", SERVICES)
def test_security(name: str, tmp_path: Path) -> None:
    level, word = exposure(prepared(name, tmp_path))
    assert level <= MAXIMUM_EXPOSURE
    assert word == "OK"


def test_server_has_fewer_rights(tmp_path: Path) -> None:
    assert exposure(prepared(SERVE, tmp_path)) < exposure(prepared(RUN, tmp_path))
    assert setting("CapabilityBoundingSet", SERVE) == [[]]


def test_template_is_the_same_service() -> None:
    def service(name: str) -> list[str]:
        lines = (FOLDER / name).read_text().split("[Service]")[1].splitlines()
        return [line for line in lines if not line.startswith(("ExecStart=", "#"))]

    assert service(RUN) == service(RUN_TEMPLATE)


def test_room_is_told() -> None:
    """By the variable that systemd sets itself since version 254."""
    [[room]], told = setting("FileDescriptorStoreMax"), setting("Environment")
    assert told == [[f"FDSTORE={room}"]]


@pytest.mark.parametrize("jobs, is_left", [
    ("12 sluice.service restart running\n", True),
    ("7 other.service start waiting\n12 sluice.service   restart running\n", True),
    ("12 sluice.service stop running\n", False),
    ("12 other-sluice.service restart running\n13 sluice.service stop running\n", False),
    ("", False),
])
def test_restart_is_told_from_stop(tmp_path: Path, jobs: str, is_left: bool) -> None:
    """SIGUSR2 comes for a restart only, by what `systemctl list-jobs` prints."""
    fake = tmp_path / "systemctl"
    fake.write_text(f'#!/bin/sh\n[ "$1" = list-jobs ] && cat <<END\n{jobs}END\n')
    fake.chmod(0o755)
    text = (FOLDER / RUN).read_text().replace("\\\n", " ")
    [script] = re.findall(r"^ExecStop=/bin/sh -c '(.*)'$", text, flags=re.MULTILINE)
    script = script.replace("$$", "$").replace("%n", RUN)
    with subprocess.Popen(["sleep", "60"]) as service:
        subprocess.run(
            ["/bin/sh", "-c", script], check=True,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "MAINPID": str(service.pid)})
        service.send_signal(signal.SIGTERM)
        # Of two that are pending the lower number ends it.
        assert service.wait() == -(signal.SIGUSR2 if is_left else signal.SIGTERM)


@pytest.fixture
def runtime(folder: Path) -> Path:
    """What RuntimeDirectory= gives the service."""
    place = Path(tempfile.mkdtemp(dir=folder))
    place.chmod(0o755)
    os.chown(place, NOBODY, NOBODY)
    return place


def test_those_rights_are_enough(
    topology: Topology, upstream: str, echo: Echo, datagram_echo: DatagramEcho, runtime: Path
) -> None:
    """As the service's user: both scopes, TCP and UDP, the switch of forwarding, the control socket and
    that of metrics, and nothing left."""
    control, metrics = runtime / "control.sock", runtime / "metrics.sock"
    forwarding = topology.gateway.read_sysctl("net/ipv4/ip_forward")
    topology.gateway.write_sysctl("net/ipv4/ip_forward", "0")
    before = kernel.snapshot(topology.gateway)
    try:
        with Sluice(
            topology.gateway, upstream, "--gateway", "lan0", "--machine", "--control", str(control),
            "--metrics", f"unix:{metrics}", within=restriction(NOBODY),
        ) as sluice:
            status = Path(f"/proc/{sluice.pid}/status").read_text()
            assert re.search(rf"^Uid:\s+{NOBODY}\s", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0*3000$", status, re.MULTILINE), status
            assert topology.gateway.read_sysctl("net/ipv4/ip_forward") == "1"
            assert control.is_socket() and metrics.is_socket()
            sluice.wait_for_relaying()
            for family, at in ADDRESSES.items():
                assert attempt(topology.client, at.server, echo.port) == "answer"
                assert echo.peers[-1] == at.proxy_exit
                assert attempt(topology.gateway, at.server, echo.port) == "answer"
                assert echo.peers[-1] == at.proxy_exit
                assert ask(topology, family, datagram_echo.port)
            sluice.finish()
        assert not control.exists() and not metrics.exists()
        assert not kernel.changes(before, kernel.snapshot(topology.gateway))
    finally:
        topology.gateway.write_sysctl("net/ipv4/ip_forward", forwarding)


def permitted_calls(service: str) -> set[str]:
    """The system calls of a service's filter (systemd.exec(5))."""
    groups: dict[str, set[str]] = {}
    listing = analyze("syscall-filter").stdout
    for block in re.split(r"\n(?=@)", listing):
        name, *rest = block.splitlines()
        groups[name] = {line.strip() for line in rest if line.strip() and not line.lstrip().startswith("#")}

    def calls(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return set().union(*(calls(one) for one in groups[name]))

    permitted: set[str] = set()
    for words in setting("SystemCallFilter", service):
        for word in words:
            if word.startswith("~"):
                permitted -= calls(word[1:])
            else:
                permitted |= calls(word)
    # What every filter lets through, to start and end a program.
    return permitted | calls("@default") | {"execve"}


class Tracing:
    """Counts the system calls of a program, under strace."""

    def __init__(self, folder: Path) -> None:
        self.trace = folder / "trace"
        self.prefix = (
            need("strace"), "--daemonize", "--follow-forks", "--summary-only",
            "--summary-columns=calls,name", f"--output={self.trace}", "--")

    def made(self) -> set[str]:
        """Those that it has made; it has ended."""
        wait_until(lambda: "total" in self.trace.read_text(), "strace's summary")
        summary = (line.split() for line in self.trace.read_text().splitlines())
        return {words[-1] for words in summary if len(words) == 2 and words[0].isdigit()} - {"total"}


def test_filter_lets_through_what_it_does(
    topology: Topology, upstream: str, echo: Echo, datagram_echo: DatagramEcho, tmp_path: Path,
    runtime: Path,
) -> None:
    """From the start to the end."""
    tracing = Tracing(tmp_path)
    with Sluice(
        topology.gateway, upstream, "--gateway", "lan0", "--machine", "--control",
        str(runtime / "control.sock"), within=tracing.prefix,
    ) as sluice:
        sluice.wait_for_relaying()
        for family, at in ADDRESSES.items():
            assert attempt(topology.client, at.server, echo.port) == "answer"
            assert ask(topology, family, datagram_echo.port)
    made = tracing.made()
    assert {"epoll_wait", "splice", "sendmsg", "setsockopt"} & made, made
    assert made - permitted_calls(RUN) == set()


def test_filter_lets_through_what_the_server_does(
    topology: Topology, echo: Echo, datagram_echo: DatagramEcho, tmp_path: Path
) -> None:
    """All that clients may ask for."""
    tracing = Tracing(tmp_path)
    with serving(topology.gateway, prefix=tracing.prefix) as program:
        for at in ADDRESSES.values():
            with Asking(topology.client, at.gateway_lan, 5) as client:
                assert client.ask(CONNECT, (at.server, echo.port)).code == 0
                assert client.echoes()
            with Asking(topology.client, at.gateway_lan, 5) as client:
                assert client.ask(BIND, (at.server, 0)).code == 0
            with Associating(topology.client, at.gateway_lan) as association:
                association.send(b"x", (at.server, datagram_echo.port))
                assert association.receive()[0] == b"x"
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    made = tracing.made()
    assert {"epoll_wait", "splice", "sendmmsg", "setsockopt"} & made, made
    assert made - permitted_calls(SERVE) == set()
