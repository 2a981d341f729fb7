"""The Debian package, in a bare Debian: installed, used, upgraded, purged."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import kernel
from harness.debian import LIBRARIES, Debian, build, newer
from harness.namespaces import Namespace
from harness.needs import need
from harness.programs import Program
from harness.units import restriction, setting

SETTINGS = "upstream: embedded\nmachine: true\n"

#: Every Debian has them: essential, or needed by apt.
ALWAYS_THERE = {"libc6", "libgcc-s1", "libstdc++6"}


@pytest.fixture(scope="module")
def package(folder: Path) -> Path:
    return build(folder)


@pytest.fixture(scope="module")
def next_package(package: Path, folder: Path) -> Path:
    return newer(package, folder)


@pytest.fixture
def debian(alone: Namespace, tmp_path: Path) -> Debian:
    tmp_path.chmod(0o755)
    return Debian(alone, tmp_path)


def test_reproducible(package: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == package.read_bytes()


def test_depends_on_little(package: Path) -> None:
    field = subprocess.check_output(["dpkg-deb", "--field", package, "Depends"], text=True)
    names = {one.split()[0] for one in field.split(",")}
    assert names == {*LIBRARIES, *ALWAYS_THERE}


def test_lintian(package: Path) -> None:
    judged = subprocess.run(
        [need("lintian"), "--allow-root", "--fail-on", "error,warning", package],
        capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


def test_life(alone: Namespace, debian: Debian, package: Path, next_package: Path) -> None:
    before, kernel_before = debian.files(), kernel.snapshot(alone)
    settings = debian.root / "etc" / "sluice" / "sluice.yaml"
    debian.install(package)
    user = debian.run("getent", "passwd", "sluice").split(":")
    assert user[-1].strip() == "/usr/sbin/nologin"
    assert (settings.stat().st_mode & 0o777, settings.stat().st_gid) == (0o640, int(user[3]))

    settings.write_text(SETTINGS)
    debian.run("sluice", "check", "/etc/sluice/sluice.yaml")
    [start] = setting("ExecStart")
    # What RuntimeDirectory= does.
    debian.run("install", "-d", "-o", "sluice", "-g", "sluice", "/run/sluice")
    service = debian.command(*restriction("sluice"), *start)
    with Program(alone, *service, name="sluice") as program:
        program.wait_for_output(lambda: "capturing" in program.output(), "that it captures", 20)
        assert f"Uid:\t{user[2]}\t" in Path(f"/proc/{program.pid}/status").read_text()
        assert kernel.tables(alone) == ["table inet sluice"]
        debian.install(next_package)
        assert program.process.poll() is None
        program.signal(signal.SIGTERM)
        assert program.wait() == 0
    assert not kernel.changes(kernel_before, kernel.snapshot(alone))
    assert debian.run("dpkg-query", "-W", "-f", "${Version}", "sluice") == "9.0"
    assert settings.read_text() == SETTINGS, "settings survive an upgrade"
    assert settings.stat().st_mode & 0o777 == 0o640
    assert debian.run("getent", "passwd", "sluice").split(":") == user

    debian.run("dpkg", "--remove", "sluice")
    assert settings.exists(), "only a purge takes settings away"
    debian.run("rm", "-r", "/run/sluice")
    wanted = debian.root / "etc/systemd/system/multi-user.target.wants"
    # What `systemctl enable sluice@lan0` does.
    (wanted / "sluice@lan0.service").symlink_to("/lib/systemd/system/sluice@.service")
    debian.run("dpkg", "--purge", "sluice")
    assert debian.files() == before


def test_files_of_others_survive(debian: Debian, package: Path) -> None:
    debian.install(package)
    password = debian.root / "etc" / "sluice" / "password"
    password.write_text("secret\n")
    debian.run("dpkg", "--purge", "sluice")
    assert os.listdir(password.parent) == ["password"]
