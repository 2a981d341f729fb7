"""Does what an editor does with Ctrl-Z: it says that it puts the terminal in order, stops, and says that
it looks at the terminal again. Otherwise it repeats what it reads.

    editor.py itself|group
"""

import os
import select
import signal
import sys
from typing import Any

TARGETS = {"itself": os.getpid(), "group": 0}


def stop(*_: Any) -> None:
    os.write(1, b"saved\n")
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(TARGETS[sys.argv[1]], signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, stop)
    os.write(1, b"restored\n")


signal.signal(signal.SIGTSTP, stop)
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
        text = os.read(0, 4096)
        if not text:
            break
        os.write(1, b"read " + text)
