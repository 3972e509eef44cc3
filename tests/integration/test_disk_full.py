"""A full disk: no message is lost or sent in clear because a file cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import make_site
from tests.network import Authority, wait_for_port
from tests.postfix import Postfix

pytestmark = pytest.mark.system

CONTENT = b"From: sender@example.com\r\nTo: rsa3072@example.com\r\n\r\nx\r\n"


def test_log_that_cannot_be_written_stops_no_mail(
    tmp_path: Path, authority: Authority, inbox: Postfix
) -> None:
    """With standard error on a full disk a message is still encrypted, delivered and answered."""
    site = make_site(tmp_path, authority, f"127.0.0.1:{inbox.plain_port}", next_hop_tls="none")
    site.relay.path.write_text(site.relay.config)
    command = [sys.executable, "-m", "relay", "run", "--config", str(site.relay.path)]
    with (
        Path("/dev/full").open("wb") as full,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=full, stderr=full) as process,
    ):
        wait_for_port(site.implicit_port)

        outcome = site.submit(CONTENT, "rsa3072@example.com")

        process.terminate()
        process.wait(30)
    assert outcome.is_accepted
    (delivered,) = inbox.wait_for(1)
    assert b"BEGIN PGP MESSAGE" in delivered.content
