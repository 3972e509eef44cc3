"""Says whether a message is a short text of a machine from the null sender (RFC 3834 §5, RFC 5321 §4.5.5)."""

from __future__ import annotations

from relay.mime.exempt.entity import is_for_people
from relay.mime.headers import Message

MAX_TEXT_BYTES = 65_536

_AUTOMATIC = frozenset({b"auto-generated", b"auto-replied"})


def is_notice(message: Message) -> bool:
    """Whether it says that a machine wrote it, and is one text without files.

    That its envelope sender is null is for the caller to know.
    """
    found = message.get("auto-submitted")
    if len(found) != 1 or found[0].value.lower() not in _AUTOMATIC:
        return False
    return is_for_people(message, MAX_TEXT_BYTES)
