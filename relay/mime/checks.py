"""Refuses messages that could be read in two ways, or that cannot be relayed at all (RFC 6409 §6.3).

Each text says what is wrong and what to do, because the sender reads it in the SMTP reply.
"""

from __future__ import annotations

from collections import Counter

from relay.errors import LoopDetected, MessageRefused
from relay.mime import contenttype
from relay.mime.headers import Message, has_long_line, serialise

MAX_LINE_OCTETS = 998
"""Without CRLF (RFC 5322 §2.1.1)."""
MAX_RECEIVED = 100
"""RFC 5321 §6.3: at least 100."""

_ONCE = {
    "from": "From",
    "sender": "Sender",
    "reply-to": "Reply-To",
    "to": "To",
    "cc": "Cc",
    "bcc": "Bcc",
    "message-id": "Message-ID",
    "in-reply-to": "In-Reply-To",
    "references": "References",
    "subject": "Subject",
    "date": "Date",
    "mime-version": "MIME-Version",
    "content-type": "Content-Type",
    "content-transfer-encoding": "Content-Transfer-Encoding",
}
"""RFC 5322 §3.6 and RFC 2045 §3. Of two Content-Type fields some clients take the first, others the last."""


def examine(message: Message) -> None:
    """Checks a submitted message as a whole, whatever happens to it later.

    Raises:
        MessageRefused: a field stands twice, From is missing, the message is a fragment, or a header line
            that stays outside is too long.
        LoopDetected: it passed too many servers.
    """
    counts = Counter(field.name for field in message.fields)
    if counts["received"] >= MAX_RECEIVED:
        raise LoopDetected(f"{counts['received']} Received fields")
    for name, shown in _ONCE.items():
        if counts[name] > 1:
            raise MessageRefused(
                f"{name} twice", reason=f"it has more than one {shown} field; send it with one"
            )
    # RFC 5322 §3.6 demands it; a receiver that authenticates mail refuses it later and explains less.
    if not counts["from"]:
        raise MessageRefused("no From", reason="it has no From field; the mail program must say who wrote it")
    _refuse_fragment(message)
    # What goes into the ciphertext may have lines of any length; what stays outside may not.
    if has_long_line(
        serialise(field for field in message.fields if not field.is_structural), MAX_LINE_OCTETS
    ):
        raise MessageRefused("header line", reason="a line of its header is longer than 998 octets; fold it")


def check_clear(message: Message) -> None:
    """Checks what only a message that leaves as it is has to fulfil.

    Raises:
        MessageRefused: a line is longer than RFC 5322 §2.1.1 allows; it is not wrapped, because that would
            change what the sender wrote.
    """
    header = serialise(message.fields)
    if has_long_line(header, MAX_LINE_OCTETS) or has_long_line(message.body, MAX_LINE_OCTETS):
        raise MessageRefused(
            "line over 998 octets",
            reason="a line is longer than 998 octets, which only a message that the relay encrypts may have;"
            " the mail program must encode it as quoted-printable or base64",
        )


def needs_smtputf8(header: bytes) -> bool:
    """Whether a header section needs SMTPUTF8 (RFC 6531 §3.4): it has octets beyond ASCII."""
    return not header.isascii()


def _refuse_fragment(message: Message) -> None:
    """Fragments encrypted one by one could never be put together again (RFC 2046 §5.2.2)."""
    for field in message.get("content-type"):
        if b"partial" not in field.value.lower():
            continue
        content_type = contenttype.parse(field.value)
        if content_type and content_type.value == "message/partial":
            raise MessageRefused(
                "message/partial",
                reason="it is a fragment (message/partial), which cannot be encrypted;"
                " switch off splitting of large messages in the mail program",
            )
