"""What a client signed before it submitted the message verifies behind the relay.

Signatures that the relay itself makes have a file of their own, `test_signed.py`.
"""

from __future__ import annotations

from tempfile import NamedTemporaryFile

import pytest

from tests import keys
from tests.integration.reading.letters import (
    SIGNED,
    SIGNED_WITH_HEADER,
    SIGNER,
    Letter,
    gnupg_home,
    letters,
    run,
)
from tests.readers import reader

pytestmark = pytest.mark.system

OWNER = "curve25519"


@pytest.fixture(scope="module")
def sent() -> list[Letter]:
    """Both kinds, from both engines."""
    return letters([(OWNER,)], (SIGNED, SIGNED_WITH_HEADER))[(OWNER,)]


def test_signature_of_the_client_verifies_after_decryption(sent: list[Letter]) -> None:
    """GnuPG finds it good over the octets of the signed part as they were decrypted (RFC 1847 §2.1)."""
    statuses = [_verify(plaintext) for plaintext in _decrypted(sent)]

    fingerprint = keys.certificate(SIGNER).fingerprint
    assert len(sent) == 4
    assert [True] * 4 == [f"VALIDSIG {fingerprint}" in status for status in statuses]


def test_signed_part_with_its_own_header_is_the_payload_itself(sent: list[Letter]) -> None:
    """Where the signed part holds the Subject, nothing is wrapped around it: it would not be shown (H-13)."""
    found = {
        letter.engine: plaintext
        for letter, plaintext in zip(sent, _decrypted(sent), strict=True)
        if letter.kind == SIGNED_WITH_HEADER
    }

    assert {"sequoia", "gnupg"} == set(found)
    assert all(plaintext.startswith(b"Content-Type: multipart/signed;") for plaintext in found.values())


def _decrypted(sent: list[Letter]) -> list[bytes]:
    return reader("gpg").decrypt_all([letter.armored for letter in sent], keys.secret(OWNER))


def _verify(plaintext: bytes) -> str:
    """What GnuPG says of the signature in a multipart/signed, in its words for machines."""
    _, part, rest = plaintext.split(b"\r\n--sig\r\n")
    signature = rest.partition(b"\r\n\r\n")[2].partition(b"\r\n--sig--")[0]
    with gnupg_home(keys.certificate(SIGNER).data) as gpg, NamedTemporaryFile() as file:
        file.write(signature)
        file.flush()
        return run([*gpg, "--status-fd", "1", "--verify", file.name, "-"], part).decode()
