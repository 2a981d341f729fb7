"""Tries to enter the namespaces of processes, and to look into their files: prints what came of each
attempt as JSON, by process, as the name of an error or "done".

    intruder.py PID... (0: the parent)
"""

import ctypes
import errno
import json
import os
import sys

#: linux/sched.h.
CLONE_NEWNET, CLONE_NEWUSER = 0x40000000, 0x10000000

libc = ctypes.CDLL(None, use_errno=True)


def enter(descriptor: int, kinds: int) -> None:
    if libc.setns(descriptor, kinds) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def by_file(pid: int) -> None:
    enter(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)


def by_process(pid: int) -> None:
    enter(os.pidfd_open(pid), CLONE_NEWNET)


def by_user(pid: int) -> None:
    enter(os.pidfd_open(pid), CLONE_NEWNET | CLONE_NEWUSER)


def by_root_folder(pid: int) -> None:
    os.listdir(f"/proc/{pid}/root/")


def main() -> None:
    result: dict[str, dict[str, str]] = {}
    for pid in map(int, sys.argv[1:]):
        pid = pid or os.getppid()
        result[str(pid)] = {}
        for attempt in by_file, by_process, by_user, by_root_folder:
            # Each from where we are now.
            child = os.fork()
            if child == 0:
                try:
                    attempt(pid)
                    code = 0
                except OSError as error:
                    code = error.errno or errno.EINVAL
                os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            result[str(pid)][attempt.__name__] = errno.errorcode.get(code, "done")
    print(json.dumps(result))


main()
