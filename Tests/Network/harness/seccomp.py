"""System calls that fail: what a container's seccomp filter forbids, and what a kernel does not have.

This file is also the program that puts the filter on: `python3 -c THIS RULES COMMAND…`, with RULES as
JSON. It needs nothing but Python, since it runs as a user who may not read our folder.
"""

import ctypes
import errno
import json
import os
import platform
import struct
import sys
from pathlib import Path

#: A system call by name, conditions on its arguments (index, mask, value), and the error it gives. A
#: condition sees the low half of an argument.
Rule = tuple[str, list[tuple[int, int, int]], str]

#: linux/audit.h AUDIT_ARCH_*, and the numbers of asm/unistd.h.
MACHINES = {
    "x86_64": (0xC000003E, {
        "socket": 41, "setsockopt": 54, "clone": 56, "mount": 165, "unshare": 272}),
    "aarch64": (0xC00000B7, {
        "mount": 40, "unshare": 97, "socket": 198, "setsockopt": 208, "clone": 220}),
}

#: The same on all machines.
EVERYWHERE = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "clone3": 435, "mount_setattr": 442}

#: linux/bpf_common.h and linux/filter.h.
LOAD, JUMP_IF_EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06

#: struct seccomp_data.
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16

#: linux/seccomp.h.
ALLOW, ERROR = 0x7FFF0000, 0x00050000

#: linux/prctl.h.
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER_MODE = 22, 38, 2

CLONE_NEWUSER = 0x10000000

ANY = 0xFFFFFFFF


def forbid_user_namespaces(error: str = "EPERM") -> list[Rule]:
    """As container engines do: clone3, whose flags no filter can see, does not exist."""
    flag = (CLONE_NEWUSER, CLONE_NEWUSER)
    return [
        ("unshare", [(0, *flag)], error), ("clone", [(0, *flag)], error), ("clone3", [], "ENOSYS")]


def forbid_sockets(family: int, protocol: int | None, error: str) -> Rule:
    """socket(2) of a family, and of one protocol in it."""
    conditions = [(0, ANY, family)]
    if protocol is not None:
        conditions.append((2, ANY, protocol))
    return ("socket", conditions, error)


def forbid_option(level: int, name: int, error: str) -> Rule:
    """setsockopt(2) of one option."""
    return ("setsockopt", [(1, ANY, level), (2, ANY, name)], error)


def forbid_mounts(error: str = "EPERM") -> list[Rule]:
    calls = ("mount", "open_tree", "move_mount", "fsopen", "mount_setattr")
    return [(call, [], error) for call in calls]


def words(rules: list[Rule], *command: str) -> list[str]:
    """The words by which anybody runs a command under the rules."""
    return ["python3", "-I", "-c", Path(__file__).read_text(), json.dumps(rules), *command]


def program(rules: list[Rule]) -> bytes:
    """The filter: the first rule that fits decides."""
    architecture, numbers = MACHINES[platform.machine()]
    numbers = numbers | EVERYWHERE
    code = [
        (LOAD, 0, 0, ARCHITECTURE), (JUMP_IF_EQUAL, 1, 0, architecture), (RETURN, 0, 0, ALLOW)]
    for call, conditions, error in rules:
        # What does not fit goes on behind the rule.
        length = 3 * len(conditions)
        code += [(LOAD, 0, 0, NUMBER), (JUMP_IF_EQUAL, 0, length + 1, numbers[call])]
        for index, mask, value in conditions:
            length -= 3
            code += [
                (LOAD, 0, 0, ARGUMENTS + 8 * index), (AND, 0, 0, mask),
                (JUMP_IF_EQUAL, 0, length + 1, value)]
        code.append((RETURN, 0, 0, ERROR | getattr(errno, error)))
    code.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *one) for one in code)


def put_on(rules: list[Rule]) -> None:
    """Puts the filter on this process and all that come of it. Who is not root cannot gain a privilege
    any more afterwards, as in a container."""
    libc = ctypes.CDLL(None, use_errno=True)
    text = program(rules)
    code = ctypes.create_string_buffer(text, len(text))
    header = struct.pack("HxxxxxxP", len(text) // 8, ctypes.addressof(code))
    put = libc.prctl(PR_SET_SECCOMP, FILTER_MODE, header, 0, 0)
    if put != 0 and ctypes.get_errno() == errno.EACCES:
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        put = libc.prctl(PR_SET_SECCOMP, FILTER_MODE, header, 0, 0)
    if put != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")


if __name__ == "__main__":
    put_on(json.loads(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
