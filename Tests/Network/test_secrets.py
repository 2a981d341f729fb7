"""Where the password of the upstream's user comes from, and that nobody sees it on its way."""

import json
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness import metrics
from harness import scripted as socks
from harness import tunnels
from harness.confined import PYTHON, Confined
from harness.control import EXEC, Client, place
from harness.flows import attempt, outcome
from harness.listing import wait_for_flows
from harness.namespaces import Namespace
from harness.scripted import ScriptedUpstream
from harness.secrecy import (
    KINDS, PASSWORD, USER, WRONG, Kind, assert_secret, command_line, environment, seen)
from harness.sluice import Sluice, binary
from harness.topology import ADDRESSES, Topology
from harness.tunnels import ScriptedProxy

AT = ADDRESSES["ipv4"]

PORT = 80

GATEWAY = ("--gateway", "lan0")

#: What an error of a missing password has to name.
WAYS = ("--password-file", "SLUICE_PASSWORD", "sluice-password")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture
def server(topology: Topology, kind: Kind) -> Iterator[ScriptedUpstream | ScriptedProxy]:
    with kind.server(topology.proxy) as one:
        yield one


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "password", f"{PASSWORD}\nand more\n")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def reject(server: ScriptedUpstream | ScriptedProxy) -> None:
    """From now on every password is a wrong one."""
    if isinstance(server, ScriptedUpstream):
        server.behaviour = socks.Behaviour(status=1)
    else:
        server.behaviour = tunnels.Behaviour(b"HTTP/1.1 407 X\r\n\r\n", target=None)


class TestSources:
    @pytest.mark.parametrize("source", ["file", "environment", "credential", "url-in-environment"])
    def test_each(
        self, topology: Topology, kind: Kind, server: ScriptedUpstream | ScriptedProxy,
        file: Path, source: str
    ) -> None:
        url, words, variables = [kind.url(AT.proxy)], [], {}
        match source:
            case "file":
                words = ["--password-file", str(file)]
            case "environment":
                variables = {"SLUICE_PASSWORD": PASSWORD}
            case "credential":
                file.rename(file.with_name("sluice-password"))
                variables = {"CREDENTIALS_DIRECTORY": str(file.parent)}
            case "url-in-environment":
                url, variables = [], {"SLUICE_UPSTREAM": kind.url(AT.proxy, PASSWORD)}
        with Sluice(
            topology.gateway, *url, *GATEWAY, *words, env=environment(**variables)
        ) as sluice:
            assert attempt(topology.client, AT.server, PORT) == "answer"
            assert_secret(command_line(sluice.pid))
            assert sluice.events("password_in_arguments") == []
            assert sluice.events("public_password") == []
        assert seen(server) == {f"{USER}:{PASSWORD}"}
        assert_secret(sluice.output())

    @pytest.mark.parametrize("first", ["url", "file", "environment", "credential"])
    def test_precedence(
        self, topology: Topology, server: ScriptedUpstream | ScriptedProxy, kind: Kind,
        tmp_path: Path, first: str
    ) -> None:
        """All that come after the first say something else."""
        order = ["url", "file", "environment", "credential"]
        after = order[order.index(first):]
        says = {source: PASSWORD if source == first else WRONG for source in after}
        url = kind.url(AT.proxy, says.get("url"))
        words, variables = [], {"SLUICE_UPSTREAM": kind.url(AT.server, WRONG)}
        if "file" in says and first != "url":
            words = ["--password-file", str(written(tmp_path / "file", says["file"]))]
        if "environment" in says:
            variables["SLUICE_PASSWORD"] = says["environment"]
        else:
            variables["SLUICE_PASSWORD"] = ""
        written(tmp_path / "sluice-password", says["credential"] + "\r\n")
        variables["CREDENTIALS_DIRECTORY"] = str(tmp_path)
        with Sluice(topology.gateway, url, *GATEWAY, *words, env=environment(**variables)):
            pass
        assert seen(server) == {f"{USER}:{PASSWORD}"}

    @pytest.mark.parametrize(
        "words", [["run", *GATEWAY], ["doctor"], ["exec"]], ids=lambda words: words[0])
    def test_none(
        self, topology: Topology, tmp_path: Path, kind: Kind, words: list[str]
    ) -> None:
        command = [binary(), words[0], kind.url(AT.proxy), *words[1:]]
        if words[0] == "exec":
            command += ["--", "true"]
        done = topology.gateway.run(
            *command, check=False, env=environment(CREDENTIALS_DIRECTORY=str(tmp_path)))
        assert (done.returncode, done.stdout) == (64, "")
        for way in WAYS:
            assert way in done.stderr
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize("url, complaint", [
        (f"socks5://{USER}:secret@{AT.proxy}", "the upstream's URL has a password"),
        (f"socks5://{AT.proxy}", "has no user with a password"),
        (f"socks4://{USER}@{AT.proxy}", "has no user with a password"),
        ("embedded", "has no user with a password"),
    ])
    def test_file_without_use(
        self, topology: Topology, file: Path, url: str, complaint: str
    ) -> None:
        done = run(topology.gateway, url, "--password-file", str(file))
        assert done.returncode == 64
        assert complaint in done.stderr

    @pytest.mark.parametrize("contents, complaint", [
        (None, "no such file"), ("", "first line is empty"),
        ("\n" + PASSWORD, "first line is empty"),
        ("p" * 256, "password longer than 255 bytes"),
        ("p" * 10_000, "password longer than 255 bytes"),
    ], ids=["missing", "empty", "first-line-empty", "too-long", "much-too-long"])
    def test_file_without_password(
        self, topology: Topology, tmp_path: Path, contents: str | None, complaint: str
    ) -> None:
        path = tmp_path / "password"
        if contents is not None:
            written(path, contents)
        done = run(
            topology.gateway, KINDS["socks5"].url(AT.proxy), "--password-file", str(path))
        assert done.returncode == 64
        assert complaint in done.stderr
        assert done.stderr.count("\n") == 1

    def test_file_in_everybody_s_reach(
        self, topology: Topology, scripted: ScriptedUpstream, file: Path
    ) -> None:
        file.chmod(0o644)
        url = KINDS["socks5"].url(AT.proxy)
        with Sluice(topology.gateway, url, *GATEWAY, "--password-file", str(file)) as sluice:
            (event,) = sluice.events("public_password")
        assert (event["level"], event["file"]) == ("warning", str(file))

    def test_rules_need_none(self, topology: Topology) -> None:
        url = KINDS["socks5"].url(AT.proxy)
        shown = topology.gateway.run(binary(), "rules", "show", url, *GATEWAY)
        by_environment = topology.gateway.run(
            binary(), "rules", "show", *GATEWAY, env=environment(SLUICE_UPSTREAM=url))
        assert AT.proxy in shown.stdout
        assert by_environment.stdout == shown.stdout


def run(host: Namespace, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return host.run(binary(), "run", url, *GATEWAY, "--control", "none", *words, check=False)


def test_arguments_are_told(topology: Topology, scripted: ScriptedUpstream) -> None:
    """A password in the URL works as ever, and one line says who sees it."""
    url = KINDS["socks5"].url(AT.proxy, PASSWORD)
    with Sluice(topology.gateway, url, *GATEWAY) as sluice:
        (event,) = sluice.events("password_in_arguments")
        assert event["level"] == "notice"
        assert "--password-file" in event["message"]
    assert_secret(sluice.output())
    assert seen(scripted) == {f"{USER}:{PASSWORD}"}


#: Prints what the program inherits: its environment, and where its descriptors lead.
HEIR = """
import os, sys
print(open("/proc/self/environ").read().replace("\\0", "\\n"))
for number in os.listdir("/proc/self/fd"):
    try: print("fd", os.readlink("/proc/self/fd/" + number))
    except OSError: pass
"""


@pytest.mark.parametrize("source", ["file", "environment", "argument", "url-in-environment"])
def test_program_inherits_nothing(
    topology: Topology, kind: Kind, server: ScriptedUpstream | ScriptedProxy,
    confined: Confined, source: str
) -> None:
    """Wherever the password comes from, and although other sources have one that is not used."""
    variables = {"SLUICE_PASSWORD": PASSWORD, "SLUICE_UPSTREAM": kind.url(AT.server, WRONG)}
    words = [kind.url(AT.proxy)]
    match source:
        case "file":
            path = written(confined.home / "password", PASSWORD)
            path.chmod(0o644)
            words += ["--password-file", str(path)]
            variables["SLUICE_PASSWORD"] = WRONG
        case "argument":
            words = [kind.url(AT.proxy, PASSWORD)]
        case "url-in-environment":
            words, variables["SLUICE_UPSTREAM"] = [], kind.url(AT.proxy, PASSWORD)
    done = confined.run(
        "--log-level", "trace", *words, command=[PYTHON, "-c", HEIR],
        env=confined.environment() | variables)
    assert done.returncode == 0, done.stderr
    assert "SLUICE_TESTS_OWN=" in done.stdout
    assert "SLUICE_PASSWORD" not in done.stdout
    assert "SLUICE_UPSTREAM" not in done.stdout
    assert f"{USER}:***@" in done.stdout
    fds = [line for line in done.stdout.splitlines() if line.startswith("fd ")]
    assert fds and not [line for line in fds if line.endswith("/password")]
    assert_secret(done.stdout + done.stderr)
    assert seen(server) == {f"{USER}:{PASSWORD}"}


@pytest.mark.parametrize("by", ["url", "file"])
class TestNowhere:
    """Neither the right password nor a wrong one is in anything that Sluice says."""

    def words(self, kind: Kind, by: str, tmp_path: Path, password: str) -> list[str]:
        if by == "url":
            return [kind.url(AT.proxy, password)]
        return [
            kind.url(AT.proxy), "--password-file", str(written(tmp_path / "password", password))]

    def test_run(
        self, topology: Topology, kind: Kind, server: ScriptedUpstream | ScriptedProxy,
        tmp_path: Path, by: str
    ) -> None:
        with place() as control:
            words = self.words(kind, by, tmp_path, PASSWORD)
            with Sluice(
                topology.gateway, *words, *GATEWAY, "--log-level", "trace", "--control",
                str(control), "--metrics", metrics.PLACE,
            ) as sluice:
                sluice.status()
                with Client(control) as client:
                    answer = client.ask(EXEC)
                assert answer["upstream"] == f"{kind.scheme}://{USER}:***@{AT.proxy}:{kind.port}"
                with topology.client.connect(AT.server, PORT):
                    wait_for_flows(topology.gateway, control, 1, "--filter", "stage=open")
                    shown = [
                        topology.gateway.run(
                            binary(), "flows", "--control", str(control), *json_flag).stdout
                        for json_flag in ([], ["--json"])]
                # Now the server takes it for a wrong one.
                reject(server)
                assert outcome(topology.client, AT.server, PORT) == (b"", "RST")
                sluice.wait_for("failure")
                explained = [
                    topology.gateway.run(
                        binary(), "explain", "tcp", f"{AT.server}:80", "--in", "lan0",
                        "--from-address", AT.client, *json_flag).stdout
                    for json_flag in ([], ["--json"])]
                shown += [
                    topology.gateway.run(
                        binary(), "status", "--control", str(control), *json_flag).stdout
                    for json_flag in ([], ["--json"])]
                shown.append(metrics.scrape(topology.gateway).text)
        for text in shown:
            assert f"{kind.scheme}://{USER}:***@{AT.proxy}:{kind.port}" in text
        assert f"{USER}:{PASSWORD}" in seen(server)
        assert_secret(sluice.output() + json.dumps(answer) + "".join(explained + shown))

    @pytest.mark.parametrize("password", [PASSWORD, WRONG], ids=["right", "wrong"])
    @pytest.mark.parametrize("form", ["text", "json"])
    def test_commands(
        self, topology: Topology, kind: Kind, server: ScriptedUpstream | ScriptedProxy,
        tmp_path: Path, by: str, password: str, form: str
    ) -> None:
        words = self.words(kind, by, tmp_path, password)
        if password == WRONG:
            reject(server)
        flags = ["--json"] if form == "json" else []
        host, said = topology.gateway, []
        done = host.run(binary(), "doctor", *words, *GATEWAY, *flags, check=False)
        assert done.returncode == (69 if password == WRONG else 0)
        said += [done.stdout, done.stderr]
        for command in (
            ["rules", "show", words[0], *GATEWAY],
            ["explain", "tcp", f"{AT.server}:80", words[0], *GATEWAY, *flags],
        ):
            # What explain takes before the upstream is its own.
            if command[0] == "explain":
                command = [*command[:3], "--in", "lan0", "--from-address", AT.client, *command[3:]]
            done = host.run(binary(), *command, check=False)
            said += [done.stdout, done.stderr]
        if password == WRONG:
            done = host.run(
                binary(), "run", *words, *GATEWAY, "--control", "none", "--log-level", "trace",
                *flags, check=False)
            assert done.returncode == 69
            said += [done.stdout, done.stderr]
        assert f"{USER}:{password}" in seen(server)
        assert_secret("\n".join(said))


def test_errors_of_urls(topology: Topology) -> None:
    """What cannot be used is not repeated, wherever it came from."""
    bad = f"socks5://{USER}:hunter2%zz@{AT.proxy}"
    for words, variables in ([bad], {}), ([], {"SLUICE_UPSTREAM": bad}):
        done = topology.gateway.run(
            binary(), "run", *words, *GATEWAY, check=False, env=environment(**variables))
        assert done.returncode == 64
        assert "hunter2" not in done.stderr
