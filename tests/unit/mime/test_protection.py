"""Tests of `relay.mime.protection`: what is hidden, what stays, what the reader can recompute (RFC 9788)."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.headers import Message, parse
from relay.mime.pgpmime import entity
from relay.mime.protection import is_hidden, outside, protects_itself, root
from relay.rule import Headers
from tests.mail import BOUNDARY, crlf

_MESSAGE = parse(
    crlf(
        """\
        Received: from a by b; now
        Authentication-Results: b; spf=pass
        From: Alice <alice@a.example>
        SUBJECT:  Merger with
         Globex
        To: bob@b.example
        Message-ID: <1@a.example>
        References: <0@b.example>
        Comments: not before May
        Keywords: merger
        Thread-Topic: Merger with Globex
        X-Ticket: about =?utf-8?q?merger_WITH_?= globex!
        X-Priority: 1
        User-Agent: Mail 1.0
        X-Mailer: Mail
        X-Originating-IP: [192.0.2.7]
        TLS-Required: No
        List-Unsubscribe: <https://l.example/Merger with Globex>
        Disposition-Notification-To: alice@a.example
        Autocrypt: addr=alice@a.example; keydata=AAAA
        MIME-Version: 1.0
        Content-Type: text/plain; charset=utf-8
        Content-Language: en

        body
        """
    )
)


def _root(message: Message) -> bytes:
    return b"".join(root(message, outside(message), entity(message), BOUNDARY))


def _outer(message: Message) -> tuple[bytes, ...]:
    return tuple(field.raw for field in outside(message))


def _names(lines: tuple[bytes, ...]) -> list[str]:
    return [line.partition(b":")[0].decode() for line in lines]


def test_outside_hides_what_the_author_wrote_and_keeps_what_servers_need() -> None:
    """hcp_baseline and the removal list; what machines read stays (H-06, H-09, H-17, H-22, D-15, D-16)."""
    expected = [
        "Received",
        "Authentication-Results",
        "From",
        "Subject",
        "To",
        "Message-ID",
        "References",
        "X-Priority",
        "TLS-Required",
        "List-Unsubscribe",
        "Disposition-Notification-To",
        "Autocrypt",
    ]

    assert expected == _names(_outer(_MESSAGE))


def test_outside_subject_is_exactly_the_words_of_the_standard() -> None:
    """`[...]`, whatever it was and however its name was written (H-06)."""
    assert b"Subject: [...]\r\n" in _outer(_MESSAGE)


def test_outside_long_runs_of_blanks_cost_no_more_than_their_length() -> None:
    """Every value of a header is compared with the Subject; none may hold the relay up (a bug once)."""
    blanks = (b" " * 990 + b"\r\n") * 900
    message = parse(b"Subject: x\r\nX-A: re" + blanks + b" x\r\n\r\nx")

    assert ["Subject", "X-A"] == _names(_outer(message))


def test_outside_message_without_subject_gets_none() -> None:
    """Where nothing is hidden nothing is invented (H-04)."""
    assert (b"From: a@b.example\r\n",) == _outer(parse(b"From: a@b.example\r\n\r\nx"))


@pytest.mark.parametrize(
    ("subject", "field", "goes"),
    [
        ("Re: Aw: Merger", "X-Thread: Merger", True),
        ("Merger", "X-Thread: RE: merger talks", True),
        ("=?utf-8?b?RnVzaW9u4oCT?=", "X-Thread: =?utf-8?q?Fusion=E2=80=93?=", True),
        ("Hi", "X-Thread: Hi", True),
        ("Hi", "X-Origin: machine", False),
        ("[Ticket#4711] Merger talks", "X-Ticket-Subject: merger TALKS", True),
        ("Merger talks with Globex", "X-Short: Re: Merger talks...", True),
        ("Merger talks", "X-Word: talk", False),
        ("Merger talks", "X-Topic: =?x-unknown?q?Merger_talks?=", True),
        ("Merger\N{ZERO WIDTH SPACE} talks", "X-Topic: Mer\N{SOFT HYPHEN}ger talks", True),
        ("Gru\N{COMBINING DIAERESIS}\N{LATIN SMALL LETTER SHARP S}e", "X-Topic: Grüße", True),
        ("x" * 10_001, "X-Topic: other words", True),
        ("Merger talks", "Original-Subject: Merger talks", True),
        ("Merger talks", "Resent-Subject: Merger talks", True),
        ("Merger talks", "List-Subject: other words", True),
        ("Merger talks", "List-Note: Merger talks", True),
        ("Merger talks", "List-Id: Merger talks <merger.example.com>", False),
        ("Merger talks", "X-Original-Subject: other words", True),
        ("Merger talks", "Autocrypt-Gossip: addr=c@d.example; keydata=AA", True),
        ("Merger", "X-Thread: something else", False),
        ("Merger", "Reply-To: Merger <a@b.example>", False),
        ("Merger", "Received: from Merger", False),
        ("", "X-Empty:", False),
        ("Re:", "X-Thread: Re:", False),
    ],
)
def test_outside_field_that_repeats_the_subject_goes(subject: str, field: str, goes: bool) -> None:
    """In any encoding and letter case, without `Re:`; fields that servers go by stay (H-17)."""
    message = parse(crlf(f"From: a@b.example\nSubject: {subject}\n{field}\n\nx"))

    assert goes == (field.partition(":")[0] not in _names(_outer(message)))


def test_root_holds_every_field_that_is_not_of_the_way_byte_for_byte() -> None:
    """All non-structural fields go inside unchanged, trace fields do not (H-03, H-05, H-20)."""
    expected = b"".join(
        field.raw
        for field in _MESSAGE.fields
        if not field.is_structural and field.name not in {"received", "authentication-results"}
    )
    head, _, _ = _root(_MESSAGE).partition(b"\r\n\r\n")
    kind, _, rest = head.partition(b'hp="cipher"\r\n')

    assert rest.startswith(expected)
    assert b'Content-Type: multipart/mixed; boundary="' + BOUNDARY.encode() + b'";\r\n' in kind
    assert b"Bcc" not in head


def test_root_outer_fields_say_how_the_header_left() -> None:
    """The outer header can be recomputed from HP-Outer, but for what was added on the way (H-04)."""
    parsed = email.message_from_bytes(_root(_MESSAGE), policy=email.policy.compat32)
    copied = [value.encode() + b"\r\n" for value in parsed.get_all("HP-Outer", [])]

    assert [line for line in _outer(_MESSAGE) if not line.startswith((b"Received", b"Authen"))] == copied


def test_root_other_parser_sees_one_part_behind_the_parameters() -> None:
    """`hp` and the older parameter stand at the root and nowhere else (H-02, H-11, H-13)."""
    parsed = email.message_from_bytes(_root(_MESSAGE))
    [part] = parsed.get_payload()  # type: ignore[misc]

    assert ("cipher", "v1") == (parsed.get_param("hp"), parsed.get_param("protected-headers"))
    assert (None, "text/plain") == (part.get_param("hp"), part.get_content_type())
    assert ("en", "body\r\n") == (part["Content-Language"], part.get_payload())


@pytest.mark.parametrize(
    ("raw", "copied"),
    [
        (b"X-A:b\r\n", b"HP-Outer: X-A: b\r\n"),
        (b"X-A:\r\n b\r\n c\r\n", b"HP-Outer: X-A: b\r\n c\r\n"),
        (b"X-A:\r\n", b"HP-Outer: X-A: \r\n"),
    ],
)
def test_root_outer_field_has_a_blank_behind_its_name(raw: bytes, copied: bytes) -> None:
    """RFC 9788 §2.2.1 wants exactly this, however the field itself was written."""
    assert copied in _root(parse(b"From: a@b.example\r\n" + raw + b"\r\nx"))


def test_root_field_that_is_almost_too_long_is_folded() -> None:
    """`HP-Outer: ` never makes a line longer than 998 octets, and the value stays the same (H-16)."""
    field = b"X-Long: " + b"x" * 988 + b"\r\n"
    head, _, _ = _root(parse(b"From: a@b.example\r\n" + field + b"\r\nx")).partition(b"\r\n\r\n")

    assert max(map(len, head.split(b"\r\n"))) <= 998
    assert b"HP-Outer: X-Long: \r\n " + b"x" * 988 + b"\r\n" in head + b"\r\n"


@settings(max_examples=200, deadline=None)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(["Subject", "X-A", "Thread-Topic", "Keywords", "To", "User-Agent", "Comments"]),
            st.text(st.characters(codec="ascii", exclude_characters="\r\n\0"), max_size=30),
        ),
        max_size=6,
        unique_by=lambda line: line[0],
    )
)
def test_outside_any_header_is_a_part_of_it_in_order(lines: list[tuple[str, str]]) -> None:
    """Whatever stands there: fields are kept as they are or gone, and only the Subject is changed."""
    message = parse("".join(f"{name}:{value}\r\n" for name, value in lines).encode() + b"\r\nx")
    raw = [b"Subject: [...]\r\n" if f.name == "subject" else f.raw for f in message.fields]
    kept = list(_outer(message))

    assert kept == [line for line in raw if line in kept]
    assert not {"comments", "keywords", "thread-topic", "user-agent"} & {
        line.partition(b":")[0].lower().decode() for line in kept
    }


@pytest.mark.parametrize(
    ("headers", "field", "hidden"),
    [
        (Headers.PROTECT, "X-A: b", True),
        (Headers.KEEP, "X-A: b", False),
        (Headers.KEEP, "In-Reply-To: <1@a>", True),
        (Headers.KEEP, "References: <1@a>", True),
        (Headers.KEEP, "X-Forwarded-Message-Id: <1@a>", True),
        (Headers.KEEP_REPLIES, "In-Reply-To: <1@a>", False),
    ],
)
def test_is_hidden_reply_is_hidden_although_the_rule_keeps(
    headers: Headers, field: str, hidden: bool
) -> None:
    """A reply may repeat a Subject that was hidden when it came (H-21)."""
    assert hidden == is_hidden(headers, parse(f"Subject: Re: s\r\n{field}\r\n\r\nx".encode()))


_HP = 'Content-Type: text/plain; hp="clear"'


def _signed(inner: str, outer: str = "Subject: Merger") -> Message:
    head = f"From: a@b.example\n{outer}\nContent-Type: multipart/signed; boundary=s; micalg=pgp-sha256\n"
    body = f"--s\n{inner}\n\nbody\n--s\nContent-Type: application/pgp-signature\n\nx\n--s--\n"
    return parse(crlf(f"{head}\n{body}"))


@pytest.mark.parametrize(
    ("message", "alone"),
    [
        (_signed(_HP + "\nSubject: Merger"), True),
        (_signed('Content-Type: text/plain; protected-headers="v1"\nSubject: Merger'), True),
        (_signed("Content-Type: text/plain\nSubject: Merger"), False),
        (_signed(_HP + "\nX-A: b"), False),
        (_signed(_HP + "\nSubject: Lunch"), False),
        (_signed(_HP + "\nSubject: Merger", "Subject: Merger\nComments: x"), False),
        (_signed(_HP + "\nSubject: Merger", "Subject: Merger\nUser-Agent: x"), True),
        (_signed('Content-Type: text/plain; hp="bogus"\nSubject: Merger'), False),
        (_signed('Content-Type: text/plain; protected-headers="v0"\nSubject: Merger'), False),
        (_MESSAGE, False),
        (parse(b"Content-Type: multipart/signed; boundary=s\r\nSubject: s\r\n\r\nno parts"), False),
    ],
)  # fmt: skip
def test_protects_itself_signed_part_that_holds_all_that_is_hidden(message: Message, alone: bool) -> None:
    """Only then may it be the payload itself: otherwise the Subject would be lost (H-14)."""
    assert alone == protects_itself(message)
