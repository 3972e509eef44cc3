"""The process that signs one large message: its frame, and that half a frame is nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import pysequoia
import pytest

import relay
from relay.openpgp.signing import worker
from relay.openpgp.worker import LibraryRefused
from tests import keys
from tests.unit.openpgp.parties import public, version_6

RECIPIENT = version_6("six")
TEXT = b"x" * 300_000


def _frame(password: str | None = None, text: bytes = TEXT) -> bytes:
    parts = worker.frame(keys.secret("curve25519"), password, [public(RECIPIENT)], text, allows_v2=True)
    return b"".join(parts)


def _read(message: bytes) -> tuple[bytes | None, int]:
    signer = pysequoia.Cert.from_bytes(keys.certificate("curve25519").data)
    opened = pysequoia.decrypt(message, RECIPIENT.decryptor(), store=lambda _: [signer])
    return opened.bytes, len(opened.valid_sigs)


@pytest.mark.parametrize("text", [TEXT, b""])
def test_answer_is_the_signed_message(text: bytes) -> None:
    """The plaintext arrives whole with its signature."""
    assert (text, 1) == _read(bytes(worker.answer(BytesIO(_frame(text=text)))))


@pytest.mark.parametrize("missing", [1, 7, 100, 299_999, 300_000, 300_009])
def test_answer_frame_cut_off_raises(missing: int) -> None:
    """Half a plaintext is never signed."""
    with pytest.raises(EOFError):
        worker.answer(BytesIO(_frame()[:-missing]))


def test_answer_wrong_password_raises() -> None:
    """A password where none belongs is refused by the library."""
    with pytest.raises(LibraryRefused):
        worker.answer(BytesIO(_frame("password")))


def _started(frame: bytes) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(relay.__file__).parents[1])}
    return subprocess.run(worker.command(), input=frame, capture_output=True, env=environment, check=False)


def test_main_writes_the_message() -> None:
    """The process answers on its standard output and says nothing else."""
    done = _started(_frame())

    assert (0, b"") == (done.returncode, done.stderr)
    assert (TEXT, 1) == _read(done.stdout)


@pytest.mark.parametrize("frame", [b"", b"garbage" * 9, _frame()[:-1], _frame("password")])
def test_main_failure_is_an_exit_status_and_one_line(frame: bytes) -> None:
    """A failure leaves no output, and its reason holds no secret."""
    done = _started(frame)

    assert (1, b"") == (done.returncode, done.stdout)
    assert b"Traceback" not in done.stderr
    assert b"password" not in done.stderr


def test_command_runs_this_package() -> None:
    """This Python, with nothing from the working directory."""
    assert [sys.executable, "-P", "-m", "relay.openpgp.signing.worker"] == worker.command()
