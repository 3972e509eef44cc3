"""Reads what the HTML of a machine shows, and what else in it could be text for a person.

Tags are not understood: whatever a browser may show that stands in one counts as hidden text, as do comments,
so that a limit holds for all of it. Names of classes and the like are shown to nobody and bounded as octets.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass

_STYLE = re.compile(r"<style\b", re.IGNORECASE)
_STYLE_END = re.compile(r"</style\s{0,10}>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_SHOWN = re.compile(
    r"\b(?:alt|title|srcdoc|value|label|placeholder|summary|aria-[a-z]{1,20})\s{0,10}="
    r"\s{0,10}(\"[^\"]*\"?|'[^']*'?|[^\s\"'>]+)",
    re.IGNORECASE,
)
"""Attributes whose text is shown: in the place of a picture, beside the mouse, in a frame or a field."""
_LONG_REFERENCE = re.compile(r"&#[xX]?[0-9A-Fa-f]{9}")
"""No character has so many digits, and Python raises for thousands of them."""
_IGNORED = re.compile(r"[\x00-\x20]+")
"""What browsers drop inside of a scheme, or in front of one."""
_DATA = re.compile(r"(?:\A|[\"'=(,;])data:")
"""A file in an address (RFC 2397): in an attribute, a list of pictures, a style or a redirection."""
_FROM_ATTRIBUTE = re.compile(r"\battr\s{0,10}\(", re.IGNORECASE)
"""A style that shows the value of any attribute."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What a text in HTML tells."""

    words: str
    """What stands between the tags."""
    hidden_chars: int
    """Of attributes that are shown, comments and style sheets, which can hold text as well."""


def shown(text: str) -> Shown | None:
    """What HTML tells; None if it holds a file, or in doubt."""
    if holds_file(text):
        return None
    *styled, rest = _STYLE_END.split(text)
    pieces = [_STYLE.split(piece) for piece in styled]
    if any(len(piece) != 2 for piece in pieces) or _STYLE.search(rest):  # one without end hides what follows
        return None
    styles = [piece[1] for piece in pieces]
    if any(_FROM_ATTRIBUTE.search(style) for style in styles):
        return None
    visible = " ".join([*(piece[0] for piece in pieces), rest])
    hidden = sum(_hidden_chars(tag) for tag in _TAG.findall(visible)) + sum(map(len, styles))
    return Shown(html.unescape(_TAG.sub(" ", visible)), hidden)


def _hidden_chars(tag: str) -> int:
    if tag.startswith(("<!", "<?")):
        return len(tag)
    return sum(len(found[1]) for found in _SHOWN.finditer(tag))


def holds_file(text: str) -> bool:
    """Whether an address in HTML is itself a file; what cannot be resolved may be one."""
    if _LONG_REFERENCE.search(text):
        return True
    return _DATA.search(_IGNORED.sub("", html.unescape(text)).lower()) is not None
