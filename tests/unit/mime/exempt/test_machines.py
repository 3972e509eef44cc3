"""Tests of `relay.mime.exempt.machines`."""

from __future__ import annotations

import pytest

from relay.mime.exempt.machines import MAX_TEXT_BYTES, is_notice
from relay.mime.headers import parse
from tests.mail import crlf
from tests.unit.mime.exempt.samples import CRON, changed

_ALTERNATIVE = crlf("""\
From: Bob <bob@example.com>
Subject: Out of office
MIME-Version: 1.0
Auto-Submitted: auto-replied
Content-Type: multipart/alternative; boundary=x

--x
Content-Type: text/plain; charset=utf-8

I am away.
--x
Content-Type: text/html; charset=utf-8

<p>I am away.</p>
--x--
""")
_BARE = crlf("From: a@b.example\nSubject: x\nAuto-Submitted: auto-generated\n\ndone\n")


@pytest.mark.parametrize(
    "content",
    [
        CRON,
        _ALTERNATIVE,
        _BARE,
        changed(CRON, "Auto-Submitted: auto-generated", "auto-submitted: Auto-Replied"),
        # RFC 3834 §5, Pigeonhole (B6)
        changed(CRON, "auto-generated", "auto-replied (vacation)"),
        changed(CRON, "auto-generated", 'auto-generated ; owner-email="root@example.org"'),
        changed(CRON, "auto-generated", "auto-generated (rule 5); owner-token=af3NN2pK5dDXI0W"),
        changed(CRON, "backup:", "x" * 60_000 + "\n"),
    ],
)
def test_is_notice_of_one_text_is_one(content: bytes) -> None:
    """A text of a machine, alone or with its HTML, is a notice (RFC 3834 §5)."""
    assert is_notice(parse(content))


_PART = "--x\nContent-Type: text/html"
_CHANGES = {
    "no field": (CRON, "Auto-Submitted: auto-generated\n", ""),
    "no": (CRON, "auto-generated", "no"),
    "comment": (CRON, "auto-generated", f"auto-generated ({'The merger is on Friday. ' * 3})"),
    "two comments": (CRON, "auto-generated", "auto-generated (a) (b)"),
    "words behind": (CRON, "auto-generated", "auto-generated the merger"),
    "long parameter": (CRON, "auto-generated", f'auto-generated; a="{"x" * 101}"'),
    "many parameters": (CRON, "auto-generated", "auto-generated" + "; a=b" * 3),
    "file behind blanks": (CRON, "backup:", "begin\t644 salary.pdf\n"),
    "file in an address": (
        _ALTERNATIVE,
        "<p>I am",
        '<a download="salary.pdf" href="data:application/pdf;base64,JVBERi0=">x</a><p>I am',
    ),
    "unknown word": (CRON, "auto-generated", "auto-notified"),
    "twice": (CRON, "Auto-Submitted: auto-generated\n", "Auto-Submitted: auto-generated\n" * 2),
    "both": (CRON, "Auto-Submitted:", "Auto-Submitted: no\nAuto-Submitted:"),
    "large": (CRON, "backup:", "x" * MAX_TEXT_BYTES),
    "HTML alone": (CRON, "text/plain", "text/html"),
    "file": (CRON, "text/plain; charset=UTF-8", "application/pdf"),
    "named": (CRON, "charset=UTF-8", 'charset=UTF-8; name="salary.txt"'),
    "attachment": (CRON, "Auto-Submitted:", "Content-Disposition: attachment\nAuto-Submitted:"),
    "inline file": (
        CRON,
        "Auto-Submitted:",
        "Content-Disposition: inline; filename=salary.txt\nAuto-Submitted:",
    ),
    "uuencoded file": (CRON, "backup:", "begin 644 salary.pdf\n"),
    "yEnc file": (CRON, "backup:", "=ybegin line=128 size=1 name=salary.pdf\n"),
    "control characters": (CRON, "backup:", "\x01\x02"),
    "other octets than it says": (_BARE, "done", "erledigt: 3 übersprungen"),
    "mixed": (_ALTERNATIVE, "multipart/alternative", "multipart/mixed"),
    "related": (_ALTERNATIVE, "multipart/alternative", "multipart/related"),
    "third part": (_ALTERNATIVE, _PART, f"--x\nContent-Type: text/plain\n\n{_PART}"),
    "file in the alternative": (_ALTERNATIVE, "text/html", "application/pdf"),
    "attachment in the alternative": (
        _ALTERNATIVE,
        _PART,
        "--x\nContent-Disposition: attachment\nContent-Type: text/html",
    ),
    "one part": (_ALTERNATIVE, "\n--x\nContent-Type: text/html; charset=utf-8\n\n", "\n"),
    "other order": (_ALTERNATIVE, "text/plain", "text/html"),
    "encoded alternative": (
        _ALTERNATIVE,
        "Auto-Submitted:",
        "Content-Transfer-Encoding: base64\nAuto-Submitted:",
    ),
}


@pytest.mark.parametrize("change", _CHANGES.values(), ids=_CHANGES)
def test_is_notice_of_anything_else_is_none(change: tuple[bytes, str, str]) -> None:
    """Whatever a person could have sent, or that holds a file, is no notice (D-12)."""
    assert not is_notice(parse(changed(*change)))
