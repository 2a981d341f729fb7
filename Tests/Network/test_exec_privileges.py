"""What a program can do under `sluice exec` to get out: neither privileges that it may be given, nor what
it may ask of the engine or of others outside, help it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import threading
from pathlib import Path
from typing import Iterator

import pytest

from harness.confined import Confined, script
from harness.namespaces import Namespace
from harness.programs import Program
from harness.targets import Mirror
from harness.topology import ADDRESSES, Topology
from harness.waiting import PATIENCE, wait_until
from harness.calls import BARE, EXEC, CALLS, Call

ROOT = 0

#: linux/capability.h.
CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN = 12, 19, 21


@pytest.fixture
def root(alone: Namespace) -> Iterator[Confined]:
    with Confined(alone, ROOT) as someone:
        yield someone


def status(text: str) -> dict[str, int]:
    """The sets of capabilities, and no_new_privs, of a /proc/PID/status."""
    fields = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    found = {name: int(value, 16) for name, value in fields.items() if name.startswith("Cap")}
    return found | {"NoNewPrivs": int(fields["NoNewPrivs"])}


# Capabilities, and programs that would give some.

NONE = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0) | {"NoNewPrivs": 1}

READ_STATUS = ("cat", "/proc/self/status")


def test_no_capability_is_left(user: Confined) -> None:
    assert status(user.get(command=READ_STATUS)) == NONE


def test_none_of_the_namespace_for_root(root: Confined) -> None:
    found = status(root.get(command=READ_STATUS))
    for number in (CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_SYS_ADMIN):
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert not found[kind] >> number & 1, (kind, number)


@pytest.fixture
def privileged(user: Confined) -> Iterator[Path]:
    """A folder of root's with programs that give privileges to whoever calls them."""
    with contextlib.ExitStack() as stack:
        folder = Path(f"/var/tmp/{user.mark}")
        folder.mkdir(mode=0o755)
        stack.callback(shutil.rmtree, folder)
        for name in ("id", "cat"):
            shutil.copy(shutil.which(name) or name, folder / name)
        os.chmod(folder / "id", 0o6755)
        os.chmod(folder / "cat", 0o755)
        # linux/capability.h, struct vfs_cap_data: all of one word, permitted and effective.
        every = 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN | 1 << CAP_SYS_PTRACE
        os.setxattr(
            folder / "cat", "security.capability", struct.pack("<5I", 0x02000001, every, 0, 0, 0))
        yield folder


def test_setuid_program(user: Confined, privileged: Path) -> None:
    told = user.bare(str(privileged / "id")).stdout
    assert "euid=0" in told and "egid=0" in told
    assert user.get(command=[str(privileged / "id")]) == user.bare("id").stdout


def test_program_with_capabilities(user: Confined, privileged: Path) -> None:
    program = str(privileged / "cat")
    found = status(user.bare(program, "/proc/self/status").stdout)
    assert found["CapEff"] >> CAP_NET_ADMIN & 1
    done = user.run(command=[program, "/proc/self/status"])
    # The kernel may also refuse to start what cannot have its capabilities.
    assert done.returncode == 126 if done.stdout == "" else status(done.stdout) == NONE


# More namespaces.

#: Each would change the network of the confined program; the last argument of each line is whether it
#: worked.
CHANGES = """
try() { "$@" >/dev/null 2>&1 && echo "did: $*"; }
try nft list ruleset
try nft flush ruleset
try nft add table inet mine
try ip route add 11.9.0.0/24 dev lo
try ip route del default
try ip -6 route del default
try ip rule add priority 1 lookup main
try ip addr add 11.9.0.1/32 dev lo
try ip addr flush dev lo
try ip link set lo down
try ip link add dummy9 type dummy
try sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
try sh -c 'echo 1 >/proc/sys/net/ipv4/conf/lo/accept_local'
try umount /run/sluice
try umount -l /run
try mount -t tmpfs tmpfs /mnt
echo end
"""


@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
@pytest.mark.parametrize(
    "inside", [(), ("unshare", "--user", "--map-root-user"),
               ("unshare", "--user", "--map-root-user", "--mount")],
    ids=["itself", "user-namespace", "user-and-mount-namespace"])
def test_network_cannot_be_changed(
    alone: Namespace, person: int | None, inside: tuple[str, ...]
) -> None:
    with Confined(alone) if person is None else Confined(alone, person) as user:
        done = user.run(command=[*inside, "sh", "-c", CHANGES])
        allowed = {"did: mount -t tmpfs tmpfs /mnt"} if "--mount" in inside else set()
        if person == ROOT:
            # Files of root's: sysctls of a network that leads nowhere.
            allowed |= {line for line in done.stdout.splitlines() if "/proc/sys/net" in line}
        assert set(done.stdout.splitlines()) - allowed == {"end"}, done.stderr


def test_a_network_namespace_inside_leads_nowhere(topology: Topology) -> None:
    at = ADDRESSES["ipv4"]
    with Mirror(topology.server) as mirror, Confined(topology.client) as user:
        fetch = f"cat </dev/tcp/{at.server}/{mirror.port}"
        assert user.get(command=["bash", "-c", fetch]) == at.client
        escape = f"ip link set lo up && ip route add default dev lo && {fetch}"
        done = user.run(command=[
            "unshare", "--user", "--map-root-user", "--net", "timeout", "5", "bash", "-c", escape])
        assert done.returncode != 0 and done.stdout == ""
        assert mirror.peers == [at.client]


REFUSED = {"EPERM", "EACCES"}


@contextlib.contextmanager
def neighbour(user: Confined) -> Iterator[Program]:
    """A process of the same user outside."""
    words = user.as_user("sh", "-c", "echo up; exec sleep 1000")
    with Program(user.host, *words, env=user.environment(), cwd=user.home) as program:
        program.wait_for_output(lambda: program.lines, "that it is up", PATIENCE)
        wait_until(
            lambda: Path(f"/proc/{program.pid}/comm").read_text() == "sleep\n", "it to be sleep")
        yield program


@pytest.mark.parametrize("nested", [False, True], ids=["itself", "user-namespace"])
@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
def test_namespaces_outside_cannot_be_entered(
    alone: Namespace, person: int | None, nested: bool
) -> None:
    """Those of the engine (0: the parent), of the first process, and of one of the user's."""
    with Confined(alone) if person is None else Confined(alone, person) as user, \
            neighbour(user) as other:
        inside = ("unshare", "--user", "--map-root-user") if nested else ()
        told = user.get(
            command=[*inside, *script("intruder.py", "0", "1", str(other.pid))])
        result: dict[str, dict[str, str]] = json.loads(told)
        assert len(result) == 3
        for attempts in result.values():
            assert set(attempts.values()) <= REFUSED, result


def test_nsenter(user: Confined) -> None:
    with user.start(command=["sleep", "1000"]) as engine:
        user.wait_for_inside("sleep")
        for pid in (1, engine.pid):
            done = user.run(command=["nsenter", "-t", str(pid), "-n", "true"])
            assert done.returncode != 0
            assert "Permission denied" in done.stderr or "not permitted" in done.stderr


# The engine's memory and descriptors, and those of the user's other processes.

@pytest.mark.parametrize("nested", [False, True], ids=["itself", "user-namespace"])
@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
def test_nothing_outside_can_be_debugged(
    alone: Namespace, person: int | None, nested: bool
) -> None:
    with Confined(alone) if person is None else Confined(alone, person) as user, \
            neighbour(user) as other:
        inside = ("unshare", "--user", "--map-root-user") if nested else ()
        words = [*inside, *script("burglar.py", "own", "0", str(other.pid), "1")]
        result: dict[str, dict[str, str]] = json.loads(user.get(command=words))
        assert set(result.pop("own").values()) == {"done"}
        assert len(result) == 3
        done = [
            (place, attempt, error) for place, attempts in result.items()
            for attempt, error in attempts.items() if error not in REFUSED]
        assert done == []


def test_the_test_can_tell(user: Confined) -> None:
    """Without Sluice a program may debug another of the same user."""
    with neighbour(user) as other:
        told = user.bare(*script("burglar.py", str(other.pid))).stdout
        assert set(json.loads(told)[str(other.pid)].values()) == {"done"}


def test_a_neighbour_cannot_debug_the_engine(user: Confined) -> None:
    """It may hold a password; another confined program is a neighbour, too."""
    with user.start(command=["sleep", "1000"]) as engine:
        user.wait_for_inside("sleep")
        for call in CALLS:
            told = user.bare(*call.words(*script("burglar.py", str(engine.pid)))).stdout
            assert set(json.loads(told)[str(engine.pid)].values()) <= REFUSED


# Sockets of the host's.

@contextlib.contextmanager
def greeting(listener: socket.socket) -> Iterator[None]:
    """Greets whoever connects."""
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listener.accept()
                stream.sendall(b"hello")
                stream.close()

    listener.listen()
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def test_abstract_sockets_of_the_host(user: Confined) -> None:
    listener = user.host.open_socket(socket.AF_UNIX)
    listener.bind(f"\0{user.mark}")
    with greeting(listener):
        words = script("connect.py", user.mark)
        assert user.bare(*words).stdout == "hello\n"
        done = user.run(command=words)
        assert done.returncode != 0 and "ConnectionRefusedError" in done.stderr


#: In a mount namespace of its own: a /run that has all that a program could speak to instead.
SERVICES = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/sluice /run/systemd/resolve /run/nscd /run/avahi-daemon /run/other
for place in /run/sluice/control.sock /run/systemd/resolve/io.systemd.Resolve /run/nscd/socket \
    /run/avahi-daemon/socket /run/other/socket; do
  touch "$place"
done
exec "$@"
"""


@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
@pytest.mark.parametrize(
    "inside", [(), ("unshare", "--user", "--map-root-user", "--mount")],
    ids=["itself", "user-and-mount-namespace"])
def test_control_socket_and_name_services_are_hidden(
    alone: Namespace, person: int | None, inside: tuple[str, ...]
) -> None:
    look = "umount -R /run/sluice /run/nscd 2>&-; find /run -type f | sort"
    with Confined(alone) if person is None else Confined(alone, person) as user:
        seen = []
        for call in (BARE, EXEC):
            words = [
                "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", SERVICES, "sh",
                *user.as_user(*call.words(*inside, "sh", "-c", look))]
            done = alone.run(*words, env=user.environment(), cwd=user.home)
            seen.append(done.stdout.split())
        assert "/run/sluice/control.sock" in seen[0] and len(seen[0]) == 5
        assert seen[1] == ["/run/other/socket"]


def test_signals_to_the_engine_are_all_that_it_may_send(user: Confined) -> None:
    """As any child may end its parent of the same user: then it is without a connection."""
    with user.start(command=["sh", "-c", "kill -KILL $PPID; exec sleep 1000"]) as engine:
        assert engine.process.wait(PATIENCE) == -signal.SIGKILL
        (child,) = wait_until(user.processes, "the program to live on")
        os.kill(child, signal.SIGKILL)


# A program of root's.

def test_root_may_use_what_is_left(root: Confined) -> None:
    secret = root.home / "secret"
    secret.write_text("text")
    os.chown(secret, 12345, 12345)
    secret.chmod(0o600)
    assert root.get(command=["cat", str(secret)]) == "text"
    done = root.run(command=["unshare", "--net", "true"])
    assert done.returncode != 0


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_traced_by_its_own_parent(user: Confined, call: Call) -> None:
    """Debugging inside works as ever: what strace does."""
    done = user.bare(*call.words(*script("tracer.py")))
    assert (done.returncode, done.stdout) == (0, f"{int(signal.SIGTRAP)}\n0\n")
