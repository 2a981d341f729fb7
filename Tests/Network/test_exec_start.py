"""How `sluice exec` starts: wrong usage, too little of something, interruptions meanwhile, many at once,
one inside another, and how long it takes."""

import os
import shlex
import statistics
import subprocess
import time
from typing import Iterator

import pytest

from harness.confined import Confined, name_of
from harness.namespaces import Namespace
from harness.targets import Mirror
from harness.ptys import BASH, CTRL_C, CTRL_Z, PROMPT, SETTINGS, Terminal
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE, wait_until
from harness.calls import BARE, EXEC, CALLS, Call

USAGE, UNAVAILABLE, NOT_EXECUTABLE = 64, 69, 126


def assert_not_started(user: Confined, done: subprocess.CompletedProcess[str], code: int) -> None:
    assert (done.returncode, done.stdout) == (code, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert not (user.home / "started").exists()


@pytest.mark.parametrize(
    "arguments", [
        ("--bogus",), ("gopher://11.2.0.2",), ("embedded", "embedded"), ("--linger", "-1"),
        ("--linger", "soon"), ("--publish", "0"), ("--publish", "80:99999"),
        ("--host-loopback", "x"), ("--preserve-fds", "-1"), ("--udp", "perhaps")], ids=" ".join)
def test_wrong_usage(user: Confined, arguments: tuple[str, ...]) -> None:
    done = user.run(*arguments, command=["touch", "started"])
    assert_not_started(user, done, USAGE)


@pytest.mark.parametrize(
    "words", [["exec"], ["exec", "--"], ["exec", "embedded"], ["exec", "touch", "started"]],
    ids=" ".join)
def test_no_program(user: Confined, words: list[str]) -> None:
    program = EXEC.words()[0]
    done = user.bare(program, *words)
    assert_not_started(user, done, USAGE)
    assert "--" in done.stderr


def test_upstream_that_is_not_there(user: Confined) -> None:
    done = user.run("socks5://127.0.0.1:1", command=["touch", "started"])
    assert_not_started(user, done, UNAVAILABLE)
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize("count", [4, 8, 12, 16, 20, 24])
def test_few_descriptors(user: Confined, count: int) -> None:
    """Enough, or a line that says so; never a program that is half confined."""
    done = user.bare("prlimit", f"--nofile={count}:{count}", "--", *EXEC.words("touch", "started"))
    if done.returncode == 0:
        assert (user.home / "started").exists() and done.stderr == ""
    else:
        assert_not_started(user, done, UNAVAILABLE)
        assert "too many open files" in done.stderr.lower() or "descriptors" in done.stderr


def test_no_process_more(alone: Namespace) -> None:
    # One of its own: the limit counts all processes of the user on the machine.
    with Confined(alone, 100_000 + os.getpid()) as user:
        done = user.bare("prlimit", "--nproc=1:1", "--", *EXEC.words("touch", "started"))
        assert_not_started(user, done, UNAVAILABLE)


def test_large_arguments_and_environment(user: Confined) -> None:
    large = "x" * 100_000
    script = 'echo ${#1} ${#2} ${#LARGE}'
    done = user.bare(
        "env", f"LARGE={large}", *EXEC.words("sh", "-c", script, "sh", large, large))
    assert (done.returncode, done.stdout) == (0, "100000 100000 100000\n")


def test_folder_that_is_gone(user: Confined) -> None:
    script = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    results = []
    for call in CALLS:
        done = user.bare("sh", "-c", script, "sh", *call.words("sh", "-c", "exit 5"))
        results.append((done.returncode, done.stdout, done.stderr))
    assert results[0] == results[1]


def test_log_that_nobody_reads(user: Confined) -> None:
    """The engine's log goes into a broken pipe; the program is none the worse."""
    words = EXEC.words("sh", "-c", "echo up; read line; exit 5")
    words[2:2] = ["--log-level", "debug"]
    read, write = os.pipe()
    with open(read, "rb") as log, subprocess.Popen(
        user.host.command(*user.as_user(*words)), env=user.environment(), cwd=user.home,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=write, start_new_session=True,
        text=True) as process:
        os.close(write)
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "up\n"
        assert log.readline()
        log.close()
        process.stdin.write("end\n")
        process.stdin.close()
        assert process.wait(PATIENCE) == 5


def test_one_inside_another(topology: Topology) -> None:
    """The inner one's engine is a program of the outer one."""
    at = ADDRESSES["ipv4"]
    with Mirror(topology.server) as mirror, Confined(topology.client) as user:
        fetch = f"cat </dev/tcp/{at.server}/{mirror.port}; exit 6"
        inner = EXEC.words("bash", "-c", fetch)
        done = user.run(command=inner)
        assert (done.returncode, done.stdout, done.stderr) == (6, at.client, "")
        done = user.run(command=EXEC.words(*inner))
        assert (done.returncode, done.stdout, done.stderr) == (6, at.client, "")
        assert mirror.peers == [at.client, at.client]


# Keys while it starts.

@pytest.fixture
def terminal(user: Confined) -> Iterator[Terminal]:
    command = user.host.command(*user.as_user(*BASH))
    with Terminal(
        command, user.user, env=user.environment() | SETTINGS, cwd=user.home) as one:
        one.expect(PROMPT)
        yield one
    user.kill()


#: Moments after Sluice has come to the foreground, in seconds: from before the first namespace to when
#: the program runs.
MOMENTS = [step / 1000 for step in range(50)]


def start(terminal: Terminal, line: str) -> None:
    """Types a line, and waits until Sluice is in the foreground."""
    terminal.type(f"{line}\n")
    wait_until(
        lambda: name_of(os.tcgetpgrp(terminal.control)) == "sluice", "Sluice to be in front",
        interval=0)


def test_interrupted(user: Confined, terminal: Terminal) -> None:
    for moment in MOMENTS:
        start(terminal, shlex.join(EXEC.words("sleep", "1000")))
        # The moment is the matter here.
        time.sleep(moment)
        terminal.type(CTRL_C)
        terminal.expect(PROMPT)
        assert terminal.status() == 130, moment
        wait_until(
            lambda: user.processes() == [terminal.process.pid], "everything to end", timeout=5)


def test_stopped(user: Confined, terminal: Terminal) -> None:
    for moment in MOMENTS:
        start(terminal, shlex.join(EXEC.words("sh", "-c", "echo up; exec sleep 1000")))
        time.sleep(moment)
        terminal.type(CTRL_Z)
        terminal.expect(r"^\[\d\]\+  Stopped  ")
        terminal.expect(PROMPT)
        terminal.type("fg\n")
        wait_until(
            lambda: os.tcgetpgrp(terminal.control) != terminal.process.pid,
            "the job to be in front")
        # Its program may have been there before, or not.
        user.wait_for_inside("sleep")
        terminal.type(CTRL_C)
        terminal.expect(PROMPT)
        assert terminal.status() == 130, moment
        wait_until(
            lambda: user.processes() == [terminal.process.pid], "everything to end", timeout=5)


def test_killed(user: Confined) -> None:
    """However early: what is left is the program, without a connection, or nothing."""
    for moment in MOMENTS[::2]:
        words = user.host.command(*user.as_user(*EXEC.words("sleep", "1000")))
        with subprocess.Popen(
            words, env=user.environment(), cwd=user.home, stdin=subprocess.DEVNULL,
            start_new_session=True) as process:
            wait_until(lambda: name_of(process.pid) == "sluice", "Sluice", interval=0)
            time.sleep(moment)
            process.kill()
        wait_until(
            lambda: [name_of(pid) for pid in user.processes()] in ([], ["sleep"]),
            "what was being made to go", timeout=5)
        user.kill()


# How long it takes.

def test_it_starts_in_no_time(user: Confined) -> None:
    """Far from what the benchmark measures (scripts/bench --rows start): this runs on busy machines, and
    on programs that are not optimized. It is for what takes a second, such as waiting for a name or for an
    address to be tried."""
    def seconds(call: Call) -> float:
        begin = time.monotonic()
        assert user.bare(*call.words("true")).returncode == 0
        return time.monotonic() - begin

    times = {call.name: [seconds(call) for _ in range(5)] for call in (BARE, EXEC)}
    medians = {name: statistics.median(values) for name, values in times.items()}
    assert medians["exec"] - medians["bare"] < 0.5
