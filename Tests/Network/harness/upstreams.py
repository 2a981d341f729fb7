"""Servers that nobody here wrote, on the proxy host: Dante, microsocks, ssh -D and tinyproxy.

Each is a context manager that gets a host and a folder for its files; all listen on PORT, on the
proxy's address of either family, unless said otherwise.
"""

import contextlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator

from .namespaces import Namespace
from .programs import Program
from .sluice import Capture
from .topology import ADDRESSES

PORT = 1080

USER, PASSWORD = "sluice", "pass:word@1"


def url(
    address: str, port: int = PORT, credentials: tuple[str, str] | None = None,
    scheme: str = "socks5",
) -> str:
    """The upstream's URL; user and password are percent-encoded."""
    encode: Callable[[str], str] = lambda text: "".join(f"%{byte:02X}" for byte in text.encode())
    login = "" if credentials is None else ":".join(map(encode, credentials)) + "@"
    return f"{scheme}://{login}{f'[{address}]' if ':' in address else address}:{port}"


@dataclass(frozen=True)
class Carrier:
    """A server that carries UDP."""

    name: str
    url: str

    def exit(self, capture: Capture, family: str) -> str:
        """Whom the target sees."""
        at = ADDRESSES[family]
        if self.url != "embedded":
            return at.proxy_exit
        return at.client if capture.scope == "machine" else at.gateway_wan


DANTE = """
logoutput: stderr
internal: {ipv4} port = {port}
internal: {ipv6} port = {port}
external.protocol: ipv4 ipv6
external: far0
socksmethod: none
clientmethod: none
user.privileged: root
user.unprivileged: nobody
timeout.connect: 1
client pass {{ from: 0/0 to: 0/0 }}
socks pass {{ from: 0/0 to: 0/0 command: connect udpassociate }}
socks pass {{ from: 0/0 to: 0/0 command: udpreply }}
"""


@contextlib.contextmanager
def dante(host: Namespace, folder: Path) -> Iterator[Program]:
    """Debian's dante-server, on both families. Gives up after 1 s a target that does not answer."""
    configuration = folder / "danted.conf"
    addresses = {family: at.proxy for family, at in ADDRESSES.items()}
    configuration.write_text(DANTE.format(port=PORT, **addresses))
    with Program(host, "danted", "-f", str(configuration)) as program:
        program.wait_for_port(PORT, sockets=2)
        yield program


@contextlib.contextmanager
def microsocks(
    host: Namespace, _folder: Path | None = None, credentials: tuple[str, str] | None = None,
    address: str = "::", port: int = PORT,
) -> Iterator[Program]:
    """Debian's microsocks, which hangs on a pipelined greeting; asks for credentials if given."""
    login = [] if credentials is None else ["-u", credentials[0], "-P", credentials[1]]
    command = ["microsocks", "-i", address, "-p", str(port), *login]
    with Program(host, *command) as program:
        program.wait_for_port(port)
        yield program


TINYPROXY = """
User nobody
Port {port}
Timeout 60
LogLevel Info
MaxClients 500
"""

#: Where HTTP proxies listen.
HTTP_PORT = 8080


@contextlib.contextmanager
def tinyproxy(
    host: Namespace, folder: Path, credentials: tuple[str, str] | None = None
) -> Iterator[Program]:
    """Debian's tinyproxy, on HTTP_PORT of both families; asks for credentials if given."""
    configuration = folder / "tinyproxy.conf"
    login = "" if credentials is None else f"BasicAuth {credentials[0]} {credentials[1]}\n"
    configuration.write_text(TINYPROXY.format(port=HTTP_PORT) + login)
    with Program(host, "tinyproxy", "-d", "-c", str(configuration)) as program:
        program.wait_for_port(HTTP_PORT, sockets=2)
        yield program


SSHD = """
ListenAddress {address}
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
AllowTcpForwarding yes
"""

SSHD_PORT = 2022

#: Who runs sshd and logs in. Not root, whose login may be locked, and for whom sshd wants a folder
#: under /run that exists only where the service has run.
LOGIN = "nobody"


@contextlib.contextmanager
def openssh(
    host: Namespace, folder: Path, client: Namespace | None = None
) -> Iterator[Program]:
    """`ssh -D` into an sshd on the same host, with keys made for it; or on a client of that host,
    where it listens on localhost alone, as usual."""
    entrance = ADDRESSES["ipv4"].proxy if client else "127.0.0.1"
    for key in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)], check=True)
    shutil.chown(folder / "host", LOGIN)
    (folder / "sshd.conf").write_text(SSHD.format(
        address=entrance, port=SSHD_PORT, folder=folder))
    # sshd insists on being called by its absolute path.
    sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin")
    assert sshd, "openssh-server is not installed"
    # Without a look into /etc/shadow it takes every account for a locked one.
    serve = [
        "setpriv", "--reuid", LOGIN, "--regid", "nogroup", "--groups", "shadow", "--",
        sshd, "-D", "-e", "-f", str(folder / "sshd.conf"),
    ]
    connect = [
        "ssh", "-N", "-F", "none", "-i", str(folder / "user"), "-p", str(SSHD_PORT),
        "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known",
        "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR",
        "-o", "ExitOnForwardFailure=yes",
    ]
    places = ("127.0.0.1", "::1") if client else [at.proxy for at in ADDRESSES.values()]
    for place in places:
        connect += ["-D", url(place).removeprefix("socks5://")]
    with Program(host, *serve, name="sshd") as server:
        server.wait_for_port(SSHD_PORT)
        with Program(client or host, *connect, f"{LOGIN}@{entrance}") as program:
            program.wait_for_port(PORT, sockets=2)
            yield program


#: The servers by name, as they appear in the names of the tests.
SERVERS: dict[str, Callable[[Namespace, Path], contextlib.AbstractContextManager[Program]]] = {
    "dante": dante,
    "microsocks": microsocks,
    "openssh": openssh,
}
