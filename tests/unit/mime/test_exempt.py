"""Tests of `relay.mime.exempt` as a whole: true samples, and what makes any of them ordinary mail."""

from __future__ import annotations

import base64
import gzip
import re
import time
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import MessageRefused
from relay.message import Address
from relay.mime import dsn
from relay.mime.detect import already_encrypted
from relay.mime.exempt import (
    MAX_BYTES,
    MAX_HEADER_BYTES,
    MAX_SUBJECT_BYTES,
    exemptions,
    holds_calendar,
    reduced,
)
from relay.mime.exempt.measure import MAX_TRACE_BYTES
from relay.mime.headers import parse
from relay.rule import Exemption
from tests.mail import crlf
from tests.unit.mime.exempt import samples
from tests.unit.mime.exempt.samples import ALICE, BOB, HERE, changed, exempt


class Sample(NamedTuple):
    """A message of a machine."""

    content: bytes
    sender: Address | None
    kind: Exemption


SAMPLES = {
    "postfix dsn": Sample(samples.POSTFIX_DSN, None, Exemption.DSN),
    "exim dsn": Sample(samples.EXIM_DSN, None, Exemption.DSN),
    "sendmail dsn": Sample(samples.SENDMAIL_DSN, None, Exemption.DSN),
    "exchange dsn": Sample(samples.EXCHANGE_DSN, None, Exemption.DSN),
    "thunderbird mdn": Sample(samples.THUNDERBIRD_MDN, None, Exemption.MDN),
    "outlook mdn": Sample(samples.OUTLOOK_MDN, None, Exemption.MDN),
    "thunderbird receipt": Sample((HERE / "thunderbird-receipt.eml").read_bytes(), ALICE, Exemption.MDN),
    "feedback": Sample(samples.FEEDBACK, ALICE, Exemption.FEEDBACK),
    "tls report": Sample(samples.tls_report(), BOB, Exemption.TLS_REPORT),
    "tls report in clear": Sample(samples.tls_report(kind="json"), None, Exemption.TLS_REPORT),
    "google invitation": Sample(samples.google_invitation(), ALICE, Exemption.CALENDAR),
    "nextcloud invitation": Sample(samples.nextcloud_invitation(), ALICE, Exemption.CALENDAR),
    "outlook invitation": Sample(samples.outlook_invitation(), ALICE, Exemption.CALENDAR),
    "bare calendar": Sample(samples.bare_calendar(), ALICE, Exemption.CALENDAR),
    "wkd": Sample((HERE / "wkd-confirmation-request.eml").read_bytes(), ALICE, Exemption.WKD),
    "cron": Sample(samples.CRON, None, Exemption.NULL_SENDER),
    "list": Sample(samples.LIST, samples.LIST_SENDER, Exemption.LIST),
}
MULTIPART = {name: one for name, one in SAMPLES.items() if b"multipart/" in one.content}


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_exemptions_of_a_true_sample_are_its_kind(sample: Sample) -> None:
    """What the programs of each kind write is recognised, and as nothing else (D-09, D-11, D-13, D-14)."""
    assert {sample.kind} == exempt(sample.content, sample.sender)


def test_exemptions_of_our_own_report_are_those_of_a_dsn() -> None:
    """What `relay.mime.dsn` writes is a delivery report by the same measure."""
    report = dsn.failure(
        sender=BOB,
        failed=[(ALICE, 550, "5.1.1"), (BOB, 451, "")],
        outer_header=b"From: bob@example.com\r\nSubject: Lunch\r\n",
        hostname="relay.example.org",
        id="T1",
        date="Mon, 2 Mar 2026 11:00:00 +0000",
        message_id="<dsn1@relay.example.org>",
    )

    assert {Exemption.DSN} == exempt(report.header + b"\r\n" + report.body)


def test_exemptions_of_a_text_without_mime_are_those_of_a_notice() -> None:
    """A message from before MIME is text in ASCII; with fields of MIME it is in doubt."""
    notice = crlf("From: a@b.example\nAuto-Submitted: auto-generated\n\ndone\n")

    assert {Exemption.NULL_SENDER} == exempt(notice)
    assert set() == exempt(b"Content-Type: text/plain\r\n" + notice)


def test_exemptions_of_apple_mail_are_those_of_anybody() -> None:
    """A short comment behind the version of MIME is what Apple Mail writes."""
    content = changed(samples.bare_calendar(), "MIME-Version: 1.0", "Mime-Version: 1.0 (Mac OS X Mail 16.0)")

    assert {Exemption.CALENDAR} == exempt(content, ALICE)


@pytest.mark.parametrize("name", ["submission", "confirmation-response", "published"])
def test_exemptions_of_encrypted_wkd_mail_are_none(name: str) -> None:
    """The other three messages of a key submission are PGP/MIME, and pass as that (D-14)."""
    content = (HERE / f"wkd-{name}.eml").read_bytes()

    assert already_encrypted(parse(content)) is not None
    assert set() == exempt(content, ALICE)


# --------------------------------------------------------------------------- attacks on any kind

_TYPE = re.compile(rb"^(Content-Type: [a-z]+/[a-z]+)((?:;[^\r\n]*(?:\r\n[ \t][^\r\n]*)*)?)\r\n", re.M | re.I)
_PROSE = "The merger is on Friday.\n"


def _typed(content: bytes, name: bytes = rb"\1", parameters: bytes = rb"\2", more: bytes = b"") -> bytes:
    found, count = _TYPE.subn(name + parameters + rb"\r\n" + more, content, count=1)
    assert count
    return found


def _with_field(content: bytes, field: str) -> bytes:
    return field.replace("\n", "\r\n").encode() + content


def _wrapped(content: bytes, footer: str) -> bytes:
    """The message as the first part of multipart/mixed, under its own header."""
    header, _, body = content.partition(b"\r\n\r\n")
    found = _TYPE.search(header + b"\r\n")
    assert found
    outer = (header + b"\r\n").replace(found[0], b"Content-Type: multipart/mixed; boundary=WRAP\r\n")
    end = f"\r\n--WRAP\r\nContent-Type: text/plain\r\n\r\n{footer.strip()}" if footer else ""
    return outer + b"\r\n--WRAP\r\n" + found[0] + b"\r\n" + body + end.encode() + b"\r\n--WRAP--\r\n"


def _base64(content: bytes) -> bytes:
    header, _, body = content.partition(b"\r\n\r\n")
    lines = base64.encodebytes(body).replace(b"\n", b"\r\n")
    return header + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n" + lines


_ON_HEADER = {
    "second type in front": lambda c: _with_field(c, "Content-Type: text/plain\n"),
    "second type behind": lambda c: _typed(c, more=b"Content-Type: text/plain\r\n"),
    "no MIME": lambda c: c.replace(b"MIME-Version: 1.0\r\n", b""),
    "MIME twice": lambda c: _with_field(c, "MIME-Version: 1.0\n"),
    "other MIME": lambda c: c.replace(b"MIME-Version: 1.0\r\n", b"MIME-Version: 2.0\r\n"),
    "words behind MIME": lambda c: c.replace(b"MIME-Version: 1.0\r\n", b"MIME-Version: 1.0 Friday\r\n"),
    "prose in MIME": lambda c: c.replace(
        b"MIME-Version: 1.0\r\n", b"MIME-Version: 1.0 (" + _PROSE.strip().encode() * 3 + b")\r\n"
    ),
    "comments": lambda c: _with_field(c, f"Comments: {_PROSE}"),
    "keywords": lambda c: _with_field(c, f"Keywords: {_PROSE}"),
    "long header": lambda c: _with_field(c, f"X-Note: {_PROSE}" * (MAX_HEADER_BYTES // 30)),
    "long trace": lambda c: _with_field(c, f"Received: {'x' * 900}\n" * (MAX_TRACE_BYTES // 900)),
    "long hop": lambda c: _with_field(c, f"Received: {'x' * 1000}\n {'x' * 1000}\n {'x' * 100}\n"),
    "many hops": lambda c: _with_field(c, "Received: x\n" * 51),
    "long subject": lambda c: re.sub(rb"^Subject: ", b"Subject: " + b"x" * MAX_SUBJECT_BYTES, c, flags=re.M),
    "second long subject": lambda c: _with_field(c, f"Subject: {'x' * MAX_SUBJECT_BYTES}\n"),
}
_ON_TYPE = {
    "comment": lambda c: _typed(c, name=rb"\1 (The merger is on Friday.)"),
    "comment behind": lambda c: _typed(c, parameters=rb"\2 (The merger is on Friday.)"),
    "unknown parameter": lambda c: _typed(c, parameters=rb'\2; note="The merger is on Friday."'),
    "duplicated parameter": lambda c: _typed(c, parameters=rb"; boundary=xyz\2"),
    "parameter twice by RFC 2231": lambda c: _typed(c, parameters=rb"\2; boundary*=us-ascii''xyz"),
    "RFC 2231": lambda c: _typed(c, parameters=rb"\2; name*=us-ascii''xyz"),
    "long type": lambda c: _typed(c, parameters=rb'\2; name="' + b"x" * 500 + rb'"'),
    "label without parameters": lambda c: _typed(c, parameters=b""),
    "whole body in base64": _base64,
    "nested alone": lambda c: _wrapped(c, ""),
    "nested with a footer": lambda c: _wrapped(c, _PROSE),
    "huge": lambda c: changed(c, "\n\n", "\n\n" + "\n" * MAX_BYTES),
}
_HARMLESS = {
    ("label without parameters", "cron"),  # text in ASCII
    ("whole body in base64", "cron"),
    ("whole body in base64", "bare calendar"),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("attack", _ON_HEADER)
def test_exemptions_with_an_odd_header_are_none(attack: str, name: str) -> None:
    """A header in which MIME is in doubt, or in which there is much text, exempts nothing."""
    content = _ON_HEADER[attack](SAMPLES[name].content)

    assert set() == exempt(content, SAMPLES[name].sender)


_ODD_TYPES = [
    (attack, name)
    for attack in _ON_TYPE
    for name in SAMPLES
    if name != "list" and (attack, name) not in _HARMLESS
]


@pytest.mark.parametrize(("attack", "name"), _ODD_TYPES)
def test_exemptions_under_an_odd_type_are_none(attack: str, name: str) -> None:
    """A type that says more or less than it has to, or that stands for something else, exempts nothing."""
    content = _ON_TYPE[attack](SAMPLES[name].content)

    assert set() == exempt(content, SAMPLES[name].sender)


def _close(content: bytes) -> bytes:
    """The line of the outer close delimiter."""
    return re.findall(rb"\r\n(--[^\r\n]+--)\r\n", content)[-1]


def _more_parts(content: bytes, part: str, at: str) -> bytes:
    """With one more part, at the end or in front."""
    close = _close(content)
    more = close[:-2] + b"\r\n" + part.replace("\n", "\r\n").encode() + b"\r\n"
    place = content.rindex(close) if at == "end" else content.index(close[:-2] + b"\r\n")
    return content[:place] + more + content[place:]


_IN_PARTS = {
    "preamble": lambda c: changed(c, "\n\n", f"\n\n{_PROSE}\n"),
    "preamble beside the usual words": lambda c: changed(
        c, "\n\n", f"\n\nThis is a MIME-encapsulated message.\n{_PROSE}\n"
    ),
    "epilogue": lambda c: c + _PROSE.replace("\n", "\r\n").encode(),
    "epilogue of blanks": lambda c: c + b"\r\n" * 20,
    "no close": lambda c: c.replace(_close(c), b""),
    "words behind the close": lambda c: c.replace(_close(c), _close(c) + b" Friday"),
    "second message behind the close": lambda c: (
        c + _close(c)[:-2] + b"\r\n\r\nFriday\r\n" + _close(c) + b"\r\n"
    ),
    "one more part": lambda c: _more_parts(c, f"Content-Type: text/plain\n\n{_PROSE}", "end"),
    "empty part": lambda c: _more_parts(c, "Content-Type: text/plain\n\n", "end"),
    "file": lambda c: _more_parts(c, "Content-Type: application/pdf\n\nJVBERi0=", "end"),
    "part in front": lambda c: _more_parts(c, f"Content-Type: text/plain\n\n{_PROSE}", "front"),
}


@pytest.mark.parametrize("name", MULTIPART)
@pytest.mark.parametrize("attack", _IN_PARTS)
def test_exemptions_with_something_beside_the_parts_are_none(attack: str, name: str) -> None:
    """Text before, between or behind the parts, or a part that does not belong there, exempts nothing."""
    content = _IN_PARTS[attack](MULTIPART[name].content)

    assert set() == exempt(content, MULTIPART[name].sender)


_FIELDS = {
    "field of text": f"X-Note: {_PROSE}",
    "subject": f"Subject: {_PROSE}",
    "second type": "Content-Type: text/plain\n",
    "long description": f"Content-Description: {_PROSE.strip() * 5}\n",
    "two descriptions": "Content-Description: The\nContent-Description: merger\n",
    "second encoding": "Content-Transfer-Encoding: 7bit\nContent-Transfer-Encoding: base64\n",
    "unknown encoding": "Content-Transfer-Encoding: x-uuencode\n",
    "comment in the disposition": "Content-Disposition: attachment (The merger is on Friday.)\n",
    "text in the disposition": 'Content-Disposition: attachment; note="The merger is on Friday."\n',
    "words as disposition": "Content-Disposition: the-merger-is-on-friday\n",
    "long file name": f'Content-Disposition: attachment; filename="{"x" * 1500}"\n',
}


@pytest.mark.parametrize("name", MULTIPART)
@pytest.mark.parametrize("field", _FIELDS)
def test_exemptions_with_an_odd_field_in_any_part_are_none(field: str, name: str) -> None:
    """No part has a field with text of its own, or one that makes its content something else."""
    content, delimiter = MULTIPART[name].content, _close(MULTIPART[name].content)[:-2] + b"\r\n"
    places = [found.end() for found in re.finditer(re.escape(delimiter), content)]
    added = _FIELDS[field].replace("\n", "\r\n").encode()

    if name == "sendmail dsn" and field == "second type":  # its first part has none
        places = places[1:]
    found = [exempt(content[:place] + added + content[place:], MULTIPART[name].sender) for place in places]

    assert [set()] * len(places) == found


@pytest.mark.parametrize("name", MULTIPART)
def test_exemptions_of_a_multipart_that_is_called_text_are_not_its_kind(name: str) -> None:
    """Without its type a report is words; with the null sender it may be a notice, and nothing else."""
    content = _typed(MULTIPART[name].content, name=b"Content-Type: text/plain", parameters=b"")

    assert exempt(content, MULTIPART[name].sender) <= {Exemption.NULL_SENDER}


@pytest.mark.parametrize("name", [name for name, one in SAMPLES.items() if one.sender is None])
def test_exemptions_with_an_envelope_sender_are_none(name: str) -> None:
    """Delivery reports, read receipts and notices come from the null sender (RFC 3464 §2, RFC 8098 §3)."""
    kinds = exempt(SAMPLES[name].content, BOB)

    assert kinds <= {Exemption.TLS_REPORT}


def test_exemptions_of_list_mail_from_the_null_sender_are_none() -> None:
    """A list has an envelope sender to which errors go."""
    assert set() == exempt(samples.LIST, None)


# --------------------------------------------------------------------------- any bytes


def _check(content: bytes, sender: Address | None) -> None:
    """Nothing is raised, and what is reduced is a message still."""
    try:
        message = parse(content)
    except MessageRefused:
        return
    exemptions(message, sender, frozenset())
    parse(reduced(message).content)


@given(st.binary(max_size=600))
@settings(max_examples=300, deadline=None)
def test_exemptions_of_any_bytes_raise_nothing(data: bytes) -> None:
    """Whatever is sent is judged."""
    _check(data, None)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_exemptions_of_altered_samples_raise_nothing(data: st.DataObject) -> None:
    """What is almost a message of a machine is judged, too."""
    sample = data.draw(st.sampled_from(list(SAMPLES.values())))
    content = bytearray(sample.content)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 30))
        content[at : at + length] = data.draw(
            st.binary(max_size=5)
            | st.sampled_from([b"\r\n", b"\r\n\r\n", b":", b";", b"--", b'"', b"\\", b"=", b"\xff"])
        )

    _check(bytes(content), sample.sender)


def _nested(kind: str, levels: int) -> bytes:
    heads = "".join(f"Content-Type: {kind}; boundary=b{level}\n\n--b{level}\n" for level in range(levels))
    return crlf("MIME-Version: 1.0\n" + heads)


_HOSTILE = {
    "nested mixed": _nested("multipart/mixed", 25_000),
    "nested alternative": _nested("multipart/alternative", 22_000),
    "nested reports": _nested("multipart/report; report-type=delivery-status", 13_000),
    "delimiters": crlf(
        "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n" + "--b\n\n" * 150_000
    ),
    "groups": samples.POSTFIX_DSN.replace(b"Arrival-Date", b"\r\n" * 500_000 + b"Arrival-Date"),
    "fields": samples.POSTFIX_DSN.replace(b"Arrival-Date", b"X-A: b\r\n" * 130_000 + b"Arrival-Date"),
    "folds": samples.POSTFIX_DSN.replace(b"    rejected", b"\r\n \t " * 200_000 + b" rejected"),
    "header of an original": samples.POSTFIX_DSN.replace(
        b"Subject: Lunch", b"Subject: x" + b"\r\n x" * 250_000
    ),
    "lines of a calendar": samples.bare_calendar(samples.ICS.replace(b"SEQUENCE:0", b"X:\r\n" * 250_000)),
    "components": samples.bare_calendar(b"BEGIN:VEVENT\r\n" * 60_000),
    "parameters": samples.bare_calendar(samples.ICS.replace(b"SEQUENCE:0", b'A;B="' + b'",";' * 15_000)),
    "tags": samples.google_invitation().replace(b"<body>", b"<" * 60_000),
    "styles": samples.google_invitation().replace(b"<body>", b"<style>" * 8_000),
    "entities": samples.google_invitation().replace(b"<body>", b"&amp" * 15_000),
    "references": samples.google_invitation().replace(b"<body>", b"&#" + b"9" * 60_000 + b";"),
    "references in hexadecimal": samples.google_invitation().replace(b"<body>", b"&#x" + b"9" * 60_000),
    "json of a long number": samples.tls_report(packed=b'{"a": ' + b"9" * 190_000 + b"}", kind="json"),
    "blanks behind a boundary": crlf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b")
    + b" " * 20_000_000
    + b"x\r\n",
    "lines almost delimiters": crlf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n")
    + b"--bx\r\n" * 3_000_000,
    "blanks": samples.google_invitation().replace(b"<body>", b" " * 60_000),
    "json": samples.tls_report(packed=b"[" * 200_000, kind="json"),
    "digits": samples.tls_report(packed=b"9" * 190_000, kind="json"),
    "equals": samples.CRON.replace(b"8bit", b"quoted-printable") + b"=" * 200_000,
    "list id": samples.LIST.replace(b"<garden.", b"<" + b"a." * 10_000),
}


@pytest.mark.parametrize("content", _HOSTILE.values(), ids=_HOSTILE)
def test_exemptions_of_a_hostile_megabyte_take_bounded_time(content: bytes) -> None:
    """Neither nesting, nor repetition, nor what makes patterns go back costs more than its length."""
    message = parse(content)
    start = time.perf_counter()

    found = [exemptions(message, sender, frozenset()) for sender in (None, ALICE)]
    holds_calendar(message)

    assert len(found) == 2
    assert time.perf_counter() - start < 2


def test_exemptions_of_a_report_with_a_letter_in_every_field_are_none() -> None:
    """Each place where a letter could stand has a limit of its own (A6)."""
    prose = b"This is an ordinary sentence of a letter. " * 20 + b"\r\n "
    places = {
        b"I'm sorry": prose * 20 + b"\r\n",
        b"Subject: Undelivered": b"X-Note: " + prose * 10 + b"\r\n",
        b"Received: by": b"Received: " + prose * 3 + b"\r\n",
        b"From: Bob": b"X-Note: " + prose * 20 + b"\r\n",
    }

    for place, text in places.items():
        assert 1 == samples.POSTFIX_DSN.count(place)
        assert set() == exempt(samples.POSTFIX_DSN.replace(place, text + place))


def test_exemptions_unpack_no_bomb() -> None:
    """A file that unpacks to far more than it is, is given up at the limit."""
    bomb = gzip.compress(b" " * 200_000_000, compresslevel=9, mtime=0)

    assert len(bomb) < MAX_BYTES
    assert set() == exempt(samples.tls_report(packed=bomb), BOB)
