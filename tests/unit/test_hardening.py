"""Tests of `relay/hardening.py`."""

from __future__ import annotations

import os
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


def test_harden_process_asks_for_no_backtraces() -> None:
    """A certificate that is refused must not hold the interpreter, whatever the environment says."""
    program = (
        "import os; from relay.hardening import harden_process; harden_process();"
        "print(os.environ['RUST_LIB_BACKTRACE'])"
    )
    environment = {**os.environ, "RUST_LIB_BACKTRACE": "1"}

    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )

    assert "0" == printed.stdout.strip()
