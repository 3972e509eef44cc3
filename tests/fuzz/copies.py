"""Fuzz targets for encrypted copies and their last check: what passes shows nothing of the message.

The copies are those of the real wrapper, in every form, and altered ones.
"""

from __future__ import annotations

import re
from base64 import b64decode

from relay.address import parse_mailbox
from relay.errors import EncryptionFailed
from relay.message import Sealed
from relay.mime import complete, headers, inline, pgpmime, selfcheck
from relay.mime.headers import Message
from relay.rule import Format, Headers
from tests import corpus
from tests.fuzz import mails
from tests.mail import BOUNDARY, KEY_ID, RECEIVED, crlf, encrypted, packet, pkesk, seipd, skesk
from tests.mail import armor as armored

_MESSAGE = headers.parse(
    crlf(
        """\
        From: Alice <alice@a.example>
        To: bob@b.example
        Keywords: mk0000000000000000000000abx
        Subject: =?utf-8?q?Lunch_mk0000000000000000000000acx?=
        X-Mailer: mk0000000000000000000000adx
        Message-ID: <1@a.example>
        MIME-Version: 1.0
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: 7bit

        mk0000000000000000000000aax is written here
        """
    )
)
_HIDDEN = {
    Format.INLINE: {b"mk0000000000000000000000aax"},
    Headers.KEEP: {b"mk0000000000000000000000aax"},
    Headers.PROTECT: {b"mk0000000000000000000000a%cx" % one for one in b"abcd"},
}
"""What must not be readable outside, of each form."""
_FORMS: tuple[Headers | Format, ...] = (Headers.PROTECT, Headers.KEEP, Format.INLINE)
_BOB = (parse_mailbox("bob@b.example"),)
_SEALED_TYPES = ["multipart/encrypted", "application/pgp-encrypted", "application/octet-stream"]


def _wrapped(form: Headers | Format, octets: bytes) -> bytes:
    """A copy as the wrapper makes it of what an engine gave."""
    if isinstance(form, Format):
        header, body = inline.wrap(_MESSAGE, octets, received=RECEIVED)
    else:
        outside = pgpmime.plan(_MESSAGE, form).outside
        header, body = pgpmime.wrap(outside, octets, boundary=BOUNDARY, received=RECEIVED)
    return header + b"\r\n" + body


def copy_anything(data: bytes) -> None:
    """Whatever is accepted can be wrapped under every rule so that the last check lets it pass."""
    message = mails.submitted(data)
    if message is None:
        return
    message = complete.strip(message, sealed=True)
    entity, octets = b"".join(pgpmime.entity(message)), armored(encrypted())
    for rule in Headers:
        with mails.bounded():
            plan = pgpmime.plan(message, rule)
        assert entity in plan.payload
        assert plan.is_protected or plan.outside == tuple(f for f in message.fields if not f.is_structural)
        made = pgpmime.wrap(plan.outside, octets, boundary=BOUNDARY, received=RECEIVED)
        _sealed(message, rule, made)
        if not plan.is_protected and inline.text_of(message) is not None:
            _sealed(message, rule, inline.wrap(message, octets, received=RECEIVED))


def _sealed(message: Message, rule: Headers, made: tuple[bytes, bytes]) -> Sealed:
    return selfcheck.seal(
        *made,
        message=message,
        expected_ids=(KEY_ID,),
        recipients=_BOB,
        received=RECEIVED,
        smtputf8=True,
        header_rule=rule,
        format=Format.INLINE,
    )


def seal_anything(data: bytes) -> None:
    """What passes the last check is its template, fields of the message, and one encrypted message in it."""
    header, separator, body = data.partition(b"\r\n\r\n")
    for form in _FORMS:
        try:
            sealed = _seal(form, header + b"\r\n", body)
        except EncryptionFailed:
            continue
        assert separator
        _check_sealed(form, sealed)


def _seal(form: Headers | Format, header: bytes, body: bytes) -> Sealed:
    return selfcheck.seal(
        header,
        body,
        message=_MESSAGE,
        expected_ids=(KEY_ID,),
        recipients=_BOB,
        received=RECEIVED,
        smtputf8=False,
        header_rule=form if isinstance(form, Headers) else Headers.KEEP,
        format=form if isinstance(form, Format) else Format.PGP_MIME,
    )


def _check_sealed(form: Headers | Format, sealed: Sealed) -> None:
    content = sealed.header + b"\r\n" + sealed.body
    assert content.isascii() and not corpus.markers(content) & _HIDDEN[form]
    fields, _ = corpus.split(content)
    submitted, _ = corpus.split(_MESSAGE.content)
    ours = {"received", "mime-version", "content-type", "content-transfer-encoding", "subject"}
    assert all(field in submitted for field in fields if field[0] not in ours)
    assert {"from", "to", "message-id", "subject"} <= {name for name, _ in fields}
    other = mails.read(content)
    types = [part.get_content_type() for part in other.walk()]
    assert types == _SEALED_TYPES or (form is Format.INLINE and types == ["text/plain"])
    assert not str(other.preamble or "") and not str(other.epilogue or "")
    *_, last = other.walk()
    block = _ARMOR.fullmatch(str(last.get_payload()).replace("\r\n", "\n").strip("\n"))
    assert block
    tags = _tags(b64decode(block[1]))
    assert [tag for tag in tags if tag != 10] == [1, 18]  # markers are no more than their three letters


_ARMOR = re.compile(
    r"-----BEGIN PGP MESSAGE-----\n\n((?:[A-Za-z0-9+/]{1,76}={0,2}\n)+)(?:=[A-Za-z0-9+/]{4}\n)?"
    r"-----END PGP MESSAGE-----"
)


def _tags(data: bytes) -> list[int]:
    """The tags of packets in the new format (RFC 9580 §4.2.1); 0 for one in the old."""
    found, at = list[int](), 0
    while at < len(data):
        found.append(data[at] & 0x3F if data[at] & 0xC0 == 0xC0 else 0)
        at += 1
        is_partial = True
        while is_partial:
            first = data[at]
            is_partial = 224 <= first < 255
            if is_partial:
                at += 1 + (1 << (first & 0x1F))
            elif first < 192:
                at += 1 + first
            elif first < 224:
                at += 2 + ((first - 192) << 8) + data[at + 1] + 192
            else:
                at += 5 + int.from_bytes(data[at + 1 : at + 5])
    assert at == len(data)
    return found


def finished() -> list[bytes]:
    """Finished copies of each form, and the same with parts of the plaintext in them."""
    whole = armored(encrypted())
    full_lines = armored(pkesk() + seipd(b"\x9c" * 81))
    summed = whole.replace(b"\n-----END", b"\n=AbC/\n-----END")
    found = []
    for form in _FORMS:
        found += [_wrapped(form, octets) for octets in (whole, full_lines, summed)] * 4
        found += [_wrapped(form, armored(data)) for data in _WRONG]
        found.append(_wrapped(form, armored(encrypted(), headers="Comment: mk0000000000000000000000aax")))
        found += [found[0].replace(b"Message-ID", field.raw + b"Message-ID") for field in _MESSAGE.fields]
        found.append(found[0].replace(b"[...]", b"Lunch mk0000000000000000000000acx"))
    return [*found, _MESSAGE.content, RECEIVED + _MESSAGE.content]


_LITERAL = packet(11, b"b\0\0\0\0\0mk0000000000000000000000aax is written here")
_WRONG = [
    _LITERAL,
    *(encrypted() + _LITERAL, _LITERAL + encrypted(), pkesk() + _LITERAL),
    *(skesk() + encrypted(), pkesk("0" * 16) + encrypted(), encrypted("0" * 16), pkesk() + seipd(version=2)),
    *(packet(tag, b"mk0000000000000000000000aax") + encrypted() for tag in (1, 2, 10, 60)),
    *(packet(10, b"PGP") + encrypted(), pkesk() + packet(9, b"mk0000000000000000000000aax")),
]
"""Packets with something readable among them, that somebody else can open, or of another version."""
