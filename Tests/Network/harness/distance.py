"""A long way between two hosts: whatever goes over it takes a while."""

import fcntl
import os
import queue
import selectors
import struct
import threading
import time
from typing import Any

from .namespaces import Namespace

#: linux/if_tun.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

#: Of the largest packet.
MTU = 65000


class LongWay:
    """Joins two hosts by a pair of TUN devices. Use as a context manager.

    Each host has an address of its own at its end; a packet takes `seconds` from one to the other.
    """

    def __init__(
        self, one: tuple[Namespace, str], other: tuple[Namespace, str], seconds: float
    ) -> None:
        self._seconds = seconds
        self._over = threading.Event()
        self._ends = [self._open(one, other), self._open(other, one)]
        self._threads: list[threading.Thread] = []
        for here, there in (self._ends, reversed(self._ends)):
            waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
            self._threads += [
                threading.Thread(target=self._read, args=(here, waiting), daemon=True),
                threading.Thread(target=self._write, args=(there, waiting), daemon=True)]

    def __enter__(self) -> "LongWay":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            os.close(end)

    @staticmethod
    def _open(here: tuple[Namespace, str], there: tuple[Namespace, str]) -> int:
        host, address = here
        device = host.call(os.open, "/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"long0", IFF_TUN | IFF_NO_PI))
        host.ip(
            f"addr add {address} peer {there[1]} dev long0", f"link set long0 mtu {MTU} up")
        return device

    def _read(self, device: int, waiting: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(device, selectors.EVENT_READ)
            while not self._over.is_set():
                if selector.select(0.1):
                    waiting.put((time.monotonic() + self._seconds, os.read(device, 1 << 17)))

    def _write(self, device: int, waiting: "queue.SimpleQueue[tuple[float, bytes]]") -> None:
        while not self._over.is_set():
            try:
                due, packet = waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            time.sleep(max(0.0, due - time.monotonic()))
            os.write(device, packet)
