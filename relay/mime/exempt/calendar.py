"""Says whether a message is a calendar object for a program (RFC 6047), with no more than its rendition.

Servers that keep calendars read `text/calendar` and open no ciphertext. The texts beside it have to be about
the same event: what they say beyond it would leave in clear as well.
"""

from __future__ import annotations

import html
import re

from relay.mime.contenttype import Parameterised
from relay.mime.exempt import icalendar
from relay.mime.exempt.entity import Entity, decoded, media_type, multipart, text
from relay.mime.exempt.icalendar import Calendar
from relay.mime.headers import Message

MAX_RENDITION_BYTES = 65_536
"""Of a text beside the calendar object. Google's HTML has some 30 KiB of markup."""
MAX_SHOWN_CHARS = 8192
"""Of what a rendition shows beyond the description of the event."""

_PARAMETERS = frozenset({"method", "charset", "component", "name"})
_MIN_SUMMARY_CHARS = 3
_ALTERNATIVES = (["plain"], ["html"], ["plain", "html"])
"""The texts that may stand before the calendar object (RFC 6047 §2.4)."""
_STYLE = re.compile(r"<style\b", re.IGNORECASE)
_STYLE_END = re.compile(r"</style\s{0,10}>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_BLANKS = re.compile(r"\s+")


def is_calendar(message: Message) -> bool:
    """Whether the message is one calendar object, alone, with its rendition, or with itself as a file."""
    kind = media_type(message, frozenset({"boundary"}))
    if kind is None or kind.value != "multipart/mixed":
        return _content(message) is not None
    # Google adds the object once more, as a file for programs that know it only so.
    parts = multipart(message, kind)
    if not parts or len(parts) != 2:
        return False
    content, file = _content(parts[0]), media_type(parts[1], frozenset({"name", "method", "charset"}))
    if content is None or file is None or file.value != "application/ics":
        return False
    again = decoded(parts[1], icalendar.MAX_BYTES)
    # In base64 the last line end is a part of the object, in 7bit it may be the delimiter's.
    return again is not None and again.rstrip(b"\r\n") == content.rstrip(b"\r\n")


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
    if not parts or not found:
        return None
    for subtypes in _ALTERNATIVES:
        shown = [_shown(part, subtype) for part, subtype in zip(parts, subtypes, strict=False)]
        if len(subtypes) == len(parts) - 1 and all(_renders(words, found[1]) for words in shown):
            return found[0]
    return None


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


def _renders(words: str | None, found: Calendar) -> bool:
    """Whether a text is about the events: it is empty, their description, or names what each is called."""
    if words is None:
        return False
    descriptions = [_words(one) for one in found.descriptions]
    if not words or words in descriptions:
        return True
    if len(words) > MAX_SHOWN_CHARS + sum(len(one) for one in descriptions):
        return False
    summaries = [_words(one) for one in found.summaries]
    # Any text has a letter of a short name.
    return bool(summaries) and all(len(one) >= _MIN_SUMMARY_CHARS and one in words for one in summaries)


def _shown(entity: Entity, subtype: str) -> str | None:
    """The words of a text/plain or text/html; None if it is none."""
    found = text(entity, subtype, MAX_RENDITION_BYTES)
    if found is None or subtype == "plain":
        return found if found is None else _words(found)
    *styled, rest = _STYLE_END.split(found)
    pieces = [_STYLE.split(piece) for piece in styled]
    if any(len(piece) != 2 for piece in pieces) or _STYLE.search(rest):  # one without end hides what follows
        return None
    visible = " ".join([*(piece[0] for piece in pieces), rest])
    return _words(html.unescape(_TAG.sub(" ", visible)))


def _words(found: str) -> str:
    """A text for comparison: case and white space do not count."""
    return _BLANKS.sub(" ", found).strip().casefold()
