"""Says whether a report comes from whom it may come from: a server, or the mail program of its recipient.

The null sender is what the standards demand. Some mail programs send read receipts, and some desks abuse
reports, under an address of their own; as anybody with a login could, so these hold little text.
"""

from __future__ import annotations

from relay.address import parse_mailbox
from relay.errors import MessageRefused
from relay.message import Address
from relay.mime import authors
from relay.mime.exempt import measure
from relay.mime.exempt.reports import Report
from relay.mime.headers import Message
from relay.rule import Exemption

MAX_RECEIPT_TEXT_BYTES = 2048
"""Of the part for people, with its fields' encoding. Thunderbird writes 300."""
MAX_ABUSE_TEXT_BYTES = 4096
MAX_FREE_BYTES = 4096
"""Of unknown fields: those of the message and of the part for programs together."""
MAX_HEADER_BYTES = 8192
"""Of the message, with the fields of servers, of which such a one has seen few."""
MAX_ORIGINAL_HEADER_BYTES = 16_384


def may_send(found: Report, message: Message, sender: Address | None) -> bool:
    """Whether a report of this kind may have this envelope sender (RFC 3464 §2, RFC 8098 §3, RFC 5965 §2).

    With a name it holds at most 8 KiB in its header, 2 KiB (a receipt) or 4 KiB (an abuse report) for people,
    and 16 KiB of header that comes back.
    """
    if sender is None:
        return True
    if found.original_header_bytes > MAX_ORIGINAL_HEADER_BYTES:
        return False
    if measure.total(message.fields) > MAX_HEADER_BYTES:
        return False
    if measure.free(message.fields) + found.free_bytes > MAX_FREE_BYTES:
        return False
    if found.kind is Exemption.MDN:
        return found.people_bytes <= MAX_RECEIPT_TEXT_BYTES and _is_own(found, message, sender)
    is_abuse = found.kind is Exemption.FEEDBACK and found.people_bytes <= MAX_ABUSE_TEXT_BYTES
    return is_abuse and {one.domain for one in _authors(message)} == {sender.domain}


def base(key: str) -> str:
    """An `Address.key` without a sub-address (RFC 5233): `a+b@c` is `a@c`."""
    local, _, domain = key.rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"


def _is_own(found: Report, message: Message, sender: Address) -> bool:
    """Whether who read the message wrote the receipt and sent it."""
    try:
        reader = parse_mailbox(found.final_recipient)
    except ValueError:
        return False
    wrote = _authors(message)
    everyone = {base(one.key) for one in (reader, *wrote)}
    return bool(wrote) and everyone == {base(sender.key)}


def _authors(message: Message) -> tuple[Address, ...]:
    """Who wrote it; nobody if that cannot be read."""
    try:
        return authors.author(message)
    except MessageRefused:
        return ()
