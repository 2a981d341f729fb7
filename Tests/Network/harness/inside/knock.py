"""Knocks at doors and prints a JSON line of what came of each, without the harness: it runs inside
of `sluice exec`, as somebody who may not read the checkout.

    knock.py ROUNDS TIMEOUT KIND,ADDRESS,PORT …      ROUNDS 0: for ever, at all doors at once

A line: {"door": …, "outcome": …, "began": …, "seconds": …}; the outcome is "answer", "FIN", "RST",
"silence" (a timeout), the name of an errno, or what a resolver says instead, as "RCODE 2".
"""

import errno
import json
import socket
import sys
import threading
import time

#: linux/in.h
IPPROTO_UDPLITE, IPPROTO_MPTCP = 136, 262

#: A question for www.example, of type A (RFC 1035).
QUESTION = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x07example\0\0\x01\0\x01"

#: An echo request; the kernel fills in what it sends for us.
ECHO = {4: b"\x08\0\xf7\xff\0\0\0\0", 6: b"\x80\0\0\0\0\0\0\0"}


def knock(kind: str, address: str, port: int, timeout: float) -> str:
    version = 6 if ":" in address else 4
    address, _, interface = address.partition("%")
    family = {4: socket.AF_INET, 6: socket.AF_INET6}[version]
    icmp = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}[version]
    what = {
        "tcp": (socket.SOCK_STREAM, 0, b"hello"),
        "mptcp": (socket.SOCK_STREAM, IPPROTO_MPTCP, b"hello"),
        "fastopen": (socket.SOCK_STREAM, 0, b"hello"),
        "udp": (socket.SOCK_DGRAM, 0, b"hello"),
        "dns": (socket.SOCK_DGRAM, 0, QUESTION),
        "icmp": (socket.SOCK_DGRAM, icmp, ECHO[version]),
        "raw": (socket.SOCK_RAW, icmp, ECHO[version]),
        "udplite": (socket.SOCK_DGRAM, IPPROTO_UDPLITE, b"hello"),
    }
    type_, protocol, words = what[kind]
    try:
        scope = (0, socket.if_nametoindex(interface)) if interface else ()
        door = address, port, *scope
        with socket.socket(family, type_, protocol) as one:
            one.settimeout(timeout)
            if type_ == socket.SOCK_DGRAM:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            try:
                if kind == "fastopen":
                    one.settimeout(None)  # it does not wait for the answer otherwise
                    one.sendto(words, socket.MSG_FASTOPEN, door)
                    one.settimeout(timeout)
                else:
                    one.connect(door)
                    one.sendall(words)
            except PermissionError:
                if type_ == socket.SOCK_STREAM:
                    raise
                # What the own firewall rejects comes back twice, from send(2) and by ICMP: the
                # latter counts, if it comes.
                one.settimeout(0.1)
                try:
                    one.recv(1 << 16)
                except TimeoutError:
                    return "EPERM"
            answer = one.recv(1 << 16)
            if kind == "dns" and answer[3] & 15:
                return f"RCODE {answer[3] & 15}"
            return "answer" if answer else "FIN"
    except (ConnectionResetError, BrokenPipeError):
        return "RST"
    except TimeoutError:
        return "silence"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


#: Seconds between two knocks of many: most fail at once.
PAUSE = 0.05

_talking = threading.Lock()


def visit(door: str, timeout: float) -> None:
    """Knocks, and tells."""
    kind, address, port = door.split(",")
    began = time.monotonic()
    outcome = knock(kind, address, int(port), timeout)
    line = {
        "door": door, "outcome": outcome, "began": began, "seconds": time.monotonic() - began}
    with _talking:
        print(json.dumps(line), flush=True)


def besiege(door: str, timeout: float) -> None:
    while True:
        visit(door, timeout)
        time.sleep(PAUSE)


def main() -> None:
    rounds, timeout, doors = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    for _ in range(rounds):
        for door in doors:
            visit(door, timeout)
    if not rounds:
        for door in doors:
            threading.Thread(target=besiege, args=(door, timeout)).start()


main()
