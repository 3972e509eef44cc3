"""Adds the fields that a submission must have and takes out those that may not leave (RFC 6409 §8).

Other fields are neither changed nor moved. All copies of a message are made from one completed message, so
that they carry the same Message-ID and Date, inside and outside.
"""

from __future__ import annotations

import re
from dataclasses import replace

from relay.mime.headers import Field, Message

_NEVER_LEAVE = frozenset(
    {
        "bcc",  # RFC 5322 §3.6.3
        "resent-bcc",
        "return-path",  # RFC 5321 §4.4: only final delivery writes it
        "autocrypt-draft-state",  # Autocrypt 1.1, "Storing Draft State"
        "fcc",  # where the mail program keeps its own copy
        "x-account-key",
        "x-identity-key",
        "x-enigmail-draft-status",
    }
)
_LOCAL_PREFIX = "x-mozilla-"
"""Status, draft and source-folder fields of Thunderbird."""
_FORGED = "hp-outer"
"""Only whoever encrypts may say what the header outside looked like (RFC 9788 §2.2)."""
_BROKEN_BY_ENCRYPTION = re.compile(r"(?:.*-)?dkim-signature|domainkey-signature|arc-.*")
"""Its body hash no longer fits; worse, it lets anybody try out what the text may be, and `z=` repeats the
header in clear (RFC 6376 §3.5)."""


def complete(message: Message, *, message_id: str, date: str) -> Message:
    """The message with a Message-ID and a Date, where it had none (RFC 6409 §8.2, §8.3).

    Args:
        message_id: with its angle brackets.
        date: as RFC 5322 §3.3 writes it.
    """
    added = [
        Field(name.lower(), f"{name}: {value}\r\n".encode("ascii"))
        for name, value in (("Date", date), ("Message-ID", message_id))
        if not message.get(name.lower())
    ]
    return replace(message, fields=(*message.fields, *added)) if added else message


def strip(message: Message, *, sealed: bool) -> Message:
    """The message without the fields that may not leave.

    Args:
        sealed: whether the relay encrypts this copy; then signatures of servers go too, inside and outside.
    """
    return replace(message, fields=tuple(f for f in message.fields if not _goes(f.name, sealed=sealed)))


def _goes(name: str, *, sealed: bool) -> bool:
    return (
        name in _NEVER_LEAVE
        or name.startswith(_LOCAL_PREFIX)
        or (sealed and (name == _FORGED or bool(_BROKEN_BY_ENCRYPTION.fullmatch(name))))
    )
