"""What the kernel of a host holds that Sluice could leave behind."""

import contextlib
import difflib
import os
import subprocess

from .namespaces import Namespace

#: The table of a run.
TABLE = "table inet sluice"

RULESET = "nft list ruleset"

COMMANDS = (
    RULESET,
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
)

#: Sysctls outside of the folders below that a redirector may be tempted to set.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/tcp_fwmark_accept",
    "net/ipv6/ip_nonlocal_bind",
)

#: Sysctls of each interface, of all and of those to come.
FOLDERS = ("net/ipv4/conf", "net/ipv6/conf")


#: Text by where it comes from.
Snapshot = dict[str, str]


def snapshot(host: Namespace) -> Snapshot:
    """Rules, routes and sysctls. Every test takes four of them: so it is one visit, and cheap."""
    return host.call(_snapshot)


def _snapshot() -> Snapshot:
    """That of the host whose thread calls it."""
    state = {
        command: subprocess.check_output(command.split(), text=True) for command in COMMANDS}
    for command in ("ip rule", "ip -6 rule"):
        # Ours of one priority look for different marks: their order is nothing.
        state[command] = "".join(sorted(state[command].splitlines(keepends=True)))
    state |= {name: _read(f"/proc/sys/{name}") for name in SYSCTLS}
    return state | {folder: _read_all(f"/proc/sys/{folder}") for folder in FOLDERS}


def _read_all(folder: str) -> str:
    """Every sysctl of the interfaces in a folder, as `name value` lines."""
    lines = []
    for interface in sorted(os.listdir(folder)):
        for name in sorted(os.listdir(f"{folder}/{interface}")):
            with contextlib.suppress(OSError):  # some cannot be read before they are written
                lines.append(f"{interface}/{name} {_read(f'{folder}/{interface}/{name}')}")
    return "\n".join(lines)


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096).decode().strip()
    finally:
        os.close(descriptor)


def changes(before: Snapshot, after: Snapshot) -> str:
    """What differs, as removed and added lines; empty when nothing does."""
    return "\n".join(
        line
        for source in before
        for line in difflib.unified_diff(
            before[source].splitlines(), after[source].splitlines(), source, source, "before",
            "after", n=0, lineterm=""))


def tables(host: Namespace) -> list[str]:
    """The nftables tables of a host, as in `table inet sluice`."""
    return host.run("nft", "list", "tables").stdout.splitlines()
