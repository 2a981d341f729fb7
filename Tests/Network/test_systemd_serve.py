"""The package's server under a real systemd: started by a client, set up, restarted under load, purged."""

import re
import socket
from pathlib import Path
from typing import Iterator

import pytest

from harness.booted import Booted
from harness.debian import build, newer
from harness.serving import CONNECT, Asking, Customer
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology
from harness.units import SERVE, SERVE_SOCKET
from harness.upstreams import PORT
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

HERE = "127.0.0.1"

#: In the folder that the unit makes.
METRICS = "/run/sluice-serve/metrics.sock"

RESTARTS = 10


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    return build(folder)


@pytest.fixture(scope="module")
def booted(topology: Topology, folder: Path) -> Iterator[Booted]:
    with Booted(topology.proxy, folder) as container:
        yield container


@pytest.fixture
def installed(booted: Booted, package: Path) -> Iterator[Booted]:
    """With the package, of which nothing is left afterwards, as if it had never been there."""
    before = booted.debian.files()
    booted.install(package)
    assert booted.show("ActiveState", SERVE_SOCKET) == "inactive", "nobody has enabled it"
    yield booted
    booted.run("dpkg", "--purge", "sluice")
    assert not booted.host.listeners(PORT)
    assert booted.run("systemctl", "list-units", "--all", "--no-legend", "sluice*") == ""
    assert booted.debian.files() == before


def enable(booted: Booted) -> None:
    booted.run("systemctl", "enable", "--now", SERVE_SOCKET)


def set_up(booted: Booted, unit: str, *lines: str) -> None:
    """What `systemctl edit` does."""
    folder = booted.debian.root / f"etc/systemd/system/{unit}.d"
    folder.mkdir()
    (folder / "override.conf").write_text("\n".join((f"[{unit.split('.')[1].title()}]", *lines, "")))
    booted.run("systemctl", "daemon-reload")


def served(booted: Booted, echo: Echo) -> None:
    with Asking(booted.host, HERE, 5) as client:
        assert client.ask(CONNECT, (AT.server, echo.port)).code == 0
        assert client.echoes()


def test_first_client_starts_it(installed: Booted, echo: Echo) -> None:
    enable(installed)
    assert installed.show("ActiveState", SERVE) == "inactive"
    served(installed, echo)
    assert installed.show("StatusText", SERVE) == f"serving SOCKS5 and SOCKS4 on {HERE}:{PORT}"
    pid = installed.show("MainPID", SERVE)
    status = installed.run("cat", f"/proc/{pid}/status")
    user = re.search(r"^Uid:\s+(\d+)\s", status, re.MULTILINE)
    # Those of DynamicUser=.
    assert user and 61184 <= int(user[1]) <= 65519
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert re.search(rf"^{kind}:\s+0+$", status, re.MULTILINE), status
    installed.run("systemctl", "stop", SERVE_SOCKET)
    assert installed.show("ActiveState", SERVE) == "inactive"
    assert installed.show("Result", SERVE) == "success"
    with pytest.raises(ConnectionRefusedError):
        installed.host.connect(HERE, PORT)


def test_settings(installed: Booted, topology: Topology, echo: Echo) -> None:
    """Users, places and rules as the units' comments have it, and metrics, once a server runs."""
    enable(installed)
    served(installed, echo)
    users = installed.debian.root / "etc/sluice/users"
    users.write_text("me:secret\n")
    users.chmod(0o600)
    set_up(installed, SERVE_SOCKET, "ListenStream=", f"ListenStream=0.0.0.0:{PORT}", f"ListenStream=[::]:{PORT}")
    set_up(
        installed, SERVE, "LoadCredential=users:/etc/sluice/users",
        f'Environment="SERVE_OPTIONS=--users-file %d/users --deny-destination {AT.second} '
        f'--metrics unix:{METRICS}"')
    installed.run("systemctl", "restart", SERVE_SOCKET)
    for at in ADDRESSES.values():
        with topology.gateway.connect(at.proxy, PORT) as client:
            client.sendall(b"\x05\x02\x00\x02")
            assert client.recv(2, socket.MSG_WAITALL) == b"\x05\x02"
            client.sendall(b"\x01\x02me\x06secret")
            assert client.recv(2, socket.MSG_WAITALL) == b"\x01\x00"
            client.sendall(
                b"\x05\x01\x00\x01" + socket.inet_aton(AT.second) + echo.port.to_bytes(2, "big"))
            assert client.recv(2, socket.MSG_WAITALL) == b"\x05\x02"
    with socket.socket(socket.AF_UNIX) as scraper:
        scraper.connect(str(installed.path(METRICS)))
        scraper.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert scraper.recv(12) == b"HTTP/1.1 200"
    for unit in (SERVE, SERVE_SOCKET):
        installed.run("rm", "-r", f"/etc/systemd/system/{unit}.d")
    users.unlink()


def test_restarts_refuse_nobody(installed: Booted, echo: Echo) -> None:
    enable(installed)
    served(installed, echo)
    processes = {installed.show("MainPID", SERVE)}
    with Customer(installed.host, HERE, (AT.server, echo.port)) as customer:
        for _ in range(RESTARTS):
            customer.wait_for_more(20)
            # So many starts are too many for a service that fails.
            installed.run("systemctl", "reset-failed", SERVE)
            installed.run("systemctl", "restart", SERVE)
            processes.add(installed.show("MainPID", SERVE))
        customer.wait_for_more(20)
    assert customer.trouble == []
    assert len(processes) == RESTARTS + 1


def test_upgrade_refuses_nobody(installed: Booted, package: Path, tmp_path: Path, echo: Echo) -> None:
    enable(installed)
    served(installed, echo)
    before = installed.show("MainPID", SERVE)
    with Customer(installed.host, HERE, (AT.server, echo.port)) as customer:
        installed.install(newer(package, tmp_path))
        wait_until(lambda: installed.show("MainPID", SERVE) not in (before, "0"), "the new program")
        customer.wait_for_more(20)
    assert customer.trouble == []


def test_killed_server_is_started_again(installed: Booted, echo: Echo) -> None:
    """Until then clients wait."""
    enable(installed)
    served(installed, echo)
    before = installed.show("MainPID", SERVE)
    installed.run("systemctl", "kill", "--signal=KILL", SERVE)
    served(installed, echo)
    assert installed.show("MainPID", SERVE) not in (before, "0")
