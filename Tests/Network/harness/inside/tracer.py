"""Runs `true` under ptrace(2): prints the signal that it stops with as it starts, and its exit status."""

import ctypes
import os

#: sys/ptrace.h.
PTRACE_TRACEME, PTRACE_CONT = 0, 7

libc = ctypes.CDLL(None, use_errno=True)

child = os.fork()
if child == 0:
    libc.ptrace(PTRACE_TRACEME, 0, 0, 0)
    os.execvp("true", ["true"])
_, status = os.waitpid(child, 0)
print(os.WIFSTOPPED(status) and os.WSTOPSIG(status))
libc.ptrace(PTRACE_CONT, child, 0, 0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
