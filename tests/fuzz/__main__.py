"""Fuzzes one target, or shows what the hostile certificates cost.

python -m tests.fuzz                      the names of the targets
python -m tests.fuzz judge [SECONDS]      altered seeds, another seed each time; needs nothing installed
python -m tests.fuzz judge --atheris …    guided by coverage; needs atheris, which takes the other arguments
python -m tests.fuzz judge FILE           one input again
python -m tests.fuzz hostile              time, and how long the interpreter lock was held, for each
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from secrets import randbelow

from tests.fuzz.gil import measure
from tests.fuzz.hostile import HOSTILE
from tests.fuzz.running import run
from tests.fuzz.targets import TARGETS, Target
from tests.opinions import judge

_DEFAULT_SECONDS = 60.0


def _until(end: float) -> Iterator[None]:
    while time.monotonic() < end:
        yield


def _fuzz(target: Target, seconds: float) -> None:
    seed = randbelow(1 << 32)
    print(f"{target.name}: seed {seed}, {seconds:g} s")
    count = run(target, seed, _until(time.monotonic() + seconds))
    print(f"{count} inputs, nothing found")


def _guided(target: Target, arguments: list[str]) -> None:
    import atheris  # type: ignore[import-not-found]

    atheris.Setup([sys.argv[0], *arguments], atheris.instrument_func(target.run))
    atheris.Fuzz()


def _show_hostile() -> None:
    judge(HOSTILE[-1].make())  # what is done once is not what is measured
    for hostile in HOSTILE:
        data = hostile.make()
        held = measure(lambda data=data: judge(data))
        print(
            f"{hostile.name:34} {len(data):9} octets {held.total_ms:6.0f} ms, lock {held.longest_ms:4.0f} ms"
        )


def main(arguments: list[str]) -> None:
    """What the command line asks for."""
    name, *others = [*arguments, ""]
    if name == "hostile":
        _show_hostile()
    elif name not in TARGETS:
        sys.exit(f"targets: {', '.join(TARGETS)}\n{__doc__}")
    elif "--atheris" in others:
        _guided(TARGETS[name], [other for other in others[:-1] if other != "--atheris"])
    elif Path(others[0]).is_file():
        TARGETS[name].run(Path(others[0]).read_bytes())
    else:
        _fuzz(TARGETS[name], float(others[0] or _DEFAULT_SECONDS))


main(sys.argv[1:])
