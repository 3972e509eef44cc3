"""A real neomutt in a terminal of its own (tmux), with GnuPG behind it: what is seen is read off the screen.

The list of messages stands above the opened message, so that one screen shows both.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests import mailbox
from tests.mailbox import Shown
from tests.programs import require

_SIZE = ("-x", "120", "-y", "60")
_LIMIT_SECONDS = 20

_CONFIG = """\
set folder = "{maildir}"
set spoolfile = "{maildir}"
set mbox_type = Maildir
set header_cache = ""
set charset = utf-8
set crypt_use_gpgme = yes
set crypt_protected_headers_read = yes
set crypt_verify_sig = yes
set index_format = "=> %s"
set pager_index_lines = 4
set nobeep nowait_key nomarkers nohelp
"""

_INDEX_LINE = re.compile(r"^=> (?P<subject>.*)$", re.MULTILINE)
_ENCRYPTED = re.compile(
    r"^\[-- The following data is PGP/MIME (signed and )?encrypted --\]\n"
    r"(?P<inside>.*)"
    r"^\[-- End of PGP/MIME (signed and )?encrypted data --\]$",
    re.MULTILINE | re.DOTALL,
)
_SIGNATURE = re.compile(
    r"^\[-- Begin signature information --\]\n(?P<said>.*?)^\[-- End signature information --\]\n",
    re.MULTILINE | re.DOTALL,
)
_SUBJECT = re.compile(r"^Subject: (?P<subject>.*)\n", re.MULTILINE)
_ATTACHMENT = re.compile(r"^\[-- Attachment #\d+: (?P<name>.+) --\]$", re.MULTILINE)
_VERDICT = re.compile(r"(Good|\*BAD\*) signature")


@dataclass(frozen=True, slots=True)
class Neomutt:
    """neomutt with a maildir, started anew for each message."""

    home: Path
    gnupg: Path
    """A GnuPG home with the reader's secret key."""

    def open(self, message_id: str, expected: Shown) -> Shown:
        """Finds the message and presses Enter; see `mailbox.MailClient`.

        The signature is `Good` or `*BAD*`.
        """
        keys = f"<limit>~i {message_id}<enter><display-message>"
        command = [require("neomutt"), "-n", "-F", str(self.home / "neomuttrc"), "-e", f'push "{keys}"']
        with _terminal(self.home, command, {"GNUPGHOME": str(self.gnupg)}) as screen:
            shown = mailbox.wait_for(expected, lambda: _read(screen()))
            mailbox.picture("neomutt", message_id, ".txt").write_text(screen(), "utf-8")
        return shown


def make(home: Path, messages: Sequence[bytes], gnupg: Path) -> Neomutt:
    """A neomutt whose files are in `home`."""
    mailbox.write(home / "mail", messages)
    (home / "neomuttrc").write_text(_CONFIG.format(maildir=home / "mail"))
    return Neomutt(home, gnupg)


def _read(screen: str) -> Shown:
    """Takes the screen apart; where it does not show an opened message yet, little is found."""
    listed, encrypted = _INDEX_LINE.search(screen), _ENCRYPTED.search(screen)
    inside = encrypted["inside"] if encrypted else ""
    signature = _VERDICT.search(screen) if encrypted else None
    text = _SIGNATURE.sub("", inside)
    subject = _SUBJECT.search(text)
    lines = [line for line in _SUBJECT.sub("", text).split("\n") if line and not line.startswith("[-- ")]
    return Shown(
        subject=subject["subject"] if subject else "",
        listed=listed["subject"] if listed else "",
        text="\n".join(lines),
        attachments=tuple(match["name"] for match in _ATTACHMENT.finditer(inside)),
        signature=signature[1] if signature else "",
    )


class _Screen:
    """The screen of a terminal, line by line without trailing blanks."""

    def __init__(self, tmux: Sequence[str], environment: dict[str, str]) -> None:
        self._command = [*tmux, "capture-pane", "-p"]
        self._environment = environment

    def __call__(self) -> str:
        done = subprocess.run(
            self._command, env=self._environment, check=True, capture_output=True, timeout=_LIMIT_SECONDS
        )
        return "".join(f"{line.rstrip()}\n" for line in done.stdout.decode().split("\n"))


@contextmanager
def _terminal(home: Path, command: Sequence[str], variables: dict[str, str]) -> Iterator[_Screen]:
    """Runs a command in a terminal; at exit the terminal's server ends, and everything in it."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LC_ALL": "C.UTF-8", **variables}
    with (
        tempfile.TemporaryDirectory(prefix="relay-tmux-") as folder,
        ExitStack() as stack,
    ):
        tmux = [require("tmux"), "-S", f"{folder}/socket", "-f", os.devnull]
        server = stack.enter_context(
            subprocess.Popen([*tmux, "-D"], env=environment, stdin=subprocess.DEVNULL)
        )
        stack.callback(server.wait, _LIMIT_SECONDS)
        stack.callback(server.terminate)
        # With -N a client never starts a second server, which would live on.
        start = ["new-session", "-d", "-P", "-F", "#{pane_pid}", *_SIZE]
        pid = _start([*tmux, "-N", *start, *command], environment)
        # The end of its terminal does not end a program that is still starting, nor what that has started.
        stack.callback(_kill_group, pid)
        yield _Screen([*tmux, "-N"], environment)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _start(command: Sequence[str], environment: dict[str, str]) -> int:
    """Repeats the command until the terminal's server listens; returns the id of what runs in it."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while (done := subprocess.run(command, env=environment, check=False, capture_output=True)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.02)
    return int(done.stdout)
