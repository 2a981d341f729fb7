"""What a test needs of the machine it runs on."""

import os
import shutil
from typing import NoReturn

import pytest


def lack(reason: str) -> NoReturn:
    """Skips the test for want of something; on a build machine that must not pass unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def need(program: str) -> str:
    """The path of a program that not everybody has who runs the tests."""
    return shutil.which(program) or lack(f"{program} is not installed")
