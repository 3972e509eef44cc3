"""Tests of `relay.mime.selfcheck`: every lie of an engine and every slip of the wrapper is caught."""

from __future__ import annotations

import base64
import threading
import time

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.errors import EncryptionFailed
from relay.message import Sealed
from relay.mime import inline, packets
from relay.mime.armor import blocks
from relay.mime.headers import parse
from relay.mime.pgpmime import new_boundary, plan, wrap
from relay.mime.selfcheck import seal
from relay.rule import Format, Headers
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

_MESSAGE = parse(
    crlf(
        """\
        From: Alice <alice@a.example>
        To: bob@b.example
        Keywords: merger
        Subject:  Lunch
        User-Agent: Mail 1.0
        MIME-Version: 1.0
        Content-Type: application/vnd.ms-excel; name="payroll.xlsx"

        secret
        """
    )
)
_BOB = (parse_mailbox("bob@b.example"),)
_FINGERPRINT6 = "AB" * 32
_LITERAL = packet(11, b"b\x00\x00\x00\x00\x00secret")
_ARMOR = armor(encrypted())
_PAYLOAD, _OUTSIDE = plan(_MESSAGE, Headers.PROTECT).payload, plan(_MESSAGE, Headers.PROTECT).outside
_HEADER, _BODY = wrap(_OUTSIDE, _ARMOR, boundary=BOUNDARY, received=RECEIVED)


_V4, _V6 = (
    pysequoia.Tsk.generate("<bob@b.example>", profile=profile).extract_certificate()
    for profile in (pysequoia.Profile.RFC4880, pysequoia.Profile.RFC9580)
)


def _seal(
    header: bytes = _HEADER,
    body: bytes = _BODY,
    expected_ids: frozenset[str] | tuple[str, ...] = (KEY_ID,),
    received: bytes = RECEIVED,
    smtputf8: bool = False,
    *,
    allows_v2: bool = True,
) -> Sealed:
    return seal(
        header,
        body,
        message=_MESSAGE,
        expected_ids=expected_ids,
        recipients=_BOB,
        received=received,
        smtputf8=smtputf8,
        header_rule=Headers.PROTECT,
        allows_v2=allows_v2,
    )


def _with_armor(armored: bytes) -> bytes:
    return wrap(_OUTSIDE, armored, boundary=BOUNDARY, received=RECEIVED)[1]


def test_seal_good_copy_becomes_sealed() -> None:
    """What the wrapper makes of an honest engine's output passes unchanged."""
    assert Sealed(_HEADER, _BODY, _BOB, (KEY_ID,)) == _seal()


@pytest.mark.parametrize("size", [*range(60), 200, 201, 202, 2_000_000, 5_000_000])
@pytest.mark.parametrize("cert", [_V4, _V6], ids=["v4", "v6"])
def test_seal_real_ciphertext_of_any_length_passes(cert: pysequoia.Cert, size: int) -> None:
    """The last line of the armour may have any length; both packet versions pass (P-19)."""
    armored = pysequoia.encrypt(_PAYLOAD + bytes(size), recipients=[cert])
    [block] = blocks(armored)
    expected = packets.encrypted_message(block.data).pkesk_ids
    header, body = wrap(_OUTSIDE, armored, boundary=(boundary := new_boundary()), received=RECEIVED)

    assert expected == _seal(header, body, expected_ids=expected).key_ids
    assert boundary.encode() in body


_FIELD = b"Subject: [...]\r\n"
_HEADERS = {
    "Subject readable": _HEADER.replace(_FIELD, b"Subject:  Lunch\r\n"),
    "Subject other": _HEADER.replace(_FIELD, b"Subject: ...\r\n"),
    "Subject in other words": _HEADER.replace(_FIELD, b"Subject: [encrypted]\r\n"),
    "From lost": _HEADER.replace(b"From: Alice <alice@a.example>\r\n", b""),
    "From changed": _HEADER.replace(b"alice@a.example", b"relay@a.example"),
    "Keywords left": _HEADER.replace(_FIELD, _FIELD + b"Keywords: merger\r\n"),
    "User-Agent left": _HEADER.replace(_FIELD, _FIELD + b"User-Agent: Mail 1.0\r\n"),
    "Subject lost": _HEADER.replace(_FIELD, b""),
    "Subject twice": _HEADER.replace(_FIELD, _FIELD * 2),
    "order changed": _HEADER.replace(_FIELD, b"").replace(b"From:", _FIELD + b"From:"),
    "field added": _HEADER + b"X-Encrypted-By: relay\r\n",
    "field added inside": _HEADER.replace(_FIELD, _FIELD + b"X-Note: secret\r\n"),
    "Bcc": _HEADER.replace(_FIELD, _FIELD + b"Bcc: eve@e.example\r\n"),
    "Content-Type left": _HEADER.replace(_FIELD, _FIELD + b'Content-Type: a/b; name="payroll.xlsx"\r\n'),
    "Content-Disposition left": _HEADER + b'Content-Disposition: attachment; filename="payroll.xlsx"\r\n',
    "Content-Transfer-Encoding left": _HEADER + b"Content-Transfer-Encoding: base64\r\n",
    "two MIME-Version": _HEADER.replace(_FIELD, _FIELD + b"MIME-Version: 1.0\r\n"),
    "no MIME-Version": _HEADER.replace(b"MIME-Version: 1.0\r\n", b""),
    "name in the type": _HEADER.replace(b"\tboundary", b'\tname="payroll.xlsx"; boundary'),
    "protocol not quoted": _HEADER.replace(b'"application/pgp-encrypted"', b"application/pgp-encrypted"),
    "multipart/mixed": _HEADER.replace(b"multipart/encrypted", b"multipart/mixed"),
    "other boundary": _HEADER.replace(BOUNDARY.encode(), BOUNDARY.encode()[::-1]),
    "boundary with words": _HEADER.replace(BOUNDARY.encode(), b"secret"),
    "no Received": _HEADER.removeprefix(RECEIVED),
    "Received not on top": _HEADER.removeprefix(RECEIVED) + RECEIVED,
    "two Received": RECEIVED + _HEADER,
    "empty line": _HEADER + b"\r\n",
    "body in the header": _HEADER + b"\r\nsecret\r\n",
    "bare LF": _HEADER.replace(_FIELD, b"Subject: [...]\n"),
    "no final line end": _HEADER[:-2],
    "nothing": b"",
}


@pytest.mark.parametrize("header", _HEADERS.values(), ids=_HEADERS)
def test_seal_wrong_header_is_caught(header: bytes) -> None:
    """The outer header holds the message's own fields, Received and the template, and nothing else."""
    with pytest.raises(EncryptionFailed):
        _seal(header=header)


@pytest.mark.parametrize(
    "name",
    ["Bcc", "Resent-Bcc", "Return-Path", "Autocrypt-Draft-State", "DKIM-Signature", "FCC", "X-Mozilla-Keys"],
)
def test_seal_field_that_was_not_stripped_is_caught(name: str) -> None:
    """A caller that forgets to strip the message does not get it out either (B-03, M-17)."""
    message = parse(f"From: a@b.example\r\n{name}: eve@e.example\r\n\r\nx".encode())
    header, body = wrap(plan(message, Headers.PROTECT).outside, _ARMOR, boundary=BOUNDARY, received=RECEIVED)
    with pytest.raises(EncryptionFailed):
        seal(
            header,
            body,
            message=message,
            expected_ids=(KEY_ID,),
            recipients=_BOB,
            received=RECEIVED,
            smtputf8=False,
            header_rule=Headers.PROTECT,
        )


@pytest.mark.parametrize(
    "received", [b"", b"X-Note: secret\r\n", RECEIVED * 2, RECEIVED + b"X-Note: s\r\n", b"x"]
)
def test_seal_wrong_trace_field_is_caught(received: bytes) -> None:
    """What is given as the trace field is exactly one Received field."""
    header, body = wrap(_OUTSIDE, _ARMOR, boundary=BOUNDARY, received=received)
    with pytest.raises(EncryptionFailed):
        _seal(header, body, received=received)


_LINE_END = _BODY.index(b"\r\n\r\n", _BODY.index(b"-----BEGIN")) + 4 + 66 + 64
"""Where the second line of base64 ends; the first one sets the length of all."""


def _moved(line_end: bytes, by: int, octet: bytes) -> bytes:
    """The body with one octet of that line end exchanged with its neighbour."""
    at = _LINE_END + line_end.index(octet)
    low, high = sorted((at, at + by))
    return _BODY[:low] + _BODY[high : high + 1] + _BODY[low : low + 1] + _BODY[high + 1 :]


_CLOSE = f"\r\n--{BOUNDARY}--\r\n".encode()
_DELIMITER = f"\r\n--{BOUNDARY}\r\n".encode()
_END = b"-----END PGP MESSAGE-----\r\n"
_BASE64 = base64.b64encode(b"secret words that stay readable to everybody..")
_BODIES = {
    "plaintext": _PAYLOAD,
    "nothing": b"",
    "preamble": b"secret\r\n" + _BODY,
    "epilogue": _BODY + b"secret\r\n",
    "third part": _BODY.replace(_CLOSE, _DELIMITER + b"Content-Type: text/plain\r\n\r\nsecret" + _CLOSE),
    "no close": _BODY.removesuffix(_CLOSE),
    "other version": _BODY.replace(b"Version: 1", b"Version: 2"),
    "words in part 1": _BODY.replace(b"Version: 1\r\n", b"Version: 1\r\nsecret\r\n"),
    "file name": _BODY.replace(b"encrypted.asc", b"payroll.xlsx"),
    "one file name": _BODY.replace(b'name="encrypted.asc"', b'name="payroll.xlsx"', 1),
    "description": _BODY.replace(b"OpenPGP encrypted message", b"secret"),
    "part field": _BODY.replace(b"\r\n\r\n-----BEGIN", b"\r\nX-Note: secret\r\n\r\n-----BEGIN"),
    "part encoding": _BODY.replace(
        b"\r\n\r\n-----BEGIN", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n-----BEGIN"
    ),
    "plaintext in part 2": _with_armor(b"secret\n"),
    "plaintext before the armour": _with_armor(b"secret\n" + _ARMOR),
    "plaintext behind the armour": _with_armor(_ARMOR + b"secret\n"),
    "blank behind the armour": _with_armor(_ARMOR + b"\n"),
    "plaintext in the armour": _with_armor(_ARMOR.replace(b"\n-----END", b"\nsecret\n-----END")),
    "base64 words in the armour": _with_armor(_ARMOR.replace(b"\n-----END", b"\n" + _BASE64 + b"\n-----END")),
    "armour header": _with_armor(armor(encrypted(), headers="Comment: secret")),
    "version header": _with_armor(armor(encrypted(), headers="Version: GnuPG v2")),
    "two blocks": _with_armor(_ARMOR + _ARMOR),
    "other label": _with_armor(armor(encrypted(), label="SIGNATURE")),
    "no armour": _with_armor(encrypted()),
    "truncated armour": _with_armor(_ARMOR[: len(_ARMOR) // 2]),
    "8-bit in the armour": _with_armor(_ARMOR.replace(b"\n-----END", b"\xe4\n-----END")),
    "blank in the armour": _with_armor(_ARMOR.replace(b"\n-----END", b" \n-----END")),
    "space in the armour": _with_armor(_ARMOR.replace(b"wf", b"w f", 1).replace(b"\n\n", b"\n\n ")),
    "long checksum": _with_armor(_ARMOR.replace(b"\n-----END", b"\n=AbC/AbC/\n-----END")),
    "two checksums": _with_armor(_ARMOR.replace(b"\n-----END", b"\n=AbC/\n=AbC/\n-----END")),
    "bare LF": _BODY.replace(b"\r\n", b"\n"),
    "one bare LF": _BODY.replace(b"\r\n-----END", b"\n-----END"),
    "one bare LF in the armour": _BODY[:700].replace(b"\r\n", b"\n") + _BODY[700:],
    "CR only": _BODY.replace(b"\r\n-----END", b"\r-----END"),
    "CR CR LF": _BODY.replace(b"\r\n-----END", b"\r\r\n-----END"),
    "CR a place too early": _moved(b"\r\n", -1, b"\r"),
    "LF a place too late": _moved(b"\r\n", 1, b"\n"),
    "LF before CR": _BODY[:_LINE_END] + b"\n\r" + _BODY[_LINE_END + 2 :],
    "LF before CR at the end": _BODY.replace(b"\r\n-----END", b"\n\r-----END"),
    "empty line in the armour": _BODY.replace(b"\r\n-----END", b"\r\n\r\n-----END"),
    "lines of 80": _with_armor(
        b"-----BEGIN PGP MESSAGE-----\n\n"
        + b"\n".join(base64.b64encode(encrypted())[i : i + 80] for i in range(0, 400, 80))
        + b"\n-----END PGP MESSAGE-----\n"
    ),
    "one line": _with_armor(
        b"-----BEGIN PGP MESSAGE-----\n\n" + base64.b64encode(encrypted()) + b"\n-----END PGP MESSAGE-----\n"
    ),
    "empty armour": _with_armor(b"-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n"),
    "empty line as armour": _with_armor(b"-----BEGIN PGP MESSAGE-----\n\n\n-----END PGP MESSAGE-----\n"),
    "ends overlap": _BODY[: _BODY.index(b"-----BEGIN")] + b"-----BEGIN PGP MESSAGE-----\r\n\r\n",
}


@pytest.mark.parametrize("body", _BODIES.values(), ids=_BODIES)
def test_seal_wrong_body_is_caught(body: bytes) -> None:
    """The body is the template around one armoured block, octet for octet (P-02 to P-04, P-10 to P-12)."""
    with pytest.raises(EncryptionFailed):
        _seal(body=body)


_PACKETS = {
    "literal as message": _LITERAL,
    "compressed": packet(8, b"\x00" + _LITERAL),
    "signed": packet(4, b"\x03") + _LITERAL + packet(2, b"\x04"),
    "literal behind": encrypted() + _LITERAL,
    "literal before": _LITERAL + encrypted(),
    "padding with words": pkesk() + packet(21, b"secret") + seipd(),
    "marker with words": packet(10, b"secret") + encrypted(),
    "other key": encrypted("A" * 16),
    "anonymous key": encrypted(ZERO_ID),
    "no key": seipd(),
    "further key": encrypted(KEY_ID, "A" * 16),
    "key twice": encrypted(KEY_ID, KEY_ID),
    "password only": skesk() + seipd(),
    "password added": pkesk() + skesk() + seipd(),
    "without integrity": pkesk() + packet(9, b"x" * 50),
    "LibrePGP": pkesk() + packet(20, b"x" * 50),
    "v3 with v2 data": pkesk() + seipd(version=2),
    "unknown data version": pkesk() + seipd(version=3),
    "two containers": pkesk() + seipd() + seipd(),
    "truncated": encrypted()[:-1],
    "plain octets": b"secret words, nothing else",
}


@pytest.mark.parametrize("data", _PACKETS.values(), ids=_PACKETS)
def test_seal_lie_of_the_engine_is_caught(data: bytes) -> None:
    """Session keys for exactly the intended subkeys and one protected container, or nothing leaves (O-09)."""
    with pytest.raises(EncryptionFailed):
        _seal(body=_with_armor(armor(data)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encrypted(KEY_ID), (KEY_ID, "A" * 16)),
        (encrypted(KEY_ID), ()),
        (encrypted(KEY_ID), (KEY_ID, KEY_ID)),
        (pkesk6(_FINGERPRINT6) + seipd(), (_FINGERPRINT6,)),
        (pkesk() + pkesk6(_FINGERPRINT6) + seipd(version=2), (KEY_ID, _FINGERPRINT6)),
    ],
)
def test_seal_missing_key_or_mixed_versions_is_caught(data: bytes, expected: tuple[str, ...]) -> None:
    """A recipient left out, and packets of different versions, are caught (P-19)."""
    with pytest.raises(EncryptionFailed):
        _seal(body=_with_armor(armor(data)), expected_ids=expected)


@pytest.mark.parametrize("allows_v2", [True, False])
def test_seal_version_2_passes_only_where_everybody_reads_it(allows_v2: bool) -> None:
    """P-17: an engine that takes silence for consent is caught; version 1 is always good."""
    v1, v2 = (_with_armor(armor(data)) for data in (encrypted(), pkesk6(_FINGERPRINT6) + seipd(version=2)))

    assert (KEY_ID,) == _seal(body=v1, allows_v2=allows_v2).key_ids
    if allows_v2:
        assert (_FINGERPRINT6,) == _seal(body=v2, expected_ids=(_FINGERPRINT6,)).key_ids
        return
    with pytest.raises(EncryptionFailed, match="v2 data"):
        _seal(body=v2, expected_ids=(_FINGERPRINT6,), allows_v2=False)


def test_seal_version_2_is_not_allowed_by_default() -> None:
    """Who forgets to say it gets a refusal, not a message that some cannot read."""
    body = _with_armor(armor(pkesk6(_FINGERPRINT6) + seipd(version=2)))

    with pytest.raises(EncryptionFailed, match="v2 data"):
        seal(
            _HEADER,
            body,
            message=_MESSAGE,
            expected_ids=(_FINGERPRINT6,),
            recipients=_BOB,
            received=RECEIVED,
            smtputf8=False,
            header_rule=Headers.PROTECT,
        )


def test_seal_checksum_is_taken_behind_v1_data_only() -> None:
    """A CRC24 helps old readers of v1 data and must not stand behind v2 data (P-13)."""
    v1, v2 = (
        _with_armor(armor(data).replace(b"\n-----END", b"\n=AbC/\n-----END"))
        for data in (encrypted(), pkesk6(_FINGERPRINT6) + seipd(version=2))
    )

    assert (KEY_ID,) == _seal(body=v1).key_ids
    with pytest.raises(EncryptionFailed, match="checksum"):
        _seal(body=v2, expected_ids=(_FINGERPRINT6,))


def test_seal_keys_in_any_order_pass() -> None:
    """The order of session keys does not matter; a set may be given."""
    body = _with_armor(armor(encrypted("A" * 16, KEY_ID)))

    assert ("A" * 16, KEY_ID) == _seal(body=body, expected_ids=frozenset({KEY_ID, "A" * 16})).key_ids


def test_seal_armour_that_ends_at_a_piece_border_is_caught() -> None:
    """Padding is allowed at the end only, also where one piece of the check ends and the next begins."""
    piece = 48 << 14
    data = pkesk() + seipd(b"x" * (piece + 100))
    text = base64.b64encode(data[: piece - 1]) + base64.b64encode(data[piece - 1 :])
    lines = b"\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    body = _with_armor(b"-----BEGIN PGP MESSAGE-----\n\n" + lines + b"\n-----END PGP MESSAGE-----\n")

    assert b"=\r\n" in body
    with pytest.raises(EncryptionFailed):
        _seal(body=body)


def test_seal_every_single_octet_flip_outside_base64_is_caught() -> None:
    """No octet of header or frame can change without being noticed."""
    armor_at = _BODY.index(b"\r\n\r\n", _BODY.index(b"-----BEGIN")) + 4
    armor_end = _BODY.index(b"-----END")
    places = [*range(armor_at), *range(armor_end, len(_BODY))]
    for place in places:
        body = _BODY[:place] + bytes([_BODY[place] ^ 1]) + _BODY[place + 1 :]
        with pytest.raises(EncryptionFailed):
            _seal(body=body)
    for place in range(len(_HEADER)):
        header = _HEADER[:place] + bytes([_HEADER[place] ^ 1]) + _HEADER[place + 1 :]
        with pytest.raises(EncryptionFailed):
            _seal(header=header)


def test_seal_detail_has_no_content() -> None:
    """The log text of a failed check quotes nothing of the message (O-02)."""
    for header, body in [(h, _BODY) for h in _HEADERS.values()] + [(_HEADER, b) for b in _BODIES.values()]:
        with pytest.raises(EncryptionFailed) as failed:
            _seal(header, body)
        assert "secret" not in failed.value.detail
        assert "payroll" not in failed.value.detail


@pytest.mark.parametrize(
    ("note", "asked", "expected"), [("ü", True, True), ("u", True, False), ("ü", False, False)]
)
def test_seal_smtputf8_is_kept_only_where_the_header_needs_it(note: str, asked: bool, expected: bool) -> None:
    """SMTPUTF8 is dropped when what is left outside is ASCII (C-14)."""
    message = parse(f"Subject: Lünch\r\nX-Note: {note}\r\n\r\nx".encode())
    header, body = wrap(plan(message, Headers.PROTECT).outside, _ARMOR, boundary=BOUNDARY, received=RECEIVED)
    sealed = seal(
        header,
        body,
        message=message,
        expected_ids=(KEY_ID,),
        recipients=_BOB,
        received=RECEIVED,
        smtputf8=asked,
        header_rule=Headers.PROTECT,
    )

    assert expected == sealed.smtputf8


def test_seal_large_copy_lets_other_threads_run() -> None:
    """A large copy is checked in pieces: another thread never waits long for the interpreter."""
    armored = pysequoia.encrypt(bytes(30_000_000), recipients=[_V4])
    [block] = blocks(armored)
    expected = packets.encrypted_message(block.data).pkesk_ids
    header, body = wrap(_OUTSIDE, armored, boundary=BOUNDARY, received=RECEIVED)
    thread = threading.Thread(target=_seal, args=(header, body, expected))
    thread.start()
    longest = 0.0
    while thread.is_alive():
        start = time.perf_counter()
        time.sleep(0.001)
        longest = max(longest, time.perf_counter() - start)
    thread.join()

    assert longest < 0.2  # measured: 0.02; a loaded machine must not make this test fail


@pytest.mark.parametrize(
    ("field", "stays"),
    [
        ("TLS-Required: No", True),
        ("Sender: a@b.example", True),
        ("X-MimeOLE: Produced", False),
        ("X-Client-IP: 192.0.2.1", False),
        ("X-Note: Lunch", False),
        ("X-Old-Subject: x", False),
    ],
)
def test_seal_field_on_the_wrong_side_is_caught(field: str, stays: bool) -> None:
    """What servers need may not be lost, and what repeats the Subject may not be shown."""
    message = parse(crlf(f"From: a@b.example\nSubject: Lunch\n{field}\n\nx"))
    raw = f"{field}\r\n".encode()
    other = [each for each in plan(message, Headers.PROTECT).outside if each.raw != raw]
    wrong = tuple(other) if stays else (*other, message.fields[-1])
    header, body = wrap(wrong, _ARMOR, boundary=BOUNDARY, received=RECEIVED)
    with pytest.raises(EncryptionFailed):
        seal(
            header,
            body,
            message=message,
            expected_ids=(KEY_ID,),
            recipients=_BOB,
            received=RECEIVED,
            smtputf8=False,
            header_rule=Headers.PROTECT,
        )


def test_seal_reply_is_protected_whoever_says_that_the_header_is_kept() -> None:
    """The self-check decides itself what has to be hidden."""
    message = parse(b"From: a@b.example\r\nSubject: Re: s\r\nIn-Reply-To: <1@a>\r\n\r\nx")
    header, body = wrap(message.fields, _ARMOR, boundary=BOUNDARY, received=RECEIVED)
    arguments = {"message": message, "expected_ids": (KEY_ID,), "recipients": _BOB, "received": RECEIVED}
    with pytest.raises(EncryptionFailed):
        seal(header, body, **arguments, smtputf8=False, header_rule=Headers.KEEP)

    assert seal(header, body, **arguments, smtputf8=False, header_rule=Headers.KEEP_REPLIES)


def test_seal_kept_header_is_the_message_s_own() -> None:
    """Under `headers: keep` every field stays, and not one may be lost or obscured."""
    kept = plan(_MESSAGE, Headers.KEEP)
    header, body = wrap(kept.outside, _ARMOR, boundary=BOUNDARY, received=RECEIVED)
    arguments = {"message": _MESSAGE, "expected_ids": (KEY_ID,), "recipients": _BOB, "received": RECEIVED}

    assert header == seal(header, body, **arguments, smtputf8=False, header_rule=Headers.KEEP).header
    for other in (_HEADER, header.replace(b"Keywords: merger\r\n", b"")):
        with pytest.raises(EncryptionFailed):
            seal(other, body, **arguments, smtputf8=False, header_rule=Headers.KEEP)
    with pytest.raises(EncryptionFailed):
        seal(header, body, **arguments, smtputf8=False, header_rule=Headers.PROTECT)


_TEXT = parse(b"From: alice@a.example\r\nSubject: Lunch\r\n\r\nsecret\r\n")
_INLINE_HEADER, _INLINE_BODY = inline.wrap(_TEXT, _ARMOR, received=RECEIVED)


def _seal_inline(header: bytes, body: bytes) -> Sealed:
    return seal(
        header,
        body,
        message=_TEXT,
        expected_ids=(KEY_ID,),
        recipients=_BOB,
        received=RECEIVED,
        smtputf8=False,
        header_rule=Headers.KEEP,
        format=Format.INLINE,
    )


def test_seal_inline_copy_is_one_armoured_block() -> None:
    """The inline form passes as it is made."""
    assert _INLINE_BODY == _seal_inline(_INLINE_HEADER, _INLINE_BODY).body


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (_INLINE_HEADER, b"secret\r\n" + _INLINE_BODY),
        (_INLINE_HEADER, _INLINE_BODY + b"secret\r\n"),
        (_INLINE_HEADER, b"secret\r\n"),
        (_INLINE_HEADER, _BODY),
        (_INLINE_HEADER.replace(b"us-ascii", b"us-ascii; name=secret"), _INLINE_BODY),
        (_INLINE_HEADER.replace(b"us-ascii", b"meet.me.at.noon"), _INLINE_BODY),
        (_INLINE_HEADER, _INLINE_BODY.replace(b"\r\n-----END", b"\r\n\r\n-----END")),
        (_INLINE_HEADER.replace(b"text/plain", b"text/html"), _INLINE_BODY),
        (_INLINE_HEADER + b"Content-Disposition: inline; filename=secret\r\n", _INLINE_BODY),
    ],
)
def test_seal_inline_copy_with_anything_else_is_caught(header: bytes, body: bytes) -> None:
    """Not a word stands around the block, and no field but the template's describes it."""
    with pytest.raises(EncryptionFailed):
        _seal_inline(header, body)
