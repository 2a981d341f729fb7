"""Sends so many bytes to an echo server, ends its direction, and compares what comes back.

    exchange.py ADDRESS PORT BYTES

Prints how many came back, and "same" or "other".
"""

import random
import socket
import sys
import threading


def main() -> None:
    address, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    payload = random.Random(count).randbytes(count)
    stream = socket.create_connection((address, port), timeout=60)

    def send() -> None:
        stream.sendall(payload)
        stream.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send)
    sender.start()
    received = bytearray()
    while part := stream.recv(1 << 16):
        received += part
    sender.join()
    print(len(received), "same" if received == payload else "other")


main()
