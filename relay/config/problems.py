"""What is wrong with a configuration, as an admin needs to hear it: where, what, and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path as FilePath

Path = tuple[str | int, ...]
"""Where a value stands in the document: mapping keys and list indexes from the top."""

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong, or, in `Config.warnings`, one that deserves a look."""

    file: FilePath
    line: int
    """Of the setting, from 1; of the closest setting above it where it is missing."""
    path: str
    """`listen[0].tls`; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigInvalid(Exception):
    """The configuration cannot be used; `problems` holds all that was found, in the order of the lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems)
        super().__init__("\n".join(map(str, self.problems)))


def show(path: Path) -> str:
    """`("listen", 0, "tls")` as `listen[0].tls`; keys that are not plain words stand in quotes."""
    return "".join(_step(step) for step in path).removeprefix(".")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN_KEY.fullmatch(step) else f"[{json.dumps(step, ensure_ascii=False)}]"
