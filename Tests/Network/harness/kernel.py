"""What the kernel of a host holds that Sluice could leave behind."""

from .namespaces import Namespace

COMMANDS = (
    "nft list ruleset",
    "ip rule",
    "ip -6 rule",
    "ip route show table all",
    "ip -6 route show table all",
)

#: Sysctls that a redirector may be tempted to set.
SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/src_valid_mark",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv4/conf/all/accept_local",
    "net/ipv4/tcp_fwmark_accept",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv6/ip_nonlocal_bind",
)


def snapshot(host: Namespace) -> dict[str, str]:
    """Rules, routes and sysctls, as text, by where they come from."""
    state = {command: host.run(*command.split()).stdout for command in COMMANDS}
    return state | {name: host.read_sysctl(name) for name in SYSCTLS}


def tables(host: Namespace) -> list[str]:
    """The nftables tables of a host, as in `table inet sluice`."""
    return host.run("nft", "list", "tables").stdout.splitlines()
