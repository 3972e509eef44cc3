"""The messages of `tests/data/mail`, and what of each must never be readable outside.

Its README lists what they are. A token `mk` + 24 hex digits + `x` in a message is a marker: it stands only
where the relay must hide it. Markers are looked for with Python's `email` package, a parser that the relay
does not use.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.header import decode_header
from email.message import Message
from email.utils import collapse_rfc2231_value
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "mail"
STRANGERS = Path(__file__).parents[2] / "shared" / "corpus" / "mime4j"
"""Public test messages beside the checkout; they may be missing."""

ENCRYPTED = frozenset({"pgp-encrypted", "pgp-encrypted-inline"})
"""What the client has encrypted itself, to the fixture `curve25519`: passes through unchanged."""
SELF_PROTECTED = frozenset({"pgp-signed-hp-clear", "pgp-signed-protected-v1"})
"""Signed with the header inside of the signed part, Subject included: their own payload root."""

_MARKER = re.compile(rb"mk[0-9a-f]{24}x", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}(?:\r?\n[ \t]*[A-Za-z0-9+/]+)*={0,2}")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_FIELD = re.compile(rb"([^\s:]+):[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def messages() -> Iterator[tuple[str, bytes]]:
    """Name and content of every message that the relay must accept, the generated ones included."""
    for path in sorted(FOLDER.glob("*.eml")):
        yield path.stem, path.read_bytes()
    yield "nested-100", _nested(100)
    yield "recipients-2000", _with_recipients(2000)
    yield "attachment-1-mib", _with_attachment(1 << 20)


def hostile() -> Iterator[tuple[str, bytes, str]]:
    """Name, content and expected reply of every message that the relay must refuse."""
    generated = {"fields-10000": _with_fields(10_000), "header-2-mib": _with_header(1 << 21)}
    for path in sorted((FOLDER / "hostile").glob("*.expected")):
        content = generated.get(path.stem) or path.with_suffix(".eml").read_bytes()
        yield path.stem, content, path.read_text("utf-8").rstrip("\n")


def strangers() -> Iterator[tuple[str, bytes]]:
    """Messages that others collected, with CRLF line ends and a From; none where they are not at hand."""
    for path in sorted(STRANGERS.glob("*.msg")):
        content = re.sub(rb"\r\n|\r|\n", b"\r\n", path.read_bytes())
        header = content.partition(b"\r\n\r\n")[0]
        # Half of them have none, and would be refused for that alone.
        lacks_from = not re.search(rb"^from:", header, re.IGNORECASE | re.MULTILINE)
        begins_well = re.match(rb"[!-9;-~]+:", header)
        yield path.stem, b"From: dana.moss@example.com\r\n" * bool(lacks_from and begins_well) + content


# --------------------------------------------------------------------------- slicing


def split(content: bytes) -> tuple[list[tuple[str, bytes]], bytes]:
    """The fields as (lower-case name, raw octets) and the body; written apart from the code under test."""
    header, _, body = (b"\r\n" + content).partition(b"\r\n\r\n")
    section = header.removeprefix(b"\r\n").removesuffix(b"\r\n") + b"\r\n"
    found = [(match[1].decode().lower(), match[0]) for match in _FIELD.finditer(section)]
    assert section == (b"".join(raw for _, raw in found) or b"\r\n"), "a line that belongs to no field"
    return found, body


def is_structural(name: str) -> bool:
    """Whether the field describes the body and goes where the body goes (RFC 9788 §1.9)."""
    return name == "mime-version" or name.startswith("content-")


def entity(content: bytes) -> bytes:
    """What has to arrive: the Content-* fields, an empty line and the body, byte for byte."""
    fields, body = split(content)
    return b"".join(raw for name, raw in fields if name.startswith("content-")) + b"\r\n" + body


# --------------------------------------------------------------------------- markers


def markers(content: bytes) -> set[bytes]:
    """Every marker that somebody could read in a message: raw, decoded, unfolded; in lower case."""
    return {found.lower() for view in _views(content) for found in _MARKER.findall(view)}


def _views(content: bytes) -> Iterator[bytes]:
    """The octets, and what a program makes of them."""
    yield content
    yield binascii.a2b_qp(content)
    unfolded = _FOLD.sub(b"", content)
    yield unfolded
    yield binascii.a2b_qp(unfolded)  # as in `z=` of DKIM-Signature
    yield from _base64_runs(content)
    for part in message_from_bytes(content, policy=policy.compat32).walk():
        yield from (_decoded(value) for value in part.values())
        yield from _parameters(part)
        if not part.is_multipart():
            yield from _leaf(part)


def _base64_runs(content: bytes) -> Iterator[bytes]:
    """Everything that could be base64, whatever it is labelled as."""
    for run in _BASE64.findall(content):
        chars = run.translate(None, b" \t\r\n=")
        whole = chars if len(chars) % 4 != 1 else chars[:-1]
        data = base64.b64decode(whole + b"=" * (-len(whole) % 4))
        yield data
        yield data.replace(b"\0", b"")


def _decoded(value: str) -> bytes:
    """A field value without its RFC 2047 encoding; words side by side are joined."""
    raw = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        words = decode_header(raw)
    except (binascii.Error, ValueError):
        return raw.encode()
    return b"".join(word if isinstance(word, bytes) else word.encode() for word, _ in words)


def _parameters(part: Message) -> Iterator[bytes]:
    """The parameters of Content-Type and Content-Disposition (RFC 2231), and names in encoded words."""
    for header in ("content-type", "content-disposition"):
        for _, value in part.get_params(failobj=[], header=header):
            text = collapse_rfc2231_value(value)
            yield text.encode("utf-8", "replace")
            yield _decoded(text)


def _leaf(part: Message) -> Iterator[bytes]:
    data = part.get_payload(decode=True)
    if isinstance(data, bytes):
        yield data
        yield data.replace(b"\0", b"")  # UTF-16 of ASCII


# --------------------------------------------------------------------------- generated messages

_START = b"From: dana.moss@example.com\r\nSubject: mk0000000000000000000000aax\r\n"


def _nested(depth: int) -> bytes:
    """Multiparts in each other, with a text in the last."""
    content = b"Content-Type: text/plain\r\n\r\nmk0000000000000000000000abx\r\n"
    for level in range(depth):
        line = b"--level-%d-" % level
        head = b'Content-Type: multipart/mixed; boundary="%b"\r\n\r\n' % line[2:]
        content = head + line + b"\r\n" + content + b"\r\n" + line + b"--\r\n"
    return _START + b"To: curve25519@example.com\r\nMIME-Version: 1.0\r\n" + content


def _with_recipients(count: int) -> bytes:
    """A To field that names that many."""
    to = b",\r\n ".join(b"Recipient %d <recipient-%d@example.com>" % (index, index) for index in range(count))
    return _START + b"To: " + to + b"\r\n\r\nmk0000000000000000000000acx\r\n"


def _with_attachment(size: int) -> bytes:
    """A file so large that another process encrypts it."""
    lines = base64.encodebytes(b"mk0000000000000000000000adx" * (size // 27)).replace(b"\n", b"\r\n")
    head = b"Content-Type: application/zip; name=mk0000000000000000000000aex.zip\r\n"
    return _START + head + b"Content-Transfer-Encoding: base64\r\n\r\n" + lines


def _with_fields(count: int) -> bytes:
    return _START + b"X-A: b\r\n" * count + b"\r\ntext\r\n"


def _with_header(size: int) -> bytes:
    return _START + b"X-Long:" + b" aaaaaaaa\r\n" * (size // 11) + b"\r\ntext\r\n"
