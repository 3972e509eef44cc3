"""Tests of `relay/demo.py`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.programs import require


@pytest.mark.system
def test_demo_once_shows_ciphertext_and_what_the_recipient_reads() -> None:
    """`relay demo --once` sends a real message and shows both ends of it."""
    require("gpg")

    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--once"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    sent, _, rest = done.stdout.partition("What the next hop got")
    received, _, read = rest.partition("gpg --decrypt")
    assert "17 and 4" in sent
    assert "-----BEGIN PGP MESSAGE-----" in received
    assert "17 and 4" not in received
    assert "17 and 4" in read
