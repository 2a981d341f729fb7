"""`sluice doctor` as a program: its exit code and what it prints."""

import json

from .namespaces import Namespace
from .sluice import binary

DONE, USAGE, UNAVAILABLE, NO_PERMISSION = 0, 64, 69, 77

Findings = list[dict[str, str]]


def examine(
    host: Namespace, *arguments: str, within: tuple[str, ...] = ()
) -> tuple[int, Findings]:
    """The doctor's exit code and findings; `within` is a command that runs it."""
    done = host.run(*within, binary(), "doctor", "--json", *arguments, check=False)
    assert done.stderr == ""
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    for finding in findings:
        # What is not well comes with what to do about it, and only that.
        assert ("advice" in finding) == (finding["verdict"] != "ok"), finding
    return done.returncode, findings


def faults(findings: Findings) -> dict[str, str]:
    """The verdicts of everything that is not well, by check."""
    return {one["check"]: one["verdict"] for one in findings if one["verdict"] != "ok"}


def told(findings: Findings, check: str) -> str:
    """What the doctor found in a check, and its advice."""
    return "\n".join(
        f"{one['finding']} {one.get('advice', '')}" for one in findings if one["check"] == check)


def assert_only(
    result: tuple[int, Findings], check: str, verdict: str, *named: str, code: int | None = None
) -> None:
    """Exactly one check is not well, and says why and what to do in these words."""
    status, findings = result
    assert faults(findings) == {check: verdict}
    for word in named:
        assert word in told(findings, check)
    assert status == (code or (UNAVAILABLE if verdict == "failure" else DONE))
