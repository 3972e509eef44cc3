"""The canary: under strace, no submitted text goes to a socket or a file, however it is encoded."""

from __future__ import annotations

import base64
import quopri
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import strace
from tests.integration.conftest import SENDER, Site, make_site
from tests.network import Authority, wait_for_port
from tests.postfix import Postfix
from tests.strace import Trace

pytestmark = pytest.mark.system

MARKER = b"kX7pQv2mZt9LrB4sWc8NfH3dJ6gT1yUe"
RECIPIENT = "rsa3072@example.com"
LINES = b"The marker is here: " + MARKER + b" and the line goes on.\r\n"
LARGE = LINES * 12_000  # more than goes through the relay's own process


def _message(encoding: str, body: bytes, recipient: str) -> bytes:
    return (
        f"From: <{SENDER}>\r\nTo: <{recipient}>\r\nSubject: canary\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: text/plain; name="{MARKER.decode()}.txt"\r\n'
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode() + body


ENCODED = {
    "7bit": LINES,
    "quoted-printable": quopri.encodestring(LINES.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n"),
    "base64": base64.encodebytes(LINES).replace(b"\n", b"\r\n"),
    "8bit": LARGE,
}


@contextmanager
def _traced(site: Site, folder: Path) -> Iterator[strace.Traced]:
    """The relay under strace, ready for clients."""
    relay = site.relay
    relay.path.write_text(relay.config)
    command = [sys.executable, "-m", "relay", "run", "--config", relay.path]
    with relay.log_path.open("wb") as log, strace.tracing(command, folder, stdout=log, stderr=log) as traced:
        wait_for_port(site.implicit_port)
        yield traced


def _trace_of_submissions(site: Site, recipient: str, folder: Path) -> Trace:
    with _traced(site, folder) as traced:
        outcomes = [
            site.submit(_message(encoding, body, recipient), recipient) for encoding, body in ENCODED.items()
        ]
        assert all(outcome.is_accepted for outcome in outcomes), outcomes
        assert 0 == traced.stop()
        return traced.trace()


@pytest.mark.parametrize("engine", ["sequoia", "gnupg"])
def test_canary_encrypted_mail_shows_the_marker_nowhere(
    engine: str, tmp_path: Path, authority: Authority, inbox: Postfix
) -> None:
    """Only pipes and socket pairs between the relay's own processes (and gpg's stdin) carry plaintext."""
    site = make_site(tmp_path, authority, f"127.0.0.1:{inbox.plain_port}", next_hop_tls="none", engine=engine)

    trace = _trace_of_submissions(site, RECIPIENT, tmp_path / "trace")

    assert [] == [(write.call, write.target) for write in trace.leaks(MARKER)]
    assert [] == [(write.call, write.target) for write in trace.hidden()]
    assert len(ENCODED) == len(inbox.wait_for(len(ENCODED)))


def test_canary_clear_mail_is_seen(tmp_path: Path, authority: Authority, inbox: Postfix) -> None:
    """The control: where a rule releases the message, strace finds the marker on the next hop's socket."""
    site = make_site(tmp_path, authority, f"127.0.0.1:{inbox.plain_port}", next_hop_tls="none")

    trace = _trace_of_submissions(site, "anybody@clear.example", tmp_path / "trace")

    assert ["socket"] == sorted({write.kind for write in trace.leaks(MARKER)})
