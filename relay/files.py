"""Writes files so that readers, and crashes, see old content or new; reads them without ever waiting."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path


def read_regular(path: Path, max_bytes: int) -> tuple[bytes, os.stat_result]:
    """The first octets of a regular file, and what the system says about just this file.

    Args:
        max_bytes: one octet more is read, so that a file that is too long is seen to be.

    Raises:
        OSError: it cannot be read, or is no regular file: a pipe or a device could keep us waiting for ever.
    """
    with open(path, "rb", opener=_without_waiting) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(max_bytes + 1), status


def _without_waiting(path: str, flags: int) -> int:
    """Opens a pipe although nobody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


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
