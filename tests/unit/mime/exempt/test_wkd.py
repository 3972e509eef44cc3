"""Tests of `relay.mime.exempt.wkd`."""

from __future__ import annotations

import base64

import pytest

from relay.mime.exempt.wkd import MAX_REQUEST_BYTES, MAX_TEXT_BYTES, is_confirmation_request
from relay.mime.headers import parse
from tests.mail import armor, crlf, encrypted, packet, pkesk, seipd
from tests.unit.mime.exempt.samples import HERE, SECRET, changed

_REQUEST = (HERE / "wkd-confirmation-request.eml").read_bytes()
_SIGNATURE = _REQUEST[_REQUEST.index(b"-----BEGIN PGP SIGNATURE") : _REQUEST.index(b"-----END PGP SIGNATURE")]
_MESSAGE = _REQUEST[
    _REQUEST.index(b"-----BEGIN PGP MESSAGE") : _REQUEST.index(b"\r\n--=-=02-8x5xzgwrertsey6d9sfo=-=--")
]
_TEXT = "to publish your key.  If you did not request a key\n"


def _is(content: bytes) -> bool:
    return is_confirmation_request(parse(content))


_CHANGES = {
    "version twice": ("Wks-Draft-Version: 3\n", "Wks-Draft-Version: 3\nWks-Draft-Version: 3\n"),
    "prose as version": ("Wks-Draft-Version: 3", f"Wks-Draft-Version: {SECRET}"),
    "other phase": ("Wks-Phase: confirm", "Wks-Phase: done"),
    "phase twice": ("Wks-Phase: confirm\n", "Wks-Phase: confirm\nWks-Phase: done\n"),
    "other type of signature": ("application/pgp-signature", "application/pkcs7-signature"),
    "no protocol": (' protocol="application/pgp-signature";\n', "\n"),
    "not signed": ("multipart/signed", "multipart/mixed"),
    "long text": (_TEXT, _TEXT + f"{SECRET}\n" * (MAX_TEXT_BYTES // len(SECRET))),
    "HTML": ("Content-Type: text/plain", "Content-Type: text/html"),
    "text as a file": (
        "Content-Type: text/plain",
        "Content-Disposition: attachment\nContent-Type: text/plain",
    ),
    "alternative": ("Content-Type: multipart/mixed", "Content-Type: multipart/alternative"),
    "third part inside": (
        "--=-=02-8x5xzgwrertsey6d9sfo=-=--",
        "--=-=02-8x5xzgwrertsey6d9sfo=-=\nContent-Type: text/plain\n\nx\n--=-=02-8x5xzgwrertsey6d9sfo=-=--",
    ),
    "other type of request": ("application/vnd.gnupg.wks", "application/octet-stream"),
    "request with a name": ("application/vnd.gnupg.wks", 'application/vnd.gnupg.wks; name="The merger"'),
    "request in base64": (
        "Content-Type: application/vnd.gnupg.wks\n",
        "Content-Type: application/vnd.gnupg.wks\nContent-Transfer-Encoding: base64\n",
    ),
    "text before the request": ("-----BEGIN PGP MESSAGE-----", f"{SECRET}\n-----BEGIN PGP MESSAGE-----"),
    "text behind the request": ("-----END PGP MESSAGE-----", f"-----END PGP MESSAGE-----\n{SECRET}"),
    "request of text": ("-----BEGIN PGP MESSAGE-----", f"{SECRET}\n\n-----BEGIN PGP MES SAGE-----"),
    "armour header": (
        "-----BEGIN PGP SIGNATURE-----\n",
        f"-----BEGIN PGP SIGNATURE-----\nComment: {SECRET}\n",
    ),
    "text before the signature": (
        "-----BEGIN PGP SIGNATURE-----",
        f"{SECRET}\n-----BEGIN PGP SIGNATURE-----",
    ),
    "text behind the signature": ("-----END PGP SIGNATURE-----", f"-----END PGP SIGNATURE-----\n{SECRET}"),
    "text on the END line": ("-----END PGP SIGNATURE-----", f"-----END PGP SIGNATURE----- {SECRET}"),
    "signature of another type": ("Content-Type: application/pgp-signature\n", "Content-Type: text/plain\n"),
    "no signature": ("-----BEGIN PGP SIGNATURE-----", "x"),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_is_confirmation_request_with_something_else_is_none(change: tuple[str, str]) -> None:
    """Only the message that draft-koch §4.3 describes is one, in each of its parts (D-14)."""
    assert _is(_REQUEST)
    assert not _is(changed(_REQUEST, *change))


@pytest.mark.parametrize(
    "change",
    [
        ("application/vnd.gnupg.wks", "application/vnd.gnupg.wkd"),
        ("If you did not request a key", "Wenn Sie das nicht waren"),
        ("multipart/signed;", "multipart/signed; micalg=pgp-sha512;"),
        ("Wks-Draft-Version: 3", "Wks-Draft-Version: 22"),
        ("Wks-Draft-Version: 3\nWks-Phase: confirm\n", ""),
    ],
)
def test_is_confirmation_request_of_a_legal_variant_is_one(change: tuple[str, str]) -> None:
    """The newer type, a text in another language, and the fields of other programs are as good."""
    assert _is(changed(_REQUEST, *change))


@pytest.mark.parametrize(
    "block",
    {
        "signed only": packet(2, b"\x04" * 100),
        "literal": packet(11, b"b\0\0\0\0\0" + SECRET.encode()),
        "compressed": packet(8, b"\0" + SECRET.encode()),
        "more behind": encrypted() + packet(11, b"b\0\0\0\0\0" + SECRET.encode()),
        "no packets": SECRET.encode(),
        "padding": packet(21, SECRET.encode()) + encrypted(),
        "large": pkesk() + seipd(bytes(MAX_REQUEST_BYTES)),
    }.values(),
)
def test_is_confirmation_request_whose_request_is_not_encrypted_is_none(block: bytes) -> None:
    """The attachment is looked into as far as its packets (D-03)."""
    assert _is(_REQUEST.replace(_MESSAGE, armor(encrypted(), eol="\r\n")))
    assert not _is(_REQUEST.replace(_MESSAGE, armor(block, eol="\r\n")))


@pytest.mark.parametrize(
    "data",
    {
        "literal": packet(11, b"b\0\0\0\0\0" + SECRET.encode()),
        "two": packet(2, b"\x04" * 100) * 2,
        "user id": packet(2, b"\x04" * 100) + packet(13, SECRET.encode()),
        "large": packet(2, b"\x04" * 8000),
        "no packet": SECRET.encode(),
    }.values(),
)
def test_is_confirmation_request_whose_signature_is_none_is_none(data: bytes) -> None:
    """The signature is one packet, and not larger than they are."""
    lines = base64.encodebytes(data).decode()

    assert not _is(_REQUEST.replace(_SIGNATURE, crlf(f"-----BEGIN PGP SIGNATURE-----\n\n{lines}")))
