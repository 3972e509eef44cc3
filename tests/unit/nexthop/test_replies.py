"""Only what judges this message reaches the client with its class."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import LoginRefused, NextHopRefused, RelayError
from relay.nexthop import replies
from relay.nexthop.replies import HopFailure, Reason


def answer(code: int, text: str, *, rcpt: bool = False) -> tuple[int, str] | None:
    try:
        if rcpt:
            replies.require_recipient(code, text)
        else:
            replies.require_success(code, text, "the message")
    except RelayError as exc:
        return exc.reply().code, exc.reply().enhanced
    return None


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (250, "2.0.0 ok", None),
        (251, "forwards", None),
        (450, "4.2.0 greylisted", (450, "4.2.0")),
        (550, "5.1.1 unknown", (550, "5.1.1")),
        (550, "unknown", (550, "5.0.0")),
        (550, "4.1.1 class differs", (550, "5.0.0")),
        (451, "5.7.1 class differs", (451, "4.0.0")),
        (554, "5.7.1\nsecond line", (554, "5.7.1")),
        (554, "5.7.1234 no status", (554, "5.0.0")),
        (552, "5.3.4 too big", (552, "5.3.4")),
        (421, "4.3.2 closing", (451, "4.4.1")),
        (503, "5.5.1 sequence", (451, "4.4.1")),
        (530, "5.7.0 login required", (451, "4.4.1")),
        (538, "5.7.11 encryption required", (451, "4.4.1")),
        (354, "go", (451, "4.4.1")),
        (-1, "garbage", (451, "4.4.1")),
        (199, "", (451, "4.4.1")),
        (600, "", (451, "4.4.1")),
        (999, "", (451, "4.4.1")),
    ],
)
def test_require_success_maps_code_and_status(code: int, text: str, expected: tuple[int, str] | None) -> None:
    """Class and status are kept where the message is judged; all else is 451 4.4.x."""
    assert answer(code, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("too many", "4.5.3"),
        ("5.5.3 too many", "4.5.3"),
        ("5.2.2 mailbox full", "4.2.2"),
        ("4.5.3 x", "4.5.3"),
    ],
)
def test_require_recipient_552_is_temporary(text: str, expected: str) -> None:
    """552 to RCPT means too many recipients in this transaction (RFC 5321 §4.5.3.1.10)."""
    assert answer(552, text, rcpt=True) == (452, expected)


def test_require_recipient_other_codes_are_kept() -> None:
    """Only 552 is special at RCPT."""
    assert answer(550, "5.1.1 unknown", rcpt=True) == (550, "5.1.1")


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (535, "5.7.8 wrong", LoginRefused),
        (535, "wrong", LoginRefused),
        (535, "5.7.3 Authentication unsuccessful", LoginRefused),
        (550, "5.7.8 wrong", LoginRefused),
        (534, "5.7.9 mechanism too weak", Reason.LOGIN),
        (538, "5.7.11 encryption required", Reason.LOGIN),
        (530, "5.7.0 must issue STARTTLS first", Reason.LOGIN),
        (500, "5.5.6 line too long", Reason.LOGIN),
        (501, "5.5.2 cannot decode", Reason.LOGIN),
        (503, "5.5.1 already logged in", Reason.LOGIN),
        (504, "5.5.4 unknown mechanism", Reason.LOGIN),
        (432, "4.7.12 transition needed", Reason.REFUSED),
        (454, "4.7.0 temporary failure", Reason.REFUSED),
        (421, "4.3.2 closing", Reason.REFUSED),
        (334, "more", Reason.PROTOCOL),
    ],
)
def test_require_login_judges_only_535_and_578(code: int, text: str, expected: object) -> None:
    """A client is told that its password is wrong only where the next hop said so (RFC 4954 §6)."""
    with pytest.raises((LoginRefused, HopFailure)) as caught:
        replies.require_login(code, text)

    assert (caught.value.reason if isinstance(caught.value, HopFailure) else LoginRefused) == expected


def test_require_login_detail_leaves_out_the_text() -> None:
    """A server that quotes the AUTH line back does not get the password into our log."""
    with pytest.raises(HopFailure) as caught:
        replies.require_login(501, "5.5.2 bad command: AUTH PLAIN AGFsaWNlAHNlY3JldA==")

    assert caught.value.detail == "login: AUTH: 501 5.5.2"


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec=None), max_size=2000))
def test_printable_is_one_bounded_ascii_line(text: str) -> None:
    """Whatever another host says, the log keeps one line, encodable and bounded."""
    line = replies.printable(text)

    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 5000


def test_require_success_keeps_the_text_for_the_log_only() -> None:
    """The next hop's words are in the detail and not in the reply."""
    with pytest.raises(NextHopRefused) as caught:
        replies.require_success(550, "5.1.1 host mx7.internal\nsays no", "the recipient")

    assert caught.value.detail == "550 5.1.1 host mx7.internal says no"
    assert caught.value.reply().text == "The next mail server refused the recipient"
