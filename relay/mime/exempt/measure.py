"""Measures how much text a header can hold, since every field of an exempt message leaves in clear."""

from __future__ import annotations

from collections.abc import Iterable

from relay.mime.headers import Field

MAX_TRACE_BYTES = 32_768
"""Of the fields that servers on the way write. Ten hops with their signatures need some 15 KiB."""
MAX_RECEIVED_BYTES = 2048
"""Of one Received field."""
MAX_RECEIVED = 50
"""RFC 5321 §6.3 wants no limit below 100 for refusing a loop; whoever has more is only not exempt."""

_TRACE = frozenset(
    {
        *("received", "dkim-signature", "authentication-results", "received-spf", "x-google-dkim-signature"),
        *("arc-seal", "arc-message-signature", "arc-authentication-results"),
    }
)
_KNOWN = _TRACE | frozenset(
    {
        *("from", "sender", "reply-to", "to", "cc", "date", "message-id", "in-reply-to", "references"),
        *("subject", "mime-version", "return-path", "auto-submitted", "precedence"),
        *("content-type", "content-transfer-encoding", "content-language", "content-disposition"),
    }
)
"""Fields of a syntax of their own, and the Subject."""


def is_moderate(fields: Iterable[Field], max_bytes: int) -> bool:
    """Whether servers write as much in their fields, and there is no more than `max_bytes` in the others."""
    found = list(fields)
    received = [len(field.raw) for field in found if field.name == "received"]
    if len(received) > MAX_RECEIVED or any(size > MAX_RECEIVED_BYTES for size in received):
        return False
    trace = sum(len(field.raw) for field in found if field.name in _TRACE)
    return trace <= MAX_TRACE_BYTES and total(found) - trace <= max_bytes


def total(fields: Iterable[Field]) -> int:
    """Octets of these fields."""
    return sum(len(field.raw) for field in fields)


def free(fields: Iterable[Field]) -> int:
    """Octets of those whose value may be anything: `X-` fields and whatever is not known here."""
    return total(field for field in fields if field.name not in _KNOWN)
