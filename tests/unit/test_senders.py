"""Tests of `relay/senders.py`."""

from __future__ import annotations

import pytest

from relay.address import parse_mailbox
from relay.errors import SenderNotAllowed
from relay.message import Login
from relay.senders import check_authors, check_sender

ALICE = Login("alice", ("Alice@Example.com", "*@shop.example"))


@pytest.mark.parametrize(
    "address", ["alice@example.com", "ALICE@EXAMPLE.COM", '"alice"@example.com', "any@shop.example"]
)
def test_check_sender_within_the_patterns_passes(address: str) -> None:
    """A mailbox matches in every spelling, a domain pattern every mailbox of it."""
    check_sender(ALICE, parse_mailbox(address))
    check_authors(ALICE, [parse_mailbox(address)])


@pytest.mark.parametrize(
    "address", ["bob@example.com", "xalice@example.com", "alice@example.com.evil.example", "a@x.shop.example"]
)
def test_check_sender_outside_the_patterns_is_refused(address: str) -> None:
    """Neither a part of an address nor a sub-domain matches."""
    with pytest.raises(SenderNotAllowed) as refused:
        check_sender(ALICE, parse_mailbox(address))

    assert (550, "5.7.1") == (refused.value.reply().code, refused.value.reply().enhanced)


def test_check_with_an_empty_list_allows_nobody() -> None:
    """No pattern at all is a login that may send as nobody, not as anybody."""
    for check in (
        lambda login: check_sender(login, parse_mailbox("bob@example.com")),
        lambda login: check_authors(login, [parse_mailbox("bob@example.com")]),
    ):
        with pytest.raises(SenderNotAllowed):
            check(Login("bob", ()))


def test_check_sender_null_sender_passes() -> None:
    """Notifications come from nobody (RFC 6409 §3.2)."""
    check_sender(ALICE, None)


def test_check_authors_refuses_one_foreign_author_among_several() -> None:
    """Every mailbox of From and Sender counts."""
    with pytest.raises(SenderNotAllowed):
        check_authors(ALICE, [parse_mailbox("alice@example.com"), parse_mailbox("bob@example.com")])


def test_check_authors_refuses_a_message_without_author() -> None:
    """A login that is bound to senders may not write as nobody."""
    with pytest.raises(SenderNotAllowed):
        check_authors(ALICE, [])


@pytest.mark.parametrize("login", [None, Login("anybody")])
def test_check_without_patterns_allows_everything(login: Login | None) -> None:
    """Only a login with patterns is bound by them."""
    check_sender(login, parse_mailbox("bob@example.com"))
    check_authors(login, [])
