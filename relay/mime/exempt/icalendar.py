"""Reads an iCalendar object strictly (RFC 5545 §3.4, §3.6) and holds it to what iTIP allows (RFC 5546).

Components have to be balanced and known, properties known or `X-`, and each has a limited length. Recurrence,
time zones and addresses are not understood here; they only have to stand in their place.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.mime.exempt import hypertext

MAX_BYTES = 65_536
MAX_PROPERTY_CHARS = 2000
"""Name, parameters and value."""
MAX_LONG_CHARS = 32_768
"""Of the properties that are text by their nature."""
MAX_EXTENSION_CHARS = 4096
"""Of all properties that begin with `X-`, without X-ALT-DESC. Outlook writes some twenty short ones."""
MAX_NOTE_CHARS = 4096
"""Of all COMMENT and CONTACT, which may stand more than once."""

METHODS = frozenset({"PUBLISH", "REQUEST", "REPLY", "ADD", "CANCEL", "REFRESH", "COUNTER", "DECLINECOUNTER"})
"""RFC 5546 §1.4."""

_MAX_LINES = 5000
_MAIN = frozenset({"VEVENT", "VTODO", "VFREEBUSY"})
_INSIDE = {
    "": frozenset({"VCALENDAR"}),
    "VCALENDAR": _MAIN | {"VTIMEZONE"},
    "VTIMEZONE": frozenset({"STANDARD", "DAYLIGHT"}),
    "VEVENT": frozenset({"VALARM"}),
    "VTODO": frozenset({"VALARM"}),
}
"""Component → what may stand in it."""
_OF_CALENDAR = frozenset({"PRODID", "VERSION", "CALSCALE", "METHOD"})
_OF_COMPONENT = frozenset(
    {
        *("ACTION", "ATTENDEE", "CATEGORIES", "CLASS", "COMMENT", "COMPLETED", "CONTACT"),
        *("CREATED", "DESCRIPTION", "DTEND", "DTSTAMP", "DTSTART", "DUE", "DURATION"),
        *("EXDATE", "EXRULE", "FREEBUSY", "GEO", "LAST-MODIFIED", "LOCATION", "ORGANIZER"),
        *("PERCENT-COMPLETE", "PRIORITY", "RDATE", "RECURRENCE-ID", "RELATED-TO", "REPEAT", "REQUEST-STATUS"),
        *("RESOURCES", "RRULE", "SEQUENCE", "STATUS", "SUMMARY", "TRANSP", "TRIGGER"),
        *("TZID", "TZNAME", "TZOFFSETFROM", "TZOFFSETTO", "TZURL", "UID", "URL"),
        *("CONFERENCE", "COLOR", "ACKNOWLEDGED"),
    }
)
"""RFC 5545 §3.8, RFC 7986, RFC 9074. ATTACH is left out: it is there for files."""
_LONG = frozenset({"DESCRIPTION", "X-ALT-DESC"})
_NOTES = frozenset({"COMMENT", "CONTACT"})
_ONCE = {"VCALENDAR": ("PRODID", "VERSION", "METHOD"), **dict.fromkeys(_MAIN, ("UID", "DTSTAMP"))}
"""What each component has exactly once (RFC 5545 §3.6, RFC 5546 §3)."""
_AT_MOST_ONCE = ("SUMMARY", "DESCRIPTION", "LOCATION", "DTSTART", "ORGANIZER", "SEQUENCE", "STATUS")
_LINE = re.compile(
    r"([A-Za-z0-9-]{1,60})"
    r'((?:;[A-Za-z0-9-]{1,60}=(?:"[^"]*"|[^";:,]*)(?:,(?:"[^"]*"|[^";:,]*))*)*)'
    r":(.*)",
    re.DOTALL,
)
"""RFC 5545 §3.1: name, parameters, value."""
_STAMP = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_FOLD = re.compile(rb"\r\n[ \t]")
_DATA = re.compile(r"\"[ \t]*data:(?!text/html,)")
"""A file in a parameter. Thunderbird writes the HTML of a DESCRIPTION into its ALTREP."""
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Calendar:
    """What other rules ask about an iCalendar object that is one."""

    method: str
    summaries: tuple[str, ...]
    """Text of every SUMMARY that is not empty."""
    descriptions: tuple[str, ...]
    comments: tuple[str, ...]


def calendar(content: bytes) -> Calendar | None:
    """The iCalendar object that `content` is, complete and alone; None if it is anything else."""
    if len(content) > MAX_BYTES:
        return None
    try:
        # RFC 5545 §3.1: a fold may stand inside of a character.
        lines = list(_lines(_FOLD.sub(b"", content).decode("utf-8-sig")))
        _check_amounts(lines)
        root = _tree(lines)
        _check(root)
    except (_Unreadable, UnicodeDecodeError):
        return None
    events = [one for one in root.inner if one.name in _MAIN]
    texts = [
        tuple(text for event in events for value in event.all(name) if (text := unescape(value).strip()))
        for name in ("SUMMARY", "DESCRIPTION", "COMMENT")
    ]
    return Calendar(root.get("METHOD").upper(), *texts)


def unescape(value: str) -> str:
    """A TEXT value (RFC 5545 §3.3.11) as it is shown."""
    return _ESCAPED.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)


class _Unreadable(Exception):
    """It is not what the RFCs describe."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A content line, unfolded."""

    name: str
    """In upper case."""
    value: str
    size: int
    """In characters, with the parameters."""


@dataclass(slots=True)
class _Component:
    name: str
    properties: list[tuple[str, str]] = field(default_factory=list)
    inner: list[_Component] = field(default_factory=list)

    def get(self, name: str) -> str:
        """The value of the first property of this name; empty if there is none."""
        return next(iter(self.all(name)), "")

    def all(self, name: str) -> list[str]:
        """The value of every property of this name."""
        return [value for found, value in self.properties if found == name]


def _lines(text: str) -> Iterator[_Line]:
    unfolded = text.rstrip("\r\n").split("\r\n")
    if len(unfolded) > _MAX_LINES:
        raise _Unreadable
    for line in unfolded:
        found = _LINE.fullmatch(line)
        name = found[1].upper() if found else ""
        limit = MAX_LONG_CHARS if name in _LONG else MAX_PROPERTY_CHARS
        if not found or len(line) > limit or _CONTROL.search(line) or _has_file(found):
            raise _Unreadable
        yield _Line(name, found[3], len(line))


def _has_file(line: re.Match[str]) -> bool:
    """Whether a file is in the line: as its value (RFC 5545 §3.3.1), or in an address (RFC 2397)."""
    whole, parameters, value = line[0].lower(), line[2].lower(), unescape(line[3])
    if "value=binary" in whole or "encoding=base64" in whole or _DATA.search(parameters):
        return True
    if line[1].upper() == "X-ALT-DESC":
        return hypertext.holds_file(value)
    return value.lstrip().lower().startswith("data:")


def _check_amounts(lines: list[_Line]) -> None:
    """Raises _Unreadable if lines of which there may be any number hold more than they need."""
    extensions = sum(line.size for line in lines if line.name.startswith("X-") and line.name not in _LONG)
    notes = sum(line.size for line in lines if line.name in _NOTES)
    if extensions > MAX_EXTENSION_CHARS or notes > MAX_NOTE_CHARS:
        raise _Unreadable


def _tree(lines: list[_Line]) -> _Component:
    """The one component around all lines, each inner one in its place."""
    open_components = [_Component("")]
    for line in lines:
        name, value = line.name, line.value
        inside = open_components[-1]
        if name == "BEGIN":
            if value.upper() not in _INSIDE.get(inside.name, ()) or (not inside.name and inside.inner):
                raise _Unreadable
            inside.inner.append(_Component(value.upper()))
            open_components.append(inside.inner[-1])
        elif name == "END":
            if not inside.name or inside.name != value.upper():
                raise _Unreadable
            open_components.pop()
        else:
            inside.properties.append((name, value))
    if len(open_components) > 1 or open_components[0].properties or not open_components[0].inner:
        raise _Unreadable
    return open_components[0].inner[0]


def _check(root: _Component) -> None:
    """Raises _Unreadable unless every component has what it must have and nothing unknown."""
    components = list(_all(root))
    main = [component for component in components if component.name in _MAIN]
    if not main or root.get("VERSION") != "2.0" or root.get("METHOD").upper() not in METHODS:
        raise _Unreadable
    if not all(_is_complete(component) for component in components):
        raise _Unreadable
    if not all(_STAMP.fullmatch(component.get("DTSTAMP")) for component in main):
        raise _Unreadable


def _all(component: _Component) -> Iterator[_Component]:
    """The component and all inside it; `_INSIDE` bounds the depth."""
    yield component
    for inner in component.inner:
        yield from _all(inner)


def _is_complete(component: _Component) -> bool:
    known = _OF_CALENDAR if component.name == "VCALENDAR" else _OF_COMPONENT
    counts = Counter(name for name, _ in component.properties)
    if not all(name in known or name.startswith("X-") for name in counts):
        return False
    if any(counts[name] > 1 for name in _AT_MOST_ONCE):
        return False
    once = _ONCE.get(component.name, ())
    return all(counts[name] == 1 and component.get(name).strip() for name in once)
