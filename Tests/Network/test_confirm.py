"""`sluice rules apply --confirm`: rules that go away again unless somebody says that they work."""

import os
import pty
import signal
import subprocess
from typing import Any, Iterator

import pytest

from harness import kernel
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Sluice, binary
from harness.waiting import PATIENCE
from test_reference_rules import FILES, flags

FORMER = ("--machine", "--on-exit", "closed", "--bypass", "198.51.100.0/24", "socks5://192.0.2.1")
NEW = ("--gateway", "lan0", "--tcp", "redirect", "socks5://192.0.2.2")

#: Longer than any test takes.
LONG = "600"

ROLLED_BACK, UNAVAILABLE, USAGE = 75, 69, 64


@pytest.fixture
def host() -> Iterator[Namespace]:
    fresh = Namespace("confirm")
    try:
        yield fresh
    finally:
        fresh.close()


class Apply(Program):
    """`rules apply --confirm`, whose rules are in."""

    def __init__(self, host: Namespace, seconds: str, *arguments: str) -> None:
        command = [binary(), "rules", "apply", "--confirm", seconds, *arguments]
        super().__init__(host, *command, name="sluice")
        self.wait_for_output(lambda: "installed" in self.output(), "installed", PATIENCE)

    def ends_with(self, code: int, words: str) -> None:
        assert self.wait() == code, self.output()
        assert words in self.lines[-1]
        assert len(self.lines) == 2, self.output()


def apply(host: Namespace, *arguments: str) -> kernel.Snapshot:
    """What the kernel has with these rules."""
    host.run(binary(), "rules", "apply", *arguments)
    return kernel.snapshot(host)


def confirm(host: Namespace, **options: Any) -> subprocess.CompletedProcess[str]:
    return host.run(binary(), "rules", "confirm", check=False, **options)


def unchanged(host: Namespace, before: kernel.Snapshot) -> None:
    assert not kernel.changes(before, kernel.snapshot(host))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_silence_restores_what_was_there(host: Namespace, file: Any) -> None:
    before = apply(host, *flags(file))
    with Apply(host, "1", *NEW) as program:
        program.ends_with(ROLLED_BACK, "not confirmed within 1 s: what was there before is back")
    unchanged(host, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_restore_what_was_there(host: Namespace, number: signal.Signals) -> None:
    before = apply(host, *FORMER)
    with Apply(host, LONG, *NEW) as program:
        assert kernel.changes(before, kernel.snapshot(host))
        program.signal(number)
        program.ends_with(ROLLED_BACK, "not confirmed: what was there before is back")
    unchanged(host, before)


def test_nothing_is_restored_to_nothing(host: Namespace) -> None:
    before = kernel.snapshot(host)
    with Apply(host, LONG, *FORMER) as program:
        program.signal(signal.SIGTERM)
        program.ends_with(ROLLED_BACK, "what was there before is back")
    unchanged(host, before)


def test_foreign_changes_of_our_kind_are_restored(host: Namespace) -> None:
    apply(host, *FORMER)
    host.nft("insert rule inet sluice exempt meta l4proto udp accept comment \"mine\"")
    host.nft("add element inet sluice bypass4 { 11.0.0.1-11.0.0.9 }")
    host.nft("delete table inet sluice_guard")
    host.run("ip", "-6", "rule", "delete", "priority", "155")
    before = kernel.snapshot(host)
    with Apply(host, LONG, *NEW) as program:
        program.signal(signal.SIGTERM)
        program.ends_with(ROLLED_BACK, "what was there before is back")
    unchanged(host, before)


def test_confirmed_rules_stay(host: Namespace) -> None:
    wanted = apply(host, *NEW)
    apply(host, *FORMER)
    with Apply(host, LONG, *NEW) as program:
        assert confirm(host).returncode == 0
        program.ends_with(0, "confirmed: the rules stay")
    unchanged(host, wanted)
    late = confirm(host)
    assert late.returncode == UNAVAILABLE
    assert "nothing waits here to be confirmed" in late.stderr


def test_strangers_confirm_nothing(host: Namespace) -> None:
    before = apply(host, *FORMER)
    with Apply(host, LONG, *NEW) as program:
        command = ["setpriv", "--reuid", "65534", "--clear-groups", "--", "/proc/self/fd/0"]
        with open(binary(), "rb") as executable:
            # Others need not be able to find the program's file.
            done = host.run(
                *command, "rules", "confirm", check=False, stdin=executable)
        assert (done.returncode, done.stdout) == (UNAVAILABLE, ""), done.stderr
        assert "another user" in done.stderr
        program.signal(signal.SIGTERM)
        program.ends_with(ROLLED_BACK, "what was there before is back")
    unchanged(host, before)


def test_other_namespaces_confirm_nothing(host: Namespace) -> None:
    other = Namespace("other")
    try:
        with Apply(host, LONG, *NEW) as program:
            assert confirm(other).returncode == UNAVAILABLE
            assert confirm(host).returncode == 0
            program.ends_with(0, "the rules stay")
    finally:
        other.close()


def test_one_waits_at_a_time(host: Namespace) -> None:
    with Apply(host, LONG, *NEW) as program:
        present = kernel.snapshot(host)
        done = host.run(
            binary(), "rules", "apply", "--confirm", LONG, *FORMER, check=False)
        assert done.returncode == UNAVAILABLE
        assert "sluice rules confirm" in done.stderr
        unchanged(host, present)
        assert confirm(host).returncode == 0
        program.ends_with(0, "the rules stay")


@pytest.mark.parametrize("change", [
    "add rule inet sluice exempt counter",
    "add rule inet sluice exempt ip daddr { 192.0.2.7, 192.0.2.9 } accept",
    "add rule inet sluice exempt jump { counter; }", "add counter inet sluice mine",
    "add chain inet sluice mine { type filter hook input priority 0; policy drop; }",
    "add set inet sluice mine { type ipv4_addr; flags timeout; }"])
def test_what_cannot_be_restored_is_refused(host: Namespace, change: str) -> None:
    apply(host, *FORMER)
    host.nft(change)
    before = kernel.snapshot(host)
    done = host.run(binary(), "rules", "apply", "--confirm", LONG, *NEW, check=False)
    assert done.returncode == UNAVAILABLE
    assert "could not be restored" in done.stderr
    unchanged(host, before)


def test_a_daemon_is_left_alone(host: Namespace) -> None:
    with Sluice(host, "embedded", "--machine"):
        before = kernel.snapshot(host)
        done = host.run(binary(), "rules", "apply", "--confirm", LONG, *NEW, check=False)
        assert done.returncode == UNAVAILABLE
        assert done.stderr.startswith("sluice: another process holds the table sluice")
        unchanged(host, before)


@pytest.mark.parametrize("seconds", ["0", "86401", "-1", "soon"])
def test_other_times_are_refused(host: Namespace, seconds: str) -> None:
    done = host.run(binary(), "rules", "apply", "--confirm", seconds, *NEW, check=False)
    assert done.returncode == USAGE


@pytest.mark.parametrize("typed, code", [
    (b"yes\n", 0), (b"\n", 0), (b"no\n", ROLLED_BACK), (b"\x04", ROLLED_BACK),
    (b"\x03", ROLLED_BACK)], ids=["yes", "Enter", "no", "end", "Ctrl-C"])
def test_a_terminal_is_asked(host: Namespace, typed: bytes, code: int) -> None:
    wanted = apply(host, *NEW)
    before = apply(host, *FORMER)
    child, terminal = pty.fork()
    if child == 0:
        command = host.command(binary(), "rules", "apply", "--confirm", LONG, *NEW)
        os.execvp(command[0], command)
    try:
        read_until(terminal, b"or press Enter")
        # What stops or kills others at once does neither here.
        os.write(terminal, b"\x1a\x1c" + typed)
        read_until(terminal, b"the rules stay" if code == 0 else b"is back")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    finally:
        os.close(terminal)
    unchanged(host, wanted if code == 0 else before)


def test_a_terminal_that_goes_restores_what_was_there(host: Namespace) -> None:
    before = apply(host, *FORMER)
    child, terminal = pty.fork()
    if child == 0:
        command = host.command(binary(), "rules", "apply", "--confirm", LONG, *NEW)
        os.execvp(command[0], command)
    read_until(terminal, b"or press Enter")
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == ROLLED_BACK
    unchanged(host, before)


def read_until(terminal: int, words: bytes) -> None:
    """Reads what is shown until these words have come."""
    shown = b""
    while words not in shown:
        shown += os.read(terminal, 4096)
