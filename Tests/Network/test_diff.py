"""`sluice rules diff`: what the kernel has, read back, against what the flags would install."""

import json
import subprocess
from pathlib import Path
from typing import Iterator

import pytest

from harness import kernel
from harness.namespaces import Namespace
from harness.programs import Program
from harness.sluice import Sluice, binary
from harness.waiting import PATIENCE
from test_reference_rules import FILES, flags

MACHINE = ("--machine", "socks5://192.0.2.1")

SAME = "no difference\n"


@pytest.fixture
def host() -> Iterator[Namespace]:
    fresh = Namespace("diff")
    try:
        yield fresh
    finally:
        fresh.close()


def apply(host: Namespace, *arguments: str) -> None:
    host.run(binary(), "rules", "apply", *arguments)


def compare(host: Namespace, *arguments: str) -> subprocess.CompletedProcess[str]:
    return host.run(binary(), "rules", "diff", *arguments, check=False)


def difference(host: Namespace, *arguments: str) -> list[str]:
    """The lines behind the head, which have to be there."""
    done = compare(host, *arguments)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["--- in the kernel", "+++ by these flags"]
    return lines[2:]


def handle(host: Namespace, chain: str, comment: str) -> int:
    """The number of a rule, by which nft deletes it."""
    listing = json.loads(host.run("nft", "-j", "list", "chain", "inet", "sluice", chain).stdout)
    return next(
        item["rule"]["handle"] for item in listing["nftables"]
        if item.get("rule", {}).get("comment") == comment)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_differs_after_apply(host: Namespace, file: Path) -> None:
    apply(host, *flags(file))
    before = kernel.snapshot(host)
    done = compare(host, *flags(file))
    assert (done.returncode, done.stdout) == (0, SAME)
    assert not kernel.changes(before, kernel.snapshot(host)), "diff touches nothing"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_without_tables_all_is_missing(host: Namespace, file: Path) -> None:
    """What is printed behind + is what `show` prints, as far as words go."""
    lines = difference(host, *flags(file))
    assert {line[0] for line in lines} == {"+"}
    shown = host.run(binary(), "rules", "show", *flags(file)).stdout
    rules = [line[1:].strip() for line in lines if not line.startswith("+ip")]
    position = 0
    for words in rules:
        position = shown.index(words, position)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_differs_after_nft(host: Namespace, file: Path) -> None:
    """The routing alone: nft makes the same instructions of the same text."""
    host.run("nft", "-f", str(file))
    lines = compare(host, *flags(file)).stdout.splitlines()[2:]
    assert [line for line in lines if not line.startswith("+ip")] == []


def test_other_flags_are_named(host: Namespace) -> None:
    apply(host, *MACHINE, "--bypass", "198.51.100.0/24")
    assert difference(host, *MACHINE, "--bypass", "203.0.113.0/24") == [
        " table inet sluice", " \tset bypass4", "-\t\t198.51.100.0/24", "+\t\t203.0.113.0/24"]


def test_a_deleted_rule_is_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    number = handle(host, "machine_mark", "answers of services")
    host.nft(f"delete rule inet sluice machine_mark handle {number}")
    assert difference(host, *MACHINE) == [
        " table inet sluice", " \tchain machine_mark",
        '+\t\tct direction reply return comment "answers of services"']


def test_rules_of_our_kind_are_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("insert rule inet sluice exempt meta l4proto udp drop comment \"mine\"")
    assert difference(host, *MACHINE) == [
        " table inet sluice", " \tchain exempt", '-\t\tmeta l4proto udp drop comment "mine"']


def test_rules_of_another_kind_are_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("add rule inet sluice exempt meta l4proto tcp counter accept comment \"mine\"")
    assert difference(host, *MACHINE) == [
        " table inet sluice", " \tchain exempt",
        '-\t\tmeta l4proto tcp [ counter pkts 0 bytes 0 ] accept comment "mine"']


def test_sets_of_rules_show_nowhere_else(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("add rule inet sluice exempt ip daddr { 192.0.2.7, 192.0.2.9 } accept")
    lines = difference(host, *MACHINE)
    assert lines[:2] == [" table inet sluice", " \tchain exempt"]
    assert len(lines) == 3 and lines[2].endswith("ip daddr @__set0 accept")


@pytest.mark.parametrize("name, element", [
    ("bypass4", "11.0.0.0/8"), ("bypass4", "11.0.0.1-11.0.0.6"), ("bypass6", "3fff::/20"),
    ("upstream4", "192.0.2.77"), ("local_types", "blackhole")])
def test_an_added_element_is_named(host: Namespace, name: str, element: str) -> None:
    apply(host, *MACHINE)
    host.nft(f"add element inet sluice {name} {{ {element} }}")
    shown = "element 0x06000000" if element == "blackhole" else element
    assert difference(host, *MACHINE) == [
        " table inet sluice", f" \tset {name}", f"-\t\t{shown}"]


def test_a_deleted_element_is_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("delete element inet sluice bypass4 { 10.0.0.0/8 }")
    assert difference(host, *MACHINE) == [
        " table inet sluice", " \tset bypass4", "+\t\t10.0.0.0/8"]


def test_an_element_with_a_comment_is_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("add element inet sluice upstream4 { 192.0.2.77 comment \"mine\" }")
    assert difference(host, *MACHINE) == [
        " table inet sluice", " \tset upstream4", "-\t\telement 0xc000024d [ user data ]",
        "-\t\t192.0.2.77"]


def test_foreign_objects_are_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("add counter inet sluice mine")
    assert difference(host, *MACHINE) == [
        " table inet sluice", "-\t[ objects or flow tables ]"]


def test_foreign_sets_and_chains_are_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("add set inet sluice mine { type ipv4_addr; }")
    host.nft("add chain inet sluice hers { type filter hook input priority 3; policy drop; }")
    assert difference(host, *MACHINE) == [
        " table inet sluice", "-\tset mine", "-\t\ttype ipv4_addr", "-\tchain hers",
        "-\t\tpolicy drop;", "-\t\ttype filter hook input priority 3; policy accept;"]


def test_a_sleeping_table_is_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.nft("add table inet sluice { flags dormant; }")
    assert difference(host, *MACHINE) == [" table inet sluice", "-\tflags dormant"]


@pytest.mark.parametrize("option, family", [("", "-4"), (" -6", "-6")], ids=["IPv4", "IPv6"])
def test_a_deleted_ip_rule_is_named(host: Namespace, option: str, family: str) -> None:
    apply(host, *MACHINE)
    host.run("ip", family, "rule", "delete", "priority", "155")
    lines = difference(host, *MACHINE)
    assert len(lines) == 1
    assert lines[0].startswith(f"+ip{option} rule priority 155 fwmark ")
    assert lines[0].endswith(" iif lo lookup 155")


@pytest.mark.parametrize("name", ["all", "lo"])
def test_a_host_without_ipv6_lacks_nothing(host: Namespace, name: str) -> None:
    host.write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
    apply(host, *MACHINE)
    assert compare(host, *MACHINE).stdout == SAME


def test_a_deleted_route_is_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.ip("route flush table 155")
    assert difference(host, *MACHINE) == ["+ip route local default dev lo table 155"]


def test_a_foreign_rule_of_our_protocol_is_named(host: Namespace) -> None:
    apply(host, *MACHINE)
    host.ip("rule add priority 99 from 192.0.2.8 lookup main protocol 155")
    assert difference(host, *MACHINE) == ["-entry of protocol 155"]


def test_long_sets_are_read_fast_and_shown_briefly(
    host: Namespace, tmp_path: Path
) -> None:
    blocks = [f"{11 + n // 32768}.{n // 128 % 256}.{n % 128 * 2}.0/24" for n in range(100_000)]
    listed, fewer = tmp_path / "all", tmp_path / "fewer"
    listed.write_text("\n".join(blocks))
    fewer.write_text("\n".join(blocks[:50_000] + blocks[50_001:]))
    apply(host, *MACHINE, "--bypass-file", str(listed))
    assert compare(host, *MACHINE, "--bypass-file", str(listed)).stdout == SAME
    assert difference(host, *MACHINE, "--bypass-file", str(fewer)) == [
        " table inet sluice", " \tset bypass4", f"-\t\t{blocks[50_000]}"]


def test_what_a_daemon_has_installed_is_the_same(host: Namespace) -> None:
    arguments = ["embedded", "--machine"]
    with Sluice(host, *arguments):
        assert compare(host, *arguments).stdout == SAME


def test_changes_meanwhile_mix_nothing_up(host: Namespace) -> None:
    """The kernel's answers of before and after a change are never taken for one state."""
    here = (*MACHINE, "--bypass", "21.0.0.0/8", "--bypass", "3fff:1::/32")
    there = (*MACHINE, "--bypass", "31.0.0.0/8", "--bypass", "3fff:2::/32")
    changed = [
        " table inet sluice", " \tset bypass4", "-\t\t31.0.0.0/8", "+\t\t21.0.0.0/8",
        " \tset bypass6", "-\t\t3fff:2::/32", "+\t\t3fff:1::/32"]
    states = (
        "add table inet sluice\ndelete table inet sluice\n"
        + host.run(binary(), "rules", "show", *arguments).stdout for arguments in (here, there))
    loop = """
        change() { printf %s "$1" | nft -f - && echo changed; }
        while change "$1" && change "$2"; do :; done"""
    apply(host, *here)
    with Program(host, "sh", "-c", loop, "sh", *states) as changes:
        for _ in range(50):
            count = len(changes.lines)
            done = compare(host, *here)
            if done.returncode == 0:
                assert done.stdout == SAME
            else:
                assert done.stdout.splitlines()[2:] == changed, done.stderr
            changes.wait_for_output(
                lambda: len(changes.lines) > count, "another change", PATIENCE)
