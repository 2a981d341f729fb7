"""What servers answer to ASSOCIATE, and how they end it: each works, or is refused with its reason."""

import threading

import pytest

from harness import upstreams
from harness.datagrams import Endpoint, Speaker, ask, fate
from harness.relaying import COMMAND_NOT_SUPPORTED, Association, Relaying, encode_address
from harness.scripted import Behaviour, ScriptedUpstream
from harness.sluice import Capture, Sluice
from harness.topology import ADDRESSES, Topology
from harness.waiting import wait_until

pytestmark = pytest.mark.usefixtures("errors_at_any_rate")

PORT = 4242

UPSTREAM = upstreams.url(ADDRESSES["ipv4"].proxy)

#: What may stand in a reply beside the address that the relay has for the client.
BOUND = {
    "own": None,
    "unspecified-ipv4": encode_address("0.0.0.0"),
    "unspecified-ipv6": encode_address("::"),
    "private": encode_address("10.1.2.3"),
    "loopback": encode_address("127.0.0.1"),
    "private-ipv6": encode_address("fd00::1"),
    "mapped": encode_address("::ffff:0.0.0.0"),
    "name": encode_address("relay.example"),
    "empty-name": encode_address(""),
    "longest-name": encode_address("n" * 255),
    "other-family-ipv4": encode_address(ADDRESSES["ipv4"].proxy),
    "other-family-ipv6": encode_address(ADDRESSES["ipv6"].proxy),
}


def wildcard(family: str) -> Endpoint:
    return ("::" if family == "ipv6" else "0.0.0.0"), 0


def check_echo(topology: Topology, scripted: ScriptedUpstream, family: str) -> Association:
    """A new flow gets its answer, by an association of its own; returns that."""
    at = ADDRESSES[family]
    known = len(scripted.used())
    assert ask(topology, family, PORT, b"well?") == b"well?"
    (association,) = scripted.used()[known:]
    assert association.strangers == []
    (datagram,) = association.datagrams
    assert (datagram.destination, datagram.payload) == ((at.server, PORT), b"well?")
    assert datagram.header[:3] == bytes(3)
    return association


@pytest.mark.parametrize("control", ADDRESSES)
@pytest.mark.parametrize("bound", BOUND)
def test_bound_address(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream, control: str, bound: str
) -> None:
    scripted.behaviour = Behaviour(relaying=Relaying(bound=BOUND[bound]))
    upstream = upstreams.url(ADDRESSES[control].proxy)
    with Sluice.capturing(topology, scope, upstream) as sluice:
        sluice.wait_for_relaying()
        for family in ADDRESSES:
            association = check_echo(topology, scripted, family)
            # Never the target's address, nor an interface's: zeros of the connection's family.
            assert association.requested == wildcard(control)
        assert sluice.dropped() == {}


class TestRelayAddressByOption:
    """`--udp-relay`."""

    def run(
        self, topology: Topology, scope: Capture, scripted: ScriptedUpstream, relay: str,
        **behaviour: object,
    ) -> bool:
        """Whether datagrams get to the relay and back."""
        scripted.behaviour = Behaviour(relaying=Relaying(**behaviour))  # type: ignore[arg-type]
        used = len(scripted.used())
        with Sluice.capturing(topology, scope, UPSTREAM, "--udp-relay", relay):
            try:
                return ask(topology, "ipv4", PORT, timeout=2) == b"hello"
            except TimeoutError:
                assert len(scripted.used()) == used
                return False

    def test_reported(
        self, topology: Topology, scope: Capture, scripted: ScriptedUpstream
    ) -> None:
        private = encode_address("10.1.2.3")
        assert self.run(topology, scope, scripted, "reported")
        assert not self.run(topology, scope, scripted, "reported", bound=private)
        assert self.run(topology, scope, scripted, "auto", bound=private)

    def test_control(
        self, topology: Topology, scope: Capture, scripted: ScriptedUpstream
    ) -> None:
        # A good address, but not where the server's relay is.
        elsewhere = encode_address(ADDRESSES["ipv4"].server)
        assert self.run(topology, scope, scripted, "control", bound=elsewhere)
        assert not self.run(topology, scope, scripted, "reported", bound=elsewhere)

    def test_learnt(
        self, topology: Topology, scope: Capture, scripted: ScriptedUpstream
    ) -> None:
        """Nothing comes back from where the server says, so that the next association tries the other
        address, and those after it keep to what works."""
        elsewhere = encode_address(ADDRESSES["ipv4"].server)
        scripted.behaviour = Behaviour(relaying=Relaying(bound=elsewhere))
        options = ["--udp-unreplied-timeout", "1", "--workers", "1"]
        with Sluice.capturing(topology, scope, UPSTREAM, *options) as sluice:
            sluice.wait_for_relaying()
            with pytest.raises(TimeoutError):
                ask(topology, "ipv4", PORT, timeout=0.5)
            sluice.wait_for_status("associations", 0)
            for _ in range(3):
                assert ask(topology, "ipv4", PORT) == b"hello"

    def test_given(
        self, topology: Topology, scope: Capture, scripted: ScriptedUpstream
    ) -> None:
        private, proxy = encode_address("10.1.2.3"), ADDRESSES["ipv4"].proxy
        assert self.run(topology, scope, scripted, proxy, bound=private)
        assert self.run(
            topology, scope, scripted, f"{proxy}:3333", bound=private, bound_port=9, port=3333)
        assert not self.run(
            topology, scope, scripted, f"{proxy}:3334", bound=private, bound_port=9, port=3333)


def test_control_connection_closed(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream, family: str
) -> None:
    """The association ends with it; the same socket's next datagram makes another."""
    to = ADDRESSES[family].server, PORT
    with Sluice.capturing(topology, scope, UPSTREAM) as sluice, \
            Speaker.of(topology, family) as speaker:
        sluice.wait_for_relaying()
        descriptors = len(sluice.descriptors())
        for number in range(1, 6):
            text = f"number {number}".encode()
            assert speaker.ask(text, to) == text
            assert len(scripted.used()) == number
            assert sluice.status()["associations"] == 1
            scripted.used()[-1].hang_up()
            sluice.wait_for_status("associations", 0)
        wait_until(
            lambda: len(sluice.descriptors()) <= descriptors, "the descriptors to be closed")
        assert sluice.dropped() == {}


def test_control_connection_closed_by_the_server_at_once(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream
) -> None:
    """It grants and hangs up, again and again: nothing works, and nothing runs in circles."""
    to = ADDRESSES["ipv4"].server, PORT
    datagrams = 10
    with Sluice.capturing(topology, scope, UPSTREAM) as sluice:
        sluice.wait_for_relaying()
        scripted.behaviour = Behaviour(relaying=Relaying(close_after=0))
        known = len(scripted.associations)
        with Speaker.of(topology, "ipv4") as speaker:
            for number in range(datagrams):
                tried = len(scripted.associations)

                def another() -> bool:
                    # What goes into an association that has just ended is lost.
                    speaker.send(b"hello", to)
                    return len(scripted.associations) > tried

                wait_until(another, f"association {number}", interval=0.2)
            sluice.wait_for_status("associations", 0)
            assert len(scripted.associations) - known <= 4 * datagrams
            scripted.behaviour = Behaviour()
            speaker.send(b"and now?", to)
            # A greeting that was still under way may be answered before.
            while (answer := speaker.receive()) == (b"hello", to):
                pass
            assert answer == (b"and now?", to)


REFUSALS = {
    "not-supported": Relaying(reply=COMMAND_NOT_SUPPORTED),
    "closes": Relaying(reply=None),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_refused_from_the_start(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream, family: str, refusal: str
) -> None:
    """Told once with its reason, and the kernel refuses at once."""
    scripted.behaviour = Behaviour(relaying=REFUSALS[refusal])
    with Sluice.capturing(topology, scope, UPSTREAM) as sluice:
        status = sluice.wait_for_status("udp", "refused")
        assert status["dns"] == "tcp"
        asked = len(scripted.conversations)
        with sluice.stopped():
            for _ in range(3):
                end = fate(topology.client, (ADDRESSES[family].server, PORT))
                assert end.outcome == "ECONNREFUSED"
        assert len(scripted.conversations) == asked, "nobody asks the server again and again"
        (event,) = sluice.events("datagrams_refused")
        assert "relays no datagrams" in event["message"]


def test_refused_later(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream, family: str
) -> None:
    """By a server that has been started anew with other settings."""
    to = ADDRESSES[family].server, PORT
    with Sluice.capturing(topology, scope, UPSTREAM) as sluice:
        sluice.wait_for_relaying()
        check_echo(topology, scripted, family)
        scripted.behaviour = Behaviour(relaying=Relaying(reply=COMMAND_NOT_SUPPORTED))
        with Speaker.of(topology, family) as speaker:
            speaker.send(b"hello", to)
            sluice.wait_for_status("udp", "refused")
        sluice.wait_for("datagrams_refused")
        wait_until(
            lambda: fate(topology.client, to, 1).outcome == "ECONNREFUSED", "UDP to be refused")
        with sluice.stopped():
            assert fate(topology.client, to).outcome == "ECONNREFUSED"


def test_reply_that_never_comes(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream
) -> None:
    """Its timeout ends it; what waited is counted as lost, and the next flow works."""
    at = ADDRESSES["ipv4"]
    options = ["--handshake-timeout", "1"]
    with Sluice.capturing(topology, scope, UPSTREAM, *options) as sluice:
        sluice.wait_for_relaying()
        gate = threading.Event()
        scripted.behaviour = Behaviour(relaying=Relaying(gate=gate))
        try:
            with Speaker.of(topology, "ipv4") as speaker:
                speaker.send(b"hello", (at.server, PORT))
                wait_until(
                    lambda: sluice.dropped().get("no_association") == 1, "the datagram to be lost")
                assert speaker.pending() == 0
        finally:
            gate.set()
        sluice.wait_for_status("associations", 0)
        scripted.behaviour = Behaviour()
        check_echo(topology, scripted, "ipv4")


def test_wrong_credentials_are_no_refusal_of_udp(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream
) -> None:
    """A general failure of one association says nothing about the next."""
    at = ADDRESSES["ipv4"]
    with Sluice.capturing(topology, scope, UPSTREAM) as sluice:
        sluice.wait_for_relaying()
        scripted.behaviour = Behaviour(relaying=Relaying(reply=1))
        with Speaker.of(topology, "ipv4") as speaker:
            speaker.send(b"hello", (at.server, PORT))
            wait_until(
                lambda: sluice.dropped().get("no_association") == 1, "the datagram to be lost")
        scripted.behaviour = Behaviour()
        check_echo(topology, scripted, "ipv4")
        assert sluice.status()["udp"] == "relayed"


@pytest.mark.parametrize("option", ["--udp-timeout", "--udp-unreplied-timeout"])
def test_idle_association_ends(
    topology: Topology, scope: Capture, scripted: ScriptedUpstream, option: str
) -> None:
    """One that is answered lives by one timeout, one that is not by the other."""
    answered = option == "--udp-timeout"
    other = "--udp-unreplied-timeout" if answered else "--udp-timeout"
    scripted.behaviour = Behaviour(relaying=Relaying(silent=not answered))
    options = [option, "1", other, "600"]
    with Sluice.capturing(topology, scope, UPSTREAM, *options) as sluice, \
            Speaker.of(topology, "ipv4") as speaker:
        sluice.wait_for_relaying()
        speaker.send(b"hello", (ADDRESSES["ipv4"].server, PORT))
        association = wait_until(lambda: scripted.used(), "the datagram")[0]
        if answered:
            assert speaker.receive()[0] == b"hello"
        assert association.over.wait(10), "the association has not ended"
        sluice.wait_for_status("associations", 0)
        # And is made anew.
        speaker.send(b"again", (ADDRESSES["ipv4"].server, PORT))
        wait_until(lambda: len(scripted.used()) == 2, "another association")
