"""Tests of `relay.mime.exempt.icalendar`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mime.exempt.icalendar import (
    MAX_BYTES,
    MAX_EXTENSION_CHARS,
    MAX_NOTE_CHARS,
    METHODS,
    Calendar,
    calendar,
    unescape,
)
from tests.mail import crlf
from tests.unit.mime.exempt.samples import ICS, SECRET, changed


def test_calendar_says_its_method_and_what_events_are_called() -> None:
    """Method, names and descriptions come back as they are shown."""
    assert Calendar(
        "REQUEST", ("Garden party",), ("We talk about the garden, and about lunch.",), ("Late.", "Really")
    ) == calendar(changed(ICS, "SEQUENCE:0", "COMMENT:Late.\nCOMMENT:Really\nSEQUENCE:0"))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_calendar_of_every_method_is_one(method: str) -> None:
    """All of RFC 5546 §1.4."""
    found = calendar(changed(ICS, "METHOD:REQUEST", f"METHOD:{method}"))

    assert found is not None
    assert method == found.method


@pytest.mark.parametrize(
    "change",
    [
        ("SUMMARY:Garden party\n", "SUMMARY:Gar\n den\n\t party\n"),
        ("BEGIN:VEVENT", "begin:vevent"),
        (
            "SUMMARY:Garden party\n",
            "X-ALT-DESC;FMTTYPE=text/html:" + "x" * 20_000 + "\nSUMMARY:Garden party\n",
        ),
        ("DESCRIPTION:We", 'DESCRIPTION;ALTREP="data:text/html,<p>We":We'),
        ("UID:abc@google.example\n", "UID:abc@google.example\nCOMMENT:x\nCOMMENT:y\nCATEGORIES:a,b\n"),
        ("SUMMARY:Garden party\n", ""),
        ("SEQUENCE:0", "SEQUENCE:0\n" + ("COMMENT:" + "x" * 1900 + "\n") * 2 + "PRIORITY:1"),
        ("SEQUENCE:0", "URL:https://x.example/data:1\nCONFERENCE;VALUE=URI:https://x.example\nSEQUENCE:0"),
    ],
)
def test_calendar_of_a_legal_variant_is_one(change: tuple[str, str]) -> None:
    """Folded lines, letter case and the long forms of Outlook and Thunderbird are read (RFC 5545 §3.1)."""
    assert calendar(changed(ICS, *change)) is not None


def test_calendar_of_a_time_zone_alone_is_none() -> None:
    """There is an event, a task or a busy time in it, or nothing to be exempt for."""
    text = "BEGIN:VCALENDAR\nPRODID:x\nVERSION:2.0\nMETHOD:PUBLISH\n"

    assert calendar(crlf(text + "BEGIN:VTIMEZONE\nTZID:x\nEND:VTIMEZONE\nEND:VCALENDAR")) is None


@pytest.mark.parametrize("kind", ["VTODO", "VFREEBUSY"])
def test_calendar_of_tasks_and_busy_times_is_one(kind: str) -> None:
    """RFC 5546 §3.3, §3.4."""
    text = "BEGIN:VCALENDAR\nPRODID:x\nVERSION:2.0\nMETHOD:PUBLISH\n"
    text += f"BEGIN:{kind}\nUID:1\nDTSTAMP:20260302T100000Z\nEND:{kind}\nEND:VCALENDAR"

    assert calendar(crlf(text)) == Calendar("PUBLISH", (), (), ())


def test_calendar_folded_inside_of_a_character_is_one() -> None:
    """RFC 5545 §3.1 folds octets: a character of UTF-8 may be divided (B9)."""
    folded = ICS.replace(b"Garden", "Gärten".encode().replace(b"\xc3\xa4", b"\xc3\r\n \xa4"))
    found = calendar(folded)

    assert found is not None
    assert ("Gärten party",) == found.summaries


_CHANGES = {
    "prose before": ("BEGIN:VCALENDAR", f"{SECRET}\nBEGIN:VCALENDAR"),
    "prose behind": ("END:VCALENDAR\n", f"END:VCALENDAR\n{SECRET}\n"),
    "property behind": ("END:VCALENDAR\n", f"END:VCALENDAR\nX-NOTE:{SECRET}\n"),
    "prose inside": ("SEQUENCE:0", f"{SECRET}\nSEQUENCE:0"),
    "second calendar": ("END:VCALENDAR\n", "END:VCALENDAR\nBEGIN:VCALENDAR\nEND:VCALENDAR\n"),
    "calendar inside": ("BEGIN:VEVENT", "BEGIN:VCALENDAR\nEND:VCALENDAR\nBEGIN:VEVENT"),
    "not closed": ("END:VCALENDAR\n", ""),
    "event not closed": ("END:VEVENT\n", ""),
    "closed crosswise": ("END:VALARM\nEND:VEVENT\n", "END:VEVENT\nEND:VALARM\n"),
    "closed too often": ("END:VEVENT\n", "END:VEVENT\nEND:VEVENT\n"),
    "no version": ("VERSION:2.0\n", ""),
    "other version": ("VERSION:2.0", "VERSION:1.0"),
    "no product": ("PRODID:-//Google Inc//Google Calendar 70.9054//EN\n", ""),
    "no method": ("METHOD:REQUEST\n", ""),
    "two methods": ("METHOD:REQUEST\n", "METHOD:REQUEST\nMETHOD:CANCEL\n"),
    "unknown method": ("METHOD:REQUEST", "METHOD:MERGER"),
    "no uid": ("UID:abc@google.example\n", ""),
    "empty uid": ("UID:abc@google.example", "UID:"),
    "two uids": ("UID:abc@google.example\n", "UID:abc@google.example\nUID:b\n"),
    "no stamp": ("DTSTAMP:20260302T100000Z\n", ""),
    "prose as stamp": ("DTSTAMP:20260302T100000Z", f"DTSTAMP:{SECRET}"),
    "digits of another script": ("DTSTAMP:20260302T100000Z", "DTSTAMP:2026030٢T100000Z"),
    "unknown property": ("SEQUENCE:0", f"SEQUENCE:0\nNOTE:{SECRET}"),
    "unknown component": ("BEGIN:VALARM", "BEGIN:X-NOTE\nEND:X-NOTE\nBEGIN:VALARM"),
    "journal": ("BEGIN:VEVENT", "BEGIN:VJOURNAL\nEND:VJOURNAL\nBEGIN:VEVENT"),
    "event in an event": ("BEGIN:VALARM", "BEGIN:VEVENT\nEND:VEVENT\nBEGIN:VALARM"),
    "two names": ("SUMMARY:Garden party", "SUMMARY:Garden party\nSUMMARY:Other"),
    "attachment": ("SEQUENCE:0", "SEQUENCE:0\nATTACH;FMTTYPE=application/pdf:https://x.example/a.pdf"),
    "file": ("SEQUENCE:0", "SEQUENCE:0\nX-FILE;VALUE=BINARY;ENCODING=BASE64:JVBERi0="),
    "file without its encoding": ("DESCRIPTION:We", "DESCRIPTION;VALUE=BINARY:We"),
    "many lines": ("SEQUENCE:0", "SEQUENCE:0\n" + "CLASS:\n" * 5001 + "TRANSP:"),
    "file in a known property": ("DESCRIPTION:We", "DESCRIPTION;ENCODING=BASE64:We"),
    "long name": ("SUMMARY:Garden party", "SUMMARY:" + "Garden party" * 200),
    "long description": ("DESCRIPTION:We", "DESCRIPTION:" + "We" * 17_000),
    "many extensions": ("SEQUENCE:0", "SEQUENCE:0\n" + "X-A:x\n" * (MAX_EXTENSION_CHARS + 1) + "X-B:y"),
    "large extensions": ("SEQUENCE:0", "SEQUENCE:0\n" + f"X-A:{'x' * 1500}\n" * 3 + "X-B:y"),
    "extensions of parameters": (
        "SEQUENCE:0",
        "SEQUENCE:0\n" + f'X-A;X-B="{"x" * 1500}":y\n' * 3 + "PRIORITY:1",
    ),
    "many comments": (
        "SEQUENCE:0",
        "SEQUENCE:0\n" + f"COMMENT:{'x' * 1000}\n" * (MAX_NOTE_CHARS // 1000 + 1) + "PRIORITY:1",
    ),
    "comments and contacts": (
        "SEQUENCE:0",
        "SEQUENCE:0\n" + f"COMMENT:{'x' * 1000}\nCONTACT;X-B={'x' * 1000}:y\n" * 3 + "PRIORITY:1",
    ),
    "file as an address": ("SEQUENCE:0", "SEQUENCE:0\nURL:data:application/pdf;base64,JVBERi0="),
    "file as a conference": ("SEQUENCE:0", "SEQUENCE:0\nCONFERENCE;VALUE=URI: DATA:text/plain,x"),
    "file as a person": ("SEQUENCE:0", "SEQUENCE:0\nATTENDEE:data:text/plain,x"),
    "file in a parameter": ("LOCATION:Room 5", 'LOCATION;ALTREP="data:application/pdf,x":Room 5'),
    "file in a list of parameters": ("LOCATION:Room 5", 'LOCATION;X="a"," data:application/pdf,x":Room 5'),
    "file as a description": ("DESCRIPTION:We", 'DESCRIPTION;ALTREP="data:application/pdf;base64,x":We'),
    "encoded as a description": ("DESCRIPTION:We", 'DESCRIPTION;ALTREP="data:text/html;base64,x":We'),
    "file in HTML": ("SEQUENCE:0", 'X-ALT-DESC;FMTTYPE=text/html:<a href="\\ndata:x">y</a>\nSEQUENCE:0'),
    "control characters": ("Garden party", "Garden\x01party"),
    "open quotes": ("CN=bob@example.com", 'CN="bob@example.com'),
    "empty line": ("SEQUENCE:0", "\nSEQUENCE:0"),
    "folded first line": ("BEGIN:VCALENDAR\n", " \nBEGIN:VCALENDAR\n"),
    "too large": ("SEQUENCE:0", "SEQUENCE:0\n" + ("COMMENT:" + "x" * 1900 + "\n") * 40 + "CLASS:PUBLIC"),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_calendar_with_anything_else_is_none(change: tuple[str, str]) -> None:
    """Balanced, complete, of known parts and moderate size, or no calendar object (RFC 5545 §3.4)."""
    assert calendar(changed(ICS, *change)) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        SECRET.encode(),
        b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n",
        b"\xff" + ICS,
        ICS.replace(b"\r\n", b"\n"),
        ICS.replace(b"Garden party", b"Gart\xfcn"),
        b" " * (MAX_BYTES + 1),
    ],
)
def test_calendar_of_no_event_or_other_octets_is_none(content: bytes) -> None:
    """UTF-8, CRLF, and at least one event, task or busy time (RFC 5545 §3.1.4, RFC 6047 §2.5)."""
    assert calendar(content) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [("a\\, b\\; c\\\\d", "a, b; c\\d"), ("a\\nb\\Nc", "a\nb\nc"), ("\\\\n", "\\n"), ("a\\", "a\\")],
)
def test_unescape_is_what_is_shown(value: str, expected: str) -> None:
    """RFC 5545 §3.3.11."""
    assert expected == unescape(value)


@given(
    st.lists(
        st.sampled_from([*ICS.decode().split("\r\n"), "X:y", "", " x", "BEGIN:", "END:", ":"]), max_size=40
    )
)
def test_calendar_of_any_lines_raises_nothing(lines: list[str]) -> None:
    """Lines in any order are judged."""
    found = calendar("\r\n".join(lines).encode())

    assert found is None or found.method in METHODS
