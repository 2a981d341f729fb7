"""`sluice run` as a service: what it tells the manager that has started it."""

import contextlib
import os
import signal
from pathlib import Path

import pytest

from harness import kernel
from harness.namespaces import Namespace
from harness.notified import ServiceManager, manager
from harness.sluice import Sluice

#: A run that needs no network.
ARGUMENTS = ("embedded", "--machine")


def running_in(host: Namespace, environment: dict[str, str], *arguments: str) -> Sluice:
    return Sluice(host, *ARGUMENTS, *arguments, env=environment)


class TestMessages:
    def test_ready_and_stopping(self, alone: Namespace, tmp_path: Path) -> None:
        with manager(tmp_path / "notify") as service:
            with running_in(alone, service.environment()) as sluice:
                ready = service.wait_for("READY")
                assert ready["READY"] == "1"
                assert ready["STATUS"].startswith("capturing this machine's TCP (tproxy) and UDP")
                assert "inet sluice" in "\n".join(kernel.tables(alone)), "ready before the rules"
                sluice.finish()
            assert service.wait_for("STOPPING")["STOPPING"] == "1"
            assert [next(iter(message)) for message in service.messages] == ["READY", "STOPPING"]

    def test_abstract_name(self, alone: Namespace) -> None:
        """Abstract names belong to a network namespace, so the manager listens in the host's."""
        place = f"@sluice-tests-notify-{os.getpid()}"
        with contextlib.closing(alone.call(ServiceManager, place)) as service, \
                running_in(alone, service.environment()):
            service.wait_for("READY")

    def test_reload_begins_and_ends(self, alone: Namespace, tmp_path: Path) -> None:
        with manager(tmp_path / "notify") as service, \
                running_in(alone, service.environment()) as sluice:
            service.wait_for("READY")
            sluice.signal(signal.SIGHUP)
            assert int(service.wait_for("RELOADING")["MONOTONIC_USEC"]) > 0
            service.wait_for("READY", 2)
            told = [next(iter(message)) for message in service.messages]
            assert told == ["READY", "RELOADING", "READY"]
            assert sluice.wait_for("reloaded")

    def test_failed_start_is_not_ready(self, alone: Namespace, tmp_path: Path) -> None:
        with manager(tmp_path / "notify") as service:
            sluice = Sluice(
                alone, "socks5://127.0.0.1:1", "--machine", env=service.environment(), ready=False)
            with sluice:
                assert sluice.wait() == 69
            assert service.messages == []

    @pytest.mark.parametrize("place", [
        "/nowhere/at/all", "@sluice-tests-nobody", "relative", "@" + 108 * "x", "/" + 108 * "x"])
    def test_nobody_listens(self, alone: Namespace, place: str) -> None:
        environment = {**os.environ, "NOTIFY_SOCKET": place}
        with running_in(alone, environment, "--log-level", "info") as sluice:
            assert sluice.wait_for("no_service_manager")["level"] == "warning"


class TestWatchdog:
    def test_beats_half_the_period(self, alone: Namespace, tmp_path: Path) -> None:
        with manager(tmp_path / "notify") as service, \
                running_in(alone, service.environment(WATCHDOG_USEC="200000")):
            assert service.wait_for("WATCHDOG", 5)["WATCHDOG"] == "1"
            assert list(service.messages[0]) == ["READY", "STATUS"]

    def test_stopped_process_is_silent(self, alone: Namespace, tmp_path: Path) -> None:
        """The kernel has stopped it before it says nothing; messages on the way have arrived."""
        with manager(tmp_path / "notify") as service, \
                running_in(alone, service.environment(WATCHDOG_USEC="100000")) as sluice:
            service.wait_for("WATCHDOG", 2)
            sluice.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, sluice.pid, os.WSTOPPED | os.WNOWAIT)
            count = len(service.messages)
            with pytest.raises(AssertionError, match="was not told"):
                service.wait_for("WATCHDOG", count + 2, timeout=1)
            sluice.signal(signal.SIGCONT)
            service.wait_for("WATCHDOG", count + 2)

    @pytest.mark.parametrize("variables", [
        {}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"},
    ], ids=["unset", "zero", "no-number", "of-another"])
    def test_no_beat_unasked(
        self, alone: Namespace, tmp_path: Path, variables: dict[str, str]
    ) -> None:
        with manager(tmp_path / "notify") as service, \
                running_in(alone, service.environment(**variables)) as sluice:
            service.wait_for("READY")
            # A turn of the main thread, in which it would beat.
            sluice.status()
            sluice.status()
            assert len(service.messages) == 1
