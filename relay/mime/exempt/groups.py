"""Reads the groups of fields in the parts for programs of a report, field by field against their grammar.

A field that is not registered, a value that does not fit, or more free text than a report needs: then the
whole part is not one. What can still be free text is marked as such and limited in all (`MAX_FREE_BYTES`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from relay.errors import MessageRefused
from relay.mime import headers
from relay.mime.headers import Field

MAX_PART_BYTES = 32_768
"""Of the whole part. Enough for some 150 recipients; what is not free has no room for a blank."""
MAX_FREE_BYTES = 8192
"""Of all values of a part that can be free text. Enough for the replies of some forty servers."""
_MAX_GROUPS = 500
"""The fields of the message and of its recipients."""

_TYPED = rb"[A-Za-z0-9-]{1,30}[ \t]*;[ \t]*"
_ADDR_TYPE = rb"(?:rfc822|utf-8|x400|unknown)[ \t]*;[ \t]*"
_WORDS = rb"[\x20-\x7e\t]"
_DAY = rb"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),[ \t]*)?"
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ZONE = rb"(?:[+-]\d{4}|GMT|UTC?)(?:[ \t]+\([A-Z]{1,5}\))?"

DATE = _DAY + rb"\d{1,2}[ \t]+" + _MONTH + rb"[ \t]+\d{4}[ \t]+\d\d:\d\d(?::\d\d)?[ \t]+" + _ZONE
"""RFC 5322 §3.3, with the name of the zone as its only comment."""
HOST = _TYPED + rb"[!-~]{1,255}"
"""`dns; mail.example.com`"""
MAILBOX = rb"(?i:" + _ADDR_TYPE + rb")[^\x00-\x20<>\x7f]{1,320}@[^\x00-\x20<>\x7f]{1,255}"
"""`rfc822; a@b.example`: RFC 3464 §2.3.1 and 2.3.2, RFC 6533 §3."""
TOKEN = rb"[!-~]{1,200}"
MESSAGE_ID = rb"<[!-;=?-~]{1,400}>"


@dataclass(frozen=True, slots=True)
class Grammar:
    """What one group of fields may hold."""

    fields: Mapping[str, re.Pattern[bytes]]
    """Name in lower case → what the whole value has to be."""
    required: frozenset[str]
    free: frozenset[str] = frozenset()
    """Fields whose value is text; `X-` fields are, too."""
    repeated: frozenset[str] = frozenset()
    """Fields that may stand more than once."""


def grammar(fields: Mapping[str, bytes], *, required: str, free: str = "", repeated: str = "") -> Grammar:
    """A grammar from patterns; the names are divided by blanks."""
    return Grammar(
        {name: re.compile(pattern) for name, pattern in fields.items()},
        frozenset(required.split()),
        frozenset(free.split()),
        frozenset(repeated.split()),
    )


def text_of(max_bytes: int) -> bytes:
    """The pattern of one line of printable ASCII."""
    return _WORDS + b"{1,%d}" % max_bytes


_FREE = re.compile(text_of(200))
"""The value of an `X-` field of which the grammar says nothing."""


def read(content: bytes) -> list[tuple[Field, ...]] | None:
    """The groups, which empty lines divide; None if a line is no field."""
    if len(content) > MAX_PART_BYTES:
        return None
    texts = [text.strip(b"\r\n") for text in content.split(b"\r\n\r\n")]
    groups = [text for text in texts if text]
    if len(groups) > _MAX_GROUPS:
        return None
    try:
        return [headers.parse(text + b"\r\n").fields for text in groups]
    except MessageRefused:
        return None


def fit(groups: list[tuple[Field, ...]], grammars: list[Grammar]) -> int | None:
    """How much free text the groups hold; None if one is not what its grammar says, or it is too much."""
    pairs = list(zip(groups, grammars, strict=True))
    if not all(_fits(group, grammar) for group, grammar in pairs):
        return None
    # Whole fields: the name of an `X-` field can be words, too.
    free = sum(len(field.raw) for group, grammar in pairs for field in group if _is_free(field, grammar))
    return free if free <= MAX_FREE_BYTES else None


def _fits(group: tuple[Field, ...], grammar: Grammar) -> bool:
    names = [field.name for field in group]
    once = [name for name in names if name not in grammar.repeated]
    if len(set(once)) < len(once) or not grammar.required <= set(names):
        return False
    return all(_fits_value(field, grammar) for field in group)


def _fits_value(field: Field, grammar: Grammar) -> bool:
    pattern = grammar.fields.get(field.name, _FREE if field.name.startswith("x-") else None)
    return pattern is not None and pattern.fullmatch(field.value) is not None


def _is_free(field: Field, grammar: Grammar) -> bool:
    return field.name.startswith("x-") or field.name in grammar.free
