"""A throw-away Kerberos realm on one host of the tests, and Dante built with GSSAPI, which Debian's
own is not (scripts/lib/dante.sh).
"""

import contextlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from .namespaces import Namespace
from .needs import lack
from .programs import Program
from .topology import ADDRESSES
from .upstreams import PORT
from .waiting import wait_until

NAME = "SLUICE.TEST"
USER, PASSWORD = "user", "secret"
KDC_PORT = 88

#: What Dante proves who it is by, on the address where the tests reach it.
SERVICE = "rcmd"

KRB5_CONF = """
[libdefaults]
  default_realm = {realm}
  dns_lookup_realm = false
  dns_lookup_kdc = false
  dns_canonicalize_hostname = false
  rdns = false
  qualify_shortname = ""
  # Else what has expired is good for another five minutes.
  clockskew = 1
  # By TCP at once: nothing here is ever lost, and a silent port would cost a second.
  udp_preference_limit = 1
[realms]
  {realm} = {{
    kdc = {address}:{port}
  }}
"""

KDC_CONF = """
[kdcdefaults]
  kdc_listen = {address}:{port}
  kdc_tcp_listen = {address}:{port}
[realms]
  {realm} = {{
    database_name = {folder}/principal
    key_stash_file = {folder}/stash
    acl_file = {folder}/acl
    max_renewable_life = 0
  }}
"""

DANTE = """
logoutput: stderr
internal: {address} port = {port}
external.protocol: ipv4 ipv6
external: far0
socksmethod: gssapi
clientmethod: none
user.privileged: root
user.unprivileged: nobody
timeout.connect: 1
client pass {{
  from: 0/0 to: 0/0
  socksmethod: gssapi
  gssapi.servicename: {service}
  gssapi.keytab: {keytab}
  gssapi.enctype: {levels}
}}
socks pass {{
  from: 0/0 to: 0/0
  command: bind connect udpassociate
  socksmethod: gssapi
}}
socks pass {{
  from: 0/0 to: 0/0
  command: bindreply udpreply
}}
"""


def url(service: str = "", levels: str = "", port: int = PORT) -> str:
    """The server on the proxy as an upstream; levels: as in the URL, the best first."""
    query = "?gssapi" + (f"={service}" if service else "")
    return (
        f"socks5://{ADDRESSES['ipv4'].proxy}:{port}{query}"
        + (f"&protection={levels}" if levels else ""))


def program(name: str) -> str:
    """The path of one of MIT's programs, some of which only root has in the path."""
    for folder in ("/usr/sbin", "/usr/bin"):
        if os.access(path := f"{folder}/{name}", os.X_OK):
            return path
    lack(f"{name} is not installed")


def sockd() -> str:
    """The path of Dante with GSSAPI, which scripts/test hands over in the environment."""
    path = os.environ.get("SLUICE_DANTE", "")
    if not os.access(path, os.X_OK):
        lack("there is no Dante with GSSAPI (scripts/lib/dante.sh)")
    return path


@dataclass
class Realm:
    """A realm whose key distribution centre runs on the proxy host."""

    host: Namespace
    folder: Path

    @property
    def keytab(self) -> Path:
        return self.folder / "server.keytab"

    @property
    def environment(self) -> dict[str, str]:
        """For programs that belong to the realm but have no ticket."""
        return os.environ | {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.folder}/none",
        }

    def run(self, *command: str) -> None:
        self.host.run(program(command[0]), *command[1:], env=self.environment)

    def create(self) -> None:
        address = ADDRESSES["ipv4"].proxy
        values = {
            "realm": NAME, "address": address, "port": KDC_PORT, "folder": self.folder}
        (self.folder / "krb5.conf").write_text(KRB5_CONF.format(**values))
        (self.folder / "kdc.conf").write_text(KDC_CONF.format(**values))
        self.run("kdb5_util", "create", "-s", "-P", "master", "-r", NAME)
        self.administer(f"addprinc -pw {PASSWORD} {USER}")
        for service in (f"{SERVICE}/{address}", "other/proxy.example"):
            self.administer(f"addprinc -randkey {service}")
        self.administer(f"ktadd -k {self.keytab} {SERVICE}/{address}")
        self.administer(f"ktadd -norandkey -k {self.folder}/client.keytab {USER}")

    def administer(self, query: str) -> None:
        self.run("kadmin.local", "-q", query)

    def ticket(self, name: str, *options: str) -> dict[str, str]:
        """Gets a ticket as a user would (kinit); the environment in which it is seen."""
        environment = self.environment | {"KRB5CCNAME": f"FILE:{self.folder}/{name}"}
        subprocess.run(
            self.host.command(program("kinit"), *options, USER), env=environment, check=True,
            capture_output=True, text=True, input=f"{PASSWORD}\n")
        return environment

    def expired_ticket(self) -> dict[str, str]:
        """The same, when the time of the ticket is over."""
        environment = self.ticket("expired", "-l", "1s")
        ask = self.host.command(program("kvno"), f"{SERVICE}/{ADDRESSES['ipv4'].proxy}")
        wait_until(
            lambda: subprocess.run(
                ask, env=environment, check=False, capture_output=True).returncode != 0,
            "the ticket to expire")
        return environment

    def by_keytab(self) -> dict[str, str]:
        """The environment of a service that has a key instead of a ticket."""
        return self.environment | {
            "KRB5CCNAME": f"FILE:{self.folder}/by-keytab",
            "KRB5_CLIENT_KTNAME": f"FILE:{self.folder}/client.keytab",
        }


@contextlib.contextmanager
def realm(host: Namespace, folder: Path) -> Iterator[Realm]:
    made = Realm(host, folder)
    made.create()
    command = [program("krb5kdc"), "-n", "-P", str(folder / "kdc.pid")]
    with Program(host, *command, env=made.environment) as kdc:
        kdc.wait_for_port(KDC_PORT)
        yield made


@contextlib.contextmanager
def dante(
    realm: Realm, levels: str = "clear integrity confidentiality", port: int = PORT
) -> Iterator[Program]:
    """Dante on the proxy, for whoever has a ticket.

    levels: the protection levels that it takes, of which the client chooses; "clear" is none.
    """
    configuration = realm.folder / f"danted-{port}.conf"
    configuration.write_text(DANTE.format(
        address=ADDRESSES["ipv4"].proxy, port=port, keytab=realm.keytab, levels=levels,
        service=SERVICE))
    environment = realm.environment | {"KRB5_KTNAME": str(realm.keytab)}
    with Program(
        realm.host, sockd(), "-f", str(configuration), name="sockd", env=environment
    ) as server:
        server.wait_for_port(port)
        yield server
