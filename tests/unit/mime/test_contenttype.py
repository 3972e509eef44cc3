"""Tests of `relay.mime.contenttype`."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.contenttype import Parameterised, parse


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"text/plain", Parameterised("text/plain", {})),
        (b"TEXT/Plain; Charset=UTF-8;", Parameterised("text/plain", {"charset": "UTF-8"})),
        (b'a/b; c="d \\"e\\" (f);"', Parameterised("a/b", {"c": 'd "e" (f);'})),
        (b"a/b ;\tc = d", Parameterised("a/b", {"c": "d"})),
        (
            b'Multipart/Encrypted (c); PROTOCOL*0="application/pgp-"; protocol*1="encrypted"',
            Parameterised("multipart/encrypted", {"protocol": "application/pgp-encrypted"}, has_comment=True),
        ),
        (b"a/b; c*1=y; c*0=x", Parameterised("a/b", {"c": "xy"})),
        (b"a/b; n*=utf-8'en'%e2%82%ac", Parameterised("a/b", {"n": "€"})),
        (b"a/b; n*0*=utf-8''%e2%82%ac; n*1=%41; n*2*=%41", Parameterised("a/b", {"n": "€%41A"})),
        (b"(a (nested \\) one)) a/b", Parameterised("a/b", {}, has_comment=True)),
        (b"inline", Parameterised("inline", {})),
    ],
)
def test_parse_valid_value_is_read_as_the_rfcs_say(value: bytes, expected: Parameterised) -> None:
    """Comments, quoted strings, continuations and case are read as RFC 2045 and RFC 2231 say (M-12)."""
    assert expected == parse(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"/plain",
        b"text/",
        b"text/plain charset=x",
        b"text/plain; charset",
        b"text/plain; charset=",
        b'text/plain; charset="x',
        b'text/plain; charset="x"y',
        b"text/plain (unclosed",
        b"multipart /mixed",
        b"multipart/ mixed",
        b"text(comment)/plain",
        b'multipart/mixed; boundary="a\\b"',
        b'multipart/mixed; boundary*0="a\\b"',
        b"text/plain; a=b; A=c",
        b"text/plain; a=b; a*0=c",
        b"text/plain; a*=b''c; a=d",
        b"text/plain; a*0=b; a*0=c",
        b"text/plain; a*1=b",
        b"text/plain; a*0=b; a*2=c",
        b"text/plain; a*01=b",
        b"text/plain; a*=b",
        b"text/plain; a**=b",
        b"text/plain; \xfc=b",
        b"text/plain, a=b",
        b"text/plain; " + b"; ".join(b"a%d=b" % n for n in range(101)),
        b'text/plain; a="' + b"b" * 17_000 + b'"',
    ],
)
def test_parse_doubtful_value_is_none(value: bytes) -> None:
    """Where two readers could differ, or a limit is exceeded, nothing is believed."""
    assert parse(value) is None


@settings(deadline=None, max_examples=100)
@given(value=st.text(alphabet="ab/;=*'0\"\\() \t%", max_size=80))
def test_parse_arbitrary_text_never_fails(value: str) -> None:
    """Every input gives a value or None."""
    assert isinstance(parse(value.encode()), Parameterised | None)


@pytest.mark.parametrize(
    "attack", [b'a/b; c="' + b"\\a" * 8000, b"a/b " + b"(" * 16000, b"a/b " + b"()" * 8000]
)
def test_parse_hostile_value_is_fast(attack: bytes) -> None:
    """The time is bounded for input made to be slow."""
    start = time.process_time()

    parse(attack)

    assert time.process_time() - start < 0.5
