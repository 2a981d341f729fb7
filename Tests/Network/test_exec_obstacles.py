"""What `sluice exec` says where the machine does not let it: which obstacle it is, and what helps. And
that root, or who has the capabilities, needs no user namespace."""

import re
import socket
import pytest

from harness import seccomp
from harness.hindered import NEEDED, Hindered
from harness.namespaces import Namespace
from harness.seccomp import (
    forbid_mounts, forbid_option, forbid_sockets, forbid_user_namespaces)
from harness.targets import Mirror
from harness.topology import ADDRESSES, Topology

UNAVAILABLE, NO_PERMISSION = 69, 77

ROOT = 0

#: linux/netlink.h, linux/in.h and linux/in6.h.
NETLINK_ROUTE, NETLINK_NETFILTER = 0, 12
IP_TRANSPARENT, IPV6_TRANSPARENT = 19, 75

#: Ubuntu's switch, and Debian's.
APPARMOR = {"apparmor_restrict_unprivileged_userns": 1}
CLONE = {"unprivileged_userns_clone": 0}


def told(user: Hindered, code: int) -> str:
    """What a run says that cannot be: one line, before the program is started."""
    done = user.run(command=["touch", "started"])
    assert not (user.home / "started").exists(), "the program was started"
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def assert_told(user: Hindered, code: int, *patterns: str) -> None:
    text = told(user, code)
    for pattern in patterns:
        assert re.search(pattern, text), f"{pattern!r} is not in: {text}"


def assert_works(user: Hindered) -> None:
    done = user.run(command=["touch", "started"])
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (user.home / "started").exists()


# Nothing in the way: what the obstacles are put on.

@pytest.mark.parametrize(
    "limits", [{}, {"user": 1, "net": 1, "mnt": 1}], ids=["free", "just-enough"])
def test_without_obstacles(alone: Namespace, limits: dict[str, int]) -> None:
    with Hindered(
        alone, kernel={"odd": 1}, rules=[("fsopen", [], "ENOSYS")], limits=limits) as user:
        done = user.run(command=["cat", "/proc/sys/kernel/odd"])
        assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


# No user namespaces.

@pytest.mark.parametrize("kind", ["user", "net", "mnt"])
def test_switched_off_by_sysctl(alone: Namespace, kind: str) -> None:
    name = f"user.max_{kind}_namespaces"
    with Hindered(alone, limits={kind: 0}) as user:
        assert_told(
            user, NO_PERMISSION, rf"{re.escape(name)} ?= ?0",
            rf"sysctl (-w )?{re.escape(name)}=\d{{2,}}")


def test_all_are_in_use(alone: Namespace) -> None:
    """The limit is not none, and reached."""
    with Hindered(alone, limits={"net": 1}) as user:
        with user.start(command=["sleep", "1000"]) as first:
            user.wait_for_inside("sleep")
            assert_told(
                user, UNAVAILABLE, r"user\.max_net_namespaces ?= ?1\b",
                r"sysctl (-w )?user\.max_net_namespaces=\d{2,}")
            first.end()


def test_switched_off_as_on_debian(alone: Namespace) -> None:
    with Hindered(alone, kernel=CLONE, rules=forbid_user_namespaces()) as user:
        assert_told(
            user, NO_PERMISSION, r"kernel\.unprivileged_userns_clone ?= ?0",
            r"sysctl (-w )?kernel\.unprivileged_userns_clone=1")


#: What AppArmor leaves of a user namespace: it can be made, and gives no capability.
POWERLESS = {
    "mounts": forbid_mounts(),
    "netlink": [forbid_sockets(socket.AF_NETLINK, NETLINK_ROUTE, "EPERM")],
    "mounts-access": forbid_mounts("EACCES"),
    "everything": [*forbid_mounts(), forbid_sockets(socket.AF_NETLINK, NETLINK_ROUTE, "EPERM"),
                   forbid_sockets(socket.AF_NETLINK, NETLINK_NETFILTER, "EPERM")],
    "at-once": forbid_user_namespaces("EACCES"),
}


@pytest.mark.parametrize("rules", POWERLESS.values(), ids=POWERLESS)
def test_restricted_by_apparmor(alone: Namespace, rules: list[seccomp.Rule]) -> None:
    with Hindered(alone, kernel=APPARMOR, rules=rules) as user:
        assert_told(
            user, NO_PERMISSION, "AppArmor", r"kernel\.apparmor_restrict_unprivileged_userns ?= ?1",
            r"sysctl (-w )?kernel\.apparmor_restrict_unprivileged_userns=0|profile")


@pytest.mark.parametrize("error", ["EPERM", "ENOSYS"])
def test_forbidden_by_a_container(alone: Namespace, error: str) -> None:
    with Hindered(alone, rules=forbid_user_namespaces(error)) as user:
        assert_told(user, NO_PERMISSION if error == "EPERM" else UNAVAILABLE,
                    "seccomp|CONFIG_USER_NS", "root|--security-opt|CONFIG_USER_NS|CAP_SYS_ADMIN")


def test_switches_that_are_on_are_not_blamed(alone: Namespace) -> None:
    kernel = {"unprivileged_userns_clone": 1, "apparmor_restrict_unprivileged_userns": 0}
    with Hindered(alone, kernel=kernel, rules=forbid_user_namespaces()) as user:
        text = told(user, NO_PERMISSION)
        assert "seccomp" in text
        assert "sysctl" not in text and "AppArmor" not in text


# What the kernel lacks.

@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
def test_no_nftables(alone: Namespace, person: int | None) -> None:
    rule = forbid_sockets(socket.AF_NETLINK, NETLINK_NETFILTER, "EPROTONOSUPPORT")
    with hindered(alone, person, [rule]) as user:
        assert_told(user, UNAVAILABLE, "nftables", "CONFIG_NF_TABLES|nf_tables")


@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
@pytest.mark.parametrize("family", ["ipv4", "ipv6", "both"])
def test_no_tproxy(alone: Namespace, person: int | None, family: str) -> None:
    rules = []
    if family != "ipv6":
        rules.append(forbid_option(socket.IPPROTO_IP, IP_TRANSPARENT, "ENOPROTOOPT"))
    if family != "ipv4":
        rules.append(forbid_option(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, "ENOPROTOOPT"))
    with hindered(alone, person, rules) as user:
        assert_told(user, UNAVAILABLE, "TPROXY|IP_TRANSPARENT|IPV6_TRANSPARENT", "CONFIG_\\w*TPROXY")


def hindered(alone: Namespace, person: int | None, rules: list[seccomp.Rule]) -> Hindered:
    return Hindered(alone, rules=rules) if person is None else Hindered(alone, person, rules=rules)


def test_no_netlink_at_all(alone: Namespace) -> None:
    """As gVisor and some sandboxes have it."""
    with Hindered(alone, rules=[forbid_sockets(socket.AF_NETLINK, None, "EAFNOSUPPORT")]) as user:
        assert_told(user, UNAVAILABLE, "netlink|CONFIG_|seccomp")


@pytest.mark.parametrize("person", [None, ROOT], ids=["user", "root"])
def test_no_ipv6(topology: Topology, person: int | None) -> None:
    """IPv4 goes through all the same."""
    rules = [forbid_sockets(socket.AF_INET6, None, "EAFNOSUPPORT")]
    at = ADDRESSES["ipv4"]
    with Mirror(topology.server) as mirror, hindered(topology.client, person, rules) as user:
        fetch = ["bash", "-c", f"cat </dev/tcp/{at.server}/{mirror.port}"]
        done = user.run(command=fetch)
        # The embedded server connects from here.
        assert (done.returncode, done.stdout, done.stderr) == (0, at.client, "")
        # And through nothing else.
        assert user.run("socks5://127.0.0.1:1", command=fetch).returncode != 0
        assert mirror.peers == [at.client]


# Root, and who has the capabilities, makes a plain network namespace.

@pytest.mark.parametrize(
    "rules", [[], forbid_user_namespaces()], ids=["free", "no-user-namespaces"])
def test_root_needs_no_user_namespace(alone: Namespace, rules: list[seccomp.Rule]) -> None:
    with Hindered(alone, ROOT, rules=rules) as user:
        assert_works(user)
        done = user.run(command=["cat", "/proc/self/uid_map"])
        assert done.stdout.split() == ["0", "0", "4294967295"]


@pytest.mark.parametrize("lacking", ["sys_admin", "net_admin"])
def test_root_without_a_capability(alone: Namespace, lacking: str) -> None:
    """As in a container: a user namespace does, where there may be one."""
    with Hindered(alone, ROOT, lack=[lacking]) as user:
        assert_works(user)
        assert user.get(command=["cat", "/proc/self/uid_map"]).split() == ["0", "0", "1"]
    with Hindered(alone, ROOT, lack=[lacking], rules=forbid_user_namespaces()) as user:
        assert_told(user, NO_PERMISSION, "seccomp", f"CAP_{lacking.upper()}|{lacking.upper()}")


def test_root_where_they_are_switched_off(alone: Namespace) -> None:
    with Hindered(alone, ROOT, limits={"user": 0}) as user:
        assert_works(user)


def test_capabilities_are_enough(alone: Namespace) -> None:
    with Hindered(alone, rules=forbid_user_namespaces(), keep=NEEDED) as user:
        assert_works(user)


@pytest.mark.parametrize("lacking", NEEDED)
def test_one_of_the_capabilities_is_not(alone: Namespace, lacking: str) -> None:
    keep = [one for one in NEEDED if one != lacking]
    with Hindered(alone, rules=forbid_user_namespaces(), keep=keep) as user:
        assert_told(user, NO_PERMISSION, "seccomp")
    with Hindered(alone, keep=keep) as user:
        assert_works(user)


@pytest.mark.parametrize(
    "words", [
        ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--", "id", "-u"),
        ("su", "-s", "/bin/sh", "-c", "id -u", "nobody")], ids=lambda words: words[0])
def test_root_may_become_somebody_else(alone: Namespace, words: tuple[str, ...]) -> None:
    with Hindered(alone, ROOT) as user:
        done = user.run(command=list(words))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == ("1000\n" if words[0] == "setpriv" else "65534\n")
