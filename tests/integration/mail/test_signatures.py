"""Signatures made before the relay verify behind it, with the programs that people use (H-14)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests import corpus
from tests.integration.mail.journeys import Arrived, arrived
from tests.programs import require

pytestmark = pytest.mark.system

PGP_SIGNED = (
    *("pgp-signed", "pgp-signed-hp-clear", "pgp-signed-protected-v1"),
    *("pgp-signed-protected-other-subject", "pgp-signed-protected-with-keywords"),
    "pgp-signed-with-list-footer",
)
_BOUNDARY = re.compile(rb'multipart/signed;(?:[^\r\n]|\r\n[ \t])*?boundary="([^"]+)"')


def _signed(entity: bytes) -> tuple[bytes, bytes]:
    """The signed part and the part with the signature of the first multipart/signed in `entity`."""
    boundary = _BOUNDARY.search(entity)
    assert boundary
    line = b"--" + boundary[1]
    _, part, signature, _ = re.split(rb"\r\n" + re.escape(line) + rb"(?:--)?\r\n", entity)
    return part, signature


def _entity(copy: Arrived, name: str) -> bytes:
    return copy.plaintext if name in corpus.SELF_PROTECTED else copy.child


def _run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


@pytest.mark.parametrize("name", PGP_SIGNED)
def test_openpgp_signature_still_verifies(name: str, tmp_path: Path) -> None:
    """GnuPG verifies the signature of a multipart/signed after the recipient has decrypted it."""
    part, signature = _signed(_entity(arrived(name), name))
    (tmp_path / "part").write_bytes(part)
    (tmp_path / "signature").write_bytes(signature.partition(b"\r\n\r\n")[2])

    keyring = corpus.FOLDER / "signer.pgp"
    done = _run(require("gpgv"), "--keyring", keyring, tmp_path / "signature", tmp_path / "part")

    assert (0, True) == (done.returncode, b"Good signature" in done.stderr), done.stderr


def test_cleartext_signature_still_verifies(tmp_path: Path) -> None:
    """GnuPG verifies text that was signed inline."""
    text = arrived("pgp-clearsigned").child.partition(b"\r\n\r\n")[2]
    (tmp_path / "text.asc").write_bytes(text)

    done = _run(require("gpgv"), "--keyring", corpus.FOLDER / "signer.pgp", tmp_path / "text.asc")

    assert (0, True) == (done.returncode, b"Good signature" in done.stderr), done.stderr


@pytest.mark.parametrize("name", ["smime-signed", "smime-opaque-signed"])
def test_smime_signature_still_verifies(name: str, tmp_path: Path) -> None:
    """OpenSSL verifies an S/MIME signature, detached or opaque."""
    (tmp_path / "message").write_bytes(arrived(name).child)

    certificate = corpus.FOLDER / "signer.crt"
    options = (
        "-CAfile",
        certificate,
        "-no_check_time",
        "-in",
        tmp_path / "message",
        "-out",
        tmp_path / "out",
    )
    done = _run(require("openssl"), "cms", "-verify", "-inform", "SMIME", *options)

    assert 0 == done.returncode, done.stderr
