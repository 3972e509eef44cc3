"""Tests of `relay.mime.exempt.calendar`."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime import structure
from relay.mime.exempt.calendar import (
    MAX_ANSWER_CHARS,
    MAX_RENDITION_BYTES,
    MAX_SHOWN_CHARS,
    holds_calendar,
    is_calendar,
)
from relay.mime.headers import Message, parse
from tests.mail import crlf
from tests.unit.mime.exempt.samples import (
    CRON,
    HERE,
    ICS,
    POSTFIX_DSN,
    SECRET,
    bare_calendar,
    changed,
    encoded_words,
    exchange_invitation,
    google_invitation,
    nextcloud_invitation,
    outlook_invitation,
)


def _is(content: bytes) -> bool:
    return is_calendar(parse(content))


_REPLY = changed(changed(ICS, "METHOD:REQUEST", "METHOD:REPLY"), "PARTSTAT=NEEDS-ACTION", "PARTSTAT=ACCEPTED")


@pytest.mark.parametrize(
    "content",
    {
        "reply": google_invitation(_REPLY, method="REPLY"),
        "name among punctuation": outlook_invitation("Invitation: (garden party)!"),
        "method in small letters": google_invitation(method="request"),
        "HTML alone": changed(outlook_invitation("<p>Garden party</p>"), "text/plain", "text/html"),
        "empty text": outlook_invitation(""),
        "text with the name": outlook_invitation("When: tomorrow\r\nWhat: GARDEN\r\n party"),
        "description in other lines": outlook_invitation(
            "We talk about the garden,\r\nand about lunch.\r\n\r\n"
        ),
        "bare in base64": changed(
            bare_calendar(), "MIME-Version", "Content-Transfer-Encoding: 8bit\nMIME-Version"
        ),
        "component": changed(bare_calendar(), "method=REQUEST", "component=VEVENT; method=REQUEST"),
        "class of Outlook": changed(
            outlook_invitation(),
            "Content-Type: text/calendar",
            "Content-class: urn:content-classes:calendarmessage\nContent-Type: text/calendar",
        ),
    }.values(),
)
def test_is_calendar_of_a_legal_variant_is_one(content: bytes) -> None:
    """Replies, renditions of other programs and the object alone are calendar mail (RFC 6047 §2.4)."""
    assert _is(content)


_PROSE = f"{SECRET} Sell everything.\r\n"


@pytest.mark.parametrize(
    "content",
    {
        "prose as text": outlook_invitation(_PROSE),
        "prose and the description": outlook_invitation(
            f"We talk about the garden, and about lunch. {_PROSE}"
        ),
        "long prose with the name": outlook_invitation(
            "Garden party" + "\r\n" + _PROSE * (MAX_SHOWN_CHARS // 35)
        ),
        "prose hidden as a tag": outlook_invitation(f"<{SECRET}>"),
        "prose as HTML": changed(google_invitation(), "Garden&nbsp;party", SECRET),
        "prose behind an open style": changed(google_invitation(), "<p>Garden", "<style><p>Garden"),
        "style without a start": changed(google_invitation(), "<style>", "<p>"),
        "huge HTML": changed(
            google_invitation(), "<p>Garden", "<!--" + "x" * MAX_RENDITION_BYTES + "--><p>Garden"
        ),
        "HTML before the text": changed(
            changed(google_invitation(), "text/plain", "text/html"),
            'text/html; charset="UTF-8"\nContent',
            'text/plain; charset="UTF-8"\nContent',
        ),
        "two texts": changed(google_invitation(), "text/html", "text/plain"),
        "text is a file": changed(google_invitation(), "text/plain", "application/octet-stream"),
        "text as an attachment": changed(
            outlook_invitation(),
            "Content-Type: text/plain",
            "Content-Disposition: attachment\nContent-Type: text/plain",
        ),
        "text in an unknown charset": changed(outlook_invitation(), "us-ascii", "x-user-defined"),
        "no name, prose": outlook_invitation(_PROSE, changed(ICS, "SUMMARY:Garden party\n", "")),
        "name inside of other words": outlook_invitation(
            f"The heart. {_PROSE}", changed(ICS, "Garden party", "art")
        ),
        "name of two letters": outlook_invitation(f"It is. {_PROSE}", changed(ICS, "Garden party", "is")),
        "name of two letters and dots": outlook_invitation(
            f"It is.. {_PROSE}", changed(ICS, "Garden party", "is..")
        ),
        "name of one letter": outlook_invitation(_PROSE, changed(ICS, "Garden party", "e")),
        "empty name": outlook_invitation(_PROSE, changed(ICS, "Garden party", "")),
        "other method": changed(outlook_invitation(), "method=REQUEST", "method=CANCEL"),
        "no method": changed(outlook_invitation(), "; method=REQUEST", ""),
        "other charset": changed(outlook_invitation(), 'charset="utf-8"', 'charset="utf-16"'),
        "prose as calendar": outlook_invitation(ics=_PROSE.encode()),
        "calendar not last": changed(
            changed(outlook_invitation(), "text/calendar", "text/x-calendar"),
            "Content-Type: text/plain",
            "Content-Type: text/calendar; method=REQUEST",
        ),
        "two calendars": changed(
            google_invitation(),
            'Content-Type: text/html; charset="UTF-8"',
            "Content-Type: text/calendar; method=REQUEST",
        ),
        "other file": google_invitation(file=changed(ICS, "Garden party", SECRET)),
        "file with more": google_invitation(file=ICS + _PROSE.encode()),
        "file of another type": changed(google_invitation(), "application/ics", "application/octet-stream"),
        "file is text": changed(google_invitation(), "application/ics", "text/plain"),
        "mixed with prose": changed(google_invitation(), 'application/ics; name="invite.ics"', "text/plain"),
        "mixed without calendar": changed(google_invitation(), "text/calendar", "text/plain"),
        "related": changed(google_invitation(), "multipart/mixed", "multipart/related"),
        "mixed in mixed": changed(google_invitation(), "multipart/alternative", "multipart/mixed"),
        "prose behind the object": bare_calendar() + _PROSE.encode(),
        "prose before the object": changed(bare_calendar(), "\n\nBEGIN", f"\n\n{SECRET}\nBEGIN"),
        "bare without a method": changed(bare_calendar(), "method=REQUEST; ", ""),
        "bare with another": bare_calendar(method="REPLY"),
        "bare, called base64": changed(
            bare_calendar(), "MIME-Version", "Content-Transfer-Encoding: base64\nMIME-Version"
        ),
        "bare, in binary": changed(
            bare_calendar(), "MIME-Version", "Content-Transfer-Encoding: binary\nMIME-Version"
        ),
        "bare, method twice": changed(bare_calendar(), "method=REQUEST", "method=REQUEST; METHOD=REQUEST"),
        "bare prose": bare_calendar(_PROSE.encode()),
        "method in a comment": changed(bare_calendar(), "method=REQUEST", "method=(REPLY)REQUEST"),
    }.values(),
)
def test_is_calendar_dressed_as_one_is_none(content: bytes) -> None:
    """Every part is the event, or tells of it and of little else."""
    assert not _is(content)


# --------------------------------------------------------------------------- what real programs send


@pytest.mark.parametrize("name", ["request", "reply", "cancel"])
def test_is_calendar_of_thunderbird_is_one(name: str) -> None:
    """What Thunderbird's calendar sends, of which the text of the reply does not name the event (B2)."""
    content = (HERE / f"thunderbird-{name}.eml").read_bytes()

    assert _is(content)
    assert holds_calendar(parse(content))


_TEAMS = """\
________________________________________________________________________________
Microsoft Teams meeting

Join on your computer, mobile app or room device
Click here to join the meeting<https://teams.microsoft.com/l/meetup-join/19%3ameeting>

Meeting ID: 123 456 789"""
_TEAMS_HTML = """\
<html><head><style type="text/css">P {margin-top: 0}</style></head><body><hr>
<b>Microsoft</b> Teams meeting<br>Join on your computer, mobile app or room device<br>
<a href="https://teams.microsoft.com/l/meetup-join/19%3ameeting">Click here to join the meeting</a><br>
Meeting ID: 123 456&nbsp;789</body></html>"""


def _described(text: str) -> bytes:
    escaped = text.replace("\n", "\\n").replace(",", "\\,")
    return changed(ICS, "We talk about the garden\\, and about lunch.", f"{escaped}\\n")


def test_is_calendar_of_exchange_with_links_is_one() -> None:
    """The HTML shows the text of a link, the description its target as well (B3)."""
    link = "Bring the plan: https://x.example/a"

    assert _is(exchange_invitation(_TEAMS, _TEAMS_HTML, _described(_TEAMS)))
    assert _is(
        exchange_invitation(
            f"{link}<https://x.example/a>",
            f'<p>Bring the plan: <a href="https://x.example/a">{link[16:]}</a></p>',
            _described(f"{link}<https://x.example/a>"),
        )
    )


@pytest.mark.parametrize(
    "html",
    {
        "more words": _TEAMS_HTML.replace("</body>", f"<p>{SECRET}</p></body>"),
        "other words": f"<p>{SECRET}</p>",
        "words in angles": _TEAMS_HTML.replace("</body>", f"&lt;{SECRET}&gt;</body>"),
        "words of a picture": _TEAMS_HTML.replace("<hr>", f"<img alt='{SECRET * 400}'>"),
        "words of a comment": _TEAMS_HTML.replace("<hr>", f"<!--{SECRET * 400}-->"),
        "words of a style": _TEAMS_HTML.replace("P {", f'P::after {{content: "{SECRET * 400}"}} P {{'),
        "words in a frame": _TEAMS_HTML.replace("<hr>", f"<iframe srcdoc='{SECRET * 400}'>"),
        "words beside the mouse": _TEAMS_HTML.replace("<hr>", f"<hr title='{SECRET * 400}'>"),
        "a file": _TEAMS_HTML.replace("<hr>", '<a href="data:application/pdf;base64,JVBERi0=">x</a>'),
        "digits without end": _TEAMS_HTML.replace("<hr>", "&#" + "9" * 5000 + ";"),
    }.values(),
)
def test_is_calendar_of_exchange_with_other_html_is_none(html: str) -> None:
    """Hidden text counts (A4), and what Python cannot resolve raises nothing (A2)."""
    assert not _is(exchange_invitation(_TEAMS, html, _described(_TEAMS)))


def _reply(text: str, method: str = "REPLY") -> bytes:
    ics = changed(ICS, "SEQUENCE:0", "COMMENT:" + "I will be late. " * 60 + "\\n\nSEQUENCE:0")
    content = outlook_invitation(encoded_words(text), changed(ics, "METHOD:REQUEST", f"METHOD:{method}"))
    encoded = 'charset="us-ascii"\nContent-Transfer-Encoding: quoted-printable\n'
    content = changed(content, 'charset="us-ascii"\n', encoded)
    return changed(content, "method=REQUEST", f"method={method}")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (_reply("Alice has accepted."), True),
        (_reply("x" * MAX_ANSWER_CHARS), True),
        (_reply("x" * (MAX_ANSWER_CHARS + 1)), False),
        (_reply("I will be late. " * 60), True),
        (_reply("I will be late. " * 61), False),
        (_reply("Alice has accepted.", "REQUEST"), False),
        (_reply("I will be late. " * 60, "COUNTER"), True),
    ],
)
def test_is_calendar_of_a_reply_with_a_short_text_or_its_comment_is_one(
    content: bytes, expected: bool
) -> None:
    """An answer says who comes, or repeats the comment of who answers (B2, B7)."""
    assert expected == _is(content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (nextcloud_invitation(), True),
        (nextcloud_invitation(text=SECRET), False),
        (nextcloud_invitation(SECRET.encode()), False),
        (changed(nextcloud_invitation(), "; method=REQUEST", ""), False),
        (changed(nextcloud_invitation(), "method=REQUEST", "method=CANCEL"), False),
        (changed(nextcloud_invitation(), "text/html", "application/pdf"), False),
        (changed(nextcloud_invitation(), "multipart/alternative", "multipart/mixed"), False),
        (changed(nextcloud_invitation(), "\n--outer--", "\n--outer\n\nx\n--outer--"), False),
    ],
)
def test_is_calendar_of_nextcloud_is_one(content: bytes, expected: bool) -> None:
    """The object may stand behind the alternative of its texts, under the same checks (B8)."""
    assert expected == _is(content)


# --------------------------------------------------------------------------- whatever a server would read


def _in(levels: int, part: bytes) -> bytes:
    heads = "".join(
        f"Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n" for level in range(levels)
    )
    tails = "".join(f"\n--b{level}--\n" for level in reversed(range(levels)))
    return crlf(heads) + part + crlf(tails)


_PART = b"Content-Type: text/calendar; method=REQUEST\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    "content",
    {
        "bare": bare_calendar(),
        "google": google_invitation(),
        "nextcloud": nextcloud_invitation(),
        "whole, without a method": b"Content-Type: text/calendar\r\n\r\nx\r\n",
        "whole, of a broken type": b"Content-Type: TEXT / Calendar; ;;=\r\n\r\nx\r\n",
        "second type": b"Content-Type: text/plain\r\nContent-Type: text/calendar\r\n\r\nx\r\n",
        "beside a file": changed(google_invitation(), "application/ics", "application/pdf"),
        "not exempt": changed(google_invitation(), "Garden&nbsp;party", SECRET),
        "broken content": changed(google_invitation(), "BEGIN:VEVENT", "BEGIN:NOTHING"),
        "broken type": _in(1, _PART.replace(b"method=", b"(x) METHOD =;")),
        "method in pieces": _in(1, _PART.replace(b"method=REQUEST", b"method*0=REQ; method*1=UEST")),
        "folded method": _in(1, _PART.replace(b" method", b"\r\n\tmethod")),
        "not closed": _in(1, _PART).replace(b"--b0--", b""),
        "deep": _in(structure.MAX_DEPTH, _PART),
    }.values(),
)
def test_holds_calendar_whatever_a_server_could_act_on(content: bytes) -> None:
    """A type and a method are enough, whether the object is sound and the message exempt or not."""
    assert holds_calendar(parse(content))


@pytest.mark.parametrize(
    "content",
    {
        "text": CRON,
        "report": POSTFIX_DSN,
        "no method": _in(1, _PART.replace(b"; method=REQUEST", b"")),
        "other type": _in(1, _PART.replace(b"text/calendar", b"text/calendar-x")),
        "named so": _in(1, _PART.replace(b"text/calendar;", b"text/x; name=text;")),
        "no type": b"Subject: text/calendar\r\n\r\nContent-Type: text/calendar; method=REQUEST\r\n",
        "too deep": _in(structure.MAX_DEPTH + 1, _PART),
        "no delimiter": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + _PART,
        "no boundary": b"Content-Type: multipart/mixed\r\n\r\n" + _PART,
    }.values(),
)
def test_holds_calendar_of_anything_else_is_false(content: bytes) -> None:
    """What no server would take for one, or cannot be divided, is none."""
    assert not holds_calendar(parse(content))


def test_holds_calendar_in_many_parts_takes_bounded_time() -> None:
    """A thousand times a thousand parts are not all looked at, nor are 25 levels."""
    inner = b"--c\r\n\r\n\r\n" * 999 + b"--c--"
    parts = b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" + inner + b"\r\n"
    many = parse(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts * 999 + b"--b--\r\n")
    start = time.perf_counter()

    found = [holds_calendar(many), holds_calendar(parse(_in(25, b"\r\n" * 1_000_000)))]

    assert [False, False] == found
    assert time.perf_counter() - start < 2


@given(
    st.binary(max_size=300), st.sampled_from([google_invitation(), nextcloud_invitation(), bare_calendar()])
)
@settings(deadline=None)
def test_holds_calendar_of_any_octets_raises_nothing(data: bytes, sample: bytes) -> None:
    """Whatever is exempt as a calendar holds one."""
    message = parse(sample)
    altered = Message(message.fields, message.body.replace(b"METHOD", data))

    assert holds_calendar(altered) or not is_calendar(altered)
    holds_calendar(Message(message.fields, data))
