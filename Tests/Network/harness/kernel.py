"""What the kernel of a host holds that Sluice could leave behind."""

import contextlib
import difflib
from pathlib import Path

from .namespaces import Namespace

COMMANDS = (
    "nft list ruleset",
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
    """Rules, routes and sysctls."""
    state = {command: host.run(*command.split()).stdout for command in COMMANDS}
    for command in ("ip rule", "ip -6 rule"):
        # Ours of one priority look for different marks: their order is nothing.
        state[command] = "".join(sorted(state[command].splitlines(keepends=True)))
    state |= {name: host.read_sysctl(name) for name in SYSCTLS}
    return state | {folder: host.call(_read_all, Path("/proc/sys", folder)) for folder in FOLDERS}


def _read_all(folder: Path) -> str:
    """Every sysctl below a folder, as `name value` lines."""
    lines = []
    for path in sorted(folder.glob("*/*")):
        with contextlib.suppress(OSError):  # some cannot be read before they are written
            lines.append(f"{path.relative_to(folder)} {path.read_text().strip()}")
    return "\n".join(lines)


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
