"""Splits a message into header fields and body, as slices of the received bytes (RFC 5322 §2).

Nothing is decoded, refolded or repaired: `Message.content` gives back what `parse` took, byte for byte. What
two parsers could read differently is refused here, so that no later rule has to guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO

from relay.errors import MessageRefused

MAX_HEADER_BYTES = 1 << 20
"""Enough for a To field with some ten thousand recipients."""
MAX_FIELDS = 2000
"""Real messages have fewer than 200."""

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]{1,200}):")
"""RFC 5322 §2.2. A blank before the colon (obsolete syntax) is refused: clients disagree on its meaning."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    """One header field."""

    name: str
    """Lower-case ASCII."""
    raw: bytes
    """The whole field as received, folded lines and the final CRLF included."""

    @property
    def value(self) -> bytes:
        """What stands behind the colon, unfolded and without blanks at its ends (RFC 5322 §2.2.3)."""
        return self.raw[len(self.name) + 1 :].replace(b"\r\n", b"").strip(b" \t")

    @property
    def is_structural(self) -> bool:
        """Whether it describes the body and so goes where the body goes (RFC 9788 §1.9)."""
        return self.name == "mime-version" or self.name.startswith("content-")


@dataclass(frozen=True, slots=True)
class Message:
    """A message as its header fields and its body."""

    fields: tuple[Field, ...]
    body: bytes
    has_separator: bool = True
    """Whether an empty line ends the header section; without one there is no body."""

    @property
    def content(self) -> bytes:
        """The message as one piece of bytes."""
        return serialise(self.fields) + (b"\r\n" if self.has_separator else b"") + self.body

    def get(self, name: str) -> list[Field]:
        """Every field of this name (lower case), in order."""
        return [field for field in self.fields if field.name == name]


def serialise(fields: Iterable[Field]) -> bytes:
    """The fields as a header section, without the empty line."""
    return b"".join(field.raw for field in fields)


def parse(content: bytes) -> Message:
    """Splits a message at its first empty line.

    Raises:
        MessageRefused: bare CR, bare LF or NUL; a line that is no header field; a limit is exceeded.
    """
    _refuse_odd_octets(content)
    end, body = _separator(content)
    fields = tuple(_fields(content[:end]))
    return Message(fields, cut(content, body, len(content)), has_separator=body > end)


def cut(data: bytes, start: int, end: int) -> bytes:
    """`data[start:end]`, copied piece by piece, because one copy of 50 MB would hold the interpreter lock."""
    if end - start <= _CHUNK_BYTES:
        return data[start:end]
    view, copy = memoryview(data), BytesIO()
    for piece in range(start, end, _CHUNK_BYTES):
        copy.write(view[piece : min(piece + _CHUNK_BYTES, end)])
    return copy.getvalue()


def has_long_line(data: bytes, limit: int) -> bool:
    """Whether a line of `data` has more than `limit` octets, CRLF not counted."""
    start = 0
    while len(data) - start > limit:
        end = data.rfind(b"\n", start, start + limit + 2)
        if end < 0:
            return True
        start = end + 1
    return False


def _refuse_odd_octets(content: bytes) -> None:
    """Only CRLF ends a line, and NUL is nowhere (RFC 5321 §2.3.8, RFC 6152 §3)."""
    if b"\0" in content:
        raise MessageRefused("NUL", reason="it holds a NUL octet, which mail may not contain")
    pairs = _count(content, b"\r\n")
    if not _count(content, b"\r") == pairs == _count(content, b"\n"):
        raise MessageRefused("bare CR or LF", reason="it holds a bare CR or LF; lines must end with CRLF")


def _count(content: bytes, octets: bytes) -> int:
    """`content.count(octets)`, piece by piece, because one call on 50 MB would hold the interpreter lock."""
    overlap = len(octets) - 1
    starts = range(0, len(content), _CHUNK_BYTES)
    return sum(content.count(octets, start, start + _CHUNK_BYTES + overlap) for start in starts)


def _separator(content: bytes) -> tuple[int, int]:
    """Where the header section ends and where the body starts."""
    if content.startswith(b"\r\n"):
        return 0, 2
    end = content.find(b"\r\n\r\n", 0, MAX_HEADER_BYTES + 4)
    if end >= 0:
        return end + 2, end + 4
    if len(content) > MAX_HEADER_BYTES:
        raise MessageRefused("header too large", reason="its header is larger than 1 MiB")
    if content and not content.endswith(b"\r\n"):
        raise MessageRefused("unfinished header", reason="its header does not end with a line end")
    return len(content), len(content)


def _fields(section: bytes) -> Iterator[Field]:
    """The fields of a header section; lines are divided at CRLF and nowhere else."""
    lines = section.split(b"\r\n")[:-1]
    if len(lines) > MAX_FIELDS and sum(line[:1] not in {b" ", b"\t"} for line in lines) > MAX_FIELDS:
        raise MessageRefused("too many fields", reason=f"it has more than {MAX_FIELDS} header fields")
    start = 0
    for index in range(1, len(lines) + 1):
        if index == len(lines) or lines[index][:1] not in {b" ", b"\t"}:
            yield _field(lines[start:index])
            start = index


def _field(lines: list[bytes]) -> Field:
    name = _NAME.match(lines[0])
    if not name:
        raise MessageRefused(
            "not a header field",
            reason="a line of its header is not a header field; an empty line must stand before the text",
        )
    return Field(name[1].decode("ascii").lower(), b"\r\n".join(lines) + b"\r\n")
