"""Reads a Content-Type or Content-Disposition value (RFC 2045 §5.1, RFC 2231 §3) strictly.

For decisions only, never for writing: what this module cannot read without doubt is `None`, and every caller
treats that as plaintext. Input and work are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

_MAX_VALUE_BYTES = 16_384
_MAX_PARAMETERS = 100
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`{|}~0-9A-Za-z]+")
_KIND = re.compile(rf"{_TOKEN.pattern}(?:/{_TOKEN.pattern})?")
"""Blanks around the slash are read in two ways."""
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_COMMENT_STEP = re.compile(r"[()]|\\.")
_SEGMENT = re.compile(r"([^*]+)(?:\*(0|[1-9][0-9]?))?(\*)?")


@dataclass(frozen=True, slots=True)
class Parameterised:
    """A value with parameters: a media type, or the type of a Content-Disposition."""

    value: str
    """Lower case: `text/plain`, `inline`."""
    parameters: Mapping[str, str]
    """Names in lower case, values unquoted, RFC 2231 continuations joined and decoded."""
    has_comment: bool = False
    """Whether a comment stood in it: readable text beside the value."""


def parse(value: bytes) -> Parameterised | None:
    """The value of an unfolded field; None where its syntax is wrong, doubtful or beyond the limits."""
    if len(value) > _MAX_VALUE_BYTES or not value.isascii():
        return None
    try:
        return _Reader(value.decode("ascii")).read()
    except _Unreadable:
        return None


class _Unreadable(Exception):
    """The value is not what the RFCs describe."""


class _Reader:
    """A cursor over the text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._has_comment = False

    def read(self) -> Parameterised:
        kind = self._next(_KIND)
        found: list[tuple[str, str]] = []
        while self._take(";"):
            if self._at == len(self._text):  # a final semicolon is common and harmless
                break
            found.append(self._parameter())
        if self._at < len(self._text) or len(found) > _MAX_PARAMETERS:
            raise _Unreadable
        return Parameterised(kind.lower(), _join(found), self._has_comment)

    def _parameter(self) -> tuple[str, str]:
        name = self._next(_TOKEN).lower()
        if not self._take("="):
            raise _Unreadable
        if quoted := _QUOTED.match(self._text, self._at):
            if name.startswith("boundary") and "\\" in quoted[1]:
                raise _Unreadable  # some readers keep the backslash, and divide the body elsewhere
            self._move(quoted.end())
            return name, re.sub(r"\\(.)", r"\1", quoted[1])
        return name, self._next(_TOKEN)

    def _next(self, pattern: re.Pattern[str]) -> str:
        self._move(self._at)
        found = pattern.match(self._text, self._at)
        if not found:
            raise _Unreadable
        self._move(found.end())
        return found[0]

    def _take(self, char: str) -> bool:
        self._move(self._at)
        if not self._text.startswith(char, self._at):
            return False
        self._move(self._at + 1)
        return True

    def _move(self, at: int) -> None:
        """Goes to `at` and over blanks and comments behind it (RFC 5322 §3.2.2)."""
        while at < len(self._text) and self._text[at] in " \t(":
            at = self._comment_end(at) if self._text[at] == "(" else at + 1
        self._at = at

    def _comment_end(self, at: int) -> int:
        self._has_comment = True
        depth = 0
        for step in _COMMENT_STEP.finditer(self._text, at):
            depth += {"(": 1, ")": -1}.get(step[0], 0)
            if depth == 0:
                return step.end()
        raise _Unreadable


def _join(found: list[tuple[str, str]]) -> dict[str, str]:
    """The parameters with their continuations joined; a name that occurs twice in any form is doubtful."""
    whole: dict[str, str] = {}
    pieces: dict[str, dict[int, str]] = {}
    for name, value in found:
        segment = _SEGMENT.fullmatch(name)
        if not segment:
            raise _Unreadable
        base, number, star = segment[1], segment[2], segment[3]
        text = _decode(value, has_charset=number in {None, "0"}) if star else value
        if base in whole or int(number or 0) in pieces.get(base, {}):
            raise _Unreadable
        if number is None:
            whole[base] = text
        else:
            pieces.setdefault(base, {})[int(number)] = text
    for base, numbered in pieces.items():
        if base in whole or sorted(numbered) != list(range(len(numbered))):
            raise _Unreadable
        whole[base] = "".join(numbered[number] for number in range(len(numbered)))
    return whole


def _decode(value: str, *, has_charset: bool) -> str:
    """An extended value: `charset'language'percent-encoded`, the first two in the first piece only."""
    if has_charset:
        parts = value.split("'", 2)
        if len(parts) != 3:
            raise _Unreadable
        value = parts[2]
    return unquote_to_bytes(value).decode("utf-8", "replace")
