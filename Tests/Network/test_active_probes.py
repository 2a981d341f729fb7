"""Whether upstreams live is asked without any flow: how often, what for, and what is made of the answer."""

from pathlib import Path
from typing import Any, Iterator

import pytest

from harness import control, upstreams
from harness.control import running
from harness.scripted import Behaviour, Conversation, ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

AT = ADDRESSES["ipv4"]

MACHINE = Capture("machine", "tproxy")

#: On the gateway and the proxy.
URLS = [upstreams.url(address) for address in (AT.gateway_lan, AT.proxy)]

GROUP = [URLS[0], "--upstream", URLS[1]]

OFTEN = ["--probe-interval", "1", "--probe-timeout", "1"]

#: RFC 1928, section 4.
CONNECT = 1

#: Nothing has to be there: the servers only say that it is.
TARGET = "198.51.100.7"

#: What is told of a question that was answered.
ANSWERED = {"age", "milliseconds"}

AT_TARGET = ["--probe-target", f"{TARGET}:443"]


@pytest.fixture
def first(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.gateway) as server:
        yield server


@pytest.fixture
def second(topology: Topology) -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream(topology.proxy) as server:
        yield server


def capturing(topology: Topology, *arguments: str) -> Sluice:
    upstream, *options = arguments
    return Sluice.capturing(topology, MACHINE, upstream, *options)


def flows(server: ScriptedUpstream) -> list[Conversation]:
    """Those that are no questions."""
    return [
        one for one in server.conversations
        if one.command == CONNECT and not one.is_test and one not in server.to(TARGET)]


def test_silent_member_is_out_without_a_flow(
    topology: Topology, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    """It takes connections and says nothing."""
    with capturing(topology, *GROUP, *OFTEN) as sluice:
        first.behaviour = Behaviour(at_greeting="silence")
        down = sluice.wait_for("member_down")
        assert (down["upstream"], down["failure"]) == (URLS[0], "handshake_timeout")
        first.behaviour = Behaviour()
        assert sluice.wait_for("member_up")["upstream"] == URLS[0]
        assert sluice.finish()["sessions_opened"] == 0
    assert flows(first) == flows(second) == []


def test_failures_that_are_tolerated(
    topology: Topology, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    with capturing(topology, *GROUP, *OFTEN, "--probe-failures", "4") as sluice:
        sluice.wait_for("pipelining", 2)
        first.behaviour = Behaviour(at_greeting="close")
        known = len(first.conversations)
        assert sluice.wait_for("member_down")["failure"] == "closed_in_method_selection"
        # One may have begun before.
        assert len(first.conversations) - known >= 3
    assert len(sluice.events("member_down")) == 1


@pytest.mark.parametrize("behaviour, failure", [
    (Behaviour(at_request="silence"), "handshake_timeout"),
    (Behaviour(reply=1), "reply_general_failure"), (Behaviour(reply=2), "reply_not_allowed"),
], ids=["silent", "fails", "forbids"])
def test_member_that_does_not_lead_to_the_target(
    topology: Topology, first: ScriptedUpstream, second: ScriptedUpstream, behaviour: Behaviour,
    failure: str,
) -> None:
    """It lets us in like any other, and is out all the same, until it leads there."""
    with capturing(topology, *GROUP, *OFTEN, *AT_TARGET) as sluice:
        wait_until(lambda: first.to(TARGET) and second.to(TARGET), "questions to both")
        first.behaviour = behaviour
        down = sluice.wait_for("member_down")
        assert (down["upstream"], down["failure"]) == (URLS[0], failure)
        first.behaviour = Behaviour()
        assert sluice.wait_for("member_up")["upstream"] == URLS[0]
    assert len(sluice.events("member_down")) == 1


@pytest.mark.parametrize("behaviour", [
    *(Behaviour(reply=code) for code in (3, 4, 5, 6)), Behaviour(at_request="close"),
], ids=lambda one: f"{one.reply}-{one.at_request}")
def test_target_is_not_held_against_the_member(
    topology: Topology, first: ScriptedUpstream, second: ScriptedUpstream, behaviour: Behaviour
) -> None:
    """Nor is the end of the connection, which is how `ssh -D` says that it cannot connect."""
    with capturing(topology, *GROUP, *OFTEN, *AT_TARGET) as sluice:
        first.behaviour = behaviour
        known = len(first.to(TARGET))
        wait_until(lambda: len(first.to(TARGET)) >= known + 3, "questions")
    assert not sluice.events("member_down")


def test_without_a_target_it_is_enough_to_be_let_in(
    topology: Topology, first: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    with capturing(topology, *GROUP, *OFTEN) as sluice:
        sluice.wait_for("pipelining", 2)
        first.behaviour = Behaviour(refusal=1)
        known = len(first.conversations)
        wait_until(lambda: len(first.conversations) >= known + 3, "questions")
    assert not sluice.events("member_down")
    assert first.to(TARGET) == []


def status(place: Path) -> tuple[dict[str, Any], str]:
    """What it says of the only upstream, and what the rules do."""
    with control.Client(place) as client:
        answer = client.ask({"request": "status"})["status"]
    (one,) = answer["upstreams"]
    return one, answer["rules"]["phase"]


@pytest.mark.parametrize("choice", ["open", "closed"])
def test_lone_upstream(topology: Topology, second: ScriptedUpstream, choice: str) -> None:
    """Without a flow as well; the status tells what came of asking it last."""
    with control.place() as place, running(
            topology.client, place, URLS[1], "--machine", *OFTEN, *AT_TARGET,
            "--on-upstream-down", choice) as sluice:
        wait_until(lambda: second.to(TARGET), "a question")
        assert status(place)[0]["health"] == "up"
        second.behaviour = Behaviour(at_request="silence")
        sluice.wait_for("upstream_down")
        found, phase = status(place)
        assert (found["health"], found["probe"]["failure"]) == ("down", "handshake_timeout")
        assert phase == ("suspended" if choice == "open" else "capturing")
        second.behaviour = Behaviour()
        sluice.wait_for("upstream_up")
        found, phase = status(place)
        assert (found["health"], found["probe"].keys(), phase) == ("up", ANSWERED, "capturing")
    assert flows(second) == []


def test_nobody_watches_a_lone_upstream_unasked(
    topology: Topology, second: ScriptedUpstream
) -> None:
    """What the start has found is told, nevertheless."""
    with control.place() as place, running(topology.client, place, URLS[1], "--machine"):
        found, _ = status(place)
        assert (found["health"], found["probe"].keys()) == ("unknown", ANSWERED)
