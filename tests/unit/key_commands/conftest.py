"""Desks for the tests of the key commands."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import require
from tests.unit.key_commands.desk import Desk


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With a folder of keys, two sources outside of this machine, and a store."""
    desk = Desk(tmp_path)
    monkeypatch.setattr("relay.sources.opened", desk.opened)
    return desk


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """With a folder of keys alone: no store."""
    desk = Desk(tmp_path, outside=False)
    monkeypatch.setattr("relay.sources.opened", desk.opened)
    return desk


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Desk]:
    """With a folder and an empty keyring."""
    require("gpg")
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # short: GnuPG's sockets end at 107 characters
    yield Desk(tmp_path, outside=False, home=home)
    shutil.rmtree(home, ignore_errors=True)
