"""Splits the body of a multipart into its parts, as slices with their exact places (RFC 2046 §5.1.1).

One level at a time: who goes deeper calls it again with the type and the body of a part, no deeper than
`MAX_DEPTH`. Nothing is decoded or repaired, and what two readers could divide differently is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.errors import MessageRefused
from relay.mime import headers
from relay.mime.contenttype import Parameterised
from relay.mime.headers import Field, cut

MAX_DEPTH = 20
"""Levels of multipart that a caller follows. Real mail has five."""
MAX_PARTS = 1000
"""In one multipart. Real mail has fewer than a hundred."""
MAX_PART_HEADER_BYTES = 16_384

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_LINE_END = re.compile(rb"(--)?[ \t]{0,200}(?:\r\n|\Z)")
"""What may stand behind the boundary on its line; `--` in the last one."""
_MANY_BLANKS = re.compile(rb"(?:--)?[ \t]{201}")
"""Transport padding (RFC 2046 §5.1.1) that no transport adds; a search for its end would have none."""
_MAX_BEGINNINGS = 10 * MAX_PARTS
"""Of lines that begin with the boundary. An inner boundary may begin with the outer one."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart: `whole[start:end]`, header first."""

    fields: tuple[Field, ...]
    whole: bytes = field(repr=False)
    """The body of the multipart in which it lies."""
    start: int
    """Its first octet in `whole`, behind the delimiter line."""
    body_start: int
    """The first octet of its body in `whole`."""
    end: int
    """Behind its last octet. The CRLF that follows there belongs to the next delimiter."""

    @property
    def header(self) -> bytes:
        """Its header section with the empty line that ends it, if there is one."""
        return self.whole[self.start : self.body_start]

    @property
    def body(self) -> bytes:
        """Its body as it stands there, still encoded; cut anew at every call."""
        return cut(self.whole, self.body_start, self.end)

    @property
    def size(self) -> int:
        """Octets of its body, without cutting it out."""
        return self.end - self.body_start

    def get(self, name: str) -> list[Field]:
        """Every field of this name (lower case), in order."""
        return [field for field in self.fields if field.name == name]


@dataclass(frozen=True, slots=True)
class Multipart:
    """A divided body; it is changed by splicing at the offsets of its parts, from the last to the first."""

    preamble: bytes
    """All that stands before the first delimiter line."""
    parts: tuple[Part, ...]
    """At least one."""
    epilogue: bytes
    """All that stands behind the line of the close delimiter."""
    complete: bool
    """Whether there is a close delimiter; without one the last part goes to the end."""


def parts(content_type: Parameterised, body: bytes) -> Multipart | None:
    """The parts of a body of this type; None if it is no multipart, or where there is any doubt.

    A delimiter stands at the start of a line and alone on it, but for blanks; a boundary with which a longer
    line begins is text. In doubt are: a boundary that RFC 2046 does not allow, no delimiter, one without room
    for a part before the next, one behind the close delimiter, a part whose header cannot be read or is
    larger than `MAX_PART_HEADER_BYTES`, more than `MAX_PARTS` parts, ten times as many lines that begin with
    the boundary, more than 200 blanks behind one.

    Args:
        body: its lines end with CRLF and nothing else, as `headers.parse` makes sure of.
    """
    boundary = content_type.parameters.get("boundary", "")
    if not content_type.value.startswith("multipart/") or not _BOUNDARY.fullmatch(boundary):
        return None
    lines = _delimiter_lines(body, b"--" + boundary.encode("ascii"))
    if not lines or any(line.closes for line in lines[:-1]):
        return None
    complete = lines[-1].closes
    if not complete and not body.endswith(b"\r\n", 0, lines[-1].end):  # no line, no close: cut off in it
        return None
    ends = [line.start - 2 for line in lines[1:]] + ([] if complete else [len(body)])
    found = [_part(body, line.end, end) for line, end in zip(lines, ends, strict=False)]
    divided = tuple(part for part in found if part)
    if not divided or len(divided) < len(found):
        return None
    epilogue = cut(body, lines[-1].end, len(body)) if complete else b""
    return Multipart(cut(body, 0, lines[0].start), divided, epilogue, complete)


@dataclass(frozen=True, slots=True)
class _Line:
    """A delimiter line: from its first hyphen to behind its CRLF."""

    start: int
    end: int
    closes: bool


def _delimiter_lines(body: bytes, delimiter: bytes) -> list[_Line]:
    """Every delimiter line; none at all if there are too many, or one is in doubt."""
    found: list[_Line] = []
    for beginnings, at in enumerate(_beginnings(body, delimiter)):
        behind = at + len(delimiter)
        if end := _LINE_END.match(body, behind):
            found.append(_Line(at, end.end(), end[1] is not None))
        if len(found) > MAX_PARTS + 1 or beginnings > _MAX_BEGINNINGS or _MANY_BLANKS.match(body, behind):
            return []
    return found


def _beginnings(body: bytes, delimiter: bytes) -> Iterator[int]:
    """Where a line begins with the delimiter."""
    if body.startswith(delimiter):
        yield 0
    at, line = 0, b"\r\n" + delimiter
    while at < len(body):
        # Piece by piece, because one search of 50 MB would hold the interpreter lock.
        found = body.find(line, at, at + _CHUNK_BYTES + len(line) - 1)
        if found >= 0:
            yield found + 2
        at = found + len(line) if found >= 0 else at + _CHUNK_BYTES


def _part(body: bytes, start: int, end: int) -> Part | None:
    """The part between two places; None if it has no header that can be read."""
    body_start = _body_start(body, start, end)
    if body_start is None:
        return None
    section = body[start:body_start].removesuffix(b"\r\n")  # the empty line, if there is one
    section += b"\r\n" if section and not section.endswith(b"\r\n") else b""
    try:
        return Part(headers.parse(section).fields, body, start, body_start, end)
    except MessageRefused:
        return None


def _body_start(body: bytes, start: int, end: int) -> int | None:
    """Where the body of a part begins; None if its header has no end."""
    if body.startswith(b"\r\n", start):  # no fields; that of the next delimiter if the part is empty
        return min(start + 2, end)
    separator = body.find(b"\r\n\r\n", start, min(end, start + MAX_PART_HEADER_BYTES))
    if separator >= 0:
        return separator + 4
    # A header section alone, as the grammar of `body-part` allows: its body is empty.
    is_header = start < end <= start + MAX_PART_HEADER_BYTES and body.endswith(b"\r\n", start, end)
    return end if is_header else None
