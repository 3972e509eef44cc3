"""Tests of `relay.mime.exempt.hypertext`."""

from __future__ import annotations

import time

import pytest

from relay.mime.exempt.hypertext import Shown, holds_file, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<p>Garden&nbsp;party</p>", Shown(" Garden\xa0party ", 0)),
        ("a<style>p { color: red }</style>b", Shown("a b", len(">p { color: red }"))),
        ('<img alt="two words">', Shown(" ", len('"two words"'))),
        ("<a TITLE = 'x' href=https://x.example>y</a>", Shown(" y ", 3)),
        ("<iframe srcdoc=abc><input value=d><input placeholder=e>", Shown("   ", 5)),
        ("<!-- words --><?xml x?>y", Shown("  y", len("<!-- words --><?xml x?>"))),
        ('<b aria-label="x">y</b>', Shown(" y ", 3)),
        ("<p class='title'>&#8230;</p>", Shown(" … ", 0)),
    ],
)
def test_shown_is_what_stands_between_the_tags_and_how_much_is_hidden_in_them(
    text: str, expected: Shown
) -> None:
    """Attributes that are shown and style sheets count, since they can hold text as well (A4)."""
    assert expected == shown(text)


@pytest.mark.parametrize(
    "text",
    {
        "open style": "<style>x",
        "style without a start": "x</style>",
        "digits": "&#" + "9" * 5000 + ";",
        "hexadecimal digits": "&#x" + "0" * 5000 + "41;",
        "digits in an attribute": '<a title="&#' + "9" * 5000 + ';">',
        "style of an attribute": "<style>p::after { content: attr (class) }</style>",
    }.values(),
)
def test_shown_in_doubt_is_none(text: str) -> None:
    """What a browser may read otherwise, or Python cannot read at all, is nothing (A2)."""
    assert shown(text) is None


@pytest.mark.parametrize(
    "text",
    [
        '<a href="data:text/plain,x">',
        "<a href='DATA:text/plain,x'>",
        "<a href=data:text/plain,x>",
        '<a href=" \r\n\tda\r\nta\t:text/plain,x">',
        '<a href="d&#97;ta&colon;text/plain,x">',
        '<a href="&#x64;ata:x">',
        "<img srcset='a.png 1x, data:image/png,x 2x'>",
        "<style>p { background: url(data:image/png,x) }</style>",
        '<meta http-equiv=refresh content="0;url=data:text/html,x">',
        '<meta http-equiv=refresh content="0; data:text/html,x">',
        '<iframe srcdoc="<a href=&quot;data:x&quot;>">',
        '<iframe srcdoc="<a href=&amp;quot;data:x&amp;quot;>">',
        "data:text/plain,x",
        "&#" + "9" * 5000 + ";",
    ],
)
def test_holds_file_in_every_way_to_write_one(text: str) -> None:
    """A `data:` address is found as a browser reads it, in whatever attribute (A4)."""
    assert holds_file(text)
    assert shown(text) is None


@pytest.mark.parametrize("text", ["<p>All the data: 5</p>", '<a href="https://x.example/data:1">y</a>', ""])
def test_holds_file_of_ordinary_html_is_false(text: str) -> None:
    """The word alone is no address."""
    assert not holds_file(text)


@pytest.mark.parametrize(
    "piece", ["<", "&", "<style></style>", "<style ", "</style   ", "<a ", 'alt="', "&#"]
)
def test_shown_of_anything_repeated_takes_bounded_time(piece: str) -> None:
    """Nothing makes the patterns go back."""
    start = time.perf_counter()

    shown("<p>" + piece * (65_536 // len(piece)))

    assert time.perf_counter() - start < 1
