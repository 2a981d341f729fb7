"""How a program ends under `sluice exec`, which signals reach it, and what it finds around it: all
as without Sluice."""

import contextlib
import os
import re
import select
import signal
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness.confined import Confined, name_of, script
from harness.programs import Program
from harness.waiting import PATIENCE, wait_until
from harness.calls import BARE, EXEC, CALLS, Call


Done = subprocess.CompletedProcess[str]


def both(user: Confined, *command: str, outside: tuple[str, ...] = ()) -> tuple[Done, Done]:
    """What comes of a command as it is and by `sluice exec`; `outside` is a command that calls
    either."""
    bare, inside = (user.bare(*outside, *call.words(*command)) for call in (BARE, EXEC))
    return bare, inside


def same(user: Confined, *command: str, outside: tuple[str, ...] = ()) -> str:
    """Expects the same of both, and returns what was printed."""
    bare, inside = both(user, *command, outside=outside)
    assert (inside.returncode, inside.stdout, inside.stderr) == (
        bare.returncode, bare.stdout, bare.stderr)
    return bare.stdout


# How it ends.

@pytest.mark.parametrize("status", [0, 1, 2, 42, 64, 69, 77, 126, 127, 128, 130, 143, 255])
def test_exit_status(user: Confined, status: int) -> None:
    bare, inside = both(user, "sh", "-c", f"echo out; echo err >&2; exit {status}")
    assert (bare.returncode, bare.stdout, bare.stderr) == (status, "out\n", "err\n")
    assert (inside.returncode, inside.stdout, inside.stderr) == (status, "out\n", "err\n")


@pytest.mark.parametrize(
    "name", ["TERM", "KILL", "SEGV", "ABRT", "PIPE", "INT", "HUP", "QUIT", "USR1", "ALRM", "TRAP"])
def test_death_by_a_signal(user: Confined, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    bare, inside = both(user, "sh", "-c", f"ulimit -c 0; kill -{name} $$; sleep 60")
    assert bare.returncode == -number
    assert (inside.returncode, inside.stdout, inside.stderr) == (-number, "", "")


def test_a_shell_sees_the_same(user: Confined) -> None:
    line = '"$@"; echo status $?'
    told = same(
        user, "sh", "-c", "kill -TERM $$", outside=("bash", "-c", line, "bash"))
    assert told == "status 143\n"


def test_a_dying_program_leaves_its_core_alone(user: Confined) -> None:
    """The engine dies of the same signal, but has nothing to dump."""
    counts = []
    for call in CALLS:
        user.bare("prlimit", "--core=unlimited", *call.words("sh", "-c", "kill -SEGV $$"))
        cores = [path for path in user.home.iterdir() if "core" in path.name]
        counts.append(len(cores))
        for path in cores:
            path.unlink()
    assert counts[0] == counts[1]


# What cannot be started. The status is that of env(1).

@pytest.fixture
def scripts(user: Confined) -> Path:
    """A folder with files that are no programs, or unusual ones."""
    folder = user.home / "bin"
    folder.mkdir()
    for name, text, mode in (
        ("plain", "echo not for running\n", 0o644),
        ("lost", "#!/nonexistent/interpreter\n", 0o755),
        ("headless", "echo without a first line\n", 0o755),
        ("empty", "", 0o755),
        ("broken", "\x7fELF and no more\n", 0o755),
    ):
        (folder / name).write_text(text)
        (folder / name).chmod(mode)
    (folder / "folder").mkdir()
    return folder


@pytest.mark.parametrize(
    "command, status", [
        ("nonexistent-program", 127), ("/nonexistent/program", 127), ("./nonexistent", 127),
        ("plain/program", 126), ("lost", 127), ("plain", 126), ("folder", 126), ("headless", 0),
        ("empty", 0), ("broken", 127)])
def test_program_that_cannot_be_started(
    user: Confined, scripts: Path, command: str, status: int
) -> None:
    place = str(scripts / command) if (scripts / command.split("/")[0]).exists() else command
    bare = user.bare("env", place)
    inside = user.run(command=[place])
    assert bare.returncode == status
    assert (inside.returncode, inside.stdout) == (status, bare.stdout)
    if status in (126, 127):
        assert len(inside.stderr.splitlines()) == 1, inside.stderr
        assert place in inside.stderr
        reason = re.search("No such file or directory|Permission denied|Not a directory", bare.stderr)
        assert reason is None or reason[0].lower() in inside.stderr.lower() or (
            status == 127 and "not found" in inside.stderr.lower())


def test_path_is_searched_as_ever(user: Confined, scripts: Path) -> None:
    """Past what cannot be executed, to the first that can."""
    later = user.home / "later"
    later.mkdir()
    (later / "plain").write_text("#!/bin/sh\necho found\n")
    (later / "plain").chmod(0o755)
    outside = ("env", f"PATH={scripts}:{later}:/usr/bin:/bin")
    assert same(user, "plain", outside=outside) == "found\n"


# Signals that another process sends to the one that was started.

@contextlib.contextmanager
def running(user: Confined, call: Call, *command: str) -> Iterator[Program]:
    """A command that says "up" when it is."""
    words = user.as_user(*call.words(*command))
    with Program(user.host, *words, env=user.environment(), cwd=user.home) as program:
        program.wait_for_output(lambda: "up" in program.lines, "that it is up", PATIENCE)
        yield program


def find(user: Confined, name: str) -> int:
    """Waits until a program of that name runs, /proc/PID/comm, and returns its process."""
    return wait_until(
        lambda: next((pid for pid in user.processes() if name_of(pid) == name), None), name) or 0


def test_signals_reach_the_program(user: Confined, call: Call) -> None:
    names = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "WINCH", "CONT", "TERM", "INT", "ALRM"]
    with running(user, call, *script("listener.py")) as program:
        for count, name in enumerate(names, 2):
            program.signal(signal.Signals[f"SIG{name}"])
            program.wait_for_output(lambda: len(program.lines) == count, f"{name}", PATIENCE)
        assert program.lines == ["up", *(f"SIG{name}" for name in names)]
        os.kill(find(user, "python3"), signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
        assert program.lines == ["up", *(f"SIG{name}" for name in names)]


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM"])
def test_signals_end_the_program(user: Confined, call: Call, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    with running(user, call, "sh", "-c", "ulimit -c 0; echo up; exec sleep 1000") as program:
        find(user, "sleep")
        program.signal(number)
        assert program.wait() == -number
    assert user.processes() == []


def test_a_signal_at_any_moment_of_the_start(user: Confined) -> None:
    """However early it comes, it ends the program, and nothing stays."""
    for delay in range(12):
        words = user.host.command(*user.as_user(*EXEC.words("sleep", "1000")))
        process = subprocess.Popen(
            words, env=user.environment(), cwd=user.home, stdin=subprocess.DEVNULL,
            start_new_session=True)
        # The moment is the matter here: it falls before, into or after what is prepared.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=delay / 50)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
    user.wait_until_empty()


# What it finds around itself.

def test_environment(user: Confined) -> None:
    bare, inside = (
        set(user.bare("env", "ODD=a=b\tc", *call.words("env", "-0")).stdout.split("\0"))
        for call in (BARE, EXEC))
    assert bare - inside == set()
    assert inside - bare == {"SLUICE=embedded"}


def test_arguments(user: Confined) -> None:
    odd = ["", " ", "--", "-x", "--udp", "a\nb", "ö", "'\"\\$HOME*"]
    got = same(user, "sh", "-c", 'for one; do printf "<%s>" "$one"; done', "sh", *odd)
    assert got == "".join(f"<{one}>" for one in odd)


@pytest.mark.parametrize(
    "outside, command", [
        (("env", "-C", "/usr/share"), "pwd -P"),
        (("sh", "-c", 'umask 027; exec "$@"', "sh"), "umask"),
        (("nice", "-n", "7"), "nice"),
        (("prlimit", "--nofile=300:400"), "ulimit -Sn; ulimit -Hn"),
        (("prlimit", "--nofile=1024:8192"), "ulimit -Sn; ulimit -Hn"),
        (("prlimit", "--nproc=4000:5000", "--core=7:9", "--stack=4194304"), "ulimit -a -S"),
        (("prlimit", "--nproc=4000:5000", "--core=7:9", "--cpu=1000:2000"), "ulimit -a -H"),
        (("chrt", "--batch", "0"), "chrt -p $$ | tail -n +1 | cut -d: -f2"),
        (("taskset", "--cpu-list", "0"), "grep Cpus_allowed_list /proc/self/status"),
        (("sh", "-c", 'echo 321 >/proc/self/oom_score_adj; exec "$@"', "sh"),
         "cat /proc/self/oom_score_adj"),
        ((), "id"),
        ((), "id -un || echo nobody knows"),
        ((), "cat /proc/self/personality /proc/self/timerslack_ns 2>&1"),
        ((), "ls -l /proc/self/fd | wc -l"),
        ((), "hostname; uname -a"),
        ((), "ls -di / /tmp /etc/passwd ."),
        ((), "readlink /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts /proc/self/cgroup"),
        ((), "cat /proc/self/cgroup"),
    ], ids=lambda value: re.sub(r"\W+", "-", value) if isinstance(value, str) else "")
def test_surroundings(user: Confined, outside: tuple[str, ...], command: str) -> None:
    assert same(user, "bash", "-c", command, outside=outside)


#: A program that reads its own /proc/self/status: nothing changes the signals before.
SIGNALS = ("grep", "^Sig[BIC]\\|^Groups\\|^Uid\\|^Gid", "/proc/self/status")


@pytest.mark.parametrize(
    "outside", [
        (), ("nohup",), ("env", "--ignore-signal=INT,QUIT,PIPE,CHLD,TSTP,TTOU,USR1,WINCH"),
        ("env", "--block-signal=TERM,USR2,CHLD,CONT,PIPE", "--default-signal=PIPE")],
    ids=["defaults", "nohup", "ignored", "blocked"])
def test_signal_mask_and_dispositions(user: Confined, outside: tuple[str, ...]) -> None:
    same(user, *SIGNALS, outside=outside)


def test_under_nohup_it_survives_a_hangup(user: Confined, call: Call) -> None:
    nohup = ("nohup", *call.words("sh", "-c", "echo up; exec sleep 1000"))
    with running(user, BARE, *nohup) as program:
        program.signal(signal.SIGHUP)
        program.signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


def test_process_group_session_and_terminal(user: Confined, call: Call) -> None:
    with running(user, call, "sh", "-c", "cat /proc/$$/stat; echo up; exec sleep 1000") as program:
        fields = program.lines[0].rpartition(")")[2].split()
        group, session, terminal = fields[2:5]
        assert (group, session, terminal) == (str(program.pid), str(program.pid), "0")


def test_members_of_a_group_keep_what_it_may(user: Confined, call: Call) -> None:
    """The kernel maps no group but the user's own, and still knows the others."""
    group = 43210
    secret = user.home / "secret"
    secret.write_text("for the group")
    os.chown(secret, 0, group)
    secret.chmod(0o640)
    words = user.as_user(*call.words("cat", "secret"))
    words[words.index("--clear-groups")] = f"--groups={group}"
    done = subprocess.run(
        user.host.command(*words), env=user.environment(), cwd=user.home, check=False,
        capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "for the group")


def test_no_other_descriptor_is_inherited(user: Confined) -> None:
    read, write = os.pipe()
    try:
        told = user.run(
            command=["sh", "-c", "ls /proc/$$/fd"], pass_fds=(read, write)).stdout.split()
    finally:
        os.close(read)
        os.close(write)
    assert told == ["0", "1", "2"]


# Pipes, and descriptors that are not there.

def test_input_and_its_end(user: Confined) -> None:
    for text in ("", "one line\n", "x" * 300_000):
        done = user.run(command=["cat"], input=text)
        assert (done.returncode, done.stdout, done.stderr) == (0, text, "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
def test_closed_descriptors(user: Confined, closed: str) -> None:
    outside = ("sh", "-c", f'exec "$@" {closed}', "sh")
    same(user, "cat", outside=outside)
    which = "n=0; for d in 0 1 2; do n=$((2 * n)); [ -e /proc/$$/fd/$d ] && n=$((n + 1)); done; exit $n"
    bare, inside = both(user, "sh", "-c", which, outside=outside)
    assert inside.returncode == bare.returncode != 0b111


@contextlib.contextmanager
def piped(user: Confined, call: Call, text: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell's script with pipes of the test's as input and output."""
    words = user.host.command(*user.as_user(*call.words("sh", "-c", text)))
    with subprocess.Popen(
        words, env=user.environment(), cwd=user.home, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            user.kill()


def test_output_closed_by_the_program_ends_for_its_reader(user: Confined, call: Call) -> None:
    with piped(user, call, "echo last words; exec >&-; exec sleep 1000") as process:
        assert process.stdout
        os.set_blocking(process.stdout.fileno(), False)
        got = wait_until(lambda: process.stdout and read_available(process.stdout.fileno()), "text")
        assert got == b"last words\n"
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        assert ready and os.read(process.stdout.fileno(), 100) == b""
        assert process.poll() is None


def read_available(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


def test_input_closed_by_the_program_breaks_the_pipe(user: Confined, call: Call) -> None:
    with piped(user, call, "exec <&-; echo up; exec sleep 1000") as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"up\n"
        poll = select.poll()
        poll.register(process.stdin.fileno(), 0)
        # Nobody reads it any more: the writer is told.
        assert poll.poll(PATIENCE * 1000) == [(process.stdin.fileno(), select.POLLERR)]
        assert process.poll() is None


def test_in_a_pipeline(user: Confined, call: Call) -> None:
    """`head` ends it, and so it ends."""
    line = " ".join(call.words("yes"))
    done = user.bare("bash", "-c", f"{line} | head -n 2; echo ${{PIPESTATUS[*]}}")
    assert done.stdout == "y\ny\n141 0\n"
