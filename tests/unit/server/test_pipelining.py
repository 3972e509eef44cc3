"""Tests of `relay/server/pipelining.py`; that the dialogue uses it: `tests/data/smtp/pipelining.txt`."""

from __future__ import annotations

import asyncio

import pytest

from relay.server.pipelining import recipients_ahead
from relay.server.stream import Stream


async def _ahead(octets: bytes, limit: int = 10) -> list[str]:
    reader = asyncio.StreamReader()
    stream = Stream(reader)
    stream.unread(octets)
    found = recipients_ahead(stream, limit)

    assert octets == await stream.block(1)  # looking takes nothing
    return [str(recipient) for recipient in found]


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"RCPT TO:<a@x.example>\r\nrcpt to:<b@x.example> NOTIFY=NEVER\r\n", ["a@x.example"]),
        (b"RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n", ["a@x.example", "b@x.example"]),
        (b"RCPT TO:<a@x.example>\r\nDATA\r\nRCPT TO:<b@x.example>\r\n", ["a@x.example"]),
        (b"RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.exam", ["a@x.example"]),
        (b"RCPT TO:<>\r\nRCPT TO:<b@x.example>\r\n", []),
        (b"\xff\xfe\r\nRCPT TO:<b@x.example>\r\n", []),
        ("RCPT TO:<\u00fc@x.example>\r\nRCPT TO:<b@x.example>\r\n".encode(), ["b@x.example"]),
        (b"RCPT", []),
    ],
)
async def test_recipients_ahead_are_those_of_the_group(octets: bytes, expected: list[str]) -> None:
    """Complete RCPT commands up to the first that is none; what depends on MAIL is left out."""
    assert expected == await _ahead(octets)


@pytest.mark.parametrize(("limit", "count"), [(-1, 0), (0, 0), (2, 2)])
async def test_recipients_ahead_are_no_more_than_wanted(limit: int, count: int) -> None:
    """A client cannot start more lookups than it may have recipients."""
    assert count == len(await _ahead(b"RCPT TO:<a@x.example>\r\n" * 5, limit))


async def test_recipients_ahead_looks_so_far_and_no_further() -> None:
    """A full buffer of commands costs bounded time."""
    assert 16_384 // 23 == len(await _ahead(b"RCPT TO:<a@x.example>\r\n" * 2000, 5000))
