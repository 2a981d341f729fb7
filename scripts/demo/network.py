"""The demo's little internet.

    client ──lan0── gateway ──wan0──┐
                                 [switch]── proxy (SOCKS5 server)
                                    └────── web (web server)

Without Sluice the client reaches the web server directly, by routing: that is how a leak would show.
"""

import subprocess
from dataclasses import dataclass

from lib.netns import wait_until

HOSTS = ("client", "gateway", "proxy", "web", "switch")


@dataclass(frozen=True)
class Address:
    """The two addresses of one interface. Public-looking ones, since private ones are bypassed."""

    v4: str
    v6: str

    def with_prefix(self):
        return f"{self.v4}/24", f"{self.v6}/64"


CLIENT = Address("11.83.1.2", "2a0f:83:1::2")
GATEWAY_LAN = Address("11.83.1.1", "2a0f:83:1::1")
GATEWAY_WAN = Address("11.83.2.1", "2a0f:83:2::1")
PROXY = Address("11.83.2.2", "2a0f:83:2::2")
WEB = Address("11.83.2.3", "2a0f:83:2::3")

NAMES = {
    address: name
    for name, pair in (("client", CLIENT), ("gateway", GATEWAY_WAN), ("proxy", PROXY), ("web", WEB))
    for address in (pair.v4, pair.v6)
}

SOCKS_PORT = 1080
SOCKS_USER, SOCKS_PASSWORD = "demo", "sesame"
UPSTREAM = f"socks5://{SOCKS_USER}:{SOCKS_PASSWORD}@{PROXY.v4}:{SOCKS_PORT}"


def build(lab):
    """Cables the hosts of the lab and starts the SOCKS5 server, Debian's microsocks."""
    client, gateway, proxy, web, switch = (lab[name] for name in HOSTS)
    switch.ip("link add segment type bridge mcast_snooping 0", "link set segment up")
    lab.cable(client, "lan0", gateway, "lan0")
    for number, host in enumerate((gateway, proxy, web)):
        lab.cable(host, "wan0", switch, f"port{number}")
        switch.ip(f"link set port{number} master segment up")

    client.plug("lan0", *CLIENT.with_prefix())
    gateway.plug("lan0", *GATEWAY_LAN.with_prefix())
    gateway.plug("wan0", *GATEWAY_WAN.with_prefix())
    proxy.plug("wan0", *PROXY.with_prefix())
    web.plug("wan0", *WEB.with_prefix())
    gateway.forward()
    for host, router in ((client, GATEWAY_LAN), (proxy, GATEWAY_WAN), (web, GATEWAY_WAN)):
        host.ip(f"route add default via {router.v4}", f"route add ::/0 via {router.v6}")

    lab.settle()
    lab.spawn(
        proxy, "microsocks", "-i", "::", "-p", str(SOCKS_PORT),
        "-u", SOCKS_USER, "-P", SOCKS_PASSWORD,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: proxy.listens(SOCKS_PORT), "microsocks to listen")
