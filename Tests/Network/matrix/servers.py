"""The proxies of the matrix: how each is started on the proxy host, and how it is spoken to.

All listen on the proxy's address, are asked over IPv4, and resolve names by the resolver on the
server. What they need more than their defaults to listen there is in their settings, and nothing
that would give or take an ability.
"""

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

from harness import kerberos, upstreams
from harness.datagrams import Endpoint
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import binary
from harness.topology import ADDRESSES, Topology
from harness.upstreams import HTTP_PORT, PASSWORD, PORT, USER

from .wire import HTTP, SOCKS4, SOCKS5, Dialect

AT = ADDRESSES["ipv4"]

CREDENTIALS = (USER, PASSWORD)

#: For tinyproxy, whose settings have neither quotes nor colons in a password.
PLAIN_CREDENTIALS = (USER, "password1")

#: Runs a command with files of its own in /etc, which nobody else sees.
SETTING = """
for file in "$0"/*; do mount --bind "$file" "/etc/${file##*/}" || exit; done
exec "$@"
"""


class Furnished(Namespace):
    """A host of the topology, whose programs see files of their own in /etc: resolv.conf at least."""

    def __init__(self, host: Namespace, folder: Path) -> None:
        # The same host: nothing is made anew, and nothing is to be closed.
        self.name, self._inside = host.name, host._inside
        self._etc = folder / "etc"
        self._etc.mkdir()
        (self._etc / "resolv.conf").write_text(f"nameserver {AT.server}\n")

    def command(self, *words: str) -> list[str]:
        return super().command(
            "unshare", "--mount", "--propagation", "private", "--",
            "sh", "-c", SETTING, str(self._etc), *words)

    def enrol(self, user: str, password: str) -> None:
        """Gives the host a user who can log in, by passwd(5) and shadow(5)."""
        digest = subprocess.run(
            ["openssl", "passwd", "-6", password], capture_output=True, text=True, check=True)
        for name, line in (
            ("passwd", f"{user}:x:54321:54321::/:/usr/sbin/nologin"),
            ("shadow", f"{user}:{digest.stdout.strip()}:20000:0:99999:7:::"),
        ):
            original, copy = Path("/etc", name), self._etc / name
            copy.write_text(f"{original.read_text()}{line}\n")
            copy.chmod(original.stat().st_mode)


@dataclass
class Running:
    """A server that takes clients, and what belongs to it."""

    dialect: Dialect
    environment: dict[str, str] = field(default_factory=dict)
    """For clients: where their ticket is."""


@dataclass(frozen=True)
class Server:
    """A row of the matrix."""

    name: str
    title: str
    version: Callable[[], str]
    """The version of the program; empty where it is not installed."""
    start: Callable[["Server", Topology, Path], contextlib.AbstractContextManager[Running]]
    dialect: Dialect = SOCKS5()
    scheme: str = "socks5"
    port: int = PORT
    query: str = ""
    """Behind the address in its URL."""

    @property
    def endpoint(self) -> Endpoint:
        return AT.proxy, self.port

    @property
    def credentials(self) -> tuple[str, str] | None:
        return getattr(self.dialect, "credentials", None)

    @property
    def url(self) -> str:
        """As Sluice is told."""
        return upstreams.url(AT.proxy, self.port, self.credentials, self.scheme) + self.query


def debian(package: str) -> Callable[[], str]:
    """The upstream part of a package's version."""
    def version() -> str:
        done = subprocess.run(
            ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", package],
            capture_output=True, text=True, check=False)
        state, _, text = done.stdout.partition(" ")
        return re.sub(r"^\d+:|[+~-].*$", "", text) if state == "installed" else ""

    return version


def printed(*command: str) -> Callable[[], str]:
    """The first number with a dot that a program prints of itself."""
    def version() -> str:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return ""
        found = re.search(r"\d+\.[\w.]*\w", done.stdout)
        return found[0] if found else ""

    return version


def from_pypi(variable: str, *words: str) -> Callable[[], str]:
    """Of a program whose path scripts/matrix hands over in the environment."""
    return lambda: printed(os.environ.get(variable, ""), *words)()


@contextlib.contextmanager
def running(
    server: Server, host: Namespace, *command: str, sockets: int = 1, env: dict[str, str] | None = None
) -> Iterator[Running]:
    """A server that is one program."""
    with Program(host, *command, env=env) as program:
        program.wait_for_port(server.port, sockets)
        yield Running(server.dialect)


DANTE = """
logoutput: stderr
internal: {ipv4} port = {port}
internal: {ipv6} port = {port}
external.protocol: ipv4 ipv6
external: far0
socksmethod: {method}
clientmethod: none
user.privileged: root
user.unprivileged: nobody
timeout.connect: 1
client pass {{ from: 0/0 to: 0/0 {known} }}
socks pass {{ from: 0/0 to: 0/0 command: bind connect udpassociate }}
socks pass {{ from: 0/0 to: 0/0 command: bindreply udpreply }}
"""

KNOWN_BY_TICKET = """
  socksmethod: gssapi
  gssapi.servicename: {service}
  gssapi.keytab: {keytab}
  gssapi.enctype: clear integrity confidentiality
"""


def dante_settings(folder: Path, method: str, known: str = "") -> str:
    path = folder / "danted.conf"
    addresses = {family: at.proxy for family, at in ADDRESSES.items()}
    path.write_text(DANTE.format(port=PORT, method=method, known=known, **addresses))
    return str(path)


@contextlib.contextmanager
def dante(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    host = Furnished(topology.proxy, folder)
    method = "none"
    if server.credentials:
        host.enrol(*server.credentials)
        method = "username"
    settings = dante_settings(folder, method)
    with running(server, host, "danted", "-f", settings, sockets=2) as one:
        yield one


@contextlib.contextmanager
def dante_gssapi(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    from .protected import GSSAPISOCKS5  # which not everybody has installed who runs the tests

    place = folder / "realm"
    place.mkdir(mode=0o755)
    with kerberos.realm(topology.proxy, place) as realm:
        known = KNOWN_BY_TICKET.format(service=kerberos.SERVICE, keytab=realm.keytab)
        settings = dante_settings(folder, "gssapi", known)
        environment = realm.environment | {"KRB5_KTNAME": str(realm.keytab)}
        client = {
            name: value for name, value in realm.ticket("ticket").items()
            if name in ("KRB5_CONFIG", "KRB5CCNAME")}
        for name in "krb5.conf", "ticket":
            (place / name).chmod(0o644)
        # The library of our own client looks there, too.
        os.environ.update(client)
        dialect = GSSAPISOCKS5(
            host=topology.client, service=f"{kerberos.SERVICE}@{server.endpoint[0]}")
        host = Furnished(topology.proxy, folder)
        with running(
            server, host, kerberos.sockd(), "-f", settings, sockets=2, env=environment
        ):
            yield Running(dialect, client)


def dante_version() -> str:
    return printed(os.environ.get("SLUICE_DANTE", ""), "-v")()


@contextlib.contextmanager
def microsocks(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    with upstreams.microsocks(Furnished(topology.proxy, folder), None, server.credentials):
        yield Running(server.dialect)


@contextlib.contextmanager
def openssh(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    with upstreams.openssh(Furnished(topology.proxy, folder), folder):
        yield Running(server.dialect)


@contextlib.contextmanager
def tinyproxy(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    with upstreams.tinyproxy(Furnished(topology.proxy, folder), folder, server.credentials):
        yield Running(server.dialect)


#: Of ss-server, which is on the same host.
TUNNEL_PORT = 8388


@contextlib.contextmanager
def shadowsocks(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    host = Furnished(topology.proxy, folder)
    common = ["-u", "-k", "secret", "-m", "aes-256-gcm", "-p", str(TUNNEL_PORT), "-s", "127.0.0.1"]
    with Program(host, "ss-server", *common) as far:
        far.wait_for_port(TUNNEL_PORT)
        with running(server, host, "ss-local", *common, "-b", AT.proxy, "-l", str(PORT)) as one:
            yield one


@contextlib.contextmanager
def v2ray(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    settings = folder / "v2ray.json"
    settings.write_text(json.dumps({
        "log": {"loglevel": "error"},
        "inbounds": [{
            "listen": AT.proxy, "port": PORT, "protocol": "socks",
            "settings": {"auth": "noauth", "udp": True, "ip": AT.proxy}}],
        "outbounds": [{"protocol": "freedom"}],
    }))
    host = Furnished(topology.proxy, folder)
    with running(server, host, "v2ray", "-config", str(settings)) as one:
        yield one


@contextlib.contextmanager
def sing_box(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    settings = folder / "sing-box.json"
    settings.write_text(json.dumps({
        "log": {"level": "error"},
        "dns": {"servers": [{"type": "local", "tag": "local"}]},
        "inbounds": [{"type": "socks", "listen": AT.proxy, "listen_port": PORT}],
        "outbounds": [{"type": "direct"}],
        "route": {"default_domain_resolver": "local"},
    }))
    host = Furnished(topology.proxy, folder)
    command = [os.environ["SLUICE_SING_BOX"], "run", "-D", str(folder), "-c", str(settings)]
    with running(server, host, *command) as one:
        yield one


TOR = """
SocksPort {address}:{port}
DataDirectory {folder}/tor
Log notice stderr
SocksTimeout 2
"""


@contextlib.contextmanager
def tor(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    """Without a network behind it: it gives up after 2 s what it has no circuit for."""
    settings = folder / "torrc"
    settings.write_text(TOR.format(address=AT.proxy, port=PORT, folder=folder))
    host = Furnished(topology.proxy, folder)
    command = ["tor", "--defaults-torrc", "/dev/null", "-f", str(settings)]
    with running(server, host, *command) as one:
        yield one


@contextlib.contextmanager
def pproxy(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    listen = f"{server.scheme}://{AT.proxy}:{server.port}"
    host = Furnished(topology.proxy, folder)
    with running(server, host, os.environ["SLUICE_PPROXY"], "-l", listen) as one:
        yield one


SQUID = """
http_port {port}
http_access allow all
pid_filename none
access_log none
cache_log {folder}/cache.log
cache deny all
cache_effective_user nobody
cache_effective_group nogroup
visible_hostname proxy.example
pinger_enable off
connect_timeout 1 second
"""


@contextlib.contextmanager
def squid(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    settings = folder / "squid.conf"
    settings.write_text(SQUID.format(port=HTTP_PORT, folder=folder))
    (folder / "cache.log").touch()
    os.chown(folder / "cache.log", 65534, 65534)
    host = Furnished(topology.proxy, folder)
    with running(server, host, "squid", "-N", "-f", str(settings)) as one:
        yield one


@contextlib.contextmanager
def sluice(server: Server, topology: Topology, folder: Path) -> Iterator[Running]:
    login = []
    if server.credentials:
        user, password = server.credentials
        (folder / "password").write_text(f"{password}\n")
        login = ["--user", user, "--password-file", str(folder / "password")]
    host = Furnished(topology.proxy, folder)
    with running(
        server, host, binary(), "serve", "--listen", f"{AT.proxy}:{PORT}", *login
    ) as one:
        yield one


_dante, _microsocks = debian("dante-server"), debian("microsocks")
_pproxy = from_pypi("SLUICE_PPROXY", "--version")
_password, _old = SOCKS5(CREDENTIALS), SOCKS4()


def our_version() -> str:
    return printed(binary(), "--version")()


#: The rows, in their order.
SERVERS = [
    Server("dante", "Dante", _dante, dante),
    Server("dante-password", "Dante, password", _dante, dante, _password),
    Server(
        "dante-gssapi", "Dante, GSSAPI", dante_version, dante_gssapi, query="?gssapi"),
    Server("dante-socks4", "Dante, SOCKS4", _dante, dante, _old, "socks4a"),
    Server("microsocks", "microsocks", _microsocks, microsocks),
    Server("microsocks-password", "microsocks, password", _microsocks, microsocks, _password),
    Server("openssh", "ssh -D", debian("openssh-client"), openssh),
    Server("openssh-socks4", "ssh -D, SOCKS4", debian("openssh-client"), openssh, _old, "socks4a"),
    Server("shadowsocks", "shadowsocks-libev", debian("shadowsocks-libev"), shadowsocks),
    Server("v2ray", "v2ray", debian("v2ray"), v2ray),
    Server("sing-box", "sing-box", from_pypi("SLUICE_SING_BOX", "version"), sing_box),
    Server("tor", "Tor, no network", debian("tor"), tor),
    Server("pproxy", "pproxy", _pproxy, pproxy),
    Server("pproxy-socks4", "pproxy, SOCKS4", _pproxy, pproxy, _old, "socks4"),
    Server("pproxy-http", "pproxy, HTTP", _pproxy, pproxy, HTTP(), "http", HTTP_PORT),
    Server("tinyproxy", "tinyproxy", debian("tinyproxy"), tinyproxy, HTTP(), "http", HTTP_PORT),
    Server(
        "tinyproxy-password", "tinyproxy, password", debian("tinyproxy"), tinyproxy,
        HTTP(PLAIN_CREDENTIALS), "http", HTTP_PORT),
    Server("squid", "squid", debian("squid"), squid, HTTP(), "http", HTTP_PORT),
    Server("sluice", "sluice serve", our_version, sluice),
    Server("sluice-password", "sluice serve, password", our_version, sluice, _password),
    Server("sluice-socks4", "sluice serve, SOCKS4", our_version, sluice, _old, "socks4a"),
]
