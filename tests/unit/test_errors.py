"""Tests of `relay/errors.py`: what a client reads, and what it never reads."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import errors
from relay.address import parse_mailbox
from relay.errors import KeyMissing, KeyUnusable, MixedRefused, NextHopRefused, RelayError, Unexpected
from relay.server import refusals

EVERY = [
    found
    for module in (errors, refusals)
    for _, found in inspect.getmembers(module, inspect.isclass)
    if issubclass(found, RelayError) and found.__module__ == module.__name__
]


@pytest.mark.parametrize("error", EVERY)
def test_error_has_a_refusing_code_and_a_status(error: type[RelayError]) -> None:
    """Every refusal is 4xx or 5xx with an enhanced status, in ASCII, short enough for one line (RFC 2034)."""
    assert 400 <= error.code < 600
    assert 2 == len([int(number) for number in error.status.split(".")])
    assert error.template.isascii()
    assert len(error.template) <= 200


def test_reply_hides_the_detail() -> None:
    """What a library or another host said is for the log."""
    error = Unexpected("psycopg: password authentication failed at /var/lib/relay")

    assert "/var/lib/relay" not in error.reply("id-1").text
    assert error.reply("id-1").text.endswith("(id-1)")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=400))
def test_reply_with_any_text_stays_one_ascii_line(text: str) -> None:
    """Nothing that a client or a key puts into a slot makes a second line or leaves ASCII."""
    reply = KeyUnusable(recipient=text, verdict=text, rule=text).reply("id")

    encoded = reply.encode()
    assert encoded.isascii()
    assert 1 == encoded.count(b"\n") == encoded.count(b"\r")
    assert encoded.endswith(b"\r\n")


def test_reply_shows_utf8_only_to_clients_that_speak_it() -> None:
    """RFC 6531 §3.7.4: no UTF-8 in replies without SMTPUTF8."""
    error = KeyMissing(recipient=parse_mailbox("jörg@example.com"), rule="policy.default")

    assert "jörg@" in error.reply(utf8=True).text
    assert "j\\xf6rg@" in error.reply().text


def test_reply_names_five_addresses_at_most() -> None:
    """A refusal about many recipients stays readable."""
    addresses = [parse_mailbox(f"a{number}@example.com") for number in range(8)]

    text = MixedRefused(strict=addresses, clear=addresses[:1]).reply().text

    assert "a4@example.com and 3 more" in text
    assert "a5@example.com" not in text


@pytest.mark.parametrize(
    ("code", "enhanced", "expected"),
    [(550, "5.1.1", "5.1.1"), (451, "", "4.0.0"), (554, "5.7.1", "5.7.1")],
)
def test_next_hop_refusal_keeps_code_and_status(code: int, enhanced: str, expected: str) -> None:
    """The class of the next hop's reply reaches the client, its words do not."""
    reply = NextHopRefused(code, enhanced, "the recipient", "mx7.internal says go away").reply("id")

    assert (code, expected) == (reply.code, reply.enhanced)
    assert "mx7" not in reply.text


@pytest.mark.parametrize(("code", "temporary"), [(450, True), (499, True), (500, False), (550, False)])
def test_is_temporary_follows_the_first_digit(code: int, temporary: bool) -> None:
    """4xx may be tried again."""
    assert temporary == NextHopRefused(code, "", "the message").is_temporary
