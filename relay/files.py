"""Writes files so that a reader, or a crash, only ever sees the old content or the new one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def replace_file(path: Path, data: bytes, *, mode: int) -> None:
    """Writes `data` to `path`; a file that is already there keeps its owner and its mode.

    A symbolic link stays one: the file that it names is replaced.

    Args:
        mode: permissions of a new file.

    Raises:
        OSError: it cannot be written; the old content is still there.
    """
    target = path.resolve()
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            _adopt(descriptor, target, mode)
            os.fsync(descriptor)
        Path(temporary).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _adopt(descriptor: int, target: Path, mode: int) -> None:
    """Gives the new file the owner and mode of the old one, so that the relay's user can still read it."""
    try:
        before = target.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    mine = os.fstat(descriptor)
    if (before.st_uid, before.st_gid) != (mine.st_uid, mine.st_gid):
        os.fchown(descriptor, before.st_uid, before.st_gid)
    os.fchmod(descriptor, before.st_mode & 0o777)
