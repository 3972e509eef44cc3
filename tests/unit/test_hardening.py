"""Tests of `relay/hardening.py`."""

from __future__ import annotations

import subprocess
import sys


def test_harden_process_leaves_no_core() -> None:
    """O-05: no core file, and no other process of this user may read its memory."""
    program = (
        "import ctypes, resource; from relay.hardening import harden_process; harden_process();"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert f"{(0, 0)} 0" == printed.stdout.strip()
