"""The corpus itself: it is complete, listed, and its secrets are found in whatever form they stand."""

from __future__ import annotations

import base64
import re

import pytest

from tests import corpus

_TOKEN = "mk0123456789abcdef01234567x"
_BASE64 = base64.b64encode(f"see {_TOKEN}".encode()).decode()
_FORMS = {
    "raw": f"Subject: {_TOKEN}\n\n",
    "capitals": f"X-A: {_TOKEN.upper()}\n\n",
    "folded inside": f"X-A: {_TOKEN[:9]}\n {_TOKEN[9:]}\n\n",
    "words in Q": f"X-A: =?utf-8?Q?{_TOKEN[:9]}?=\n =?iso-8859-1?q?{_TOKEN[9:]}?=\n\n",
    "word in B": f"X-A: =?utf-8?B?{_BASE64}?=\n\n",
    "base64 in a field": f"X-A: {_BASE64}\n\n",
    "quoted-printable in a field": f"DKIM-Signature: z=Subject:=6Dk{_TOKEN[2:9]}\n {_TOKEN[9:]}\n\n",
    "file name": f"Content-Type: a/b; name*0={_TOKEN[:9]};\n name*1={_TOKEN[9:]}\n\n",
    "file name with charset": f"Content-Disposition: a; filename*=utf-8''%6Dk{_TOKEN[2:]}\n\n",
    "file name in a word": f'Content-Type: a/b; name="=?utf-8?B?{_BASE64}?="\n\n',
    "base64": f"Content-Transfer-Encoding: base64\n\n{_BASE64}\n",
    "base64 without a label": f"\n\n{_BASE64[:16]}\n{_BASE64[16:]}\n",
    "quoted-printable": f"Content-Transfer-Encoding: quoted-printable\n\n=6Dk{_TOKEN[2:9]}=\n{_TOKEN[9:]}\n",
    "UTF-16": f"\n\n{base64.b64encode(_TOKEN.encode('utf-16')).decode()}\n",
}
_WITHOUT_MARKER = corpus.ENCRYPTED
"""What the client encrypted shows nothing, and its Subject is its own affair."""


@pytest.mark.parametrize("form", _FORMS)
def test_marker_is_found_in_every_form(form: str) -> None:
    """A secret counts as readable in every form from which a program could show it."""
    content = _FORMS[form].replace("\n", "\r\n").encode()

    assert {_TOKEN.encode()} == corpus.markers(content)


def test_every_message_has_a_marker() -> None:
    """There is something to find in each message that the relay encrypts."""
    without = {name for name, content in corpus.messages() if not corpus.markers(content)}

    assert _WITHOUT_MARKER == without


def test_every_message_is_listed_with_its_origin() -> None:
    """The README names each message, stored or generated, hostile or not, and no other."""
    rows = re.findall(r"^\| ([^|]+) \|", (corpus.FOLDER / "README.md").read_text("utf-8"), re.MULTILINE)
    listed = {name for row in rows for name in row.split(", ")} - {"file", "files"}
    names = {name for name, _ in corpus.messages()} | {name for name, _, _ in corpus.hostile()}

    assert names == listed


def test_stored_messages_are_as_they_travel() -> None:
    """No tool has changed their line ends; only hostile ones have others."""
    changed = [name for name, content in corpus.messages() if content.count(b"\r\n") != content.count(b"\n")]

    assert [] == changed
