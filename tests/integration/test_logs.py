"""What the relay writes about mail: everything at DEBUG, and never the mail (O-01, O-02)."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.integration.conftest import LOGIN, SENDER, Site, make_site
from tests.network import Authority
from tests.postfix import Postfix

pytestmark = pytest.mark.system

MARKER = "qW8rT2yU6iO1pA5sD9fG"
RECIPIENT = "rsa3072@example.com"
CONTENT = (
    f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: {MARKER}\r\nX-Odd: {MARKER}\r\nMIME-Version: 1.0\r\n"
    f'Content-Type: text/plain; name="{MARKER}.txt"\r\n\r\n{MARKER}\r\n'
).encode()
BROKEN = [
    CONTENT.replace(b"X-Odd: ", b"X-Odd "),
    CONTENT.replace(b"Subject", b"From"),
    CONTENT + MARKER.encode() + b"\n\r\n",
    CONTENT.replace(b"From:", b"Fr\0m:"),
    b"From: " + MARKER.encode() + b"\r\n\r\n",
]


@pytest.mark.parametrize("engine", ["sequoia", "gnupg"])
def test_logs_at_debug_never_hold_mail_or_credentials(
    engine: str, tmp_path: Path, authority: Authority, inbox: Postfix
) -> None:
    """A marker in subject, body, file name, unknown fields and passwords is in no line, whatever happens."""
    site = make_site(tmp_path, authority, f"127.0.0.1:{inbox.plain_port}", next_hop_tls="none", engine=engine)
    with site.relay:
        assert site.submit(CONTENT, RECIPIENT).is_accepted
        assert site.submit(CONTENT, "a@clear.example").is_accepted
        for content in BROKEN:
            assert not site.submit(content, RECIPIENT).is_accepted
        assert not site.submit(CONTENT, RECIPIENT, "nokey@example.com", "a@clear.example").is_accepted
        assert not site.submit(CONTENT, RECIPIENT, login=(LOGIN[0], MARKER)).is_accepted

    log = site.relay.log
    assert site.relay.events("copy_delivered")
    assert site.relay.events("message_refused")
    assert MARKER not in log
    assert base64.b64encode(MARKER.encode()).decode()[:24] not in log
    assert LOGIN[1] not in log


def test_logs_share_the_id_with_the_reply(tmp_path: Path, authority: Authority, inbox: Postfix) -> None:
    """The id in the reply finds the lines of that message."""
    site: Site = make_site(tmp_path, authority, f"127.0.0.1:{inbox.plain_port}", next_hop_tls="none")
    with site.relay:
        accepted = site.submit(CONTENT, RECIPIENT)
        refused = site.submit(CONTENT, "nokey@example.com")

    (delivered,) = site.relay.events("copy_delivered")
    (refusal,) = site.relay.events("recipient_refused")
    assert str(delivered["id"]) in accepted.final.text
    assert str(refusal["id"]) in refused.to("rcpt")[0].text
