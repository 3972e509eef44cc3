"""Says whether a message is a calendar object for a program (RFC 6047), with no more than its rendition.

Servers that keep calendars read `text/calendar` and open no ciphertext. The texts beside it have to be about
the same event: what they say beyond it would leave in clear as well. Beside the header of the message, a
person could write at most 8 KiB into each of the two renditions, 64 KiB into names in the markup, and 64 KiB
into the calendar object: of these 32 KiB in one description, 4 KiB in comments, 4 KiB in extensions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mime import contenttype, structure
from relay.mime.contenttype import Parameterised
from relay.mime.exempt import hypertext, icalendar
from relay.mime.exempt.entity import Entity, decoded, media_type, multipart, text
from relay.mime.exempt.hypertext import Shown
from relay.mime.exempt.icalendar import Calendar
from relay.mime.headers import Field, Message
from relay.mime.structure import Part

MAX_RENDITION_BYTES = 65_536
"""Of a text beside the calendar object. Google's HTML has some 30 KiB of markup."""
MAX_SHOWN_CHARS = 8192
"""Of what a rendition shows beyond the description of the event."""
MAX_ANSWER_CHARS = 500
"""Of the text of a reply, which need not name the event: Thunderbird writes that Alice has accepted."""
MAX_HELD_PARTS = 10_000
"""Of which `holds_calendar` looks at the type."""

_PARAMETERS = frozenset({"method", "charset", "component", "name"})
_MIN_SUMMARY_LETTERS = 3
_ALTERNATIVES = (["plain"], ["html"], ["plain", "html"])
"""The texts that may stand before the calendar object (RFC 6047 §2.4)."""
_BLANKS = re.compile(r"\s+")
_LINK = re.compile(r"<[a-z]{2,10}:[^<>]{1,2000}>")
"""A target, as Outlook writes it behind the text of a link."""
_NO_LETTER = re.compile(r"[\W_]+")
_CALENDAR = re.compile(rb"(?<![\w.+-])text\s*/\s*calendar(?![\w.+-])", re.IGNORECASE)
_METHOD = re.compile(rb"[;\s]method\s*\*?0?\*?\s*=", re.IGNORECASE)


def is_calendar(message: Message) -> bool:
    """Whether the message is one calendar object, alone, with its rendition, or with itself as a file."""
    kind = media_type(message, frozenset({"boundary"}))
    if kind is None or kind.value != "multipart/mixed":
        return _content(message) is not None
    parts = multipart(message, kind)
    if not parts or len(parts) != 2:
        return False
    return _is_repeated(*parts) or _is_beside_its_rendition(*parts)


def _is_repeated(first: Part, second: Part) -> bool:
    """Whether the object stands there once more, as a file for programs that know it only so (Google)."""
    content, file = _content(first), media_type(second, frozenset({"name", "method", "charset"}))
    if content is None or file is None or file.value != "application/ics":
        return False
    again = decoded(second, icalendar.MAX_BYTES)
    # In base64 the last line end is a part of the object, in 7bit it may be the delimiter's.
    return again is not None and again.rstrip(b"\r\n") == content.rstrip(b"\r\n")


def _is_beside_its_rendition(first: Part, second: Part) -> bool:
    """Whether the object stands behind an alternative of its texts, not in it (Nextcloud)."""
    kind, found = media_type(first, frozenset({"boundary"})), _object(second)
    parts = multipart(first, kind) if kind and kind.value == "multipart/alternative" else None
    return parts is not None and found is not None and _are_renditions(parts, found[1])


def _content(entity: Entity) -> bytes | None:
    """The calendar object that an entity is, with or without its rendition."""
    kind = media_type(entity, frozenset({"boundary"}))
    if kind is None or kind.value != "multipart/alternative":
        found = _object(entity)
        return found[0] if found else None
    return _alternative(entity, kind)


def _alternative(entity: Entity, kind: Parameterised) -> bytes | None:
    parts = multipart(entity, kind)
    found = _object(parts[-1]) if parts else None
    return found[0] if parts and found and _are_renditions(parts[:-1], found[1]) else None


def _object(entity: Entity) -> tuple[bytes, Calendar] | None:
    """The octets of a text/calendar and what stands in them; None if its label or its content is in doubt."""
    kind = media_type(entity, _PARAMETERS)
    if kind is None or kind.value != "text/calendar":
        return None
    if kind.parameters.get("charset", "utf-8").lower() not in {"utf-8", "us-ascii"}:
        return None
    content = decoded(entity, icalendar.MAX_BYTES)
    found = icalendar.calendar(content) if content is not None else None
    # RFC 6047 §2.4: both MUST be the same; a program may act on either.
    if content is None or found is None or found.method != kind.parameters.get("method", "").upper():
        return None
    return content, found


# --------------------------------------------------------------------------- the texts beside it


def _are_renditions(parts: tuple[Part, ...], found: Calendar) -> bool:
    return any(
        len(subtypes) == len(parts)
        and all(_renders(_shown(part, kind), found) for part, kind in zip(parts, subtypes, strict=True))
        for subtypes in _ALTERNATIVES
    )


def _shown(entity: Entity, subtype: str) -> Shown | None:
    """What a text/plain or text/html tells; None if it is none."""
    found = text(entity, subtype, MAX_RENDITION_BYTES)
    if found is None or subtype == "plain":
        return found if found is None else Shown(found, 0)
    return hypertext.shown(found)


def _renders(told: Shown | None, found: Calendar) -> bool:
    """Whether a text is about the events: it is empty, their description, or names what each is called."""
    if told is None:
        return False
    words, texts = _words(told.words), [_words(one) for one in (*found.descriptions, *found.comments)]
    size = len(words) + told.hidden_chars
    if size > MAX_SHOWN_CHARS + sum(len(one) for one in texts):
        return False
    if not words or _letters(words) in [_letters(one) for one in texts]:
        return True
    if found.method == "REPLY" and len(words) <= MAX_ANSWER_CHARS:
        return True
    return bool(found.summaries) and all(_names(words, _words(one)) for one in found.summaries)


def _names(words: str, summary: str) -> bool:
    """Whether what an event is called stands in a text, as whole words."""
    # Any text has a letter of a short name.
    if sum(map(str.isalnum, summary)) < _MIN_SUMMARY_LETTERS:
        return False
    return re.search(rf"(?<!\w){re.escape(summary)}(?!\w)", words) is not None


def _words(found: str) -> str:
    """A text for comparison: case and white space do not count."""
    return _BLANKS.sub(" ", found).strip().casefold()


def _letters(words: str) -> str:
    """Letters and digits, which are the same in a text and its HTML; targets of links stand only in one."""
    return _NO_LETTER.sub("", _LINK.sub("", words))


# --------------------------------------------------------------------------- whatever a server would read


def holds_calendar(message: Message) -> bool:
    """Whether a part of the message, or all of it, could be read as a calendar object, exempt or not.

    It is for refusing, so a type and a method are enough. What cannot be divided has no parts.
    """
    if any(_CALENDAR.search(field.value) for field in message.get("content-type")):
        return True
    types = (field.value for part in _leaves(message) for field in part.get("content-type"))
    return any(_CALENDAR.search(value) and _METHOD.search(value) for value in types)


def _leaves(message: Message) -> Iterator[Part]:
    """Every part that is not divided further, within `MAX_DEPTH` and `MAX_HELD_PARTS`."""
    level: list[Entity] = [message]
    seen = 0
    for _ in range(structure.MAX_DEPTH):
        inner: list[Entity] = []
        for entity in level:
            parts = _parts(entity) if seen < MAX_HELD_PARTS else ()
            seen += len(parts)
            inner += parts
            if not parts and isinstance(entity, Part):
                yield entity
        level = inner
    yield from (entity for entity in level if isinstance(entity, Part))


def _parts(entity: Entity) -> tuple[Part, ...]:
    found = _kind(entity.get("content-type"))
    divided = structure.parts(found, entity.body) if found else None
    return divided.parts if divided else ()


def _kind(fields: list[Field]) -> Parameterised | None:
    found = contenttype.parse(fields[0].value) if fields else None
    return found if found and found.value.startswith("multipart/") else None
