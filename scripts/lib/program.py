"""Sluice on a host of a lab: started, its JSON log read, ended by SIGTERM or SIGKILL."""

import json
import subprocess
import threading


class ProgramFailed(Exception):
    """Sluice did not do what the step needs; the text holds what it said."""


class Program:
    """One `sluice run` in the foreground of a host."""

    def __init__(self, lab, host, binary, *arguments, environment=None):
        self._lab = lab
        self._said = []
        self._events = {}
        self._changed = threading.Condition()
        self._ended = False
        self._process = lab.spawn(
            # The default control socket is the machine's, whatever the host.
            host, binary, "run", *arguments, "--json", "--control", "none",
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for(self, event, deadline=10.0):
        """The fields of an event's log line; raises ProgramFailed when it does not come."""
        with self._changed:
            self._changed.wait_for(lambda: event in self._events or self._ended, deadline)
            if event not in self._events:
                said = "\n  ".join(self._said) or "nothing"
                raise ProgramFailed(f"sluice gave no {event!r} event; it said:\n  {said}")
            return self._events[event]

    @property
    def pid(self):
        return self._process.pid

    def stop(self):
        """SIGTERM, and SIGKILL when that does not help; returns the exit status."""
        return self._lab.stop(self._process)

    def finish(self):
        """Ends it in good order; returns the fields of the summary."""
        status = self.stop()
        summary = self.wait_for("summary")
        if status != 0:
            raise ProgramFailed(f"sluice ended with status {status}")
        return summary

    def kill(self):
        """SIGKILL: no line of the program runs any more."""
        self._process.kill()
        self._process.wait()

    def _read(self):
        for line in self._process.stderr:
            with self._changed:
                self._said.append(line.rstrip())
                try:
                    fields = json.loads(line)
                    self._events[fields["event"]] = fields
                except (ValueError, KeyError, TypeError):
                    pass  # A line for people; it is shown when the program fails.
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()
