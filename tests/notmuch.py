"""A real notmuch with GnuPG behind it: it decrypts mail and says in JSON what a reader is to see."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import mailbox
from tests.mailbox import Shown
from tests.programs import require

_CONFIG = """\
[database]
path={maildir}
[user]
name=Reader
primary_email={address}
[index]
decrypt=true
"""
_LIMIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Notmuch:
    """A database of one maildir."""

    home: Path
    gnupg: Path

    def run(self, *arguments: str) -> str:
        """What a command of notmuch prints."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "GNUPGHOME": str(self.gnupg),
            "NOTMUCH_CONFIG": str(self.home / "config"),
            "LC_ALL": "C.UTF-8",
        }
        command = [require("notmuch"), *arguments]
        done = subprocess.run(
            command, env=environment, check=True, capture_output=True, timeout=_LIMIT_SECONDS
        )
        return done.stdout.decode()

    def open(self, message_id: str, _expected: Shown) -> Shown:
        """Reads one message; see `mailbox.MailClient`. The signature is `good`, `bad` or `error`."""
        output = self.run("show", "--format=json", "--decrypt=true", f"id:{message_id}")
        mailbox.picture("notmuch", message_id, ".json").write_text(output, "utf-8")
        [[[message, _]]] = json.loads(output)
        [listed] = json.loads(self.run("search", "--format=json", f"id:{message_id}"))
        parts = [part for root in message["body"] for part in _leaves(root)]
        texts = [part["content"] for part in parts if part["content-type"] == "text/plain"]
        verdicts = [found["status"] for root in message["body"] for found in _signatures(root)]
        return Shown(
            subject=message["headers"]["Subject"],
            listed=listed["subject"],
            text="\n".join(line for text in texts for line in text.split("\n") if line),
            attachments=tuple(part["filename"] for part in parts if "filename" in part),
            signature="".join(verdicts),
        )


def make(home: Path, messages: Sequence[bytes], gnupg: Path, address: str) -> Notmuch:
    """A database in `home` of these messages, read once: the index holds what is inside."""
    mailbox.write(home / "mail", messages)
    (home / "config").write_text(_CONFIG.format(maildir=home / "mail", address=address))
    made = Notmuch(home, gnupg)
    made.run("new")
    return made


def _all(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A part and everything in it; what is encrypted stands in for its envelope."""
    yield part
    content = part.get("content")
    for child in content if isinstance(content, list) else ():
        yield from _all(child)


def _leaves(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is to be read: no envelopes, no signatures."""
    envelopes = ("multipart/", "application/pgp-")
    return (part for part in _all(root) if not part["content-type"].startswith(envelopes))


def _signatures(root: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (verdict for part in _all(root) for verdict in part.get("sigstatus", ()))
