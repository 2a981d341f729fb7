"""Mirrors for package managers, each with one small package: folders, to be given away by HTTP."""

import base64
import hashlib
import subprocess
import zipfile
from pathlib import Path

#: What the packages are called.
NAME = "sluice-tests-parcel"

CONTROL = f"""\
Package: {NAME}
Version: 1.0
Architecture: all
Maintainer: nobody <nobody@example>
Description: what the network tests fetch
"""

WHEEL = """\
Wheel-Version: 1.0
Generator: tests
Root-Is-Purelib: true
Tag: py3-none-any
"""


def debian_mirror(folder: Path) -> Path:
    """A flat repository (sources.list(5)); returns the package in it."""
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(CONTROL)
    package = folder / f"{NAME}_1.0_all.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(package)], check=True,
        capture_output=True)
    content = package.read_bytes()
    (folder / "Packages").write_text(
        f"{CONTROL}Filename: ./{package.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n\n")
    return package


def python_index(folder: Path) -> Path:
    """A simple index (PEP 503) below `simple`; returns the package in it."""
    stem = NAME.replace("-", "_")
    files = {
        f"{stem}.py": "",
        f"{stem}-1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 1.0\n",
        f"{stem}-1.0.dist-info/WHEEL": WHEEL,
    }
    place = folder / "simple" / NAME
    place.mkdir(parents=True)
    package = place / f"{stem}-1.0-py3-none-any.whl"
    record = ""
    with zipfile.ZipFile(package, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            digest = hashlib.sha256(text.encode()).digest()
            code = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            record += f"{name},sha256={code},{len(text)}\n"
        record += f"{stem}-1.0.dist-info/RECORD,,\n"
        archive.writestr(f"{stem}-1.0.dist-info/RECORD", record)
    (place / "index.html").write_text(f'<a href="{package.name}">{package.name}</a>\n')
    return package
