"""Says whether a message is one that a mailing list passes on (RFC 2919, RFC 2369).

Its author sent it to the list, and the list has no key of those it goes to. The fields of a list prove
nothing, since anybody can write them: the envelope sender has to be of the list's domain, and nobody who
wrote it. What is in it is not looked at: all of it leaves in clear.
"""

from __future__ import annotations

import re

from relay.errors import MessageRefused
from relay.message import Address
from relay.mime.authors import has_unreadable_recipients, writers
from relay.mime.exempt.origin import base
from relay.mime.headers import Message

_ID = re.compile(rb"[^<>]{0,200}<([A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63}){1,10})>")
"""RFC 2919 §2: a description, then the identifier of the list: its name and its domain."""
_SUPPORTING = ("list-post", "list-unsubscribe", "list-help")
_PRECEDENCES = frozenset({b"list", b"bulk"})


def is_redistributed(message: Message, sender: Address, recipients_named: frozenset[str]) -> bool:
    """Whether a list manager sends it: by its fields, its envelope sender, and a list in To or Cc.

    Whoever cannot be read in To or Cc may be any recipient, who would then not be a member.
    """
    if has_unreadable_recipients(message):
        return False
    domain = _list_domain(message)
    if domain is None or not _is_within(sender.domain, domain) or _is_author(message, sender):
        return False
    named = (key.rpartition("@")[2] for key in recipients_named)
    return any(_is_within(one, domain) for one in named)


def is_list_traffic_for(recipient: Address, recipients_named: frozenset[str]) -> bool:
    """Whether this recipient gets a message of a list as a member: the author wrote to the list, not to them.

    Args:
        recipients_named: as `authors.recipients_named` reads them.
    """
    return base(recipient.key) not in {base(key) for key in recipients_named}


def _list_domain(message: Message) -> str | None:
    """The identifier of the list in lower case; None if its fields are not those of a list manager."""
    found = message.get("list-id")
    shown = _ID.fullmatch(found[0].value) if len(found) == 1 else None
    precedence = [field.value.lower() for field in message.get("precedence")]
    if shown is None or len(precedence) != 1 or precedence[0] not in _PRECEDENCES:
        return None
    return shown[1].decode("ascii").lower() if any(message.get(name) for name in _SUPPORTING) else None


def _is_within(domain: str, list_id: str) -> bool:
    """Whether a domain is the identifier of the list, one above it, or one below it."""
    # A domain of one label is no `Address.domain`, so none is above all lists.
    return domain == list_id or list_id.endswith("." + domain) or domain.endswith("." + list_id)


def _is_author(message: Message, sender: Address) -> bool:
    """Whether the envelope sender wrote it, under a sub-address or not; who cannot be read may have.

    Sender does not count: Mailman 2 writes the envelope sender there.
    """
    try:
        return base(sender.key) in {base(one.key) for one in writers(message)}
    except MessageRefused:
        return True
