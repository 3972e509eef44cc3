"""What the targets for messages share: seeds, a way to a message, and how Python's `email` reads one.

The second reader is never the code under test. Where it is known to read something worse than RFCs say, the
reason stands beside what is done about it.
"""

from __future__ import annotations

import binascii
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.errors import CloseBoundaryNotFoundDefect, HeaderParseError
from email.header import decode_header
from email.message import Message as Read
from functools import cache
from quopri import decodestring

from relay.errors import LoopDetected, MessageRefused
from relay.mime import checks, headers
from relay.mime.headers import Message
from tests import corpus
from tests.mail import armor, crlf, encrypted
from tests.unit.mime.exempt import samples

MAX_SEED_OCTETS = 6000
"""Larger messages only make each run slower."""
_MAX_CPU_SECONDS = 2.0
"""For an input of 128 KiB, far above what a slow machine needs."""
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]+(?=\r\n|\Z)")


def parsed(data: bytes) -> Message | None:
    """The message that octets are, after their line ends are mended; None if they are none."""
    try:
        return headers.parse(_LINE_ENDS.sub(b"\r\n", data.replace(b"\0", b"")))
    except MessageRefused:
        return None


def submitted(data: bytes) -> Message | None:
    """The same as the line accepts it."""
    message = parsed(data)
    try:
        if message:
            checks.examine(message)
    except (MessageRefused, LoopDetected):
        return None
    return message


@contextmanager
def bounded() -> Iterator[None]:
    """Fails if what is done takes more CPU time than anything of its size may."""
    start = time.process_time()
    yield
    assert time.process_time() - start < _MAX_CPU_SECONDS


# --------------------------------------------------------------------------- the second reader


def read(content: bytes) -> Read:
    """The message as Python reads it."""
    return message_from_bytes(content, policy=policy.compat32)


def parts(part: Read) -> list[Read]:
    """Its parts; none for a leaf."""
    payload = part.get_payload()
    return [one for one in payload if isinstance(one, Read)] if isinstance(payload, list) else []


def text(value: bytes) -> str:
    """What Python shows for the value of a field."""
    raw = value.decode("utf-8", "surrogateescape")
    raw = raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        words = decode_header(raw)
    except (HeaderParseError, binascii.Error, ValueError):
        return raw
    return "".join(word if isinstance(word, str) else _characters(word, charset) for word, charset in words)


def _characters(octets: bytes, charset: str | None) -> str:
    try:
        return octets.decode(charset or "latin-1", "replace")
    except (LookupError, UnicodeError):
        return octets.decode("latin-1")


def raw(part: Read) -> bytes:
    """The body of a leaf, still encoded; empty for what has parts."""
    plain = Read()
    plain.set_payload(part.get_payload() if part.is_multipart() else part._payload)  # type: ignore[attr-defined]
    octets = plain.get_payload(decode=True)
    return octets if isinstance(octets, bytes) else b""


def content(part: Read) -> bytes | None:
    """What a leaf says, as Python decodes it; None for what has parts.

    Python decodes nothing where blanks stand around the name of the encoding. It keeps blanks at the end of a
    quoted-printable line, which RFC 2045 §6.7 (3) wants ignored, and counts those in broken base64. It leaves
    the CRLF in front of a delimiter to a multipart in which it finds no parts.
    """
    if part.is_multipart():
        return None
    encoding = str(part.get("Content-Transfer-Encoding", "")).replace("\r\n", "").strip(" \t").lower()
    octets = raw(part)
    if part.get_content_maintype() == "multipart":
        octets = octets.rstrip(b"\r\n")
    if encoding == "quoted-printable":
        return decodestring(_TRAILING_BLANKS.sub(b"", octets))
    if encoding == "base64":
        octets = octets.translate(None, b" \t\r\n")
    decoded = Read()
    decoded["Content-Transfer-Encoding"] = encoding
    decoded.set_payload(octets.decode("ascii", "surrogateescape"))
    found = decoded.get_payload(decode=True)
    assert isinstance(found, bytes)
    return found


def leaves(message: bytes) -> list[tuple[str, list[tuple[str, str]], bytes | None]]:
    """Type, fields and content of every part.

    Where a close delimiter is missing Python takes the last line end for that of a delimiter, and in a report
    for a group more.
    """
    walked = list(read(message).walk())
    is_cut = any(
        isinstance(defect, CloseBoundaryNotFoundDefect) for part in walked for defect in part.defects
    )
    is_cut |= any(part.get_content_type() == "message/delivery-status" for part in walked)
    found = [("".join(part.get_content_type().split()), _fields(part), content(part)) for part in walked]
    if not is_cut:
        return found
    return [
        (kind, fields, octets.rstrip(b"\r\n") if octets else octets)
        for kind, fields, octets in found
        if fields or octets is None or octets.strip()
    ]


def _fields(part: Read) -> list[tuple[str, str]]:
    """Without those of the encoding, and without blanks at line ends."""
    found = [(name.lower(), re.sub(r"[ \t]+(?=\r\n|\Z)", "", str(value))) for name, value in part.items()]
    return [
        (name, re.sub(r"(?:\r\n)+", "\r\n", value).rstrip("\r\n"))
        for name, value in found
        if name not in _OF_ENCODING
    ]


_OF_ENCODING = frozenset({"content-transfer-encoding", "mime-version"})


# --------------------------------------------------------------------------- seeds


@cache
def ordinary() -> list[bytes]:
    """The messages of the corpus, the hostile ones too."""
    found = [content for _, content in corpus.messages()] + [content for _, content, _ in corpus.hostile()]
    return [content for content in found if len(content) <= MAX_SEED_OCTETS]


@cache
def machines() -> list[bytes]:
    """Messages that are exempt, or nearly."""
    reports = [samples.POSTFIX_DSN, samples.EXIM_DSN, samples.SENDMAIL_DSN, samples.EXCHANGE_DSN]
    receipts = [samples.THUNDERBIRD_MDN, samples.OUTLOOK_MDN, samples.FEEDBACK]
    returned = samples.POSTFIX_DSN.replace(crlf(samples.ORIGINAL), crlf(samples.ENCRYPTED))
    plain_json = samples.tls_report(kind="json", packed=b"{}")
    head, _, tail = plain_json.partition(b"base64\r\n\r\n")
    json = samples.json.dumps(samples.TLS_REPORT, indent=1).replace("\n", "\r\n").encode()
    plain_json = head + b"7bit\r\n\r\n" + json + tail[tail.index(b"\r\n--") :]
    calendars = [samples.google_invitation(), samples.outlook_invitation(), samples.bare_calendar()]
    wkd = [path.read_bytes() for path in sorted(samples.HERE.glob("wkd-*.eml"))]
    kinds = ("dsn", "mdn", "arf", "tls-rpt", "list-post", "cron-mail")
    found = [corpus.FOLDER / f"{name}.eml" for name in kinds] + sorted(corpus.FOLDER.glob("imip-*.eml"))
    return [
        *reports,
        *receipts,
        returned,
        plain_json,
        samples.tls_report(),
        samples.tls_report(kind="json"),
        *calendars,
        samples.CRON,
        samples.LIST,
        *(_LINE_ENDS.sub(b"\r\n", one) for one in wkd),
        *(path.read_bytes() for path in found),
    ]


_HEAD = b"From: a@b.example\r\nTo: c@d.example\r\nSubject: Lunch\r\nMIME-Version: 1.0\r\n"
_UTF8 = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: "


def texts() -> list[bytes]:
    """Messages that are one text, in each encoding."""
    return [
        _HEAD + b"\r\nHi \r\nFrom me\r\n",
        _HEAD + _UTF8 + b"8bit\r\nContent-Disposition: inline\r\n\r\nGr\xc3\xbc\xc3\x9fe \r\n-- \r\nA",
        _HEAD + _UTF8 + b"quoted-printable\r\n\r\nGr=C3=BC=c3=9Fe=20=\r\n\r\n=2E \r\n= \r\na=3D=",
        _HEAD + _UTF8 + b"base64\r\n\r\nR3LDvMOfZQ0KLg0KLi4N\r\nCkhpIA0KDQo=\r\n",
        _HEAD + b"Content-Type: text/plain\r\n\r\n" + armor(encrypted(), eol="\r\n"),
    ]


def trees() -> list[bytes]:
    """Messages with parts in parts that have to be encoded anew."""
    part = _UTF8 + b"8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe \r\nFrom me\r\n" + b"x" * 75 + b"--b\r\n--b\r\n"
    inner = b'Content-Type: multipart/alternative; boundary="c"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n'
    inner += (
        b"Preamble \r\n--c\r\n" + part.replace(b"--b", b"--d") + b"\r\n--c  \r\n\r\n \r\n--c--\r\nEpilogue"
    )
    forwarded = (
        b"Content-Type: message/rfc822\r\n\r\nSubject: a \r\nMIME-Version: 1.0\r\n"
        + _UTF8
        + b"8bit\r\n\r\n\xfc "
    )
    binary = b"Content-Type: a/b\r\nContent-Transfer-Encoding: binary\r\n\r\na \t\r\n\xff"
    signed = (
        b'Content-Type: multipart/signed; boundary="s"\r\n\r\n--s\r\n\r\n\xfc \r\n--s\r\n\r\nx\r\n--s--\r\n'
    )
    top = _HEAD + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    whole = [part.removesuffix(b"--b\r\n"), inner, forwarded, binary]
    return [
        top + b"".join(b"--b\r\n" + one + b"\r\n" for one in (*whole, signed)) + b"--b--\r\n",
        top + b"".join(b"--b\r\n" + one + b"\r\n" for one in whole) + b"--b--\r\n",
        *(top + b"--b\r\n" + one + b"\r\n--b--\r\n" for one in whole),
        *(_HEAD + one for one in (inner, binary)),
    ]
