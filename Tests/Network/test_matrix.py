"""The matrix of scripts/matrix, on the few servers that every test run has installed."""

import json
from typing import Iterator

import pytest

from harness.topology import Topology
from matrix.abilities import ABILITIES
from matrix.results import Row, as_json, as_markdown
from matrix.servers import SERVERS
from matrix.through import MEASURES
from matrix.trials import Court

#: A failed connection as a program sees it, and a datagram that a server does not carry.
RESET, UNREACHABLE = "closed (RST)", "refused (ICMP port unreachable)"

NOT_SUPPORTED = "refused (code 7 command not supported)"

#: What is known of them (RFC 1928, and experiments without Sluice), by server.
KNOWN = {
    "dante": {
        "methods": "none", "connect_ipv4": "works", "connect_ipv6": "works", "connect_name": "works",
        "refused_port": "refused (code 5 connection refused)",
        "unreachable": "refused (code 4 host unreachable)",
        "no_route": "refused (code 3 network unreachable)",
        "unknown_name": "refused (code 4 host unreachable)",
        "udp": "works", "udp_ipv6": "works", "udp_name": "works, answers from an IPv4 address",
        "bind": "works", "pipelining": "works", "early_data": "works", "half_close": "works",
    },
    "microsocks": {
        "methods": "none", "connect_ipv4": "works", "connect_ipv6": "works", "connect_name": "works",
        "refused_port": "refused (code 5 connection refused)",
        "unreachable": "refused (code 4 host unreachable)",
        "no_route": "refused (code 3 network unreachable)",
        "unknown_name": "refused (code 1 general failure)",
        "udp": NOT_SUPPORTED, "udp_ipv6": NOT_SUPPORTED, "udp_name": NOT_SUPPORTED,
        "bind": NOT_SUPPORTED, "pipelining": "no answer", "early_data": "lost",
        "half_close": "closed (FIN before the answer)",
    },
    "tinyproxy": {
        "methods": "none", "connect_ipv4": "works", "connect_ipv6": "works", "connect_name": "works",
        "refused_port": "refused (code 500 Unable to connect)",
        "unreachable": "refused (code 500 Unable to connect)",
        "no_route": "refused (code 500 Unable to connect)",
        "unknown_name": "refused (code 500 Unable to connect)",
        "udp": "not offered", "udp_ipv6": "not offered", "udp_name": "not offered",
        "bind": "not offered", "pipelining": "not offered", "early_data": "works",
        "half_close": "closed (FIN before the answer)",
    },
}

THROUGH = {
    "dante": {
        "connect_ipv4": "works", "connect_ipv6": "works", "connect_name": "works",
        "refused_port": RESET, "udp": "works", "udp_ipv6": "works",
        "half_close": "works with propagate",
    },
}
THROUGH["microsocks"] = THROUGH["tinyproxy"] = THROUGH["dante"] | {
    "udp": UNREACHABLE, "udp_ipv6": UNREACHABLE, "half_close": "works with hold"}


@pytest.fixture(scope="module")
def court(topology: Topology) -> Iterator[Court]:
    with Court(topology) as one:
        yield one


@pytest.mark.parametrize("name", KNOWN)
def test_known_abilities(court: Court, name: str) -> None:
    (server,) = [one for one in SERVERS if one.name == name]
    row = court.try_out(server)
    assert {key: str(cell) for key, cell in row.abilities.items()} == KNOWN[name]
    assert {key: str(cell) for key, cell in row.through_sluice.items()} == THROUGH[name]
    assert row.shortcomings() == []
    check_forms(row)


def check_forms(row: Row) -> None:
    """Every cell is in both forms of the matrix."""
    cells = json.loads(json.dumps(as_json([row], "0")))["servers"][0]
    assert list(cells["abilities"]) == [ability.key for ability in ABILITIES]
    assert list(cells["through_sluice"]) == list(MEASURES)
    assert cells["version"]
    text = as_markdown([row], "0")
    for cell in [*row.abilities.values(), *row.through_sluice.values()]:
        assert f" {cell} |" in text
