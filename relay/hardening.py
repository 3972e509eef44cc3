"""Keeps the memory of a process that holds plaintext to itself, and gives it back when it is free."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys

_PR_SET_DUMPABLE = 4
"""prctl(2): no core dumps and no reading of our memory by other processes of the same user."""

_M_MMAP_THRESHOLD = -3
"""mallopt(3): blocks from this size on are mapped one by one, and unmapped when they are freed."""

_LARGE_BLOCK_BYTES = 1 << 18


def harden_process() -> None:
    """Keeps plaintext in memory out of core dumps and other processes (RFC 9580 §13.14).

    It makes glibc give large blocks back at once: by default it learns to keep them, and the process
    would hold on to what the memory budget believes to be free.

    And it stops pysequoia from collecting a backtrace for each certificate that it refuses: the first one
    holds the interpreter for 86 ms where the environment asks for backtraces.
    """
    os.environ["RUST_LIB_BACKTRACE"] = "0"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
        with contextlib.suppress(AttributeError):  # not glibc
            libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
