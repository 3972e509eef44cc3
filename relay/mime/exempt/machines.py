"""Says whether a message is a short text of a machine from the null sender (RFC 3834 §5, RFC 5321 §4.5.5)."""

from __future__ import annotations

import re

from relay.mime.exempt.entity import is_for_people
from relay.mime.headers import Message

MAX_TEXT_BYTES = 65_536
"""Cron sends whole logs. With its header a notice holds at most 112 KiB in clear."""

_TOKEN = rb"[A-Za-z0-9.-]{1,40}"
_AUTOMATIC = re.compile(
    rb"(?i:auto-generated|auto-replied)"
    rb"(?:[ \t]*\([^()\\]{0,50}\))?"
    rb"(?:[ \t]*;[ \t]*" + _TOKEN + rb"=(?:" + _TOKEN + rb"|\"[!#-\[\]-~]{0,100}\")){0,2}"
)
"""RFC 3834 §5: one comment (Pigeonhole's `(vacation)`) and parameters are allowed."""


def is_notice(message: Message) -> bool:
    """Whether it says that a machine wrote it, and is one text without files.

    That its envelope sender is null is for the caller to know.
    """
    found = message.get("auto-submitted")
    if len(found) != 1 or not _AUTOMATIC.fullmatch(found[0].value):
        return False
    return is_for_people(message, MAX_TEXT_BYTES, MAX_TEXT_BYTES)
