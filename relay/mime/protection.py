"""Protects the header of a message that is encrypted (RFC 9788): what goes inside, what may stay outside.

The payload is a `multipart/mixed` with the submitted fields and, as its only part, the submitted body behind
its own Content-* fields, byte for byte: nothing of the sender's is edited. Outside stays what mail servers
and threads need; the Subject becomes `[...]`, and what would repeat it, or tells about the sender's machine,
goes.

Two deviations from RFC 9788: it is applied to messages that are not signed, and `protected-headers="v1"`
stands beside `hp="cipher"`, because Thunderbird and K-9 look for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mime import contenttype, structure, words
from relay.mime.headers import Field, Message, serialise
from relay.rule import Headers

OBSCURED = b"Subject: [...]\r\n"
"""RFC 9788 §3.2.1, hcp_baseline: exactly this, in every language."""

_MAX_LINE_OCTETS = 998
_TRACE = re.compile(r"received|x-received|delivered-to|x-original-to|authentication-results|received-spf")
"""How the message travelled, not what its author wrote: not copied into the payload (RFC 9788 §11.2.1).

Signatures of servers never come here: they leave no encrypted copy (`complete.strip`)."""
_AUTHORS = frozenset({"comments", "keywords", "thread-topic"})
"""What the author wrote beside the Subject: hcp_baseline, and the copy of the Subject that Outlook makes."""
_MACHINES = frozenset(
    {
        "user-agent",
        "x-mailer",
        "x-mimeole",
        "x-originating-ip",
        "x-originating-email",
        "x-php-originating-script",
        "x-sender-ip",
        "x-client-ip",
    }
)
"""What tells about the sender's machine and program."""
_NEEDED = re.compile(
    r"(?:resent-)?(?:from|sender|reply-to|to|cc|date|message-id)|in-reply-to|references|list-.*|autocrypt.*"
    r"|openpgp|auto-submitted|precedence|disposition-notification-.*|original-(?:message-id|recipient)"
    r"|return-receipt-to|tls-required|mail-followup-to|mail-reply-to|errors-to"
)
"""What servers, threads and lists go by stays, whatever stands in it."""
_PREFIX = re.compile(r"(?:\s*(?:re|aw|fwd?|wg|sv|antw|tr|rv)\s*(?:\[\d+\])?\s*:)+", re.IGNORECASE)
_SHORT_CHARS = 5
"""Anything shorter stands by chance in many a field; then only an equal value is a repetition."""


def is_hidden(headers: Headers, message: Message) -> bool:
    """Whether the Subject of this message stays inside, under a rule that says `headers`.

    A reply may answer a message whose Subject was hidden, and nobody here can tell (RFC 9788 §6.1).
    """
    if headers is Headers.KEEP:
        return bool(message.get("in-reply-to") or message.get("references"))
    return headers is Headers.PROTECT


def outside(message: Message) -> tuple[bytes, ...]:
    """The raw fields that stay outside, in order, the Subject obscured (RFC 9788 §5.2.1)."""
    return tuple(OBSCURED if field.name == "subject" else field.raw for field in _outer(message))


def root(message: Message, entity: list[bytes], boundary: str) -> list[bytes]:
    """The payload in pieces: the header and, as its only part, the entity.

    Args:
        message: completed and stripped; its structural fields are those of `entity`.
        entity: Content-* fields, an empty line and the body.
        boundary: of random characters.
    """
    kind = (
        f'Content-Type: multipart/mixed; boundary="{boundary}";\r\n\tprotected-headers="v1"; hp="cipher"\r\n'
    )
    copied = [field for field in message.fields if not field.is_structural and not _is_trace(field)]
    line = b"--" + boundary.encode("ascii")
    head = [kind.encode("ascii"), serialise(copied), *_outer_copies(message), b"\r\n"]
    return [*head, line, b"\r\n", *entity, b"\r\n", line, b"--\r\n"]


def protects_itself(message: Message) -> bool:
    """Whether the message is signed and the signed part holds all that would be hidden outside.

    Then it is the payload as it is: inside of another part its signature would not be shown (RFC 9788 §4.1).
    """
    signed = _signed_part(message)
    if signed is None:
        return False
    kind = _content_type(signed.fields)
    if kind is None or not {"hp", "protected-headers"} & set(kind.parameters):
        return False
    held = {(field.name, words.decoded(field.value)) for field in signed.fields}
    subject = _subject(message)
    hidden = [field for field in message.fields if field.name == "subject" or _goes(field, subject)]
    return all(
        (field.name, words.decoded(field.value)) in held for field in hidden if field.name not in _MACHINES
    )


def _signed_part(message: Message) -> structure.Part | None:
    kind = _content_type(message.fields)
    if kind is None or kind.value != "multipart/signed":
        return None
    found = structure.parts(kind, message.body)
    return found.parts[0] if found and len(found.parts) == 2 else None


def _content_type(fields: tuple[Field, ...]) -> contenttype.Parameterised | None:
    found = [field for field in fields if field.name == "content-type"]
    return contenttype.parse(found[0].value) if len(found) == 1 else None


def _outer(message: Message) -> list[Field]:
    """The fields that are seen outside, the Subject among them."""
    subject = _subject(message)
    return [field for field in message.fields if not field.is_structural and not _goes(field, subject)]


def _goes(field: Field, subject: str) -> bool:
    if field.name == "subject" or _NEEDED.fullmatch(field.name) or _is_trace(field):
        return False
    return field.name in _AUTHORS or field.name in _MACHINES or _repeats(field, subject)


def _repeats(field: Field, subject: str) -> bool:
    """Whether the field shows the Subject or a part of it, or what is left of it without `Re:`."""
    value = _without_prefix(words.decoded(field.value)).rstrip(".… ")
    if not subject or not value:
        return False
    if min(len(subject), len(value)) < _SHORT_CHARS:
        return value == subject
    return subject in value or value in subject


def _subject(message: Message) -> str:
    return next((_without_prefix(words.decoded(field.value)) for field in message.get("subject")), "")


def _without_prefix(text: str) -> str:
    """For comparison: without `Re:`, letter case, and the number of blanks."""
    prefix = _PREFIX.match(text)
    return " ".join((text[prefix.end() :] if prefix else text).split()).casefold()


def _is_trace(field: Field) -> bool:
    return bool(_TRACE.fullmatch(field.name))


def _outer_copies(message: Message) -> Iterator[bytes]:
    """HP-Outer: how the header left, so that the reader sees what was added on the way (RFC 9788 §2.2)."""
    for field in _outer(message):
        if not _is_trace(field):
            raw = OBSCURED if field.name == "subject" else field.raw
            yield b"HP-Outer: " + _folded(raw)


def _folded(raw: bytes) -> bytes:
    """The field, folded behind its colon where another name before it would make the line too long."""
    if raw.index(b"\r\n") + len(b"HP-Outer: ") <= _MAX_LINE_OCTETS:
        return raw
    name, _, rest = raw.partition(b":")
    return name + b":\r\n" + (rest if rest[:1] in b" \t" else b" " + rest)
