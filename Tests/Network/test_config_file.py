"""Settings from a file: what runs with them, what wins, and what a faulty one is told."""

import subprocess
from pathlib import Path

import pytest

from harness import upstreams
from harness.flows import fetch
from harness.sluice import Sluice, binary
from harness.targets import MEBIBYTE, Website
from harness.topology import ADDRESSES, Topology

AT = ADDRESSES["ipv4"]

#: With a list, a word that YAML would take for a boolean, a number and a flag.
SETTINGS = """
# A gateway for a LAN
upstream: {upstream}
gateway: [lan0]
tcp: redirect
dns: off
port: 12345
control: none
"""

FAULTY = "udp: prox\nnam: 1\nbypass: [192.0.2.1, x]\n"


@pytest.fixture
def settings(folder: Path) -> Path:
    path = folder / "sluice.yaml"
    path.write_text(SETTINGS.format(upstream=upstreams.url(AT.proxy)))
    return path


def said(topology: Topology, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """What a command that ends says."""
    return subprocess.run(
        topology.gateway.command(binary(), *map(str, arguments)), capture_output=True, text=True,
        timeout=20)


def test_runs_as_the_file_says(
    topology: Topology, upstream: str, settings: Path, family: str
) -> None:
    at = ADDRESSES[family]
    with Website(topology.server, 1) as website:
        with Sluice(topology.gateway, "--config", str(settings)) as sluice:
            got = fetch(topology.client, at.server, website.port, 1)
            summary = sluice.finish()
    assert (got.code, got.size) == (0, MEBIBYTE)
    assert website.peers == [at.proxy_exit]
    assert summary["sessions_opened"] == 1


def test_what_the_options_say_wins(topology: Topology, upstream: str, settings: Path) -> None:
    by_file = said(topology, "rules", "show", "--config", settings)
    mixed = said(topology, "rules", "show", "--config", settings, "--tcp", "tproxy", "--machine")
    by_options = said(
        topology, "rules", "show", upstream, "--gateway", "lan0", "--machine", "--tcp", "tproxy",
        "--dns", "off", "--port", "12345")
    assert [one.returncode for one in (by_file, mixed, by_options)] == [0, 0, 0]
    assert mixed.stdout == by_options.stdout != by_file.stdout
    assert "redirect to :12345" in by_file.stdout


def test_check(topology: Topology, settings: Path) -> None:
    answer = said(topology, "check", settings)
    assert (answer.returncode, answer.stdout) == (0, f"{settings}: valid\n")


@pytest.mark.parametrize("command", [["check"], ["run", "--config"], ["rules", "show", "--config"]])
def test_every_fault_is_told(topology: Topology, folder: Path, command: list[str]) -> None:
    path = folder / "faulty.yaml"
    path.write_text(FAULTY)
    answer = said(topology, *command, path)
    assert (answer.returncode, answer.stdout) == (64, "")
    assert answer.stderr.splitlines() == [
        f"sluice: {path}:1:6: udp prox: expected proxy, bypass or reject",
        f"sluice: {path}:2:1: nam is no setting: did you mean mac?",
        f"sluice: {path}:3:21: bypass x: expected an address or a block without host bits, such as "
        "203.0.113.0/24 or 2001:db8::/32",
    ]


def test_faults_of_the_whole(topology: Topology, folder: Path) -> None:
    path = folder / "whole.yaml"
    path.write_text("machine: true\nfrom: 192.0.2.1\n")
    answer = said(topology, "check", path)
    assert answer.returncode == 64
    assert answer.stderr.startswith(f"sluice: {path}:2:7: --from and --mac choose among")


def test_no_file(topology: Topology, folder: Path) -> None:
    answer = said(topology, "run", "--config", folder / "none")
    assert answer.returncode == 64
    assert answer.stderr == f"sluice: cannot read {folder / 'none'}: no such file or directory\n"


def test_password_in_the_file(topology: Topology, folder: Path) -> None:
    """It is in no message, and nobody is warned that ps shows it."""
    path = folder / "secret.yaml"
    path.write_text(
        f"upstream: socks5://alice:hush@{AT.proxy}:9\nmachine: true\ncontrol: none\n")
    answer = said(topology, "run", "--config", path)
    assert answer.returncode == 69
    assert "hush" not in answer.stderr and "password" not in answer.stderr
