"""Says which signal came of those that a terminal sends, and how large the terminal is; and for every
line that it reads how many came so far: SIGINT, SIGQUIT, SIGWINCH."""

import os
import select
import signal
from typing import Any

counts = dict.fromkeys((signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH), 0)


def count(number: int, _: Any) -> None:
    one = signal.Signals(number)
    counts[one] += 1
    size = os.get_terminal_size(0)
    os.write(1, f"{one.name} {size.lines} {size.columns}\n".encode())


for one in counts:
    signal.signal(one, count)
awake, wake = os.pipe()
os.set_blocking(wake, False)
# A signal that comes just before the wait ends that, too.
signal.set_wakeup_fd(wake)
os.write(1, b"up\n")
while True:
    ready, _, _ = select.select([0, awake], [], [])
    if awake in ready:
        os.read(awake, 64)
    if 0 in ready:
        if not os.read(0, 4096):
            break
        os.write(1, "counts {} {} {}\n".format(*counts.values()).encode())
