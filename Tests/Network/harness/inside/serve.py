"""Serves on the own loopback: sends back what comes, in capitals, when the client has said all.

    serve.py PORT ADDRESS …

Prints "listening", and the address of whoever has been served. A client that says "talk" first
hears the end of the server's words before it has said its own, and what it says then is printed.
"""

import socket
import sys
import threading


def serve(stream: socket.socket, peer: str) -> None:
    with stream:
        words = stream.recv(1 << 16)
        if words == b"talk":
            stream.sendall(b"that is all")
            stream.shutdown(socket.SHUT_WR)
            words = b""
        while part := stream.recv(1 << 16):
            words += part
        try:
            stream.sendall(words.upper())
        except BrokenPipeError:  # it has had its words
            print("heard", words.decode(), flush=True)
    print("served", peer, flush=True)


def accept(listener: socket.socket) -> None:
    while True:
        stream, peer = listener.accept()
        threading.Thread(target=serve, args=(stream, peer[0])).start()


def main() -> None:
    port = int(sys.argv[1])
    for address in sys.argv[2:]:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=100)
        threading.Thread(target=accept, args=(listener,)).start()
    print("listening", flush=True)


main()
