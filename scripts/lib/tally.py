"""Counts the results of a test runner: `tally.py STATUS FILE...` prints `PASSED FAILED SKIPPED`.

FILE are JUnit XML files, as Swift Testing and pytest write them; those that do not exist count for
nothing. STATUS is the runner's exit status: a runner that failed without naming a failed test (it
crashed, did not build, ran out of time) and one that ran no test at all count as one failure.
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

# What XML 1.0 section 2.2 does not allow; a failing test's message may well contain it.
INVALID = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def count(file):
    """(passed, failed, skipped) of one file; an unreadable one is a failure."""
    try:
        root = ElementTree.fromstring(INVALID.sub("?", file.read_text(errors="replace")))
    except ElementTree.ParseError as error:
        print(f"tally: {file}: {error}", file=sys.stderr)
        return 0, 1, 0
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def tally(status, files):
    counts = [count(file) for file in files if file.exists()]
    passed, failed, skipped = (sum(column) for column in zip((0, 0, 0), *counts))
    if failed == 0 and (status != 0 or passed + skipped == 0):
        failed = 1
    return passed, failed, skipped


if __name__ == "__main__":
    print(*tally(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]))
