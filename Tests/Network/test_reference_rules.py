"""The readable rulesets in `nft/` and the program's own are the same."""

import itertools
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness import kernel
from harness.namespaces import Namespace
from harness.sluice import binary

FOLDER = Path(__file__).resolve().parents[2] / "nft"

#: How the comment at the head of a file names the command that makes the same rules.
COMMAND = "# sluice rules show "

#: What `exec` puts into a namespace of its own is shown by no command.
PROGRAM = FOLDER / "program.nft"

FILES = sorted(set(FOLDER.glob("*.nft")) - {PROGRAM})


def flags(file: Path) -> list[str]:
    head = itertools.takewhile(lambda line: line.startswith("#"), file.read_text().splitlines())
    commands = [line.removeprefix(COMMAND) for line in head if line.startswith(COMMAND)]
    assert len(commands) == 1, f"the head of {file.name} has no line {COMMAND!r}…"
    return commands[0].split()


@pytest.fixture
def host() -> Iterator[Namespace]:
    fresh = Namespace("rules")
    try:
        yield fresh
    finally:
        fresh.close()


def listing(host: Namespace) -> str:
    return host.run("nft", "list", "ruleset").stdout


def test_both_scopes_have_a_reference() -> None:
    assert {"machine.nft", "gateway.nft"} <= {file.name for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_program_and_file_list_identically(host: Namespace, file: Path) -> None:
    other = Namespace("file")
    try:
        other.run("nft", "-f", str(file))
        reference = listing(other)
    finally:
        other.close()
    host.run(binary(), "rules", "apply", *flags(file))
    assert listing(host) == reference
    assert "table inet sluice" in reference


def test_exec_and_file_list_identically(host: Namespace) -> None:
    host.nft(PROGRAM.read_text())
    reference = listing(host)
    # A program that says where it is, and goes on until its input ends.
    command = host.command(binary(), "exec", "--", "sh", "-c", "echo $$; cat")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdin and run.stdout
        number = run.stdout.readline().strip()
        inside = subprocess.run(
            ["nsenter", "-t", number, "-n", "nft", "list", "ruleset"],
            stdout=subprocess.PIPE, check=True, text=True)
        run.stdin.close()
    assert run.returncode == 0
    assert inside.stdout == reference


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_show_prints_lists_identically(host: Namespace, file: Path) -> None:
    before = kernel.snapshot(host)
    shown = host.run(binary(), "rules", "show", *flags(file)).stdout
    assert not kernel.changes(before, kernel.snapshot(host)), "show touches nothing"
    host.nft(shown)
    reference = listing(host)
    host.run("nft", "flush", "ruleset")
    host.run(binary(), "rules", "apply", *flags(file))
    assert listing(host) == reference


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_remove_takes_all_away(host: Namespace, file: Path) -> None:
    before = kernel.snapshot(host)
    host.run(binary(), "rules", "apply", *flags(file))
    applied = kernel.snapshot(host)
    assert applied != before
    host.run(binary(), "rules", "apply", *flags(file))
    assert not kernel.changes(applied, kernel.snapshot(host)), "a second time changes nothing"
    host.run(binary(), "rules", "remove")
    assert not kernel.changes(before, kernel.snapshot(host))
    host.run(binary(), "rules", "remove")
    assert not kernel.changes(before, kernel.snapshot(host))
