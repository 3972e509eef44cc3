"""Tests of `relay.mime.exempt.calendar`."""

from __future__ import annotations

import pytest

from relay.mime.exempt.calendar import MAX_RENDITION_BYTES, MAX_SHOWN_CHARS, is_calendar
from relay.mime.headers import parse
from tests.unit.mime.exempt.samples import (
    ICS,
    SECRET,
    bare_calendar,
    changed,
    google_invitation,
    outlook_invitation,
)


def _is(content: bytes) -> bool:
    return is_calendar(parse(content))


_REPLY = changed(changed(ICS, "METHOD:REQUEST", "METHOD:REPLY"), "PARTSTAT=NEEDS-ACTION", "PARTSTAT=ACCEPTED")


@pytest.mark.parametrize(
    "content",
    {
        "reply": google_invitation(_REPLY, method="REPLY"),
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
