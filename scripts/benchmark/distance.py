"""A long way to another host: a packet takes a while, where the kernel has no netem to do it."""

import fcntl
import os
import queue
import select
import struct
import threading
import time

# linux/if_tun.h
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

INTERFACE = "long0"


class LongWay:
    """From one host to an address of another, in this direction alone; for a `with` block."""

    def __init__(self, here, there, address, source, seconds):
        self._seconds = seconds
        self._over = threading.Event()
        self._waiting = queue.SimpleQueue()
        self._ends = [self._open(here), self._open(there)]
        here.ip(f"route add {address}/32 dev {INTERFACE} src {source}")
        self._threads = [threading.Thread(target=work) for work in (self._read, self._write)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()
        # The devices go with them, and so does the route.
        for end in self._ends:
            os.close(end)

    @staticmethod
    def _open(host):
        with host.entered():
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH22x", INTERFACE.encode(), IFF_TUN | IFF_NO_PI)
            fcntl.ioctl(device, TUNSETIFF, request)
        host.ip(f"link set {INTERFACE} up")
        return device

    def _read(self):
        while not self._over.is_set():
            if select.select([self._ends[0]], [], [], 0.1)[0]:
                packet = os.read(self._ends[0], 1 << 16)
                self._waiting.put((time.monotonic() + self._seconds, packet))

    def _write(self):
        while not self._over.is_set():
            try:
                due, packet = self._waiting.get(timeout=0.1)
            except queue.Empty:
                continue
            time.sleep(max(0.0, due - time.monotonic()))
            os.write(self._ends[1], packet)
