"""Says which signal came of those that a terminal sends, and how large the terminal is; and for every
line that it reads how many came so far: SIGINT, SIGQUIT, SIGWINCH."""

import os
import signal
import sys
from typing import Any

counts = dict.fromkeys((signal.SIGINT, signal.SIGQUIT, signal.SIGWINCH), 0)


def count(number: int, _: Any) -> None:
    one = signal.Signals(number)
    counts[one] += 1
    size = os.get_terminal_size(0)
    os.write(1, f"{one.name} {size.lines} {size.columns}\n".encode())


for one in counts:
    signal.signal(one, count)
os.write(1, b"up\n")
for _ in sys.stdin:
    os.write(1, "counts {} {} {}\n".format(*counts.values()).encode())
