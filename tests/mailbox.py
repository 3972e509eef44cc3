"""What mail clients of recipients read and show: a maildir of what arrived, and what was seen on the screen.

The clients are `tests/neomutt.py`, `tests/notmuch.py` and `tests/thunderbird.py`; all open a message by its
Message-ID and answer with `Shown`. A picture of what they showed is kept below `build/artefacts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PICTURES = Path(__file__).parents[1] / "build" / "artefacts" / "clients"
"""Screenshots (`.png`) and screens of terminals (`.txt`), one for each client and message; not in git."""

_OPEN_SECONDS = 30.0
"""The slowest client opens a message in half a second on an idle machine."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An opened message, as its reader sees it."""

    subject: str
    listed: str
    """The Subject in the list of messages, once the message was opened."""
    text: str
    """The body without blank lines, as the client chose to show it."""
    attachments: tuple[str, ...] = ()
    """File names."""
    signature: str = ""
    """What the client says of a signature, in a word of its own; empty where it shows none."""


class MailClient(Protocol):
    """A program that shows mail."""

    def open(self, message_id: str, expected: Shown) -> Shown:
        """Opens a message; waits until `expected` is shown, and returns what is shown in the end."""


def write(maildir: Path, messages: Iterable[bytes]) -> None:
    """Makes a maildir of messages with CRLF line ends; they are stored with LF, as Unix has it."""
    for part in ("cur", "new", "tmp"):
        (maildir / part).mkdir(parents=True)
    for number, message in enumerate(messages):
        (maildir / "cur" / f"{number}.mailbox").write_bytes(message.replace(b"\r\n", b"\n"))


def wait_for(expected: Shown, look: Callable[[], Shown]) -> Shown:
    """Looks until `expected` is seen or its time is over; returns what was seen last."""
    deadline = time.monotonic() + _OPEN_SECONDS
    while (shown := look()) != expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return shown


def picture(client: str, message_id: str, suffix: str) -> Path:
    """Where to keep what `client` showed of a message."""
    (PICTURES / client).mkdir(parents=True, exist_ok=True)
    return PICTURES / client / f"{message_id.partition('@')[0]}{suffix}"
