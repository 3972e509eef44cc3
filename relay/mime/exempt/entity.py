"""Reads one MIME entity for a decision about it: None wherever two programs could see two different things.

An exempt message leaves in clear, so each part may have few fields, few parameters, and text of a bounded
length; what has anything else is not of an exempt shape.
"""

from __future__ import annotations

import binascii
import re

from relay.mime import contenttype, structure
from relay.mime.contenttype import Parameterised
from relay.mime.exempt import hypertext
from relay.mime.headers import Message
from relay.mime.structure import Part

_MAX_TYPE_BYTES = 500
_MAX_PART_HEADER_BYTES = 1500
_MAX_DESCRIPTION_BYTES = 100
_MAX_EPILOGUE_BYTES = 16
"""Line ends behind the close delimiter."""
_PART_FIELDS = frozenset(
    {
        "content-type",
        "content-transfer-encoding",
        "content-disposition",
        "content-description",
        "content-id",
        "content-language",
        "content-class",  # Outlook, beside text/calendar
        "mime-version",  # Python's `email`
    }
)
_DISPOSITION = frozenset({"filename", "size", "creation-date", "modification-date", "read-date", "name"})
"""RFC 2183 §2, and what Symfony (Nextcloud) writes."""
_PREAMBLES = frozenset(
    {
        b"",
        b"This is a MIME-encapsulated message.",  # Postfix
        b"This is a MIME-encapsulated message",  # sendmail
        b"This is a multi-part message in MIME format.",  # Thunderbird, Outlook
        b"This is a multipart message in MIME format.",  # RFC 8460 §5.3.1
    }
)
"""The words for readers without MIME that programs write by themselves; nobody sees any other."""
_CHARSETS = frozenset(
    {
        *("us-ascii", "utf-8", "iso-8859-1", "iso-8859-2", "iso-8859-15", "koi8-r", "iso-2022-jp", "gb2312"),
        *("windows-1250", "windows-1251", "windows-1252", "big5", "euc-kr", "shift_jis"),
    }
)
_TEXT_PARAMETERS = frozenset({"charset", "format", "delsp", "reply-type"})
_UNNAMED = Parameterised("text/plain", {})
"""What RFC 2045 §5.2 makes of an entity without Content-Type."""
_NOT_QUOTED_PRINTABLE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r\n)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_FILE = re.compile(
    r"^[ \t]*(?:begin(?:-base64)?[ \t]+[0-7]{3,4}[ \t]|=ybegin[ \t]|-----BEGIN[ \t]"
    r"|\(This[ \t]+file[ \t]+must[ \t]+be[ \t]+converted[ \t]+with[ \t]+BinHex)",
    re.MULTILINE,
)
"""What begins a file in a text: uuencode, yEnc, armour, BinHex (RFC 1741)."""

Entity = Message | Part
"""What has fields and a body."""


def media_type(entity: Entity, parameters: frozenset[str]) -> Parameterised | None:
    """The type of an entity; None if it has none, two, or one that says more than these parameters.

    Comments, backslashes and the extended parameters of RFC 2231 are legal, but not every reader knows them.
    """
    fields = entity.get("content-type")
    if len(fields) != 1 or len(fields[0].raw) > _MAX_TYPE_BYTES:
        return None
    found = contenttype.parse(fields[0].value)
    if found is None or found.has_comment or any(odd in fields[0].value for odd in (b"*", b"\\")):
        return None
    return found if set(found.parameters) <= parameters else None


def multipart(entity: Entity, kind: Parameterised) -> tuple[Part, ...] | None:
    """The parts of a complete multipart with nothing readable around them and in their fields."""
    if _encoding(entity) not in {"7bit", "8bit"}:
        return None
    found = structure.parts(kind, entity.body)
    if found is None or not found.complete or found.preamble.strip() not in _PREAMBLES:
        return None
    if found.epilogue.strip() or len(found.epilogue) > _MAX_EPILOGUE_BYTES:
        return None
    return found.parts if all(_is_plain(part) for part in found.parts) else None


def is_attached(entity: Entity) -> bool:
    """Whether it is shown as a file, or wants to be."""
    return any(
        not (found := contenttype.parse(field.value)) or found.value != "inline" or found.parameters
        for field in entity.get("content-disposition")
    )


def is_identity(entity: Entity) -> bool:
    """Whether its body is what its octets say, as RFC 2046 §5.2.1 demands of message/*."""
    return _encoding(entity) in {"7bit", "8bit"}


def decoded(entity: Entity, max_bytes: int) -> bytes | None:
    """The body without its transfer encoding; None if that is broken, or the content is too large."""
    if _size(entity) > 4 * max_bytes:
        return None
    content = _decode(entity.body, _encoding(entity))
    return content if content is not None and len(content) <= max_bytes else None


def text(entity: Entity, subtype: str, max_bytes: int) -> str | None:
    """What an entity of type text/`subtype` says; None if it is none, an attachment, or no clean text."""
    # Sendmail writes its part for people without any field.
    kind = media_type(entity, _TEXT_PARAMETERS) if entity.get("content-type") else _UNNAMED
    content = decoded(entity, max_bytes)
    if kind is None or kind.value != f"text/{subtype}" or content is None or is_attached(entity):
        return None
    charset = kind.parameters.get("charset", "us-ascii").lower()
    try:
        shown = content.decode(charset) if charset in _CHARSETS else None
    except UnicodeDecodeError:
        return None
    if shown is None or _CONTROL.search(shown) or _FILE.search(shown):
        return None
    return None if subtype == "html" and hypertext.shown(shown) is None else shown


def is_for_people(entity: Entity, max_bytes: int, max_alternative_bytes: int) -> bool:
    """Whether it is one text/plain, or multipart/alternative of that and text/html, with little to read.

    Exchange writes the alternative into its reports.

    Args:
        max_bytes: of a text/plain; of all that both of an alternative tell.
        max_alternative_bytes: of an alternative with its markup, as it is encoded.
    """
    kind = media_type(entity, frozenset({"boundary", "differences"}))
    if kind is None or kind.value != "multipart/alternative":
        return text(entity, "plain", max_bytes) is not None
    parts = multipart(entity, kind) if _size(entity) <= max_alternative_bytes else None
    if parts is None or len(parts) != 2:
        return False
    plain, html = text(parts[0], "plain", max_bytes), text(parts[1], "html", max_alternative_bytes)
    told = hypertext.shown(html) if html is not None else None
    return plain is not None and told is not None and len(plain + told.words) + told.hidden_chars <= max_bytes


def _is_plain(part: Part) -> bool:
    """Whether the fields of a part describe it and say no more."""
    names = [field.name for field in part.fields]
    if len(set(names)) < len(names) or not set(names) <= _PART_FIELDS:
        return False
    if part.body_start - part.start > _MAX_PART_HEADER_BYTES:
        return False
    if any(field.value != b"1.0" for field in part.get("mime-version")):
        return False
    described = (*part.get("content-description"), *part.get("content-class"), *part.get("content-language"))
    if any(len(field.raw) > _MAX_DESCRIPTION_BYTES for field in described):
        return False
    return all(_is_disposition(field.value) for field in part.get("content-disposition"))


def _is_disposition(value: bytes) -> bool:
    found = contenttype.parse(value)
    if found is None or found.has_comment or found.value not in {"inline", "attachment"}:
        return False
    return set(found.parameters) <= _DISPOSITION


def _size(entity: Entity) -> int:
    return entity.size if isinstance(entity, Part) else len(entity.body)


def _encoding(entity: Entity) -> str:
    """The transfer encoding in lower case; empty if it is none that a decision can be built on."""
    fields = entity.get("content-transfer-encoding")
    found = fields[0].value.lower() if fields else b"7bit"
    known = {b"7bit", b"8bit", b"quoted-printable", b"base64"}
    return found.decode("ascii") if len(fields) <= 1 and found in known else ""


def _decode(body: bytes, encoding: str) -> bytes | None:
    if encoding == "base64":
        try:
            return binascii.a2b_base64(body.translate(None, b" \t\r\n"), strict_mode=True)
        except binascii.Error:
            return None
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body) if not _NOT_QUOTED_PRINTABLE.search(body) else None
    return body if encoding else None
