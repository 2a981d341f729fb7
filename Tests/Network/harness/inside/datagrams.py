"""Sends datagrams to an echo server, all from one socket, and compares what comes back.

    datagrams.py ADDRESS PORT BYTES …

Prints how many bytes each has that came back unchanged, and from where it was asked.
"""

import random
import socket
import sys


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(20)
        for size in map(int, sys.argv[3:]):
            payload = random.Random(size).randbytes(size)
            one.sendto(payload, (address, port))
            answer, sender = one.recvfrom(1 << 16)
            if answer == payload and sender[:2] == (address, port):
                print(size)


main()
