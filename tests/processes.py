"""Finds processes that a test started and did not end."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 3.0
"""Processes that were told to end may take this long."""

_LIVE_ON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Python's own helpers: started once, kept until the interpreter ends."""


@dataclass(frozen=True, slots=True)
class Process:
    """A running process."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"{self.command} (pid {self.pid})"


def become_subreaper() -> None:
    """Makes orphaned descendants children of this process, instead of children of init (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(known: Collection[int] = ()) -> frozenset[Process]:
    """Every process below this one, except those that have ended and Python's own helpers.

    Args:
        known: process ids to leave out together with everything below them: a server of the session may
            start workers at any time.
    """
    found: set[Process] = set()
    waiting = [os.getpid()]
    while waiting:
        for child in set(_children(waiting.pop())) - set(known):
            command = _command(child)
            if any(name in command for name in _LIVE_ON):
                continue
            waiting.append(child)
            if _is_running(child):
                found.add(Process(child, command))
    return frozenset(found)


def _children(pid: int) -> list[int]:
    children: list[int] = []
    # A process may end while it is read.
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += map(int, (thread / "children").read_text("ascii").split())
    return children


def _is_running(pid: int) -> bool:
    """Whether the process has not ended; a zombie has. Its command line is no sign: exec empties it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def wait_for_end(before: frozenset[Process]) -> list[Process]:
    """The processes that are new since `before` and do not end by themselves in a moment."""
    known = {process.pid for process in before}
    deadline = time.monotonic() + _GRACE_SECONDS
    while (left := descendants(known)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return sorted(left, key=str)


def kill(processes: list[Process]) -> None:
    """Ends processes by force."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
