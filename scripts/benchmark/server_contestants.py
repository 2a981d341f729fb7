"""SOCKS5 servers beside each other: the client speaks to one on the gateway, which goes on directly."""

import contextlib
import json
import subprocess

from benchmark.arena import CLIENT_NETWORK, GATEWAY_LAN, GATEWAY_WAN
from benchmark.contestants import Contestant, first_line
from benchmark.row import Setup
from lib.netns import wait_until

PORT = 1080


class Server(Contestant):
    """A SOCKS5 server without authentication, as its users start it."""

    # Of the target's side: nobody comes to it by SOCKS.
    through_socks = False
    socks_server = GATEWAY_LAN, PORT
    is_peer = True
    groups = ("idle", "bulk", "connections", "round-trips", "udp")

    def arguments(self, arena):
        """The command that starts it, its configuration file written to the arena's folder."""
        raise NotImplementedError

    @contextlib.contextmanager
    def running(self, arena, setup=Setup()):
        process = arena.lab.spawn(
            arena.gateway, *self.arguments(arena), env=arena.environment(setup),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: arena.gateway.listens(PORT), f"{self.name} to listen")
            yield process.pid
        finally:
            arena.lab.stop(process)


class SluiceServe(Server):
    """The embedded server on its own."""

    is_peer = False

    def __init__(self, binary):
        super().__init__("serve-sluice", "sluice serve")
        self._binary = binary

    def arguments(self, arena):
        return (
            self._binary, "serve", "--listen", f"{GATEWAY_LAN}:{PORT}",
            "--allow-client", CLIENT_NETWORK)

    def version(self):
        return first_line(self._binary, "--version")


class Microsocks(Server):
    """Debian's microsocks: one thread per connection, TCP alone."""

    takes_datagrams = False

    def __init__(self):
        super().__init__("serve-microsocks", "microsocks")

    def arguments(self, arena):
        return "microsocks", "-i", GATEWAY_LAN, "-p", str(PORT)

    def version(self):
        return "microsocks"


class Dante(Server):
    """Debian's dante-server: several processes, which hand connections to each other."""

    takes_datagrams = False

    def __init__(self):
        super().__init__("serve-dante", "Dante")

    def arguments(self, arena):
        file = arena.folder / "danted.conf"
        file.write_text(f"""
logoutput: /dev/null
internal: {GATEWAY_LAN} port = {PORT}
external: {GATEWAY_WAN}
socksmethod: none
clientmethod: none
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 }}
""")
        return "danted", "-f", str(file)

    def version(self):
        return first_line("danted", "-v")


class SingBoxServer(Server):
    """sing-box with a SOCKS inbound."""

    def __init__(self, binary):
        super().__init__("serve-sing-box", "sing-box")
        self._binary = binary

    def arguments(self, arena):
        file = arena.folder / "sing-box-server.json"
        file.write_text(json.dumps({
            "log": {"level": "error"},
            "inbounds": [{"type": "socks", "listen": GATEWAY_LAN, "listen_port": PORT}],
            "outbounds": [{"type": "direct"}],
        }))
        return self._binary, "run", "-D", str(arena.folder), "-c", str(file)

    def version(self):
        return first_line(self._binary, "version")
