"""What is left of `sluice exec` when its program has ended: children of the program, for as long as
they live; of a thousand runs nothing at all."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Iterator

import pytest

from harness.confined import STRANGER, Confined, installed
from harness.fences import KINDS, Fence
from harness.namespaces import Namespace
from harness.programs import Program
from harness.waiting import PATIENCE, wait_until
from harness.calls import EXEC


# Children that outlive the program.

#: Ends with a status of its own, and leaves a child.
PARENT = ("sh", "-c", "sleep 1000 >&- 2>&- & echo $!; exit 7")


@contextlib.contextmanager
def leaving_a_child(user: Confined, *options: str) -> Iterator[tuple[Program, int]]:
    """A run whose program has ended, and the child that it left."""
    with user.start(*options, command=PARENT) as program:
        child = int(program.wait_for_output(
            lambda: "".join(program.lines[:1]), "the child's number", PATIENCE))
        try:
            yield program, child
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_the_engine_outlives_the_program_for_its_children(user: Confined) -> None:
    with leaving_a_child(user) as (program, child):
        # The engine has become its parent.
        wait_until(lambda: parent(child) == program.pid, "the program to end")
        with pytest.raises(subprocess.TimeoutExpired):
            program.process.wait(timeout=1)
        os.kill(child, signal.SIGTERM)
        assert program.wait() == 7


def test_it_waits_for_the_last_of_them(user: Confined) -> None:
    """Grandchildren too, in sessions of their own."""
    script = "for n in 1 2 3; do setsid sh -c 'sleep 1000 & sleep 1001' & done; sleep 0.2; exit 3"
    with user.start(command=["sh", "-c", script]) as program:
        wait_until(
            lambda: len([1 for pid in user.inside() if b"sleep\x00100" in command_of(pid)]) == 6,
            "six children")
        children = [pid for pid in user.inside() if b"sleep\x00100" in command_of(pid)]
        for child in children:
            assert program.process.poll() is None
            os.kill(child, signal.SIGTERM)
        assert program.wait() == 3


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_linger_0_does_not_wait(user: Confined) -> None:
    with leaving_a_child(user, "--linger", "0") as (program, child):
        assert program.wait() == 7
        assert parent(child) != program.pid
        # It lives on, without a connection to anywhere.
        assert Path(f"/proc/{child}/comm").read_text() == "sleep\n"


def test_linger_waits_so_many_seconds(user: Confined) -> None:
    before = time.monotonic()
    with leaving_a_child(user, "--linger", "2") as (program, child):
        assert program.wait() == 7
        assert 2 <= time.monotonic() - before < 10
        assert Path(f"/proc/{child}/comm").read_text() == "sleep\n"


def test_linger_ends_with_the_last_child(user: Confined) -> None:
    with leaving_a_child(user, "--linger", "600") as (program, child):
        wait_until(lambda: parent(child) == program.pid, "the program to end")
        os.kill(child, signal.SIGTERM)
        assert program.wait() == 7


def test_zombies_are_no_reason_to_stay(user: Confined) -> None:
    script = "for n in 1 2 3 4 5; do (sleep 0.1 &) ; done; exit 4"
    done = user.run(command=["sh", "-c", script])
    assert done.returncode == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
@pytest.mark.parametrize("options", [(), ("--linger", "600")], ids=["default", "linger"])
def test_a_lingering_engine_ends_when_asked(
    user: Confined, options: tuple[str, ...], number: signal.Signals
) -> None:
    """There is no program any more that the signal could be for."""
    with leaving_a_child(user, *options) as (program, child):
        wait_until(lambda: parent(child) == program.pid, "the program to end")
        program.signal(number)
        assert program.wait() in (7, -number)


def test_after_a_death_by_a_signal_it_waits_too(user: Confined) -> None:
    script = "sleep 1000 >&- 2>&- & echo $!; kill -TERM $$; sleep 10"
    with user.start(command=["sh", "-c", script]) as program:
        child = int(program.wait_for_output(
            lambda: "".join(program.lines[:1]), "the child's number", PATIENCE))
        wait_until(lambda: parent(child) == program.pid, "the program to end")
        os.kill(child, signal.SIGKILL)
        assert program.wait() == -signal.SIGTERM


# A thousand runs.

RUNS, AT_ONCE = 1000, 4

#: As root, in a mount namespace of this script alone: all places where a program may leave a file are
#: new and empty. Runs the batches as the user, and prints what is in these places afterwards, and what
#: is mounted.
STAGE = """
set -eu
sluice=$1 user=$2 at_once=$3 runs=$4
mount -t tmpfs -o mode=755 tmpfs /mnt
cp "$sluice" /mnt/sluice
mkdir -m 700 /mnt/home
chown "$user:$user" /mnt/home
resolvers=$(readlink -f /etc/resolv.conf)
cp "$resolvers" /mnt/resolv.conf
for place in /tmp /var/tmp /run /dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "$place"; done
# It may be in one of these places, where root keeps it.
mkdir -p "${resolvers%/*}"
[ -e "$resolvers" ] || cp /mnt/resolv.conf "$resolvers"
grep -v nsfs /proc/self/mountinfo >/mnt/mounts
cd /mnt/home
for number in $(seq "$at_once"); do
  HOME=/mnt/home TMPDIR=/tmp setpriv --reuid="$user" --regid="$user" --clear-groups -- sh -c '
    for run in $(seq '"$runs"'); do
      /mnt/sluice exec -- true || { echo "run $run: status $?"; exit 1; }
    done' &
done
wait
find /tmp /var/tmp /run /dev/shm /mnt/home -mindepth 1 -user "$user"
find /sys/fs/cgroup -user "$user"
grep -v nsfs /proc/self/mountinfo | diff /mnt/mounts -
"""


def test_a_thousand_runs_leave_nothing(alone: Namespace) -> None:
    with Fence() as fence, Confined(alone, STRANGER) as user:
        assert fence.is_empty(STRANGER)
        # Namespaces go a while after their last process, yet many runs sooner than this.
        fence.limit(**dict.fromkeys(KINDS, RUNS // 4))
        mounts = host_mounts()
        words = fence.words(
            "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", STAGE, "sh",
            str(installed()), str(STRANGER), str(AT_ONCE), str(RUNS // AT_ONCE))
        done = alone.run(
            *words, env=user.environment(), check=False, timeout=300, cwd="/",
            stdin=subprocess.DEVNULL)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert user.processes() == []
        assert host_mounts() <= mounts
        wait_until(lambda: fence.is_empty(STRANGER), "the last namespace to go")


def host_mounts() -> set[str]:
    """What is mounted in the machine's own namespace, but for the namespaces of test runs."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split(" ", 4)[4] for line in lines if "/run/netns" not in line}


def test_the_count_of_namespaces_sees_one_that_is_left(alone: Namespace) -> None:
    """What the test above relies on."""
    with Fence() as fence, Confined(alone, STRANGER) as user:
        words = fence.words(*user.as_user("unshare", "--user", "--net", "--", "sleep", "1000"))
        with Program(alone, *words, env=user.environment(), cwd=user.home, name="sleep"):
            wait_until(lambda: "sleep" in [
                Path(f"/proc/{pid}/comm").read_text().strip() for pid in user.processes()], "it")
            assert not fence.is_empty(STRANGER)
        wait_until(lambda: fence.is_empty(STRANGER), "it to go")


# Failures leave nothing either.

@pytest.mark.parametrize("command", [["nonexistent-program"], ["sh", "-c", "kill -KILL $$"]])
def test_failures_leave_nothing(alone: Namespace, command: list[str]) -> None:
    with Fence() as fence, Confined(alone, STRANGER) as user:
        for _ in range(3):
            words = fence.words(*user.as_user(*EXEC.words(*command)))
            alone.run(*words, env=user.environment(), cwd=user.home, check=False)
        assert user.processes() == []
        assert list(user.home.iterdir()) == []
        wait_until(lambda: fence.is_empty(STRANGER), "the last namespace to go")


def test_killed_engine_leaves_the_namespace_to_the_program_alone(alone: Namespace) -> None:
    with Fence() as fence, Confined(alone, STRANGER) as user:
        words = fence.words(*user.as_user(*EXEC.words("sleep", "1000")))
        with Program(alone, *words, env=user.environment(), cwd=user.home, name="sluice") as engine:
            child = user.wait_for_inside("sleep")
            engine.signal(signal.SIGKILL)
            engine.process.wait()
            assert user.processes() == [child]
            os.kill(child, signal.SIGTERM)
        user.wait_until_empty()
        wait_until(lambda: fence.is_empty(STRANGER), "the last namespace to go")
