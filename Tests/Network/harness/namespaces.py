"""Network namespaces: one host each, with a thread inside that opens sockets there.

A socket belongs to the namespace of the thread that opens it and can be used from any thread
afterwards, so the rest of the tests is plain Python.
"""

import ctypes
import itertools
import os
import re
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, TypeVar

from .waiting import wait_until

#: Every namespace of the tests is called PREFIX + PID of the test run + "-" + number + "-" + role.
PREFIX = "slt"

FOLDER = Path("/run/netns")

#: linux/sched.h
CLONE_NEWNET = 0x40000000

Value = TypeVar("Value")

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def _enter(name: str) -> None:
    """Moves the calling thread, and only it, into the namespace."""
    with open(FOLDER / name) as handle:
        if _libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), f"setns {name}")


class Namespace:
    """A host of its own: interfaces, routes, rules and sysctls that nobody else sees."""

    def __init__(self, role: str) -> None:
        self.name = f"{PREFIX}{os.getpid()}-{next(_numbers)}-{role}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self._inside = ThreadPoolExecutor(1, self.name, _enter, (self.name,))
        # Addresses serve at once instead of after a second of looking for a twin.
        self.write_sysctl("net/ipv6/conf/default/accept_dad", "0")
        self.ip("link set lo up")

    def close(self) -> None:
        """Removes the namespace with everything in it; does nothing the second time."""
        self._inside.shutdown(wait=True)
        remove(self.name)

    def command(self, *words: str) -> list[str]:
        """The command that runs `words` in here. (`ip netns exec` would remount /sys.)"""
        return ["nsenter", f"--net={FOLDER / self.name}", "--", *words]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs a command in here to its end, with its output as text."""
        options = {"capture_output": True, "text": True, "timeout": 60, "check": True} | options
        return subprocess.run(self.command(*words), **options)

    def ip(self, *lines: str) -> None:
        """Carries out lines of `ip -batch`."""
        text = "\n".join(lines) + "\n"
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input=text, text=True, check=True)

    def nft(self, rules: str) -> None:
        """Loads nftables rules."""
        self.run("nft", "-f", "-", input=rules)

    def call(self, function: Callable[..., Value], *arguments: Any) -> Value:
        """Calls a function on the thread that lives in here."""
        return self._inside.submit(function, *arguments).result()

    def read_sysctl(self, name: str) -> str:
        """The value of a sysctl, named by its path below /proc/sys."""
        return self.call(Path("/proc/sys", name).read_text).strip()

    def write_sysctl(self, name: str, value: str) -> None:
        self.call(Path("/proc/sys", name).write_text, value)

    def open_socket(self, family: int, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A new socket of this host."""
        return self.call(socket.socket, family, kind)

    def connect(self, address: str, port: int, timeout: float = 20.0) -> socket.socket:
        """A TCP connection from this host; every operation on it has the timeout (seconds)."""
        stream = self.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        stream.settimeout(timeout)
        try:
            stream.connect((address, port))
        except BaseException:
            stream.close()
            raise
        return stream

    def listen(self, address: str, port: int = 0) -> socket.socket:
        """A listening TCP socket of this host."""
        listener = self.open_socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(4096)
        return listener

    def listeners(self, port: int) -> int:
        """How many TCP sockets listen on the port (/proc/net/tcp and tcp6)."""
        wanted, listening, count = f":{port:04X}", "0A", 0
        for table in ("tcp", "tcp6"):
            # The thread's own view: "self" would show the namespace of the main thread.
            for line in self.call(Path("/proc/thread-self/net", table).read_text).splitlines()[1:]:
                fields = line.split()
                count += fields[1].endswith(wanted) and fields[3] == listening
        return count


    def receivers(self, port: int) -> list[list[str]]:
        """The UDP sockets bound to the port: their lines of /proc/net/udp and udp6, as fields."""
        found = []
        for table in ("udp", "udp6"):
            for line in self.call(Path("/proc/thread-self/net", table).read_text).splitlines()[1:]:
                fields = line.split()
                if fields[1].endswith(f":{port:04X}"):
                    found.append(fields)
        return found

    def backlog(self, port: int) -> int:
        """Bytes of datagrams that wait in the sockets of the port until their program reads them."""
        return sum(int(fields[4].partition(":")[2], 16) for fields in self.receivers(port))

    def lost(self, port: int) -> int:
        """How many datagrams the sockets of the port had no room for."""
        return sum(int(fields[-1]) for fields in self.receivers(port))


def join(one: tuple[Namespace, str], other: tuple[Namespace, str]) -> None:
    """Lays a cable between two hosts, each given with the name its end gets."""
    (host, end), (far_host, far_end) = one, other
    host.ip(f"link add {end} type veth peer name {far_end} netns {far_host.name}")


def remove(name: str) -> None:
    """Ends what still runs in a namespace of the tests and deletes it."""
    if not (FOLDER / name).exists():
        return

    def occupants() -> list[int]:
        listing = subprocess.run(
            ["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
        # The test run itself is listed through its threads, never as a process.
        return [int(pid) for pid in listing.stdout.split() if int(pid) != os.getpid()]

    for pid in occupants():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_until(lambda: not occupants(), f"the processes in {name} to end")
    done = subprocess.run(
        ["ip", "netns", "delete", name], capture_output=True, text=True, check=False)
    # What an earlier run left, another run may sweep away at the same time.
    assert done.returncode == 0 or not (FOLDER / name).exists(), done.stderr


def sweep() -> None:
    """Removes what test runs left behind that ended without cleaning up."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        match = re.match(rf"{PREFIX}(\d+)-", path.name)
        if match and not _lives(int(match[1])):
            remove(path.name)


def _lives(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to take notice has ended."""
    try:
        state = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
