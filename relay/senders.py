"""Whether a login may use an envelope sender or an author (RFC 6409 §6.1). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from relay.address import parse_mailbox
from relay.errors import SenderNotAllowed
from relay.message import Address, Login


def check_sender(login: Login | None, sender: Address | None) -> None:
    """Raises SenderNotAllowed unless the login may use this envelope sender.

    The null sender is always allowed (RFC 6409 §3.2): the author is checked all the same.
    """
    if login and login.senders is not None and sender is not None:
        _check(login.senders, sender)


def check_authors(login: Login | None, authors: Iterable[Address]) -> None:
    """Raises SenderNotAllowed unless the login may write as every mailbox of From and Sender.

    A message that names no author at all is refused as well: it would be shown as written by anybody.
    """
    if login is None or login.senders is None:
        return
    named = tuple(authors)
    if not named:
        raise SenderNotAllowed("no author", sender="")
    for author in named:
        _check(login.senders, author)


def _check(patterns: tuple[str, ...], address: Address) -> None:
    if not any(_matches(pattern, address) for pattern in patterns):
        raise SenderNotAllowed(sender=address)


def _matches(pattern: str, address: Address) -> bool:
    """`a@b` is one mailbox, `*@b` every mailbox of one domain (not of its sub-domains)."""
    local, _, domain = pattern.rpartition("@")
    if local == "*":
        return parse_mailbox(f"x@{domain}").domain == address.domain
    return parse_mailbox(pattern).key == address.key
