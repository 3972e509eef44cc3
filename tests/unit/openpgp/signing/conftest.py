"""Keys that sign, and those who read."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import require
from tests.unit.openpgp.signing.offices import Office


@pytest.fixture
def office() -> Iterator[Office]:
    """An empty GnuPG home of an administrator."""
    require("gpg")
    made = Office(Path(tempfile.mkdtemp(prefix="gpg-")))  # short: sockets end at 107 characters
    yield made
    made.close()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory with a short path for private homes."""
    with tempfile.TemporaryDirectory(prefix="rly-") as directory:
        yield Path(directory)
