"""Measures for how long a piece of work keeps the interpreter lock from everybody else.

pysequoia holds the lock while it works, so a certificate that keeps it busy stops the event loop although it
is judged in a thread. CPU time of the process is counted, so that other programs on the machine do not show.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Thread

_TICK_SECONDS = 0.001


@dataclass(frozen=True)
class Held:
    """CPU time that was seen while the work ran in a thread."""

    longest_ms: float
    """The most between two ticks of another thread."""
    total_ms: float


def measure(work: Callable[[], object]) -> Held:
    """Runs the work in a thread and ticks beside it."""
    thread = Thread(target=work)
    started = last = time.process_time()
    longest = 0.0
    thread.start()
    while thread.is_alive():
        time.sleep(_TICK_SECONDS)
        now = time.process_time()
        longest, last = max(longest, now - last), now
    thread.join()
    now = time.process_time()
    longest, last = max(longest, now - last), now  # what ended before the first tick
    return Held(longest * 1000, (last - started) * 1000)
