"""Waiting for something to become true, always with a deadline."""

import time
from typing import Callable, TypeVar

#: Seconds that anything may take which normally takes milliseconds: a machine under load is slow.
PATIENCE = 20.0

Value = TypeVar("Value")


def wait_until(
    condition: Callable[[], Value], what: str, timeout: float = PATIENCE, interval: float = 0.01
) -> Value:
    """Polls until `condition` gives something true and returns that.

    Raises AssertionError, naming `what`, after `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(interval)
