"""Tests of `relay.mime.exempt.lists`."""

from __future__ import annotations

import pytest

from relay.address import parse_mailbox
from relay.mime.authors import recipients_named
from relay.mime.exempt.lists import is_list_traffic_for, is_redistributed
from relay.mime.headers import parse
from tests.unit.mime.exempt.samples import BOB, LIST, LIST_SENDER, changed


def _is(content: bytes, sender: str = str(LIST_SENDER)) -> bool:
    message = parse(content)
    return is_redistributed(message, parse_mailbox(sender), recipients_named(message))


@pytest.mark.parametrize(
    "change",
    [
        ("", ""),
        ("Precedence: list", "precedence: Bulk"),
        # Mailman 2.1, SMTPDirect.py (B5)
        ("Precedence: list", f'Sender: "Garden" <{LIST_SENDER}>\nErrors-To: {LIST_SENDER}\nPrecedence: list'),
        ("List-Id: Friends of the garden <garden.lists.example.org>", "List-Id: <GARDEN.lists.example.org>"),
        ("List-Unsubscribe: <mailto:garden-leave@lists.example.org>\n", ""),
        ("To: garden@lists.example.org", "To: carol@example.net\nCc: <Garden@LISTS.example.org>"),
    ],
)
def test_is_redistributed_by_a_list_manager_is_list_mail(change: tuple[str, str]) -> None:
    """List managers write the identifier, one more field, the precedence, and send from their domain."""
    assert _is(changed(LIST, *change))


@pytest.mark.parametrize(
    "sender",
    ["x@example.org", "x@lists.example.org", "x@garden.lists.example.org", "x@a.garden.lists.example.org"],
)
def test_is_redistributed_from_the_domain_of_the_list_or_around_it_is_list_mail(sender: str) -> None:
    """The envelope sender is of the list's domain, of one above or of one below it."""
    assert _is(LIST, sender)


@pytest.mark.parametrize(
    "sender",
    [
        "carol@example.net",
        "x@example.com",
        "x@evil-lists.example.org",
        "x@ample.org",
        "x@other.example.org",
        "x@[192.0.2.1]",
    ],
)
def test_is_redistributed_from_elsewhere_is_none(sender: str) -> None:
    """The fields of a list exempt nothing without an envelope sender of the list."""
    assert not _is(LIST, sender)


@pytest.mark.parametrize(
    "change",
    {
        "no id": ("List-Id: Friends of the garden <garden.lists.example.org>\n", ""),
        "id twice": ("List-Id:", "List-Id: <garden.lists.example.org>\nList-Id:"),
        "id without brackets": ("<garden.lists.example.org>", "garden.lists.example.org"),
        "id of another": ("<garden.lists.example.org>", "<garden.lists.example.net>"),
        "two ids": ("<garden.lists.example.org>", "<garden.lists.example.org> <b.c>"),
        "id of one label": ("<garden.lists.example.org>", "<org>"),
        "id with words": ("<garden.lists.example.org>", "<the merger.lists.example.org>"),
        "no precedence": ("Precedence: list\n", ""),
        "other precedence": ("Precedence: list", "Precedence: junk"),
        "precedence twice": ("Precedence: list\n", "Precedence: list\nPrecedence: bulk\n"),
        "author is the sender": ("From: Carol <carol@example.net>", f"From: <{LIST_SENDER}>"),
        "author is the sender in capitals": (
            "From: Carol <carol@example.net>",
            f"From: <{str(LIST_SENDER).replace('g', 'G', 1)}>",
        ),
        "author among others": ("From: Carol <carol@example.net>", f"From: carol@example.net, {LIST_SENDER}"),
        "author in the name": ("From: Carol <carol@example.net>", f"From: {LIST_SENDER} <carol@example.net>"),
        "unreadable author": ("From: Carol <carol@example.net>", "From: Carol"),
        "no author": ("From: Carol <carol@example.net>\n", ""),
        "no list is named": ("To: garden@lists.example.org", "To: carol@example.net"),
        "unreadable recipient": (
            "To: garden@lists.example.org",
            "To: garden@lists.example.org, Bob <bob@example.com> direct",
        ),
        "unreadable copy": ("Precedence:", "Cc: <<bob@example.com>>\nPrecedence:"),
        "open quotes in To": (
            "To: garden@lists.example.org",
            'To: garden@lists.example.org, Bob "B <bob@example.com>',
        ),
        "semicolon in To": ("To: garden@lists.example.org", "To: garden@lists.example.org; bob@b.example x"),
        "nobody is named": ("To: garden@lists.example.org\n", ""),
    }.values(),
)
def test_is_redistributed_with_anything_in_doubt_is_none(change: tuple[str, str]) -> None:
    """Who wrote it, which list it is and that it went there are certain, or it is ordinary mail."""
    assert not _is(changed(LIST, *change))


def test_is_redistributed_without_any_field_for_members_is_none() -> None:
    """The identifier alone is not what a list manager writes (RFC 2369)."""
    lines = [line for line in LIST.split(b"\r\n") if not line.startswith((b"List-P", b"List-U", b"List-H"))]

    assert not _is(b"\r\n".join(lines))


def test_is_list_traffic_for_a_member_and_not_for_who_is_named() -> None:
    """Who stands in To or Cc got a message of the author, too, and it is encrypted for them."""
    named = frozenset({BOB.key, "garden@lists.example.org"})

    assert not is_list_traffic_for(BOB, named)
    assert is_list_traffic_for(parse_mailbox("member@example.com"), named)


@pytest.mark.parametrize(
    ("recipient", "named"),
    [
        ("bob+x@example.com", "bob@example.com"),
        ("bob@example.com", "bob+x@example.com"),
        ("Bob+a@Example.com", "bob+b@example.com"),
    ],
)
def test_is_list_traffic_for_nobody_who_is_named_under_another_sub_address(
    recipient: str, named: str
) -> None:
    """A sub-address is the same mailbox (A7)."""
    assert not is_list_traffic_for(parse_mailbox(recipient), frozenset({parse_mailbox(named).key}))
