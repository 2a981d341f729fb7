"""`sluice exec` as a job of an interactive shell: keys, job control and window sizes reach the program
as they do without Sluice."""

import contextlib
import os
import shlex
import signal
from pathlib import Path
from typing import Iterator

import pytest

from harness.confined import Confined, script
from harness.ptys import (
    BASH, CTRL_BACKSLASH, CTRL_C, CTRL_D, CTRL_Z, PROMPT, SETTINGS, Terminal)
from harness.waiting import wait_until
from harness.calls import Call


@pytest.fixture
def terminal(user: Confined) -> Iterator[Terminal]:
    """A terminal on which the user's shell asks for a line."""
    command = user.host.command(*user.as_user(*BASH))
    with Terminal(
        command, user.user, env=user.environment() | SETTINGS, cwd=user.home) as one:
        one.expect(PROMPT)
        yield one
    user.kill()


def line(call: Call, *command: str) -> str:
    """A shell's line."""
    return shlex.join(call.words(*command))


def start(terminal: Terminal, call: Call, *command: str, end: str = "") -> None:
    """Types a line, and waits until its program says that it is up."""
    terminal.type(f"{line(call, *command)}{end}\n")
    terminal.expect("^up\n")


def states(user: Confined, terminal: Terminal) -> set[str]:
    """The states of all processes beside the shell."""
    found = set()
    for pid in user.processes():
        # One may end meanwhile.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if pid == terminal.process.pid:
                continue
            found.add(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
    return found


def all_stopped(user: Confined, terminal: Terminal) -> None:
    wait_until(lambda: states(user, terminal) == {"T"}, "everything to be stopped")


#: Of a shell inside.
INNER_PS1, INNER = r"<inner>\n", "<inner>\n"

SLEEPER = ("sh", "-c", "echo up; exec sleep 1000")

CAT = ("sh", "-c", "echo up; exec cat")


@pytest.mark.parametrize(
    "key, status", [(CTRL_C, 130), (CTRL_BACKSLASH, 131)], ids=["ctrl-c", "ctrl-backslash"])
def test_keys_end_it(terminal: Terminal, call: Call, key: str, status: int) -> None:
    terminal.run("ulimit -c 0")
    start(terminal, call, *SLEEPER)
    terminal.type(key)
    terminal.expect(PROMPT)
    assert terminal.status() == status


def test_input_ends_at_ctrl_d(terminal: Terminal, call: Call) -> None:
    start(terminal, call, *CAT)
    terminal.type("hello\n")
    terminal.expect("^hello\n")
    terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


def test_stopped_and_continued(user: Confined, terminal: Terminal, call: Call) -> None:
    start(terminal, call, *CAT)
    for _ in range(3):
        terminal.type(CTRL_Z)
        terminal.expect(r"^\[1\]\+  Stopped  ")
        terminal.expect(PROMPT)
        assert terminal.status() == 148
        assert states(user, terminal) == {"T"}
        terminal.type("fg\nhello\n")
        terminal.expect("^hello\n")
    terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


def test_stopped_by_another_process(user: Confined, terminal: Terminal, call: Call) -> None:
    start(terminal, call, *SLEEPER)
    job = os.tcgetpgrp(terminal.control)
    for _ in range(3):
        os.kill(job, signal.SIGTSTP)
        terminal.expect(r"^\[1\]\+  Stopped  ")
        terminal.expect(PROMPT)
        all_stopped(user, terminal)
        os.kill(job, signal.SIGCONT)
        wait_until(lambda: states(user, terminal) == {"S"}, "everything to go on")
        terminal.type("fg\n")
        wait_until(lambda: os.tcgetpgrp(terminal.control) == job, "the job to be in front")
    terminal.type(CTRL_C)
    terminal.expect(PROMPT)
    assert terminal.status() == 130


def test_continued_in_the_background_it_stops_to_read(
    user: Confined, terminal: Terminal, call: Call
) -> None:
    start(terminal, call, *CAT)
    terminal.type(CTRL_Z)
    terminal.expect(r"^\[1\]\+  Stopped  ")
    terminal.expect(PROMPT)
    terminal.run("bg")
    wait_until(
        lambda: "Stopped (tty input)" in terminal.run("jobs -l"), "the shell to notice")
    terminal.type("fg\nhello\n")
    terminal.expect("^hello\n")
    terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


@pytest.mark.parametrize("name", ["STOP", "TSTP", "TTIN", "TTOU"])
def test_program_that_stops_itself_by_a_signal(
    user: Confined, terminal: Terminal, call: Call, name: str
) -> None:
    terminal.type(line(call, "sh", "-c", f"kill -{name} $$; echo on; exit 5") + "\n")
    terminal.expect(r"^\[1\]\+  Stopped  ")
    terminal.expect(PROMPT)
    assert terminal.status() == 128 + signal.Signals[f"SIG{name}"]
    all_stopped(user, terminal)
    terminal.type("fg\n")
    terminal.expect("^on\n")
    terminal.expect(PROMPT)
    assert terminal.status() == 5


def test_timeout(user: Confined, terminal: Terminal, call: Call) -> None:
    """timeout(1) makes a process group of its own, in the background."""
    terminal.run(f"timeout 0.5 {line(call, 'sleep', '1000')}")
    assert terminal.status() == 124
    terminal.run(f"timeout --foreground 0.5 {line(call, 'sleep', '1000')}")
    assert terminal.status() == 124
    wait_until(lambda: not states(user, terminal), "everything to end")


@pytest.mark.parametrize("first", ["bg", "true"], ids=["in-the-background", "stopped"])
def test_killed_as_a_job(user: Confined, terminal: Terminal, call: Call, first: str) -> None:
    start(terminal, call, *SLEEPER)
    terminal.type(CTRL_Z)
    terminal.expect(r"^\[1\]\+  Stopped  ")
    terminal.expect(PROMPT)
    terminal.run(first)
    if first == "bg":
        wait_until(lambda: states(user, terminal) == {"S"}, "everything to go on")
    told = terminal.run("kill %1")
    wait_until(lambda: not states(user, terminal), "everything to end")
    # The shell may have heard only that it was continued, and looks again after another program. Once
    # it has told of the end the job is forgotten.
    told += terminal.run("/bin/true")
    told += terminal.run("wait %1; echo status=$?")
    assert "Terminated" in told or "status=143" in told


def test_started_in_the_background(user: Confined, terminal: Terminal, call: Call) -> None:
    start(terminal, call, *SLEEPER, end=" &")
    terminal.synchronize()
    assert "Running" in terminal.run("jobs")
    terminal.type("fg\n")
    # Only what is in the foreground gets it.
    wait_until(
        lambda: os.tcgetpgrp(terminal.control) != terminal.process.pid, "the job to be in front")
    terminal.type(CTRL_C)
    terminal.expect(PROMPT)
    assert terminal.status() == 130


@pytest.mark.parametrize(
    "command, word", [(("cat",), "input"), (("stty", "-echo"), "output")], ids=["reads", "sets"])
def test_stopped_for_the_terminal(
    user: Confined, terminal: Terminal, call: Call, command: tuple[str, ...], word: str
) -> None:
    """In the background the terminal is not its own (SIGTTIN, SIGTTOU)."""
    terminal.run(f"{line(call, *command)} &")
    all_stopped(user, terminal)
    wait_until(
        lambda: f"Stopped (tty {word})" in terminal.run("jobs -l"), "the shell to notice")
    terminal.type("fg\n")
    if word == "input":
        terminal.type("hello\n")
        terminal.expect("^hello\n")
        terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


@pytest.mark.parametrize("target", ["itself", "group"])
def test_program_that_stops_itself(
    user: Confined, terminal: Terminal, call: Call, target: str
) -> None:
    start(terminal, call, *script("editor.py", target))
    for _ in range(3):
        terminal.type(CTRL_Z)
        assert "restored" not in terminal.expect(r"^\[1\]\+  Stopped  ")
        terminal.expect(PROMPT)
        all_stopped(user, terminal)
        terminal.type("fg\n")
        terminal.expect("^restored\n")
        terminal.type("words\n")
        # Stopped once for each key, not again by what still comes.
        assert "saved" not in terminal.expect("^read words\n")
    terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


def test_keys_reach_it_once_each(terminal: Terminal, call: Call) -> None:
    start(terminal, call, *script("counter.py"))
    for key, name in [(CTRL_C, "SIGINT"), (CTRL_BACKSLASH, "SIGQUIT")] * 5:
        terminal.type(key)
        terminal.expect(f"^{name} 24 80\n")
    terminal.type("\n")
    terminal.expect("^counts 5 5 0\n")
    terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


def test_window_sizes_reach_it_once_each(terminal: Terminal, call: Call) -> None:
    start(terminal, call, *script("counter.py"))
    for rows in (30, 40, 50):
        terminal.resize(rows, 100)
        terminal.expect(f"^SIGWINCH {rows} 100\n")
    terminal.type("\n")
    terminal.expect("^counts 0 0 3\n")


def test_program_that_ignores_ctrl_c(terminal: Terminal, call: Call) -> None:
    start(terminal, call, "sh", "-c", 'trap "" INT QUIT; echo up; exec cat')
    for key in (CTRL_C, CTRL_BACKSLASH, CTRL_C):
        terminal.type(key)
        terminal.type("hello\n")
        terminal.expect("^hello\n")
    terminal.type(CTRL_D)
    terminal.expect(PROMPT)
    assert terminal.status() == 0


def test_ctrl_c_ends_a_loop_of_the_shell(terminal: Terminal, call: Call) -> None:
    """The shell goes by what its child died of."""
    terminal.type(f"while true; do {line(call, *SLEEPER)}; done\n")
    terminal.expect("^up\n")
    terminal.type(CTRL_C)
    assert "up" not in terminal.expect(PROMPT)
    assert terminal.status() == 130


def test_a_loop_goes_on_where_the_program_takes_ctrl_c(terminal: Terminal, call: Call) -> None:
    program = line(call, *script("orderly.py"))
    loop = f"for turn in 1 2; do {program}; echo turn $turn: $?; done"
    # Of a shell without job control: like the program, it gets the key.
    terminal.type(f"bash -c {shlex.quote(loop)}\n")
    for turn in (1, 2):
        terminal.expect("^up\n")
        terminal.type(CTRL_C)
        terminal.expect(f"^turn {turn}: 3\n")
    terminal.expect(PROMPT)


def test_a_shell_inside_controls_its_own_jobs(
    user: Confined, terminal: Terminal, call: Call
) -> None:
    terminal.type(f"PS1='{INNER_PS1}' {line(call, *BASH)}\n")
    terminal.expect(INNER)
    terminal.type("sh -c 'echo up; exec cat'\n")
    terminal.expect("^up\n")
    terminal.type(CTRL_Z)
    terminal.expect(r"^\[1\]\+  Stopped  ")
    terminal.expect(INNER)
    terminal.type("fg\nhello\n")
    terminal.expect("^hello\n")
    terminal.type(CTRL_C)
    terminal.expect(INNER)
    terminal.type("echo $?\n")
    assert terminal.expect(INNER).strip() == "130"
    terminal.type("exit 5\n")
    terminal.expect(PROMPT)
    assert terminal.status() == 5
    # The terminal is the outer shell's again.
    start(terminal, call, *SLEEPER)
    terminal.type(CTRL_C)
    terminal.expect(PROMPT)
    assert terminal.status() == 130


def test_a_shell_inside_that_suspends(user: Confined, terminal: Terminal, call: Call) -> None:
    terminal.type(f"PS1='{INNER_PS1}' {line(call, *BASH)}\n")
    terminal.expect(INNER)
    terminal.type("suspend\n")
    terminal.expect(r"^\[1\]\+  Stopped")
    terminal.expect(PROMPT)
    all_stopped(user, terminal)
    terminal.type("fg\n")
    terminal.expect(INNER)
    terminal.type("exit\n")
    terminal.expect(PROMPT)
    assert terminal.status() == 0


def test_terminal_that_goes_away_ends_it(user: Confined, terminal: Terminal, call: Call) -> None:
    start(terminal, call, *SLEEPER)
    terminal.hang_up()
    user.wait_until_empty()
    assert terminal.process.wait() != 0


def test_raw_terminal_is_left_as_the_program_left_it(terminal: Terminal, call: Call) -> None:
    """The engine does not touch the terminal's settings."""
    terminal.run(line(call, "stty", "intr", "^]", "cols", "77"))
    told = terminal.run("stty -a")
    assert "intr = ^]" in told and "columns 77" in told
