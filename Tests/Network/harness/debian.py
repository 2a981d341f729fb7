"""A bare Debian in a folder (debootstrap(8)), and the package to be put into it."""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from .namespaces import Namespace
from .needs import lack, need
from .sluice import binary

#: Ignored by git like all build folders.
CACHE = Path(__file__).parents[3] / ".build-debian"

SCRIPT = Path(__file__).parents[3] / "scripts" / "package"

#: Besides what is called "minbase": what the package depends on, and no more.
LIBRARIES = ("libmnl0", "libnftnl11")


def build(folder: Path) -> Path:
    """The package of the program that is tested."""
    made = subprocess.run(
        [SCRIPT, "--output", folder], capture_output=True, text=True, check=False,
        env=os.environ | {"SLUICE": binary()})
    assert made.returncode == 0, made.stdout + made.stderr
    size = re.search(r"^package: (\d+) bytes; .* resident when idle: (\d+) KiB$", made.stderr, re.M)
    assert size and int(size[1]) and int(size[2]), made.stderr
    return Path(made.stdout.strip())


def newer(package: Path, folder: Path) -> Path:
    """The same with a higher version."""
    tree = folder / "next"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub(r"^Version: .*$", "Version: 9.0", control.read_text(), flags=re.M))
    place = folder / "sluice_9.0.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, place], check=True,
        capture_output=True)
    shutil.rmtree(tree)
    return place


def mirror() -> tuple[str, str]:
    """Where this machine gets its packages from, and the name of its release."""
    answer = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)", "Created-By: Packages",
         "Origin: Debian", "Component: main"],
        capture_output=True, text=True, check=False)
    if not answer.stdout:
        lack("apt knows no mirror of Debian")
    site, codename = answer.stdout.splitlines()[0].split()
    return site, codename


def archive(packages: tuple[str, ...]) -> Path:
    """A bare Debian as a tar archive, made if there is none yet."""
    site, codename = mirror()
    place = CACHE / f"{codename}-{'-'.join(packages)}.tar"
    if place.exists():
        return place
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sluice-tests-debian-") as folder:
        root = Path(folder, "root")
        made = subprocess.run(
            [need("debootstrap"), "--variant=minbase", f"--include={','.join(packages)}", codename,
             root, site],
            capture_output=True, text=True, check=False)
        if made.returncode:
            lack(f"debootstrap cannot make a Debian here: {made.stdout[-1000:]}{made.stderr}")
        # The packages themselves are no longer needed.
        subprocess.run(["chroot", root, "apt-get", "clean"], check=True)
        partial = place.with_suffix(f".{os.getpid()}")
        subprocess.run(
            ["tar", "--create", "--numeric-owner", "--file", partial, "--directory", root, "."], check=True)
        partial.rename(place)
    return place


class Debian:
    """One in a folder of its own, whose programs run on a host of the tests."""

    def __init__(
        self, host: Namespace, folder: Path, packages: tuple[str, ...] = LIBRARIES
    ) -> None:
        self.host = host
        self.root = folder / "debian"
        self.root.mkdir()
        subprocess.run(
            ["tar", "--extract", "--numeric-owner", "--file", archive(packages), "--directory", self.root],
            check=True)

    def command(self, *words: str) -> tuple[str, ...]:
        """Runs something in there, with mounts that go with it."""
        inside = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        return (
            "unshare", "--mount", "--propagation", "private", "--", "sh", "-c", inside, str(self.root),
            "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
            "DEBIAN_FRONTEND=noninteractive", *words)

    def run(self, *words: str) -> str:
        """Its output; it has to end well."""
        answer = self.host.run(*self.command(*words), check=False)
        assert answer.returncode == 0, f"{words}: {answer.stdout}{answer.stderr}"
        return str(answer.stdout)

    def install(self, package: Path) -> None:
        """By dpkg, which takes nothing from elsewhere."""
        inside = self.root / "tmp" / package.name
        inside.write_bytes(package.read_bytes())
        self.run("dpkg", "--install", f"/tmp/{package.name}")
        inside.unlink()

    def files(self) -> dict[str, str]:
        """Every path, and what the lists of users have; without logs, caches and dpkg's own notes."""
        paths = {}
        for folder, folders, names in os.walk(self.root):
            place = Path(folder).relative_to(self.root)
            folders[:] = [
                name for name in folders
                if str(place / name) not in ("proc", "var/log", "var/cache", "var/lib/dpkg")]
            paths |= {f"/{place / name}": "" for name in folders + names}
        # What useradd and userdel keep of the former ones.
        for name in "passwd", "group", "shadow", "gshadow", "subuid", "subgid":
            paths.pop(f"/etc/{name}-", None)
            paths[f"/etc/{name}"] = (self.root / "etc" / name).read_text()
        return paths
