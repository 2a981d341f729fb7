"""Network namespaces for the demo and the benchmark: hosts, cables, and programs that run on them.

Everything a `Lab` makes bears its prefix and the number of this process, and is gone after its
`with` block; what a killed run left behind is removed when the next one starts.
"""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

# linux/sched.h and linux/prctl.h
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1

RUNTIME = Path("/run/netns")

_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """One host: a named network namespace, its loopback up once it is created."""

    def __init__(self, name):
        self.name = name

    def create(self):
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        with self.entered():
            # Addresses serve at once; waiting for a twin of ours takes a second per interface.
            Path("/proc/sys/net/ipv6/conf/default/accept_dad").write_text("0")
        self.ip("link set lo up")

    def delete(self):
        if (RUNTIME / self.name).exists():
            subprocess.run(["ip", "netns", "del", self.name], check=False)

    def command(self, *argv):
        """The argument vector that runs `argv` on this host. (`ip netns exec` would hide /sys.)"""
        return ["nsenter", f"--net={RUNTIME / self.name}", "--", *argv]

    def run(self, *argv, **options):
        """Runs a command on this host to its end and returns what it printed, as text."""
        options = {"capture_output": True, "text": True, "check": True, "timeout": 30} | options
        return subprocess.run(self.command(*argv), **options)

    def ip(self, *lines):
        """Carries out lines in the syntax of `ip -batch`, in this namespace."""
        script = "\n".join(lines) + "\n"
        subprocess.run(["ip", "-n", self.name, "-batch", "-"], input=script, text=True, check=True)

    def plug(self, interface, *addresses):
        """Brings an interface up with addresses, each with its prefix length."""
        self.ip(
            *(f"addr add {address} dev {interface}{' nodad' if ':' in address else ''}"
              for address in addresses),
            f"link set {interface} up",
        )

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is on this host inside the block: sockets made there belong to it."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(RUNTIME / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
            try:
                yield self
            finally:
                _setns(home)
        finally:
            os.close(there)
            os.close(home)

    def forward(self):
        """Makes this host a router, for both families."""
        with self.entered():
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text("1")

    def listens(self, port):
        """Whether a TCP socket of this host listens on `port`."""
        with self.entered():
            tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6")]
        # Columns of proc(5): number, local address, remote address, state (0A is listening).
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


class Lab:
    """The hosts and programs of one run: `with Lab("sld", "client", "gateway") as lab`."""

    def __init__(self, prefix, *names):
        self._prefix = prefix
        self._names = names
        self._processes = []
        self.hosts = {}

    def __enter__(self):
        sweep(self._prefix)
        try:
            for name in self._names:
                self.hosts[name] = Namespace(f"{self._prefix}{os.getpid()}-{name}")
                self.hosts[name].create()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *_):
        self._remove()

    def __getitem__(self, name):
        return self.hosts[name]

    def cable(self, one, interface, other, other_interface):
        """Joins two hosts by a veth pair that never exists on the machine itself."""
        one.ip(f"link add {interface} type veth peer name {other_interface} netns {other.name}")

    def settle(self):
        """Waits until every cable carries: the kernel takes up to a second to notice one."""
        for host in self.hosts.values():
            wait_until(
                lambda host=host: " state DOWN " not in host.run("ip", "-o", "link").stdout,
                f"the interfaces of {host.name}")

    def spawn(self, host, *argv, **options):
        """Starts a program on a host; it is ended with the lab at the latest."""
        options = {"stdin": subprocess.DEVNULL} | options
        process = subprocess.Popen(
            host.command(*argv), preexec_fn=_die_with_parent, **options)
        self._processes.append(process)
        return process

    def stop(self, process, deadline=5.0):
        """Ends a program by SIGTERM, then by SIGKILL; returns its exit status."""
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(deadline)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process in self._processes:
            self._processes.remove(process)
        return process.returncode

    def _remove(self):
        with signals_blocked():
            for process in reversed(self._processes.copy()):
                self.stop(process, deadline=2.0)
            for host in self.hosts.values():
                host.delete()
            self.hosts.clear()


def sweep(prefix):
    """Removes the namespaces of runs whose process is gone."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)-\w+")
    for path in RUNTIME.glob(prefix + "*") if RUNTIME.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match and not Path("/proc", match[1]).exists():
            Namespace(path.name).delete()


def wait_until(condition, what, deadline=10.0):
    """Polls a condition; raises TimeoutError saying what was awaited when it does not come true."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {deadline:.0f} s in vain for {what}")
        time.sleep(0.01)


def end_on_signals():
    """SIGTERM and SIGHUP end the program as Ctrl-C does: through its `finally` blocks."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))


@contextlib.contextmanager
def signals_blocked():
    """Holds signals back for the block: cleaning up is not to be cut short."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _setns(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _die_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
