"""Prints the numbers of the descriptors it was given that are open; then what 3 and 4 have to say,
where they are open: 3 is read, 4 is a connection that sends back what it is told."""

import contextlib
import os


def is_open(number: int) -> bool:
    with contextlib.suppress(OSError):
        os.fstat(number)
        return True
    return False


numbers = [number for number in range(1024) if is_open(number)]
print(*numbers)
if 3 in numbers:
    print(os.read(3, 100).decode())
if 4 in numbers:
    os.write(4, b"said to the connection")
    print(os.read(4, 100).decode())
