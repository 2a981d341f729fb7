"""What cannot work is refused in one line with its exit code, and nothing is installed."""

import re
import shutil
from pathlib import Path
from typing import Iterator

import pytest

from harness import kernel, upstreams
from harness.flows import attempt
from harness.namespaces import Namespace
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import PORT, Capture, Sluice, binary
from harness.targets import Echo
from harness.topology import ADDRESSES, Topology

USAGE, UNAVAILABLE, NO_PERMISSION = 64, 69, 77

PROXY = ADDRESSES["ipv4"].proxy

#: Arguments of `sluice run`, and what the message names.
WRONG_USAGE = {
    "no-scope": ([upstreams.url(PROXY)], "--machine"),
    "unknown-flag": (["--machine", "--no-such-flag"], "no-such-flag"),
    "unknown-capture": (["--machine", "--tcp", "magic"], "magic"),
    "port-out-of-range": (["--machine", "--port", "65536"], "65536"),
    "port-no-number": (["--machine", "--port", "ten"], "ten"),
    "bypass-no-block": (["--machine", "--bypass", "11.0.0.0/33"], "11.0.0.0/33"),
    "timeout-no-number": (["--machine", "--idle-timeout", "soon"], "soon"),
    "unknown-log-level": (["--machine", "--log-level", "loud"], "loud"),
    "interface-name": (["--gateway", "an-interface-name-too-long"], "an-interface-name-too-long"),
    "url-scheme": (["gopher://11.2.0.2", "--machine"], "gopher"),
    "url-nonsense": (["nonsense", "--machine"], "scheme"),
    "url-no-host": (["socks5://", "--machine"], "host"),
    "url-port": (["socks5://11.2.0.2:99999", "--machine"], "99999"),
    "url-user-too-long": ([f"socks5://{'u' * 256}:p@11.2.0.2", "--machine"], "255"),
    "url-password-too-long": ([f"socks5://u:{'p' * 256}@11.2.0.2", "--machine"], "255"),
    "url-address": (["socks5://[2a0f::x]:1080", "--machine"], "not an IPv6 address"),
}


def refusal(host: Namespace, *command: str) -> tuple[int, str]:
    """Runs a command that has to be refused: its exit code and the one line that it prints."""
    before = kernel.snapshot(host)
    done = host.run(*command, check=False)
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"one line was expected:\n{done.stderr}"
    assert lines[0].startswith("sluice: ")
    assert not kernel.changes(before, kernel.snapshot(host)), "something was installed"
    return done.returncode, lines[0]


@pytest.mark.parametrize("case", WRONG_USAGE)
def test_wrong_usage(topology: Topology, case: str) -> None:
    arguments, named = WRONG_USAGE[case]
    code, line = refusal(topology.client, binary(), "run", *arguments)
    assert code == USAGE
    assert named in line


@pytest.mark.parametrize(
    "words, named", [
        (["--machine"], "perhaps: sluice run"),
        (["socks5://user:secret-word@11.2.0.2", "--machine"], "perhaps: sluice run"),
        (["--machine", "--no-such-flag"], "'--machine'"),
        (["--no-such-flag"], "'--no-such-flag'"), (["magic"], "'magic'"),
    ], ids=lambda value: "-".join(value) if isinstance(value, list) else "")
def test_no_command(topology: Topology, words: list[str], named: str) -> None:
    code, line = refusal(topology.client, binary(), *words)
    assert code == USAGE
    assert named in line
    assert "secret-word" not in line


def test_password_stays_out_of_messages(topology: Topology) -> None:
    code, line = refusal(
        topology.client, binary(), "run", "socks5://user:secret-word@11.2.0.2:1", "--machine")
    assert code == UNAVAILABLE
    assert "secret-word" not in line


@pytest.fixture(scope="module")
def program(folder: Path) -> str:
    """A copy of the program where everybody may run it."""
    return shutil.copy(binary(), str(folder / "sluice"))


@pytest.mark.parametrize("verb", [["run"], ["rules", "apply"]], ids=" ".join)
def test_unprivileged_user(topology: Topology, program: str, verb: list[str]) -> None:
    code, line = refusal(
        topology.client, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--",
        program, *verb, "--machine")
    assert code == NO_PERMISSION
    assert "sudo" in line


def test_root_without_the_capability(topology: Topology) -> None:
    code, _ = refusal(
        topology.client, "setpriv", "--bounding-set", "-net_admin", "--",
        binary(), "run", "--machine")
    assert code == NO_PERMISSION


def test_root_without_raw_sockets(topology: Topology) -> None:
    code, line = refusal(
        topology.client, "setpriv", "--bounding-set", "-net_raw", "--",
        binary(), "run", "--machine")
    assert code == NO_PERMISSION
    assert "CAP_NET_RAW" in line and "--udp bypass" in line


def test_show_needs_no_privilege(topology: Topology, program: str) -> None:
    shown = topology.client.run(
        "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--",
        program, "rules", "show", "socks5://11.2.0.2", "--machine")
    assert shown.stdout.count("table inet sluice") == 1


def test_dead_upstream(topology: Topology, capture: Capture, family: str) -> None:
    upstream = upstreams.url(ADDRESSES[family].proxy, 1)
    code, line = refusal(
        capture.host(topology), binary(), "run", upstream, *capture.flags())
    assert code == UNAVAILABLE
    assert upstream in line


def test_upstream_without_a_route(topology: Topology, family: str) -> None:
    upstream = upstreams.url(ADDRESSES[family].unreachable)
    code, line = refusal(topology.client, binary(), "run", upstream, "--machine")
    assert code == UNAVAILABLE
    assert upstream in line


def test_name_that_does_not_resolve(topology: Topology) -> None:
    """Only a run waits for it."""
    code, line = refusal(topology.client, binary(), "probe", "socks5://no-such-host.invalid:1080")
    assert code == UNAVAILABLE
    assert "no-such-host.invalid" in line


#: Servers that let nobody in, as they are met at the start.
UNUSABLE = {
    "no-acceptable-method": Behaviour(method=0xFF),
    "rejected-credentials": Behaviour(status=1),
    "not-socks": Behaviour(version=ord("H")),
    "closes": Behaviour(at_greeting="close"),
    "resets": Behaviour(at_greeting="reset"),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_unusable_upstream(topology: Topology, fault: str) -> None:
    upstream = upstreams.url(PROXY, credentials=("user", "secret-word"))
    with ScriptedUpstream(topology.proxy, UNUSABLE[fault]):
        code, line = refusal(topology.client, binary(), "run", upstream, "--machine")
    assert code == UNAVAILABLE
    assert "secret-word" not in line


@pytest.mark.parametrize("by, port", [("redirect", PORT), ("tproxy", PORT + 1)])
def test_port_in_use(topology: Topology, by: str, port: int) -> None:
    with Echo(topology.client, port):
        code, line = refusal(
            topology.client, binary(), "run", "embedded", "--machine", "--tcp", by)
    assert code == UNAVAILABLE
    assert re.search(rf"\b{port}\b", line)
    assert "--port" in line


@pytest.fixture
def first(topology: Topology, capture: Capture) -> Iterator[Sluice]:
    """A run that is there already, and has to work on afterwards."""
    with ScriptedUpstream(topology.proxy) as scripted:
        with Sluice.capturing(topology, capture, upstreams.url(PROXY)) as sluice:
            yield sluice
            server = ADDRESSES["ipv4"].server
            assert attempt(topology.client, server, 80) == "answer"
            assert len(scripted.to(server)) == 1


@pytest.mark.parametrize("options", [[], ["--port", "20880"]], ids=["same-port", "other-port"])
def test_second_instance(
    topology: Topology, capture: Capture, first: Sluice, options: list[str]
) -> None:
    code, line = refusal(
        capture.host(topology), binary(), "run", "embedded", *capture.flags(), *options)
    assert code == UNAVAILABLE
    assert "another" in line
