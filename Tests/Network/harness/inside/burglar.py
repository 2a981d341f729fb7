"""Tries on processes all that a debugger would: prints what came of each attempt as JSON, by process, as
the name of an error or "done".

    burglar.py PID... (0: the parent; own: one of its own, on which everything works)
"""

import ctypes
import errno
import json
import os
import platform
import signal
import sys
import time

#: sys/ptrace.h and linux/wait.h.
PTRACE_ATTACH, PTRACE_DETACH, PTRACE_SEIZE, WALL = 16, 17, 0x4206, 0x40000000

PIDFD_GETFD = 438
KCMP = {"x86_64": 312, "aarch64": 272}[platform.machine()]

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def attach(pid: int) -> None:
    check(libc.ptrace(PTRACE_ATTACH, pid, None, None))
    os.waitpid(pid, WALL)
    check(libc.ptrace(PTRACE_DETACH, pid, None, None))


def seize(pid: int) -> None:
    check(libc.ptrace(PTRACE_SEIZE, pid, None, None))


def read_memory(pid: int) -> None:
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))


def write_memory(pid: int) -> None:
    os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))


def read_memory_by_call(pid: int) -> None:
    buffer = ctypes.create_string_buffer(16)
    here = Vector(ctypes.addressof(buffer), 16)
    done = libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(here), 1, 0)
    # EFAULT: allowed, and nothing is at that address.
    if done < 0 and ctypes.get_errno() != errno.EFAULT:
        check(done)


def read_descriptor(pid: int) -> None:
    os.readlink(f"/proc/{pid}/fd/0")


def take_descriptor(pid: int) -> None:
    process = os.pidfd_open(pid)
    for number in range(64):
        taken = libc.syscall(PIDFD_GETFD, process, number, 0)
        if taken >= 0 or ctypes.get_errno() != errno.EBADF:
            break
    os.close(process)
    check(taken)


def read_environment(pid: int) -> None:
    os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY))


def read_maps(pid: int) -> None:
    with open(f"/proc/{pid}/maps") as maps:
        maps.read()


def read_system_call(pid: int) -> None:
    with open(f"/proc/{pid}/syscall") as call:
        call.read()


def compare(pid: int) -> None:
    check(libc.syscall(KCMP, os.getpid(), pid, 0, 0, 0))


ATTEMPTS = (
    read_descriptor, take_descriptor, read_memory, write_memory, read_memory_by_call,
    read_environment, read_maps, read_system_call, compare, attach, seize)


def main() -> None:
    own = os.fork()
    if own == 0:
        while True:
            time.sleep(1000)
    result: dict[str, dict[str, str]] = {}
    for name in sys.argv[1:]:
        pid = {"0": os.getppid(), "own": own}.get(name) or int(name)
        result[name] = {}
        for attempt in ATTEMPTS:
            try:
                attempt(pid)
                result[name][attempt.__name__] = "done"
            except OSError as error:
                result[name][attempt.__name__] = errno.errorcode[error.errno or 0]
    os.kill(own, signal.SIGKILL)
    print(json.dumps(result))


main()
