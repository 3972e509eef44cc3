"""Tests of `relay.mime.exempt.measure`."""

from __future__ import annotations

import pytest

from relay.mime.exempt.measure import (
    MAX_RECEIVED,
    MAX_RECEIVED_BYTES,
    MAX_TRACE_BYTES,
    free,
    is_moderate,
    total,
)
from relay.mime.headers import Field, parse


def _fields(text: str) -> tuple[Field, ...]:
    return parse(text.replace("\n", "\r\n").encode()).fields


_LONG = f"Received: {'x' * (MAX_RECEIVED_BYTES - 12)}\n"
"""As long as one may be."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"X-A: {'x' * 93}\n", True),
        (f"X-A: {'x' * 94}\n", False),
        (_LONG, True),
        (_LONG.replace(":", ": x"), False),
        ("Received: x\n" * MAX_RECEIVED, True),
        ("Received: x\n" * (MAX_RECEIVED + 1), False),
        (_LONG * (MAX_TRACE_BYTES // MAX_RECEIVED_BYTES), True),
        (_LONG * (MAX_TRACE_BYTES // MAX_RECEIVED_BYTES) + "DKIM-Signature: x\n", False),
        (f"ARC-Seal: {'x' * 9000}\n", True),
    ],
)
def test_is_moderate_within_each_limit(text: str, expected: bool) -> None:
    """Fields of servers have limits of their own, the others one in all (A6)."""
    assert expected == is_moderate(_fields(text), 100)


def test_free_fields_are_those_that_may_hold_anything() -> None:
    """Known fields and those of servers do not count; the name of one that does counts, too."""
    known = "From: a@b.example\nSubject: x\nReceived: x\nContent-Type: text/plain\n"

    assert len("X-Note: y\r\nReply: z\r\n") == free(_fields(f"{known}X-Note: y\nReply: z\n"))
    assert 0 == free(_fields(known))
    assert len(known) + 4 == total(_fields(known))
