from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageTooLarge, RelayError
from relay.message import MailOptions
from relay.server.parameters import Accepted, meant_by, parse_command, parse_mail, parse_rcpt
from relay.server.refusals import BadArguments, BadLine, LineTooLong, NeedsUtf8, ParameterUnknown

ALL = Accepted(extended=True, smtputf8=True, max_bytes=1000)


def mail(argument: str, accepted: Accepted = ALL) -> tuple[str | None, MailOptions]:
    sender, options = parse_mail(argument, accepted)
    return (sender.text if sender else None), options


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<>", (None, MailOptions())),
        ("from: <a@b.example>", ("a@b.example", MailOptions())),
        ("FROM:<A@b.example> SIZE=1000 BODY=8bitmime", ("A@b.example", MailOptions(1000, "8BITMIME"))),
        ("FROM:<a@b.example> smtputf8 AUTH=<>", ("a@b.example", MailOptions(smtputf8=True))),
        ("FROM:<a@b.example>  AUTH=E+3Dmc2@Example.COM", ("a@b.example", MailOptions())),
        ('FROM:<"a> SIZE=9999"@b.example> SIZE=5', ('"a> SIZE=9999"@b.example', MailOptions(5))),
        (r'FROM:<"a\">b"@b.example>', (r'"a\">b"@b.example', MailOptions())),
    ],
)
def test_mail_is_parsed(argument: str, expected: tuple[str | None, MailOptions]) -> None:
    """Paths and parameters come out as they were meant, `<>` as None, the letter case of values kept."""
    assert expected == mail(argument)


@pytest.mark.parametrize(
    ("argument", "error"),
    [
        ("", BadArguments),
        ("FROM:a@b.example", BadArguments),
        ("FROM:<a@b.example>SIZE=1", BadArguments),
        ("FROM:<a@b.example", BadArguments),
        ('FROM:<"a@b.example>', BadArguments),
        ("FROM:<a@b.example> SIZE=1 SIZE=1", BadArguments),
        ("FROM:<a@b.example> SIZE=", BadArguments),
        ("FROM:<a@b.example> =1", BadArguments),
        ("FROM:<a@b.example> SIZE=1=2", BadArguments),
        ("FROM:<a@b.example> SIZE=\u0661", BadArguments),
        ("FROM:<a@b.example> SIZE=1001", MessageTooLarge),
        ("FROM:<a@b.example> ENVID=x", ParameterUnknown),
        ("FROM:<a@b.example> BODY=BINARYMIME", BadArguments),
        ("FROM:<\xe4@b.example>", NeedsUtf8),
        ("FROM:<a@b\xe4.example>", NeedsUtf8),
    ],
)
def test_mail_is_refused(argument: str, error: type[RelayError]) -> None:
    """Every mistake has its own refusal."""
    with pytest.raises(error):
        mail(argument)


@pytest.mark.parametrize("argument", ["FROM:<a@b.example> SIZE=1", "FROM:<a@b.example> SMTPUTF8"])
def test_mail_parameters_that_were_not_offered(argument: str) -> None:
    """After HELO, or where the next hop cannot do it, a parameter is 555."""
    with pytest.raises(ParameterUnknown):
        mail(argument, Accepted(extended=False, smtputf8=True, max_bytes=1000))
    with pytest.raises(ParameterUnknown):
        mail("FROM:<> SMTPUTF8", Accepted(extended=True, smtputf8=False, max_bytes=1000))


def test_rcpt_parameters_are_unknown() -> None:
    """DSN is not offered, so its parameters are 555 and not dropped in silence."""
    with pytest.raises(ParameterUnknown):
        parse_rcpt("TO:<a@b.example> ORCPT=rfc822;A@b.example")


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from('<>"\\ =aFROM:@.\xe4'), max_size=40))
def test_mail_any_text_is_parsed_or_refused(text: str) -> None:
    """No argument raises anything but a refusal."""
    try:
        mail("FROM:<" + text)
    except RelayError:
        return


@pytest.mark.parametrize("text", ['"' * 2001, '"a' * 1000, "\\" * 2000, '"\\"' * 700, "<" + " " * 2000])
def test_mail_hostile_argument_takes_no_time(text: str) -> None:
    """The pattern has no input on which it backtracks for long."""
    start = time.process_time()
    with pytest.raises(RelayError):
        mail("FROM:<" + text)

    assert 0.05 > time.process_time() - start


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"noop", ("NOOP", "")),
        (b"Mail  FROM:<> ", ("MAIL", "FROM:<>")),
        (b"", ("", "")),
        ("r\u017fet".encode(), ("", "")),
        (b"\tNOOP", ("\tNOOP", "")),
    ],
)
def test_command_is_split(line: bytes, expected: tuple[str, str]) -> None:
    """Verbs are folded by ASCII alone, arguments keep what is inside."""
    assert expected == parse_command(line)


def test_command_that_is_no_text_or_too_long() -> None:
    """Octets that are not UTF-8 are refused, and so is a long line that is not AUTH."""
    with pytest.raises(BadLine):
        parse_command(b"MAIL FROM:<\xff@b.example>")
    with pytest.raises(LineTooLong):
        parse_command(b"NOOP " + b"x" * 2042)
    assert "AUTH" == parse_command(b"auth " + b"x" * 9000)[0]


@pytest.mark.timeout(20)  # a second try at each character would take minutes
def test_meant_by_a_long_argument_is_found_in_one_pass() -> None:
    """Every refused RCPT comes here, whatever a client puts into it."""
    assert meant_by("a" * 200_000) is None
    assert meant_by("a@" * 100_000) is None


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("TO:<@foo.example:bob@strict.example>", "bob@strict.example"),
        ("TO:<a@b@strict.example>", "b@strict.example"),
        ("TO:<bob@strict.example> NOTIFY=NEVER", "bob@strict.example"),
        ("TO:bob@strict.example", "bob@strict.example"),
        ("TO:<bob>", None),
        ("", None),
    ],
)
def test_meant_by_a_refused_command_is_whom_the_policy_is_asked_about(
    argument: str, expected: str | None
) -> None:
    """A recipient whose command was refused for its form is still under its rule."""
    found = meant_by(argument)

    assert expected == (found.key if found else None)
