"""Fuzzes one target or all, or shows what the hostile certificates cost.

python -m tests.fuzz                      the names of the targets
python -m tests.fuzz judge [SECONDS]      altered seeds, another seed each time; needs nothing installed
python -m tests.fuzz all [SECONDS]        the same for each target in turn (`make fuzz`)
python -m tests.fuzz judge --atheris …    guided by coverage; needs atheris, which takes the other arguments
python -m tests.fuzz judge FILE           one input again
python -m tests.fuzz hostile              time, memory, and how long the interpreter lock was held, for each
"""

from __future__ import annotations

import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import randbelow
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported where they are used, because atheris looks at what is imported after itself
    from tests.fuzz.targets import Target

_DEFAULT_SECONDS = 60.0


def _until(end: float) -> Iterator[None]:
    while time.monotonic() < end:
        yield


def _fuzz(target: Target, seconds: float) -> None:
    from tests.fuzz.running import run

    seed = randbelow(1 << 32)
    print(f"{target.name}: seed {seed}, {seconds:g} s", flush=True)
    count = run(target, seed, _until(time.monotonic() + seconds))
    print(f"{count} inputs, nothing found")


def _guided(name: str, arguments: list[str]) -> None:
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["relay"]):
        from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate(TARGETS[name].seeds()):
            (Path(corpus) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], corpus, *arguments], TARGETS[name].run)
        atheris.Fuzz()


def _peak_bytes(work: Callable[[], object]) -> int:
    """What Python has allocated at most while it worked; libraries allocate beside it."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _show_hostile() -> None:
    from tests.fuzz.gil import measure
    from tests.fuzz.hostile import HOSTILE
    from tests.opinions import judge

    judge(HOSTILE[-1].make())  # what is done once is not what is measured
    for hostile in HOSTILE:
        data = hostile.make()
        held = measure(lambda data=data: judge(data))
        megabytes = _peak_bytes(lambda data=data: judge(data)) / 1e6
        print(
            f"{hostile.name:34} {len(data):8} octets {held.total_ms:5.0f} ms, "
            f"lock {held.longest_ms:4.0f} ms, {megabytes:5.1f} MB: {hostile.verdict}"
        )


def main(arguments: list[str]) -> None:
    """What the command line asks for."""
    name, *others = [*arguments, ""]
    if "--atheris" in others:
        _guided(name, [other for other in others[:-1] if other != "--atheris"])
        return
    from tests.fuzz.targets import TARGETS

    if name == "hostile":
        _show_hostile()
    elif name == "all":
        for target in TARGETS.values():
            _fuzz(target, float(others[0] or _DEFAULT_SECONDS))
    elif name not in TARGETS:
        sys.exit(f"targets: {', '.join(TARGETS)}\n{__doc__}")
    elif Path(others[0]).is_file():
        TARGETS[name].run(Path(others[0]).read_bytes())
    else:
        _fuzz(TARGETS[name], float(others[0] or _DEFAULT_SECONDS))


main(sys.argv[1:])
