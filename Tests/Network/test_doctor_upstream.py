"""`sluice doctor` names what is amiss with an upstream, and nothing else."""

import json

import pytest

from harness import upstreams
from harness.doctor import assert_only, examine
from harness.scripted import Behaviour, ScriptedUpstream
from harness.topology import ADDRESSES, Topology

PROXY = ADDRESSES["ipv4"].proxy
UPSTREAM = upstreams.url(PROXY)


def test_dead_upstream(topology: Topology) -> None:
    result = examine(topology.client, upstreams.url(PROXY, 1))
    assert_only(result, "upstream", "failure", "connection refused", "start the SOCKS5 server")


def test_name_that_does_not_resolve(topology: Topology) -> None:
    result = examine(topology.client, "socks5://no-such-host.invalid:1080")
    assert_only(result, "upstream", "failure", "no-such-host.invalid", "address instead")


#: Servers that cannot be used, and words of what is said about them.
UNUSABLE: dict[str, tuple[Behaviour, tuple[str, ...]]] = {
    "hangs": (Behaviour(at_greeting="silence"), ("does not answer", "SOCKS5 server")),
    "closes": (Behaviour(at_greeting="close"), ("closed", "log")),
    "not-socks": (Behaviour(version=ord("H")), ("not a SOCKS5 server", "check that address")),
    "no-method": (Behaviour(method=0xFF), ("authentication methods", "user and password")),
}


@pytest.mark.parametrize("fault", UNUSABLE)
def test_unusable_upstream(topology: Topology, fault: str) -> None:
    behaviour, words = UNUSABLE[fault]
    with ScriptedUpstream(topology.proxy, behaviour):
        result = examine(topology.client, UPSTREAM)
    assert_only(result, "upstream", "failure", *words)


def test_password_rejected(topology: Topology) -> None:
    url = upstreams.url(PROXY, credentials=("sluice", "secret-word"))
    right = upstreams.USER, upstreams.PASSWORD
    with upstreams.microsocks(topology.proxy, credentials=right):
        result = examine(topology.client, url)
    assert_only(result, "upstream", "failure", "rejected the user name", "correct user and password")
    assert "secret-word" not in json.dumps(result)


def test_upstream_without_udp(topology: Topology) -> None:
    with upstreams.microsocks(topology.proxy):
        result = examine(topology.client, UPSTREAM)
    assert_only(result, "upstream_udp", "warning", "no UDP", "--udp reject")


def test_upstream_without_ipv6(topology: Topology) -> None:
    with ScriptedUpstream(topology.proxy, Behaviour(refusal=8)):
        result = examine(topology.client, UPSTREAM)
    assert_only(result, "upstream_ipv6", "warning", "IPv6", "--ipv6 reject")
