"""Asks a server a question, ends its direction, and prints how many bytes come then, and how they end.

    half_close.py ADDRESS PORT SECONDS
"""

import socket
import sys


def main() -> None:
    address, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    received, end = 0, "FIN"
    with socket.create_connection((address, port), timeout=seconds) as stream:
        stream.sendall(b"question")
        stream.shutdown(socket.SHUT_WR)
        try:
            while part := stream.recv(1 << 16):
                received += len(part)
        except ConnectionResetError:
            end = "RST"
        except TimeoutError:
            end = "silence"
    print(received, end)


main()
