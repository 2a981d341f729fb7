"""A service that a manager starts again and again."""

import contextlib
import signal
from pathlib import Path
from typing import Iterator

from .namespaces import Namespace
from .notified import ServiceManager, manager
from .sluice import Sluice, binary


class Service:
    """`sluice run` with what its manager has kept of the one before."""

    def __init__(self, service: ServiceManager, host: Namespace, *arguments: str) -> None:
        self.manager = service
        self.host = host
        self.arguments = arguments
        self.ready = 0
        self.starts = contextlib.ExitStack()

    def start(self, *more: str, most: int = 64, is_ready: bool = True) -> Sluice:
        """Started with the arguments, and ready to go on by itself."""
        one = Sluice(
            self.host, *self.arguments, *more, ready=is_ready, env=self.manager.keeping(most),
            within=self.manager.handing_over(), pass_fds=self.manager.inherited())
        self.starts.callback(one.end)
        if is_ready:
            self.ready += 1
            self.manager.wait_for("READY", self.ready)
        return one

    def hand_over(self, one: Sluice) -> None:
        """As the unit does it for a restart: the one signal, and then the manager's own."""
        one.signal(signal.SIGUSR2)
        one.signal(signal.SIGTERM)
        assert one.wait() == 0, one.output()
        assert one.events("handing_over"), one.output()


@contextlib.contextmanager
def restarted(place: Path, host: Namespace, *arguments: str) -> Iterator[Service]:
    """One with a manager at this place; nothing of it is left afterwards."""
    try:
        with manager(place) as one:
            service = Service(one, host, *arguments)
            with service.starts:
                yield service
            one.empty()
    finally:
        host.run(binary(), "rules", "remove")
