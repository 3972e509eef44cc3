"""Tests of `relay.mime.authors`."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageRefused
from relay.mime.authors import author, has_unreadable_recipients, recipients_named, writers
from relay.mime.headers import Message, parse


def _to(value: bytes) -> Message:
    return parse(b"To: " + value + b"\r\n\r\nx")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@x.example", {"a@x.example"}),
        (b"<a@x.example>", {"a@x.example"}),
        (b"A@X.Example, B@y.example", {"a@x.example", "b@y.example"}),
        (b'"Last, First" <a@x.example>, "b;c" <d@x.example>', {"a@x.example", "d@x.example"}),
        (b"Team: a@x.example, B <b@x.example>;, c@x.example", {"a@x.example", "b@x.example", "c@x.example"}),
        (b"undisclosed-recipients:;", set()),
        (b"pete(his (own) account)@x.example(at, home)", {"pete@x.example"}),
        (b'a@x.example ("quoted" in a comment, b@x.example)', {"a@x.example"}),
        (b"a@x.example (\\) b@x.example)", {"a@x.example"}),
        (b'"a b"@x.example', {"a b@x.example"}),
        (b'"a@b"@x.example', {"a@b@x.example"}),
        (b'"ab" @ x.example', {"ab@x.example"}),
        ("a@bücher.example".encode(), {"a@xn--bcher-kva.example"}),
        (b"a@XN--BCHER-KVA.example", {"a@xn--bcher-kva.example"}),
        ("ä@x.example".encode(), {"ä@x.example"}),
        (b"=?utf-8?q?a=2Cb?= <a@x.example>", {"a@x.example"}),
        (b"\xe4\xff <a@x.example>", {"a@x.example"}),
        (b"a@x.example,\r\n b@x.example,\r\n\tc@x.example", {"a@x.example", "b@x.example", "c@x.example"}),
        (b"a@x.example,,b@x.example,", {"a@x.example", "b@x.example"}),
        (b"a@x.example <b@x.example>", {"b@x.example"}),
        (b"a@[192.0.2.1]", {"a@[192.0.2.1]"}),
    ],
)
def test_recipients_named_every_syntax_is_understood(value: bytes, expected: set[str]) -> None:
    """Groups, quotes, comments, IDN forms and display names of any charset are read (B-01)."""
    assert expected == recipients_named(_to(value))


@pytest.mark.parametrize(
    "value",
    [
        b"a b@x.example",
        b"a@x.example b",
        b"A <a@x.example",
        b"A <a@x.example> b",
        b"A <<a@x.example>>",
        b"<a@x.example> <b@x.example>",
        b"(a@x.example",
        b'"a@x.example',
        b'"x" a@x.example',
        b"a\xff@x.example",
        b"<@r.example:a@x.example>",
        b"a@",
        b"@x.example",
        b"a" * 1100 + b"@x.example",
        b"a@x.example@y.example",
    ],
)
def test_recipients_named_doubtful_address_counts_as_bcc(value: bytes) -> None:
    """What cannot be read without doubt is not named, so it gets a copy of its own."""
    assert frozenset() == recipients_named(_to(value))


def test_recipients_named_reads_to_cc_and_resent_fields_only() -> None:
    """To, Cc, Resent-To and Resent-Cc name recipients; Bcc, Reply-To and From do not (B-01, B-05)."""
    message = parse(
        b"From: f@x.example\r\nReply-To: r@x.example\r\nBcc: b@x.example\r\nResent-Bcc: rb@x.example\r\n"
        b"To: t@x.example\r\nCC: c@x.example\r\nResent-To: rt@x.example\r\nResent-Cc: rc@x.example\r\n"
        b"Resent-To: rt2@x.example\r\n\r\nx"
    )

    assert {f"{name}@x.example" for name in ("t", "c", "rt", "rc", "rt2")} == recipients_named(message)


def test_recipients_named_line_separator_does_not_start_a_field() -> None:
    """A form feed in a display name hides nobody and adds nobody (M-11)."""
    assert {"a@x.example"} == recipients_named(_to(b"x\x0cCc: evil@x.example <a@x.example>"))


def test_author_gives_from_and_sender() -> None:
    """Every author and the sender are judged (S-23)."""
    message = parse(b"From: A <a@x.example>, B <b@x.example>\r\nSender: S <s@x.example>\r\n\r\nx")

    assert ["a@x.example", "b@x.example", "s@x.example"] == [str(address) for address in author(message)]


@pytest.mark.parametrize(
    "header",
    [
        b"To: a@x.example\r\n",
        b"From: \r\n",
        b"From: undisclosed:;\r\n",
        b"From: root\r\n",
        b"From: a@x.example, boss\r\n",
        b"From: a@x.example (\r\n",
        b"From: a@x.example\r\nSender: ?\r\n",
        b"From: \r\nSender: a@x.example\r\n",
        b"From: undisclosed:;\r\nSender: a@x.example\r\n",
        b"From: A <a@x.example> <boss@x.example>\r\n",
    ],
)
def test_author_that_cannot_be_read_is_refused(header: bytes) -> None:
    """An author that nobody can read is not taken for a permitted one (S-23)."""
    with pytest.raises(MessageRefused):
        author(parse(header + b"\r\nx"))


@settings(deadline=None, max_examples=100)
@given(value=st.text(alphabet='ab@.,;:<>()[]"\\ \t', max_size=80))
def test_recipients_named_arbitrary_text_never_fails(value: str) -> None:
    """Every value gives a set of addresses."""
    assert isinstance(recipients_named(_to(value.encode())), frozenset)


@pytest.mark.parametrize(
    "attack",
    [
        b'"' + b'\\"' * 400_000,
        b"(" * 900_000,
        b'"' * 900_001,
        b"[" * 900_000,
        b"<" * 900_000,
        b" " * 900_000 + b"@",
        b"a" + b" " * 900_000 + b"b@x.example",
    ],
)
def test_recipients_named_hostile_value_is_fast(attack: bytes) -> None:
    """The time is bounded for input made to be slow."""
    message = _to(attack)
    start = time.process_time()

    recipients_named(message)

    assert time.process_time() - start < 2


def test_recipients_named_two_thousand_recipients() -> None:
    """A long list is read whole."""
    value = b", ".join(b"Some Body <user%d@x.example>" % number for number in range(2000))

    assert 2000 == len(recipients_named(_to(value)))


@pytest.mark.parametrize(
    "value",
    [
        "ceo@example.com: alice@example.com;",
        "<ceo@example.com>: alice@example.com;",
        "ceo@example.com:, alice@example.com",
    ],
)
def test_author_with_an_address_as_the_name_of_a_group_is_refused(value: str) -> None:
    """Other programs show the name of the group as the author (S-23)."""
    with pytest.raises(MessageRefused):
        author(parse(f"From: {value}\r\n\r\n".encode()))


def test_author_in_an_unquoted_display_name_counts() -> None:
    """`ceo@… <alice@…>` is shown as ceo by some programs, so the login must be allowed both."""
    found = author(parse(b"From: ceo@example.com <alice@example.com>\r\n\r\n"))

    assert {"alice@example.com", "ceo@example.com"} == {address.key for address in found}


def test_recipients_named_of_many_blanks_takes_linear_time() -> None:
    """A long run of blanks is read once, not once for each blank."""
    message = parse(b"To: a" + b" " * 200_000 + b"x@example.com\r\n\r\n")

    assert "x@example.com" not in recipients_named(message)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@x.example, B <b@x.example>", False),
        (b"Bob <b@x.example> (direct)", False),
        (b"friends: a@x.example;", False),
        (b"undisclosed-recipients:;", False),
        (b"", False),
        (b"a@x.example, Bob <b@x.example> direct", True),
        (b"a@x.example, Bob <<b@x.example>>", True),
        (b'a@x.example, Bob "B <b@x.example>', True),
        (b"a@x.example; b@x.example x", True),
    ],
)
@pytest.mark.parametrize("name", [b"To", b"Cc", b"Resent-To", b"Resent-Cc"])
def test_has_unreadable_recipients_where_one_is_in_doubt(name: bytes, value: bytes, expected: bool) -> None:
    """Who cannot be read may be anybody, in each field that names recipients."""
    assert expected == has_unreadable_recipients(parse(name + b": " + value + b"\r\n"))


def test_writers_are_those_of_from_alone() -> None:
    """Sender is who sent it for them (RFC 5322 §3.6.2)."""
    message = parse(b"Sender: c@x.example\r\nFrom: a@x.example, b@x.example\r\n")

    assert ["a@x.example", "b@x.example"] == [str(one) for one in writers(message)]
    with pytest.raises(MessageRefused):
        writers(parse(b"Sender: c@x.example\r\n"))
