"""Says whether a program that a test needs is installed, and skips the test where it is not.

With `RELAY_TEST_STRICT=1`, as in continuous integration, a missing program is a failure: a skip hides a hole.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")


def require(name: str) -> str:
    """The absolute path of program `name`; skips or fails the calling test where it is missing."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    found = shutil.which(name, path=path)
    if not found:
        unavailable(f"{name} is not installed")
    return str(Path(found).absolute())


def unavailable(reason: str) -> NoReturn:
    """Skips the calling test because the machine lacks something; fails it in strict mode."""
    if os.environ.get("RELAY_TEST_STRICT") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
