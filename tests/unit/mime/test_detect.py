"""Tests of `relay.mime.detect`."""

from __future__ import annotations

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.errors import EncryptionFailed, MessageRefused
from relay.mime.armor import blocks
from relay.mime.detect import already_encrypted, covers, pass_through
from relay.mime.headers import parse
from relay.mime.packets import EncryptedMessage, encrypted_message
from tests.mail import (
    BOUNDARY,
    KEY_ID,
    RECEIVED,
    ZERO_ID,
    armor,
    crlf,
    encrypted,
    packet,
    pkesk,
    pkesk6,
    seipd,
    skesk,
)

_HEAD = "From: a@b.example\nSubject: MARKER\n"
_FOUND = EncryptedMessage((KEY_ID,), (3,), 0, 1)
_BLOCK = armor(encrypted()).decode()


def _mime(
    *,
    kind: str = f'multipart/encrypted; protocol="application/pgp-encrypted"; boundary="{BOUNDARY}"',
    more: str = "",
    preamble: str = "",
    first: str = "Content-Type: application/pgp-encrypted\n",
    version: str = "Version: 1\n",
    second: str = "Content-Type: application/octet-stream\n",
    block: str = _BLOCK,
    close: str = f"\n--{BOUNDARY}--\n",
    boundary: str = BOUNDARY,
) -> EncryptedMessage | None:
    """What is found in a PGP/MIME message with one thing changed."""
    text = f"{_HEAD}MIME-Version: 1.0\nContent-Type: {kind}\n{more}\n{preamble}"
    text += f"--{BOUNDARY}\n{first}\n{version}\n--{BOUNDARY}\n{second}\n{block}{close}"
    return already_encrypted(parse(text.replace(BOUNDARY, boundary).replace("\n", "\r\n").encode()))


def _inline(body: str, more: str = "Content-Type: text/plain; charset=utf-8\n") -> EncryptedMessage | None:
    return already_encrypted(parse(f"{_HEAD}{more}\n{body}".replace("\n", "\r\n").encode()))


@pytest.mark.parametrize(
    "change",
    {
        "bare": {},
        "thunderbird": {
            "preamble": "This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\n",
            "first": "Content-Type: application/pgp-encrypted\n"
            "Content-Description: PGP/MIME version identification\n",
            "second": 'Content-Type: application/octet-stream; name="encrypted.asc"\n'
            "Content-Description: OpenPGP encrypted message\n"
            'Content-Disposition: inline; filename="encrypted.asc"\n',
        },
        "mutt": {
            "first": "Content-Type: application/pgp-encrypted\nContent-Disposition: attachment\n",
            "second": "Content-Type: application/octet-stream\n"
            'Content-Disposition: attachment; filename="msg.asc"\n',
        },
        "7bit": {
            "more": "Content-Transfer-Encoding: 7bit\n",
            "first": "Content-Type: application/pgp-encrypted\nContent-Transfer-Encoding: 7Bit\n",
        },
        "proton": {
            "preamble": "This is a multi-part message in MIME format.\n",
            "block": armor(
                encrypted(), headers="Version: ProtonMail\nComment: https://protonmail.com"
            ).decode(),
        },
        "gopenpgp": {
            "block": armor(
                encrypted(), headers="Version: GopenPGP 2.7.4\nComment: https://gopenpgp.org"
            ).decode()
        },
        "checksum": {"block": _BLOCK.replace("\n-----END", "\n=AbC/\n-----END")},
        "spaces": {
            "preamble": "\n\n",
            "version": "Version: 1\n\n\n",
            "block": f"\n\n{_BLOCK}\n",
            "close": f"\n--{BOUNDARY}--  \n\n",
        },
        "case and comments": {
            "kind": 'Multipart/Encrypted (c); PROTOCOL*0="application/PGP-"; protocol*1="encrypted";'
            f" BOUNDARY={BOUNDARY!r}".replace("'", '"')
        },
        "boundary of 70": {"boundary": "x" * 70},
        "no last line end": {"close": f"\n--{BOUNDARY}--"},
    }.values(),
)
def test_already_encrypted_pgp_mime_of_many_clients_is_recognised(change: dict[str, str]) -> None:
    """What clients write for RFC 3156 §4, armour headers and fixed words included, is recognised (D-01)."""
    assert _FOUND == _mime(**change)


@pytest.mark.parametrize("profile", [pysequoia.Profile.RFC4880, pysequoia.Profile.RFC9580])
def test_already_encrypted_real_message_is_recognised(profile: pysequoia.Profile) -> None:
    """Real ciphertext with partial lengths, for a v4 and for a v6 key, is recognised."""
    cert = pysequoia.Tsk.generate("<a@b.example>", profile=profile).extract_certificate()
    armored = pysequoia.encrypt(bytes(5_000_000), recipients=[cert])
    [block] = blocks(armored)

    assert encrypted_message(block.data) == _mime(block=armored.decode())


_IN_PARTS = {
    "readable preamble": {"preamble": "Lunch at noon?\n"},
    "long preamble": {"preamble": "this is a message\n" * 100},
    "preamble in 8-bit": {"preamble": "ü\n"},
    "readable epilogue": {"close": f"\n--{BOUNDARY}--\nLunch at noon?\n"},
    "third part": {"close": f"\n--{BOUNDARY}\nContent-Type: text/plain\n\nLunch\n--{BOUNDARY}--\n"},
    "empty third part": {"close": f"\n--{BOUNDARY}\n\n--{BOUNDARY}--\n"},
    "second message behind the close": {
        "close": f"\n--{BOUNDARY}--\n--{BOUNDARY}\n\nLunch\n--{BOUNDARY}--\n"
    },
    "no close": {"close": "\n"},
    "words behind the close": {"close": f"\n--{BOUNDARY}-- Lunch\n"},
    "longer boundary": {"block": f"{_BLOCK}\n--{BOUNDARY}x\nLunch\n"},
    "boundary inside a line": {"block": f"x--{BOUNDARY}\n{_BLOCK}"},
    "no boundary": {"kind": 'multipart/encrypted; protocol="application/pgp-encrypted"'},
    "boundary twice": {
        "kind": 'multipart/encrypted; protocol="application/pgp-encrypted";'
        f' boundary="x"; boundary="{BOUNDARY}"'
    },
    "boundary of 71": {"boundary": "x" * 71},
    "boundary that ends with a blank": {"boundary": "x "},
    "no protocol": {"kind": f'multipart/encrypted; boundary="{BOUNDARY}"'},
    "other protocol": {"kind": f'multipart/encrypted; protocol="x/y"; boundary="{BOUNDARY}"'},
    "multipart/mixed": {
        "kind": f'multipart/mixed; protocol="application/pgp-encrypted"; boundary="{BOUNDARY}"'
    },
    "unreadable type": {"kind": "multipart/encrypted; protocol"},
    "second content type": {"more": "Content-Type: text/plain\n"},
    "encoded as a whole": {"more": "Content-Transfer-Encoding: base64\n"},
    "two equal encodings": {"more": "Content-Transfer-Encoding: 7bit\n" * 2},
    "two encodings": {"more": "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n"},
    "other first part": {"first": "Content-Type: text/plain\n"},
    "first part without type": {"first": "Content-Description: message\n"},
    "words in the first part": {"version": "Version: 1\nLunch: noon\n"},
    "no version": {"version": "\n"},
    "version 2": {"version": "Version: 2\n"},
    "other second part": {"second": "Content-Type: text/plain\n"},
    "second part without header": {"second": ""},
    "base64 second part": {
        "second": "Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n"
    },
    "quoted-printable second part": {
        "second": "Content-Type: application/octet-stream\nContent-Transfer-Encoding: quoted-printable\n"
    },
    "file name": {"second": 'Content-Type: application/octet-stream; name="payroll.asc"\n'},
    "file name in continuation": {
        "second": "Content-Type: application/octet-stream; name*0=payroll; name*1=.asc\n"
    },
    "disposition": {
        "second": "Content-Type: application/octet-stream\n"
        'Content-Disposition: inline; filename="payroll.asc"\n'
    },
    "disposition type": {"second": "Content-Type: application/octet-stream\nContent-Disposition: Lunch\n"},
    "description": {"second": "Content-Type: application/octet-stream\nContent-Description: Lunch at noon\n"},
    "parameter": {"second": "Content-Type: application/octet-stream; x-note=Lunch\n"},
    "comment": {"second": "Content-Type: application/octet-stream (Lunch at noon)\n"},
    "other field": {"second": "Content-Type: application/octet-stream\nX-Note: Lunch\n"},
    "content id": {"second": "Content-Type: application/octet-stream\nContent-ID: <lunch@noon>\n"},
    "doubled field": {
        "second": "Content-Type: application/octet-stream\nContent-Type: application/octet-stream\n"
    },
    "doubled description": {
        "second": "Content-Type: application/octet-stream\n" + "Content-Description: message\n" * 2
    },
    "no field": {"second": "Content-Type: application/octet-stream\nLunch at noon\n"},
    "huge part header": {
        "second": "Content-Type: application/octet-stream\nContent-Description: " + "a " * 3000 + "\n"
    },
    "plain body": {"block": "Lunch at noon?\n"},
    "words before": {"block": f"Lunch\n{_BLOCK}"},
    "words behind": {"block": f"{_BLOCK}Lunch\n"},
    "words far behind": {"block": _BLOCK + "\n" * 5000 + "Lunch\n"},
    "two blocks": {"block": _BLOCK * 2},
    "armour header with words": {"block": armor(encrypted(), headers="Subject: Lunch at noon").decode()},
    "long armour header": {"block": armor(encrypted(), headers="Comment: " + "x" * 300).decode()},
    "words on the begin line": {"block": f"-----BEGIN PGP MESSAGE-----Lunch\n{_BLOCK}"},
    "public key": {"block": armor(encrypted(), label="PUBLIC KEY BLOCK").decode()},
    "signed only": {"block": armor(packet(4, b"\x03") + packet(11, b"bLunch") + packet(2, b"s")).decode()},
    "compressed": {"block": armor(packet(8, b"\x00Lunch")).decode()},
    "literal": {"block": armor(packet(11, b"b\x00\x00\x00\x00\x00Lunch")).decode()},
    "literal behind": {
        "block": armor(encrypted() + packet(11, b"b\x00\x00\x00\x00\x00Lunch at noon")).decode()
    },
    "password only": {"block": armor(skesk() + seipd()).decode()},
    "without integrity": {"block": armor(pkesk() + packet(9, b"x" * 50)).decode()},
    "LibrePGP": {"block": armor(pkesk() + packet(20, b"x" * 50)).decode()},
    "versions mixed": {"block": armor(pkesk() + seipd(version=2)).decode()},
    "session keys mixed": {"block": armor(pkesk() + pkesk6("AB" * 32) + seipd()).decode()},
    "unknown version": {"block": armor(pkesk() + seipd(version=3)).decode()},
    "truncated": {"block": armor(encrypted()[:-1]).decode()},
}


@pytest.mark.parametrize("change", _IN_PARTS.values(), ids=_IN_PARTS)
def test_already_encrypted_anything_readable_is_plaintext(change: dict[str, str]) -> None:
    """A label proves nothing: whatever is or may be readable makes the message plaintext (D-02, D-03)."""
    assert _mime(**change) is None


def test_already_encrypted_key_and_password_counts() -> None:
    """A password beside a key does not make the message plaintext."""
    found = _mime(block=armor(pkesk() + skesk() + seipd()).decode())

    assert EncryptedMessage((KEY_ID,), (3,), 1, 1) == found


def test_already_encrypted_nested_in_mixed_is_plaintext() -> None:
    """A mailing list footer beside the encrypted part is readable, so the whole is not encrypted (D-06)."""
    content = crlf(
        f"""\
        From: a@b.example
        Content-Type: multipart/mixed; boundary=o

        --o
        Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="{BOUNDARY}"

        --{BOUNDARY}
        Content-Type: application/pgp-encrypted

        Version: 1

        --{BOUNDARY}
        Content-Type: application/octet-stream

        """
    )
    content += (
        armor(encrypted(), eol="\r\n") + f"\r\n--{BOUNDARY}--\r\n--o\r\n\r\nfooter\r\n--o--\r\n".encode()
    )

    assert already_encrypted(parse(content)) is None


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (_BLOCK, "Content-Type: text/plain; charset=utf-8\n"),
        (_BLOCK, ""),
        (f"\n \n{_BLOCK}\n\n", "Content-Transfer-Encoding: 8bit\n"),
        (armor(encrypted(), headers="Version: GnuPG v2").decode(), ""),
    ],
)
def test_already_encrypted_lone_block_is_recognised(body: str, more: str) -> None:
    """One armoured block as the whole text counts."""
    assert _FOUND == _inline(body, more)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (f"Hi,\n{_BLOCK}", ""),
        (f"{_BLOCK}-- \nSignature\n", ""),
        ("> " + _BLOCK.replace("\n", "\n> "), ""),
        (_BLOCK + _BLOCK, ""),
        (_BLOCK, "Content-Type: text/html\n"),
        (_BLOCK, "Content-Type: text/plain\nContent-Type: text/plain\n"),
        (_BLOCK, "Content-Transfer-Encoding: quoted-printable\n"),
        (_BLOCK, "Content-Transfer-Encoding: base64\n"),
        (_BLOCK, "Content-Type: multipart/mixed; boundary=x\n"),
        (_BLOCK, "Content-Type: ;\n"),
        (armor(packet(11, b"b\x00\x00\x00\x00\x00Lunch")).decode(), ""),
        (armor(skesk() + seipd()).decode(), ""),
        ("", ""),
        ("Lunch\n", ""),
    ],
)
def test_already_encrypted_block_beside_anything_is_plaintext(body: str, more: str) -> None:
    """A quoted block, words around it, or another type: the message is plaintext (D-04)."""
    assert _inline(body, more) is None


def test_already_encrypted_smime_is_plaintext() -> None:
    """S/MIME is not looked into; what is labelled so is encrypted (D-05)."""
    more = (
        "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n"
    )

    assert _inline("MIAGCSqGSIb3DQEHA6CAMIACAQA=\n", more) is None


@pytest.mark.parametrize(
    ("ids", "subkeys", "expected"),
    [
        ((KEY_ID,), {KEY_ID}, True),
        (("A" * 16, KEY_ID), {KEY_ID, "B" * 16}, True),
        ((ZERO_ID,), {KEY_ID}, True),
        (("A" * 16,), {KEY_ID}, False),
        (("A" * 16,), set(), False),
    ],
)
def test_covers_one_of_their_subkeys_or_anybody(
    ids: tuple[str, ...], subkeys: set[str], expected: bool
) -> None:
    """One session key has to name one of the recipient's subkeys or nobody (D-08)."""
    assert expected == covers(EncryptedMessage(ids, (3,) * len(ids), 0, 1), subkeys)


_BODY = armor(encrypted(), eol="\r\n")
_LONE = b"Received: a\r\nBcc: x@y.example\r\nDKIM-Signature: v=1\r\nSubject:  MARKER\r\n\r\n" + _BODY
_BOB = (parse_mailbox("bob@b.example"),)


def test_pass_through_is_byte_exact_below_received() -> None:
    """Body and header lines stay, private fields go, Received comes on top (D-01, D-07)."""
    sealed = pass_through(parse(_LONE), received=RECEIVED, recipients=_BOB, key_ids=(KEY_ID,))

    assert RECEIVED + b"Received: a\r\nDKIM-Signature: v=1\r\nSubject:  MARKER\r\n" == sealed.header
    assert (_BODY, _BOB, (KEY_ID,), True) == (
        sealed.body,
        sealed.recipients,
        sealed.key_ids,
        sealed.passed_through,
    )


def test_pass_through_asks_for_smtputf8_only_where_needed() -> None:
    """SMTPUTF8 is kept where the header needs it and dropped where it does not (C-14)."""
    utf8 = parse("Subject: ü\r\n\r\n".encode() + _BODY)

    assert [True, False] == [
        pass_through(m, received=RECEIVED, recipients=_BOB, key_ids=(KEY_ID,), smtputf8=True).smtputf8
        for m in (utf8, parse(_LONE))
    ]


@pytest.mark.parametrize(
    ("content", "key_ids"), [(b"Subject: x\r\n\r\nplain\r\n", ()), (_LONE, ("A" * 16,)), (_LONE, ())]
)
def test_pass_through_of_anything_else_fails(content: bytes, key_ids: tuple[str, ...]) -> None:
    """Plaintext cannot become Sealed, whatever the caller believes it is."""
    with pytest.raises(EncryptionFailed):
        pass_through(parse(content), received=RECEIVED, recipients=_BOB, key_ids=key_ids)


def test_pass_through_of_long_lines_is_refused() -> None:
    """Armour in one endless line is not sent as it is."""
    long = armor(pkesk() + seipd(b"x" * 2000)).split(b"\n")
    body = b"\r\n".join([*long[:2], b"".join(long[2:-2]), *long[-2:]])
    with pytest.raises(MessageRefused):
        pass_through(parse(b"A: b\r\n\r\n" + body), received=RECEIVED, recipients=_BOB, key_ids=(KEY_ID,))
