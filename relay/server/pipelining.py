"""Looks ahead in a group of commands that the client sent at once (RFC 2920)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from relay.errors import RelayError
from relay.message import Address
from relay.server.parameters import parse_command, parse_rcpt

if TYPE_CHECKING:
    from relay.server.stream import Stream

_MAX_OCTETS = 16_384
"""How far to look: a few hundred recipients."""


def recipients_ahead(stream: Stream, limit: int) -> list[Address]:
    """Whose RCPT commands have arrived and come next, `limit` of them at most; only a hint.

    It ends at the first command that is another one, or not in order.
    """
    return list(islice(_recipients(stream.ahead(_MAX_OCTETS)), max(limit, 0)))


def _recipients(lines: list[bytes]) -> Iterator[Address]:
    for line in lines:
        try:
            verb, argument = parse_command(line)
            if verb != "RCPT":
                return
            recipient = parse_rcpt(argument)
        except RelayError:
            return
        if recipient.is_ascii:  # others depend on what MAIL declared, and can wait
            yield recipient
