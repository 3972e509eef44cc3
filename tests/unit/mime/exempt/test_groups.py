"""Tests of `relay.mime.exempt.groups`."""

from __future__ import annotations

import re

import pytest

from relay.mime.exempt.groups import (
    DATE,
    HOST,
    MAILBOX,
    MAX_FREE_BYTES,
    MAX_PART_BYTES,
    fit,
    grammar,
    read,
    text_of,
)

_GRAMMAR = grammar({"a": rb"\d+", "b": text_of(300), "c": rb"x"}, required="a", free="b", repeated="b")


def _fits(text: str) -> bool:
    groups = read(text.replace("\n", "\r\n").encode())
    return groups is not None and fit(groups, [_GRAMMAR] * len(groups)) is not None


@pytest.mark.parametrize(
    "text", ["A: 1\n", "A: 1", "\n\nA: 1\nC: x\n\n\n", "A: 1\n\nA: 2\n", "a: 1\nX-Y: z\nB: o\nB: p\n"]
)
def test_fit_groups_of_known_fields_do(text: str) -> None:
    """Empty lines divide groups, in any number; letter case of names does not count."""
    assert _fits(text)


@pytest.mark.parametrize(
    "text",
    [
        "B: x\n",
        "A: x\n",
        "A: 1 2\n",
        "A: 1\nA: 2\n",
        "A: 1\nD: x\n",
        "A: 1\nX-Y: " + "z" * 201,
        "A: 1\nX-Y: ü\n",
        "A: 1\nX-Y: z\nX-Y: z\n",
        "A: 1\nB: " + "z" * 301,
        "A: 1\n" + ("B: " + "z" * 299 + "\n") * (MAX_FREE_BYTES // 299 + 1),
        "A: 1\n\nC: x\n",
        "A: 1\nwords\n",
        " A: 1\n",
        "A: 1\n x\n",
    ],
)
def test_fit_groups_with_anything_else_do_not(text: str) -> None:
    """A field that is missing, unknown, too many, not as its pattern says, or a line that is none."""
    assert not _fits(text)


def test_fit_counts_whole_fields_that_are_free() -> None:
    """The name of an `X-` field may be words as well as its value; what has a pattern does not count."""
    groups = read(b"A: 1\r\nB: o\r\nX-The-Merger: z\r\n")

    assert groups is not None
    assert len("B: o\r\nX-The-Merger: z\r\n") == fit(groups, [_GRAMMAR])


def test_read_part_beyond_the_limit_is_none() -> None:
    """More octets or groups than a report has are not read."""
    assert read(b"A: " + b"1" * MAX_PART_BYTES) is None
    assert read(b"A: 1\r\n\r\n" * 501) is None


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        (DATE, b"Mon, 2 Mar 2026 11:00:00 +0100", True),
        (DATE, b"Mon,  2 Mar 2026 11:00:00 +0100 (CET)", True),
        (DATE, b"2 Mar 2026 11:00 GMT", True),
        (DATE, b"2 Mar 2026 11:00:00 +0100 (on Friday)", False),
        (DATE, b"on Friday", False),
        (HOST, b"dns; mail.example.org", True),
        (HOST, b"dns;[192.0.2.1]", True),
        (HOST, b"mail.example.org", False),
        (HOST, b"dns; mail server", False),
        (MAILBOX, b"rfc822;a@b.example", True),
        (MAILBOX, b"RFC822; a@b.example", True),
        (MAILBOX, "utf-8; bücher@b.example".encode(), True),
        (MAILBOX, b"rfc822; the merger@b.example", False),
        (MAILBOX, b"text; a@b.example", False),
        (MAILBOX, b"a@b.example", False),
    ],
)
def test_patterns_are_those_of_the_rfcs(pattern: bytes, value: bytes, expected: bool) -> None:
    """Typed names, addresses and dates have no room for a sentence."""
    assert expected == bool(re.fullmatch(pattern, value))
