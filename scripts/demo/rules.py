"""What the kernel of a host has been told: nftables rules, policy rules, routes, forwarding."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Rules:
    """Everything that Sluice may change on a host, as the tools list it."""

    ruleset: str
    policy: str
    routes: str
    forwarding: str

    @classmethod
    def of(cls, host):
        with host.entered():
            forwarding = [
                Path("/proc/sys/net", name).read_text().strip()
                for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
            ]
        return cls(
            ruleset=host.run("nft", "list", "ruleset").stdout,
            policy=host.run("ip", "-4", "rule").stdout + host.run("ip", "-6", "rule").stdout,
            routes=_steady(
                host.run("ip", "-4", "route", "show", "table", "all").stdout
                + host.run("ip", "-6", "route", "show", "table", "all").stdout),
            forwarding=" ".join(forwarding),
        )

    def describe(self, before=None):
        """A few words: which tables, and what else differs from `before`."""
        tables = [
            line.partition(" {")[0] for line in self.ruleset.splitlines()
            if line.startswith("table ")
        ]
        words = [", ".join(tables) + f" ({len(self.ruleset.splitlines())} lines)" if tables
                 else "no nftables rule"]
        if before is not None:
            words += [
                f"{len(now.splitlines()) - len(then.splitlines()):+d} {name}"
                for name, now, then in (
                    ("ip rules", self.policy, before.policy),
                    ("routes", self.routes, before.routes))
                if now != then
            ]
            if self == before:
                words.append("all as before")
        return "; ".join(words)


def _steady(listing):
    """Routes without what the kernel itself changes with time: its cached and expiring entries."""
    return "\n".join(
        line for line in listing.splitlines() if "expires" not in line and " cache" not in line)
