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
import unicodedata
from enum import Enum
from functools import lru_cache

from relay.mime import contenttype, structure, words
from relay.mime.headers import Field, Message, serialise
from relay.rule import Headers

OBSCURED = Field("subject", b"Subject: [...]\r\n")
"""RFC 9788 §3.2.1, hcp_baseline: exactly this, in every language."""

_MAX_LINE_OCTETS = 998
_TRACE = re.compile(r"received|x-received|delivered-to|x-original-to|authentication-results|received-spf")
"""How the message travelled, not what its author wrote: not copied into the payload (RFC 9788 §11.2.1).

Signatures of servers never come here: they leave no encrypted copy (`complete.strip`)."""
_ANSWERS = ("in-reply-to", "references", "x-forwarded-message-id")
"""Where one of these stands, another message is answered or forwarded."""
_AUTHORS = re.compile(r"comments|keywords|thread-topic|.*-subject|autocrypt-gossip")
"""What the author wrote beside the Subject (hcp_baseline), copies of the Subject, and keys of other
recipients, which belong inside (Autocrypt 1.1, "Key Gossip")."""
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
    r"(?:resent-)?(?:from|sender|reply-to|to|cc|date|message-id)|in-reply-to|references|autocrypt|openpgp"
    r"|list-(?:id|help|subscribe|unsubscribe|unsubscribe-post|post|owner|archive)"
    r"|auto-submitted|precedence|disposition-notification-.*|original-(?:message-id|recipient)"
    r"|return-receipt-to|tls-required|mail-followup-to|mail-reply-to|errors-to"
)
"""What servers, threads and lists go by stays, whatever stands in it."""
_PREFIX = re.compile(r"(?:\s*+(?:re|aw|fwd?|wg|sv|antw|tr|rv)\s*+(?:\[\d++\])?+\s*+:)++", re.IGNORECASE)
"""Possessive: it reads every value of a header, and must not go back over a long one."""
_COMPARED_CHARS = 10_000
"""A Subject longer than this is compared with nothing: whatever nobody needs outside goes."""
_SHORT_CHARS = 5
"""Anything shorter stands by chance in many a field; then only an equal value is a repetition."""


def is_hidden(headers: Headers, message: Message) -> bool:
    """Whether the Subject of this message stays inside, under a rule that says `headers`.

    A reply, or what is forwarded, may repeat a Subject that was hidden, and nobody here can tell (RFC 9788
    §6.1).
    """
    if headers is Headers.KEEP:
        return any(message.get(name) for name in _ANSWERS)
    return headers is Headers.PROTECT


def outside(message: Message) -> tuple[Field, ...]:
    """The fields that stay outside, in order, the Subject obscured (RFC 9788 §5.2.1)."""
    subject = _subject(message)
    staying = (field for field in message.fields if not field.is_structural and not _goes(field, subject))
    return tuple(OBSCURED if field.name == "subject" else field for field in staying)


def root(message: Message, outer: tuple[Field, ...], entity: list[bytes], boundary: str) -> list[bytes]:
    """The payload in pieces: the header and, as its only part, the entity.

    Args:
        outer: what stays `outside`.
        message: completed and stripped; its structural fields are those of `entity`.
        entity: Content-* fields, an empty line and the body.
        boundary: of random characters.
    """
    kind = (
        f'Content-Type: multipart/mixed; boundary="{boundary}";\r\n\tprotected-headers="v1"; hp="cipher"\r\n'
    )
    copied = [field for field in message.fields if not field.is_structural and not _is_trace(field)]
    line = b"--" + boundary.encode("ascii")
    outer_copies = (b"HP-Outer: " + _folded(field.raw) for field in outer if not _is_trace(field))
    head = [kind.encode("ascii"), serialise(copied), *outer_copies, b"\r\n"]
    return [*head, line, b"\r\n", *entity, b"\r\n", line, b"--\r\n"]


def protects_itself(message: Message) -> bool:
    """Whether it is signed, and the signed part holds what its author wrote and would be hidden outside.

    Then it is the payload as it is: inside of another part its signature would not be shown (RFC 9788 §4.1).
    """
    signed = _signed_part(message)
    if signed is None:
        return False
    kind = _content_type(signed.fields)
    if kind is None or not _is_protecting(kind):
        return False
    held = {(field.name, words.decoded(field.value)) for field in signed.fields}
    subject = _subject(message)
    hidden = [field for field in message.fields if field.name == "subject" or _goes(field, subject)]
    return all(
        (field.name, words.decoded(field.value)) in held for field in hidden if field.name not in _MACHINES
    )


def _is_protecting(kind: contenttype.Parameterised) -> bool:
    """Whether readers take the fields of this part for those of the message (RFC 9788 §2.1.1)."""
    hp, older = (kind.parameters.get(name, "").lower() for name in ("hp", "protected-headers"))
    return hp in {"clear", "cipher"} or older == "v1"


def _signed_part(message: Message) -> structure.Part | None:
    if not any(b"signed" in field.value.lower() for field in message.get("content-type")):
        return None  # nearly every message; to read the whole value takes longer than all the rest
    kind = _content_type(message.fields)
    if kind is None or kind.value != "multipart/signed":
        return None
    found = structure.parts(kind, message.body)
    return found.parts[0] if found and len(found.parts) == 2 else None


def _content_type(fields: tuple[Field, ...]) -> contenttype.Parameterised | None:
    found = [field for field in fields if field.name == "content-type"]
    return contenttype.parse(found[0].value) if len(found) == 1 else None


def _goes(field: Field, subject: str) -> bool:
    place = _place(field.name)
    return place is _Place.INSIDE or (place is _Place.DEPENDS and _repeats(field, subject))


class _Place(Enum):
    """Where a field of this name stands."""

    BOTH = "inside and outside"
    OUTSIDE = "outside alone"
    INSIDE = "inside alone"
    DEPENDS = "inside, and outside unless it repeats the Subject"


@lru_cache(maxsize=1024)
def _place(name: str) -> _Place:
    if _TRACE.fullmatch(name):
        return _Place.OUTSIDE
    if name == "subject" or _NEEDED.fullmatch(name):
        return _Place.BOTH
    is_hidden = _AUTHORS.fullmatch(name) or name in _MACHINES
    return _Place.INSIDE if is_hidden else _Place.DEPENDS


def _repeats(field: Field, subject: str) -> bool:
    """Whether the field shows the Subject or a part of it, or what is left of it without `Re:`."""
    if len(subject) > _COMPARED_CHARS:
        return True
    value = _without_prefix(words.decoded(field.value)).rstrip(".… ")
    if not subject or not value:
        return False
    if min(len(subject), len(value)) < _SHORT_CHARS:
        return value == subject
    return subject in value or value in subject


def _subject(message: Message) -> str:
    return next((_without_prefix(words.decoded(field.value)) for field in message.get("subject")), "")


def _without_prefix(text: str) -> str:
    """For comparison: without `Re:`, letter case, the number of blanks, and what is not seen.

    Letters that look alike are one (NFKC); soft hyphens and the like are none.
    """
    prefix = _PREFIX.match(text)
    text = text[prefix.end() :] if prefix else text
    if not text.isascii():
        seen = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
        text = "".join(seen)
    return " ".join(text.split()).casefold()


def _is_trace(field: Field) -> bool:
    return _place(field.name) is _Place.OUTSIDE


def _folded(raw: bytes) -> bytes:
    """How HP-Outer repeats a field, so that the reader sees what was added on the way (RFC 9788 §2.2).

    The field with a blank behind its colon (RFC 9788 §2.2.1); folded there where the line is too long.
    """
    name, _, rest = raw.partition(b":")
    value = rest.lstrip(b" \t\r\n") or b"\r\n"
    is_long = len(b"HP-Outer: " + name + b": ") + value.index(b"\r\n") > _MAX_LINE_OCTETS
    return name + (b": \r\n " if is_long else b": ") + value
