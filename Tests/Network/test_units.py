"""The units of systemd, judged by systemd, and the rights that they leave."""

import os
import re
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from harness import kernel
from harness.confined import NOBODY
from harness.datagrams import DatagramEcho, ask
from harness.flows import attempt
from harness.needs import need
from harness.sluice import Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.units import FOLDER, UNITS, restriction, setting
from harness.waiting import wait_until

#: Above this systemd calls a service "exposed".
MAXIMUM_EXPOSURE = 5.0


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A unit whose program is the one that is tested, and which has no manual yet."""
    text = (FOLDER / request.param).read_text()
    text = text.replace("/usr/bin/sluice", binary())
    text = re.sub("^Documentation=.*\n", "", text, flags=re.MULTILINE)
    place = tmp_path / request.param.replace("@.", "@lan0.")
    place.write_text(text)
    return place


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_verify(unit: Path) -> None:
    answer = analyze("verify", "--man=no", str(unit))
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_verify_finds_faults(unit: Path) -> None:
    """Else the test above could not fail."""
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSec=often"))
    assert "often" in analyze("verify", "--man=no", str(unit)).stderr


def test_security(unit: Path) -> None:
    answer = analyze("security", "--offline=true", "--no-pager", str(unit))
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+) (\w+)", answer.stdout)
    assert level, answer.stdout + answer.stderr
    assert float(level[1]) <= MAXIMUM_EXPOSURE
    assert level[2] == "OK"


def test_template_is_the_same_service() -> None:
    def service(name: str) -> list[str]:
        lines = (FOLDER / name).read_text().split("[Service]")[1].splitlines()
        return [line for line in lines if not line.startswith(("ExecStart=", "#"))]

    assert service(UNITS[0]) == service(UNITS[1])


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
    text = (FOLDER / UNITS[0]).read_text().replace("\\\n", " ")
    [script] = re.findall(r"^ExecStop=/bin/sh -c '(.*)'$", text, flags=re.MULTILINE)
    script = script.replace("$$", "$").replace("%n", UNITS[0])
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


def permitted_calls() -> set[str]:
    """The system calls of the service's filter (systemd.exec(5))."""
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
    for words in setting("SystemCallFilter"):
        for word in words:
            if word.startswith("~"):
                permitted -= calls(word[1:])
            else:
                permitted |= calls(word)
    # What every filter lets through, to start and end a program.
    return permitted | calls("@default") | {"execve"}


def test_filter_lets_through_what_it_does(
    topology: Topology, upstream: str, echo: Echo, datagram_echo: DatagramEcho, tmp_path: Path,
    runtime: Path,
) -> None:
    """From the start to the end, under strace."""
    trace = tmp_path / "trace"
    tracing = (
        need("strace"), "--daemonize", "--follow-forks", "--summary-only",
        "--summary-columns=calls,name", f"--output={trace}")
    with Sluice(
        topology.gateway, upstream, "--gateway", "lan0", "--machine", "--control",
        str(runtime / "control.sock"), within=(*tracing, "--"),
    ) as sluice:
        sluice.wait_for_relaying()
        for family, at in ADDRESSES.items():
            assert attempt(topology.client, at.server, echo.port) == "answer"
            assert ask(topology, family, datagram_echo.port)
    wait_until(lambda: "total" in trace.read_text(), "strace's summary")
    summary = (line.split() for line in trace.read_text().splitlines())
    made = {words[-1] for words in summary if len(words) == 2 and words[0].isdigit()} - {"total"}
    assert {"epoll_wait", "splice", "sendmsg", "setsockopt"} & made, made
    assert made - permitted_calls() == set()
