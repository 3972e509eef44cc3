"""Makes a message fit for a signature: 7-bit octets, no blanks at line ends, no line `From ` (RFC 3156 §3).

Only leaves that need it are encoded anew, and what they say stays the same octet for octet. What is signed or
encrypted already, or is a message that its servers have signed, is left as it stands: another signature
covers its octets. Work is done in pieces that hold the interpreter lock for a few milliseconds.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from relay.errors import MessageRefused
from relay.mime import contenttype, headers, pgpmime, structure
from relay.mime.checks import MAX_LINE_OCTETS
from relay.mime.contenttype import Parameterised
from relay.mime.headers import Field, Message, cut, has_long_line, serialise

_ENCODING = "content-transfer-encoding"
_ASCII = bytes(range(128))
_SAMPLE_BYTES = 65_536
_SHORT_BYTES = 1000
_IDENTITY = frozenset({b"7bit", b"8bit", b"binary"})
_SEALED = frozenset({"multipart/signed", "multipart/encrypted"})
"""RFC 1847 §2: nothing inside may change on the way."""
_SERVER_SIGNATURE = re.compile(r"(?:.*-)?dkim-signature|domainkey-signature|arc-.*")
_COMPOSITE = re.compile(rb"multipart|message", re.IGNORECASE)
_HEADER_BLANKS = re.compile(rb"(?:\r\n[ \t]++(?=\r\n))++|(?<![ \t])[ \t]++(?=\r\n)")
"""A folded line of blanks alone goes with its line end, or it would end the header."""
_TRAILING_BLANKS = re.compile(rb"(?<![ \t])[ \t]++(?=\r\n|\Z)")
_FROM = re.compile(rb"F(?<![^\n]F)(?=rom )")
"""The start of a line that programs for mbox files take for the start of a message."""
_HYPHEN = re.compile(rb"-(?<![^\n]-)")
"""The start of a line that could become a delimiter where a longer line is divided."""
_GROWN_LINE = re.compile(rb"=(?<![^\n]=)(?:2D|46)[^\r\n]{73,}")
"""One of these lines that is too long now."""
_LATE_BLANK = re.compile(rb"=(20|09)(?=\r\n)(?<=[^\r\n]{77})")
"""Python encodes a blank at the end of a line without looking how long that makes it."""
_BROKEN_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n|\Z)")
_BASE64_CHARS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_MAX_PARTS = 5000
"""In all multiparts together. A part costs as much time as some kilobytes of text, however small it is."""
_LINE_CHARS = 76
"""RFC 2045 §6.7 (5) and §6.8; a quoted-printable line ends with `=` within them."""
_CHUNK_BYTES = 1 << 17
"""A piece of that size holds the interpreter lock for some five milliseconds."""


def seven_bit(message: Message) -> Message:
    """The message as RFC 3156 §3 wants what is signed; the same object if it is like that already.

    Text becomes quoted-printable, anything else base64. Outside of leaves only blanks at line ends go, which
    mean nothing there, and a multipart in which 8-bit parts stood is labelled `7bit`. Of the message's own
    header only the structural fields are looked at. A message without Content-Type is given the implied one,
    because nobody could guess a charset from the encoded text.

    Raises:
        MessageRefused: a part cannot be encoded without doubt, or something that is no leaf is not ASCII.
    """
    structural = serialise(field for field in message.fields if field.is_structural)
    if _is_fit(structural) and _is_fit(message.body):
        return message
    if not message.get("content-type"):
        implied = headers.parse(pgpmime.entity(message)[0]).fields
        message = replace(message, fields=(*message.fields, *implied))
    recoding = _Recoding(message.body)
    fields = tuple(field for field in message.fields if field.is_structural)
    encoding = recoding.recode(_Entity(fields, 0, 0, len(message.body)))
    fit = iter(_fit_fields(fields, encoding))
    kept = [next(fit) if field.is_structural else field for field in message.fields]
    recoded = replace(message, fields=(*kept, *fit), body=recoding.result())
    return message if recoded == message else recoded


@dataclass(frozen=True, slots=True)
class _Entity:
    """A header and a body that it describes, as places in the body of the message."""

    fields: tuple[Field, ...]
    start: int
    """Where its header begins; for the message itself where its body does."""
    body_start: int
    end: int
    default: str = "text/plain"
    """What it is without a Content-Type."""
    depth: int = 0

    @property
    def kind(self) -> Parameterised:
        """Its type; where that cannot be read at least whether it can have parts."""
        found = _only([field.value for field in self.fields if field.name == "content-type"], "Content-Type")
        if found is None:
            return Parameterised(self.default, {})
        kind = contenttype.parse(found)
        if kind is None and _COMPOSITE.search(found):
            raise _refusal("the Content-Type of a part cannot be read")
        is_text = found.lower().startswith(b"text/")
        return kind or Parameterised("text/plain" if is_text else "application/octet-stream", {})

    @property
    def encoding(self) -> bytes:
        """Its Content-Transfer-Encoding in lower case (RFC 2045 §6.1)."""
        values = [field.value.lower() for field in self.fields if field.name == _ENCODING]
        return _only(values, "Content-Transfer-Encoding") or b"7bit"


class _Recoding:
    """The body of a message and the changes to it.

    Every level is cut out of the body and dropped again before the next one, so that deep nesting costs time
    but no memory.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._parts_seen = 0
        self._changes: list[tuple[int, int, bytes]] = []
        self._left: list[_Entity] = []
        """What stays as it stands and is not ASCII."""

    def recode(self, entity: _Entity) -> bytes | None:
        """Notes what has to change in the body of an entity; its new encoding, if it gets another one."""
        if _is_fit(self._cut(entity)):
            return None
        kind = entity.kind
        if kind.value in _SEALED:
            self._leave(entity)
            return None
        if entity.depth > structure.MAX_DEPTH:
            raise _refusal("its parts are nested too deep")
        if kind.value.startswith("message/"):
            return self._message(entity, kind)
        if kind.value.startswith("multipart/"):
            return self._multipart(entity, kind)
        return self._leaf(entity, kind)

    def result(self) -> bytes:
        """The body with its changes; the same object without any."""
        if not self._changes:
            return self._body
        view, pieces, at = memoryview(self._body), list[bytes | memoryview](), 0
        for start, end, octets in sorted(self._changes):
            pieces += [view[at:start], octets]
            at = end
        return b"".join([*pieces, view[at:]])

    def _cut(self, entity: _Entity) -> bytes:
        return cut(self._body, entity.body_start, entity.end)

    def _leave(self, entity: _Entity) -> None:
        if not self._cut(entity).isascii():
            self._left.append(entity)

    def _leaf(self, entity: _Entity, kind: Parameterised) -> bytes:
        """Encodes anew what is one piece of content."""
        content, encoding = self._cut(entity), entity.encoding
        try:
            if encoding == b"quoted-printable":
                encoding, pieces = _mended_quoted_printable(content)
            elif encoding == b"base64":
                pieces = _mended_base64(content)
            elif encoding not in _IDENTITY:
                raise _refusal("a part has a Content-Transfer-Encoding that is not known")
            elif kind.value.startswith("text/") and _is_mostly_ascii(content):
                encoding, pieces = b"quoted-printable", _quoted_printable(content)
            else:
                encoding, pieces = b"base64", _base64(content)
        except ValueError as exc:
            raise _refusal(f"a part is {exc}") from exc
        self._changes.append((entity.body_start, entity.end, b"".join(pieces)))
        return encoding

    def _multipart(self, entity: _Entity, kind: Parameterised) -> bytes | None:
        """Goes through the parts, and through what stands between them."""
        if entity.encoding not in _IDENTITY:
            raise _refusal("a multipart is encoded as a whole, which RFC 2045 §6.4 forbids")
        left, at = len(self._left), entity.body_start
        for part in self._parts(entity, kind):
            self._between(at, part.start)
            self._header(part, self.recode(part))
            at = part.end
        self._between(at, entity.end)
        return self._label(entity, left)

    def _parts(self, entity: _Entity, kind: Parameterised) -> list[_Entity]:
        found = structure.parts(kind, self._cut(entity))
        if found is None:
            raise _refusal("a multipart cannot be divided without doubt")
        self._parts_seen += len(found.parts)
        if self._parts_seen > _MAX_PARTS:
            raise _refusal(f"it has more than {_MAX_PARTS} parts")
        default = "message/rfc822" if kind.value == "multipart/digest" else "text/plain"  # RFC 2046 §5.1.5
        start = entity.body_start
        return [
            _Entity(
                part.fields,
                start + part.start,
                start + part.body_start,
                start + part.end,
                default,
                entity.depth + 1,
            )
            for part in found.parts
        ]

    def _message(self, entity: _Entity, kind: Parameterised) -> bytes | None:
        """Goes into a message that no server has signed; it may not be encoded itself (RFC 2046 §5.2.1)."""
        found = self._forwarded(entity) if kind.value == "message/rfc822" else None
        if found is None or entity.encoding not in _IDENTITY:
            self._leave(entity)
            return None
        changes, left = len(self._changes), len(self._left)
        try:
            self._header(found, self.recode(found))
        except MessageRefused:  # somebody else wrote it, and the sender could not mend it
            del self._changes[changes:], self._left[left:]
            self._leave(entity)
            return None
        return self._label(entity, left)

    def _forwarded(self, entity: _Entity) -> _Entity | None:
        """The message inside, if it can be read and nobody has signed it."""
        try:
            message = headers.parse(self._cut(entity))
        except MessageRefused:
            return None
        if any(_SERVER_SIGNATURE.fullmatch(field.name) for field in message.fields):
            return None
        start = entity.body_start
        return _Entity(
            message.fields, start, entity.end - len(message.body), entity.end, depth=entity.depth + 1
        )

    def _label(self, entity: _Entity, left: int) -> bytes | None:
        """The label of what has parts, where nothing 8-bit was left in it (RFC 2045 §6.4)."""
        return b"7bit" if entity.encoding != b"7bit" and len(self._left) == left else None

    def _header(self, entity: _Entity, encoding: bytes | None) -> None:
        header = self._body[entity.start : entity.body_start]
        if encoding is None and _is_fit(header):
            return
        separator = header[len(serialise(entity.fields)) :]
        self._changes.append(
            (entity.start, entity.body_start, serialise(_fit_fields(entity.fields, encoding)) + separator)
        )

    def _between(self, start: int, end: int) -> None:
        """Preamble, delimiters, epilogue: nobody is shown them, and blanks behind a delimiter are padding."""
        text = cut(self._body, start, end)
        if _is_fit(text):
            return
        text = b"".join(_without_trailing_blanks(text))
        if not _is_fit(text):
            raise _refusal("there is text beside its parts that is not plain ASCII")
        self._changes.append((start, end, text))


def _fit_fields(fields: Iterable[Field], encoding: bytes | None) -> Iterator[Field]:
    """The fields without blanks at line ends and with the new encoding, if there is one."""
    for field in fields:
        raw = _HEADER_BLANKS.sub(b"", field.raw)
        if encoding and field.name == _ENCODING:
            raw, encoding = field.raw[: len(_ENCODING)] + b": " + encoding + b"\r\n", None
        if not raw.isascii() or has_long_line(raw, MAX_LINE_OCTETS):
            raise _refusal("a header field of a part is not ASCII or has a line of more than 998 octets")
        yield Field(field.name, raw)
    if encoding:
        yield Field(_ENCODING, b"Content-Transfer-Encoding: " + encoding + b"\r\n")


# --------------------------------------------------------------------------- content


def _is_fit(octets: bytes) -> bool:
    """Whether RFC 3156 §3 lets the octets be signed, and RFC 5322 §2.1.1 lets them be sent."""
    return (
        octets.isascii()
        and b" \r\n" not in octets
        and b"\t\r\n" not in octets
        and not octets.endswith((b" ", b"\t"))
        and not _has_from_line(octets)
        and not has_long_line(octets, MAX_LINE_OCTETS)
    )


def _has_from_line(octets: bytes) -> bool:
    return octets.startswith(b"From ") or b"\r\nFrom " in octets


def _without_trailing_blanks(octets: bytes) -> Iterator[bytes]:
    """The octets in pieces of whole lines, without blanks at line ends."""
    start = 0
    while start < len(octets):
        end = octets.find(b"\n", start + _CHUNK_BYTES) + 1 or len(octets)
        yield _TRAILING_BLANKS.sub(b"", octets[start:end])
        start = end


def _is_mostly_ascii(content: bytes) -> bool:
    """Whether quoted-printable is the smaller encoding, as far as the beginning tells.

    Of a short text it does not matter, and quoted-printable can be read by people.
    """
    sample = content[:_SAMPLE_BYTES]
    return len(content) < _SHORT_BYTES or len(sample.translate(None, _ASCII)) * 6 <= len(sample)


def _quoted_printable(content: bytes) -> Iterator[bytes]:
    """The content as quoted-printable, in pieces (RFC 2045 §6.7)."""
    start = 0
    while start < len(content):
        end = content.rfind(b"\n", start, start + _CHUNK_BYTES) + 1
        if not end:  # one long line: it is divided, but not inside of its CRLF
            end = min(start + _CHUNK_BYTES, len(content))
            end -= content[end - 1] == ord("\r")
        soft_break = b"" if content[start - 1 : start] in {b"", b"\n"} else b"=\r\n"
        yield _without_from_lines(_HYPHEN.sub(b"=2D", soft_break + _quoted(content[start:end])))
        start = end


def _quoted(piece: bytes) -> bytes:
    """One or more lines, or a part of one line."""
    end = b"" if piece.endswith(b"\n") else b"\r\n"  # Python takes the line ends from the first one
    return _LATE_BLANK.sub(rb"=\r\n=\1", binascii.b2a_qp(piece + end)).removesuffix(end)


def _without_from_lines(lines: bytes) -> bytes:
    """Quoted-printable lines with every `From ` at the start of one encoded, none longer than before."""
    return _GROWN_LINE.sub(_divided, _FROM.sub(b"=46", lines))


def _divided(line: re.Match[bytes]) -> bytes:
    text, middle = line[0], _LINE_CHARS // 2
    escape = text.rfind(b"=", middle - 2, middle)
    middle = escape if escape >= 0 else middle
    rest = text[middle:]
    if rest.startswith((b"F", b"-")):
        rest = b"=%02X" % rest[0] + rest[1:]
    return text[:middle] + b"=\r\n" + rest


def _mended_quoted_printable(content: bytes) -> tuple[bytes, Iterable[bytes]]:
    """The encoding and the content of what calls itself quoted-printable, without what may not be signed.

    Blanks at line ends are no part of the content (RFC 2045 §6.7 (3)). Octets beyond ASCII and long lines are
    not allowed either, but every reader takes them for what they are.

    Raises:
        ValueError: it has an escape that readers take for different things.
    """
    lines = list(_without_trailing_blanks(content))
    if all(piece.isascii() and not has_long_line(piece, MAX_LINE_OCTETS) for piece in lines):
        return b"quoted-printable", map(_without_from_lines, lines)
    if any(_BROKEN_ESCAPE.search(piece) for piece in lines):
        raise ValueError("labelled quoted-printable, but has broken escapes")
    decoded = b"".join(map(binascii.a2b_qp, lines))
    pairs = decoded.count(b"\r\n")
    if decoded.count(b"\r") == pairs == decoded.count(b"\n"):
        return b"quoted-printable", _quoted_printable(decoded)
    return b"base64", _base64(decoded)


def _base64(content: bytes) -> Iterator[bytes]:
    step = _CHUNK_BYTES // 3 * 3
    starts = range(0, len(content), step)
    chars = (binascii.b2a_base64(content[start : start + step], newline=False) for start in starts)
    return _in_lines(b"".join(chars))


def _mended_base64(content: bytes) -> Iterator[bytes]:
    """Base64 in lines as they should be.

    Raises:
        ValueError: something else stands there too.
    """
    if content.isascii() and not _has_from_line(content) and not has_long_line(content, MAX_LINE_OCTETS):
        return _without_trailing_blanks(content)
    chars = content.translate(None, b"\r\n\t ")
    if chars.translate(None, _BASE64_CHARS):
        raise ValueError("labelled base64, but something else")
    return _in_lines(chars)


def _in_lines(chars: bytes) -> Iterator[bytes]:
    step = _CHUNK_BYTES // _LINE_CHARS * _LINE_CHARS
    for start in range(0, len(chars), step):
        piece = chars[start : start + step]
        lines = [piece[at : at + _LINE_CHARS] for at in range(0, len(piece), _LINE_CHARS)]
        yield (b"\r\n" if start else b"") + b"\r\n".join(lines)


# --------------------------------------------------------------------------- refusals


def _only(values: list[bytes], name: str) -> bytes | None:
    if len(values) > 1:
        raise _refusal(f"a part has more than one {name} field")
    return values[0] if values else None


def _refusal(why: str) -> MessageRefused:
    return MessageRefused(f"cannot be signed: {why}", reason=f"it cannot be signed, because {why}")
