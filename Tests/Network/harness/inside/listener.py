"""Says that it is up, and then which signal came, one line each."""

import signal

WANTED = {
    signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGWINCH, signal.SIGCONT, signal.SIGALRM}

signal.pthread_sigmask(signal.SIG_BLOCK, WANTED)
print("up", flush=True)
while True:
    print(signal.Signals(signal.sigwait(WANTED)).name, flush=True)
