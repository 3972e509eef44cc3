"""Runs a target on altered seeds, and keeps what made it fail."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from random import Random

from tests.fuzz.mutation import inputs
from tests.fuzz.targets import Target


class Found(Exception):
    """An input made the target fail; the text says where the input is."""


def run(target: Target, seed: int, more: Iterable[object]) -> int:
    """Gives the target one input for every item of `more`; how many there were.

    Raises:
        Found: the target raised.
    """
    count = 0
    for data, _ in zip(inputs(target.seeds(), Random(seed), target.changes), more, strict=False):
        try:
            target.run(data)
        except BaseException as exc:
            if isinstance(exc, KeyboardInterrupt):
                raise
            raise Found(
                f"{target.name}: {type(exc).__name__}: {exc}; input in {_keep(target, data)}"
            ) from exc
        count += 1
    return count


def _keep(target: Target, data: bytes) -> Path:
    name = f"fuzz-{target.name}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
    path = Path(tempfile.gettempdir()) / name
    path.write_bytes(data)
    return path
