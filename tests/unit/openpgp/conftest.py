"""Keys and engines that the tests of this folder share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import require
from tests.unit.openpgp.parties import Parties


@pytest.fixture(scope="session")
def parties() -> Iterator[Parties]:
    """Three recipients: Curve25519, RSA, and one with a subkey of each."""
    require("gpg")
    made = Parties(Path(tempfile.mkdtemp(prefix="gpg-")))  # short: sockets end at 107 characters
    try:
        made.add("curve", "ed25519", "cv25519")
        made.add("rsa", "rsa2048", "rsa2048")
        made.add("double", "ed25519", "cv25519", "rsa2048")
        yield made
    finally:
        made.close()
