"""Tests of `relay/demo.py`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

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


@pytest.mark.system
def test_demo_beside_another_program_takes_other_ports_and_leaves_nothing() -> None:
    """Its usual ports may be in use; at the end neither its folder nor a gpg-agent stays."""
    require("gpg")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))  # short: see below
        for port in (1465, 1587):
            with contextlib.suppress(OSError):  # somebody else has it, which does as well
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
        done = subprocess.run(
            [sys.executable, "-m", "relay", "demo", "--once"],
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        left = list(folder.iterdir())

    assert 0 == done.returncode, done.stderr
    assert "127.0.0.1:1465" not in done.stderr
    assert [] == left


@pytest.mark.system
def test_demo_says_what_gpg_said_when_it_fails(tmp_path: Path) -> None:
    """The path of an agent's socket has at most 107 octets: a deep TMPDIR is too long for gpg."""
    require("gpg")
    folder = tmp_path / ("x" * 100)
    folder.mkdir()

    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--once"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )

    assert 1 == done.returncode
    assert "Error: gpg failed: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [] == list(folder.iterdir())


def test_demo_without_gpg_says_what_to_install(tmp_path: Path) -> None:
    """A machine without GnuPG gets a sentence, not a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "relay", "demo", "--once"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, "PATH": str(tmp_path)},
    )

    assert (1, True) == (done.returncode, "apt-get install gnupg" in done.stderr)
