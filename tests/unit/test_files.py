"""Tests of `relay/files.py`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relay.files import read_regular, replace_file


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_replace_file_makes_a_file_with_the_mode(tmp_path: Path) -> None:
    """A new file has exactly the mode that was asked for, whatever the umask."""
    path = tmp_path / "new"
    before = os.umask(0o277)
    try:
        replace_file(path, b"data", mode=0o600)
    finally:
        os.umask(before)

    assert b"data" == path.read_bytes()
    assert 0o600 == _mode(path)


def test_replace_file_keeps_mode_and_link_of_the_old_one(tmp_path: Path) -> None:
    """What an admin set up for the relay's user stays: the mode, and a link to the file."""
    path, link = tmp_path / "real", tmp_path / "link"
    path.write_bytes(b"old")
    path.chmod(0o640)
    link.symlink_to(path)

    replace_file(link, b"new", mode=0o600)

    assert link.is_symlink()
    assert b"new" == path.read_bytes()
    assert 0o640 == _mode(path)


def test_replace_file_that_fails_leaves_everything(tmp_path: Path) -> None:
    """Where the new content cannot be put in place nothing changes and nothing is left behind."""
    path = tmp_path / "folder"
    path.mkdir()

    with pytest.raises(OSError, match="folder"):
        replace_file(path, b"new", mode=0o600)

    assert [path] == list(tmp_path.iterdir())


def test_read_regular_reads_one_octet_more_than_allowed(tmp_path: Path) -> None:
    """Whoever asks sees that there is more, and never holds all of it."""
    (tmp_path / "file").write_bytes(b"0123456789")

    assert b"01234" == read_regular(tmp_path / "file", 4)[0]
    assert b"0123456789" == read_regular(tmp_path / "file", 10)[0]


@pytest.mark.parametrize("kind", ["pipe", "directory", "device"])
def test_read_regular_refuses_what_could_keep_it_waiting(tmp_path: Path, kind: str) -> None:
    """A pipe without a writer, a device without an end: refused at once."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    path = Path("/dev/zero") if kind == "device" else tmp_path / kind

    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        read_regular(path, 4)
