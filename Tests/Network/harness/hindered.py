"""A user whose machine stands in the way of `sluice exec`: with limits on namespaces, sysctls that are
not there in this kernel, or system calls that fail. The machine itself is left alone."""

from typing import Any, Mapping, Sequence

from . import seccomp
from .confined import NOBODY, Confined
from .fences import Fence
from .namespaces import Namespace
from .seccomp import Rule

#: Puts a folder over /proc/sys/kernel that has the same files, as far as they can be read, and those of
#: the arguments before the command: NAME=VALUE.
DISGUISE = """
set -e
copy=$(mktemp -d)
mount -t tmpfs tmpfs "$copy"
for file in /proc/sys/kernel/*; do
  [ ! -f "$file" ] || cat "$file" >"$copy/${file##*/}" 2>/dev/null || true
done
while [ "$1" != -- ]; do
  echo "${1#*=}" >"$copy/${1%%=*}"
  shift
done
shift
mount --bind "$copy" /proc/sys/kernel
umount "$copy"
rmdir "$copy"
exec "$@"
"""

#: Sets limits on namespaces, KIND COUNT each, and runs the command behind them.
LIMIT = """
while [ "$1" != -- ]; do
  echo "$2" >/proc/sys/user/max_"$1"_namespaces || exit
  shift 2
done
shift
exec "$@"
"""

#: The capabilities without which root is like anybody.
NEEDED = ("sys_admin", "net_admin", "net_raw", "net_bind_service")


class Hindered(Confined):
    """As `Confined`, with obstacles. Use as a context manager."""

    def __init__(
        self, host: Namespace, user: int = NOBODY, *, kernel: Mapping[str, int] | None = None,
        rules: Sequence[Rule] = (), keep: Sequence[str] = (), lack: Sequence[str] = (),
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """`kernel`: sysctls below `kernel.` and what they read as. `rules`: what system calls fail.
        `keep` and `lack`: capabilities that the user has, or that nobody can have, by name. `limits`:
        how many namespaces the user may have, by kind: `{"net": 0}`."""
        super().__init__(host, user)
        self._kernel = dict(kernel or {})
        self._rules = list(rules)
        self._keep = list(keep)
        self._lack = list(lack)
        self._limits = dict(limits or {})
        self._fence = Fence()

    def __enter__(self) -> "Hindered":
        try:
            self._fence.__enter__()
        except BaseException:
            self._fence.__exit__()
            super().close()
            raise
        return self

    def __exit__(self, *details: Any) -> None:
        try:
            super().__exit__(*details)
        finally:
            self._fence.__exit__()

    def as_user(self, *words: str) -> list[str]:
        if self._rules:
            words = tuple(seccomp.words(self._rules, *words))
        whole = super().as_user(*words)
        if self._keep:
            kept = ",".join(f"+{one}" for one in self._keep)
            whole[whole.index("--inh-caps=-all")] = f"--inh-caps={kept}"
            whole.insert(whole.index(f"--inh-caps={kept}"), f"--ambient-caps={kept}")
        if self._lack:
            place = whole.index("--inh-caps=-all")
            whole.insert(place, "--bounding-set=" + ",".join(f"-{one}" for one in self._lack))
        if self._limits:
            # Last of all: root makes a namespace, too.
            place = whole.index("prlimit")
            pairs = [str(word) for item in self._limits.items() for word in item]
            whole[place:place] = ["sh", "-c", LIMIT, "sh", *pairs, "--"]
        if self._kernel:
            sysctls = [f"{name}={value}" for name, value in self._kernel.items()]
            whole = [
                "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", DISGUISE, "sh",
                *sysctls, "--", *whole]
        # A fence of its own changes what root is: only who needs one has it.
        return self._fence.words(*whole) if self._limits else whole
