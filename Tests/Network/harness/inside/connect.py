"""Connects to an abstract Unix socket, and prints what it is told.

    connect.py NAME
"""

import socket
import sys

with socket.socket(socket.AF_UNIX) as stream:
    stream.connect(f"\0{sys.argv[1]}")
    print(stream.recv(100).decode())
