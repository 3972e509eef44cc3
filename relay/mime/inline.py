"""Inline PGP: the armoured text is the body itself, for recipients whose programs know nothing of PGP/MIME.

Only a message that is plain text and nothing else can be written like this. Where anything would be lost, or
where it is in doubt how to read the text, there is no text to encrypt and the message stays PGP/MIME.
"""

from __future__ import annotations

import binascii
import re
from io import BytesIO

from relay.mime import contenttype
from relay.mime.headers import Message, serialise
from relay.mime.pgpmime import with_crlf

_STRUCTURAL = frozenset(
    {
        *("mime-version", "content-type", "content-transfer-encoding", "content-disposition"),
        "content-language",  # Thunderbird writes it into every message; nobody misses it
    }
)
"""What may describe the text. Any other Content-* field would be lost outside of PGP/MIME."""
_CHARSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+()-]{0,59}")
"""A name as IANA has them (RFC 2978 §2.3): without quotes, blanks or line ends."""
_WIDE_CHARSET = re.compile(r"utf-?(?:16|32)|ucs-?[24]|iso-10646-ucs|unicode(?!-1-1-utf-7)", re.IGNORECASE)
"""Their line ends are not the octets CR and LF, so no text may have them (RFC 2046 §4.1.1)."""
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r\n|\Z)")
_BROKEN_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n|\Z)")
_CHUNK_BYTES = 1 << 17
"""A piece of that size holds the interpreter lock for some five milliseconds."""


def text_of(message: Message) -> bytes | None:
    """The decoded text to encrypt, which may be empty; None if the message has to stay PGP/MIME.

    That is everything but text/plain with no parameter other than a charset, with no file name and no further
    part. `format=flowed` stays PGP/MIME too, because nobody reads it inside of a block.
    """
    structural = [field.name for field in message.fields if field.is_structural]
    if len(set(structural)) < len(structural) or not _STRUCTURAL.issuperset(structural):
        return None
    charset = _charset(message)
    if charset is None or not _is_body(message):
        return None
    text = _decoded(message)
    return text if text is not None and _is_text(text, charset) else None


def wrap(message: Message, armored: bytes, received: bytes) -> tuple[bytes, bytes]:
    """The encrypted copy: header section (without the empty line) and body.

    Args:
        message: completed and stripped; `text_of` has found its text.
        armored: the encrypted text; LF line ends become CRLF.
        received: the relay's own trace field, ended by CRLF.
    """
    outside = [field for field in message.fields if not field.is_structural]
    kind = (
        "MIME-Version: 1.0\r\n"
        f'Content-Type: text/plain; charset="{_charset(message) or "us-ascii"}"\r\n'
        "Content-Transfer-Encoding: 7bit\r\n"
    ).encode("ascii")
    return b"".join([received, serialise(outside), kind]), b"".join(with_crlf(armored))


def _charset(message: Message) -> str | None:
    """The charset of a plain text; None where the Content-Type says more, or cannot be read."""
    fields = message.get("content-type")
    if not fields:
        return "us-ascii"
    kind = contenttype.parse(fields[0].value)
    if kind is None or kind.has_comment or kind.value != "text/plain" or set(kind.parameters) - {"charset"}:
        return None
    charset = kind.parameters.get("charset", "us-ascii")
    return charset if _CHARSET.fullmatch(charset) and not _WIDE_CHARSET.match(charset) else None


def _is_body(message: Message) -> bool:
    """Whether the text is shown as the message itself, not as a file beside it (RFC 2183 §2)."""
    found = [contenttype.parse(field.value) for field in message.get("content-disposition")]
    return all(one and one.value == "inline" and not one.parameters and not one.has_comment for one in found)


def _is_text(text: bytes, charset: str) -> bool:
    """Whether the octets are lines of text, and of the charset as far as that is known."""
    pairs = text.count(b"\r\n")
    return (
        text.count(b"\r") == pairs == text.count(b"\n")
        and b"\0" not in text
        and (text.isascii() or charset.lower() not in {"us-ascii", "ascii"})
    )


# --------------------------------------------------------------------------- encodings


def _decoded(message: Message) -> bytes | None:
    """The body without its Content-Transfer-Encoding; None if that is unknown or broken (RFC 2045 §6)."""
    encoding = next((field.value.lower() for field in message.get("content-transfer-encoding")), b"7bit")
    match encoding:
        case b"7bit" | b"8bit":
            return message.body
        case b"quoted-printable":
            return _from_quoted_printable(message.body)
        case b"base64":
            return _from_base64(message.body)
        case _:
            return None


def _from_quoted_printable(body: bytes) -> bytes | None:
    """Strictly: no escape is broken and no octet stands for itself that may not."""
    data, start = BytesIO(), 0
    while start < len(body):
        end = body.find(b"\n", start + _CHUNK_BYTES) + 1 or len(body)
        lines = _TRAILING_BLANKS.sub(b"", body[start:end])  # RFC 2045 §6.7 (3): added on the way
        if not lines.isascii() or _BROKEN_ESCAPE.search(lines):
            return None
        data.write(binascii.a2b_qp(lines))
        start = end
    return data.getvalue()


def _from_base64(body: bytes) -> bytes | None:
    """Strictly: only line ends and blanks stand between the characters, and padding ends them."""
    data, left = BytesIO(), b""
    for start in range(0, len(body), _CHUNK_BYTES):
        chars = left + body[start : start + _CHUNK_BYTES].translate(None, b"\r\n\t ")
        whole = (len(chars) - 1) // 4 * 4 if chars else 0  # the last four are left: only they may be padded
        left = chars[whole:]
        if chars.find(b"=", 0, whole) >= 0 or not _write_base64(data, chars[:whole]):
            return None
    return data.getvalue() if _write_base64(data, left) else None


def _write_base64(data: BytesIO, chars: bytes) -> bool:
    try:
        data.write(binascii.a2b_base64(chars, strict_mode=True))
    except binascii.Error:
        return False
    return True
