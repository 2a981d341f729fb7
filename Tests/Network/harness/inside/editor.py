"""Does what an editor does with Ctrl-Z: it says that it puts the terminal in order, stops, and says that
it looks at the terminal again. Otherwise it repeats what it reads.

    editor.py itself|group
"""

import os
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
os.write(1, b"up\n")
for text in sys.stdin:
    os.write(1, b"read " + text.encode())
