"""Mail clients that are not ours: swaks (a program) and Python's smtplib. They say what the server answered.

Both send the content exactly as given: bytes with CRLF line ends; only dots are stuffed.
"""

from __future__ import annotations

import base64
import re
import smtplib
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.programs import require, unavailable

_TIMEOUT_SECONDS = 60

_SWAKS_REPLY = re.compile(r"^<(?:-|~|\*\*|~\*) +(?P<code>\d{3})(?P<more>[ -])(?P<text>.*)$")
_SWAKS_COMMAND = re.compile(r"^ (?:->|~>) (?P<command>.*)$")
_ENHANCED = re.compile(r"^(?P<status>[245]\.\d{1,3}\.\d{1,3}) (?P<text>.*)$", re.DOTALL)


class Tls(StrEnum):
    """How the client protects its connection; certificates are always verified."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


@dataclass(frozen=True, slots=True)
class Answer:
    """One reply of the server."""

    code: int
    text: str
    """All lines, without code and enhanced status, joined by a line feed."""
    status: str = ""
    """Enhanced status (`5.7.1`), or an empty string."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one submission."""

    answers: tuple[tuple[str, Answer], ...]
    """Every command with its reply, in order; the greeting has an empty command, the content is `.`."""

    @property
    def final(self) -> Answer:
        """The reply that decided: the first refusal of anything but a recipient, else the last reply."""
        for command, answer in self.answers:
            if answer.code >= 400 and not command.upper().startswith("RCPT"):
                return answer
        return self.answers[-1][1]

    @property
    def is_accepted(self) -> bool:
        """Whether the server took responsibility for the content."""
        return any(command == "." and answer.code == 250 for command, answer in self.answers)

    def to(self, verb: str) -> list[Answer]:
        """The replies to one command: `rcpt`, `auth`, `.`."""
        return [answer for command, answer in self.answers if command.upper().startswith(verb.upper())]


def _answer(code: int, lines: Sequence[str]) -> Answer:
    found = [_ENHANCED.match(line) for line in lines]
    status = found[-1]["status"] if found and found[-1] else ""
    texts = [match["text"] if match else line for match, line in zip(found, lines, strict=True)]
    return Answer(code, "\n".join(texts), status)


def swaks(
    port: int,
    content: bytes,
    *,
    sender: str,
    recipients: Sequence[str],
    tls: Tls = Tls.NONE,
    ca_file: Path | None = None,
    login: tuple[str, str] | None = None,
    host: str = "localhost",
    options: Sequence[str] = (),
) -> Outcome:
    """Submits with swaks, the Swiss army knife of SMTP.

    Args:
        options: further arguments of swaks, for example `--pipeline`.
    """
    program = require("swaks")
    if tls is not Tls.NONE and not _perl_has_tls():
        unavailable("swaks cannot do TLS: libnet-ssleay-perl is not installed")
    command = [program, "--server", f"{host}:{port}", "--from", sender or "<>"]
    command += [
        "--to",
        ",".join(recipients),
        "--no-data-fixup",
        "--data",
        "-",
        "--timeout",
        str(_TIMEOUT_SECONDS),
    ]
    command += ["--suppress-data"]  # or the content would stand in the transcript
    if tls is not Tls.NONE:
        command += ["--tls" if tls is Tls.STARTTLS else "--tls-on-connect"]
        command += ["--tls-verify", "--tls-ca-path", str(ca_file)]
    if login:
        command += ["--auth", "PLAIN", "--auth-user", login[0], "--auth-password", login[1]]
    done = subprocess.run(
        [*command, *options],
        input=_stuffed(content),
        capture_output=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    return Outcome(tuple(_transcript(done.stdout.decode(errors="replace"))))


def _perl_has_tls() -> bool:
    probe = subprocess.run(["perl", "-MNet::SSLeay", "-e1"], capture_output=True, check=False)
    return probe.returncode == 0


def _transcript(output: str) -> list[tuple[str, Answer]]:
    """The dialogue of a swaks transcript: ` -> command` and `<-  250-text` lines (`~` under TLS)."""
    dialogue: list[tuple[str, Answer]] = []
    command, lines = "", list[str]()
    for line in output.splitlines():
        if sent := _SWAKS_COMMAND.match(line):
            command = sent["command"] if "lines sent" not in sent["command"] else "."
        elif reply := _SWAKS_REPLY.match(line):
            lines.append(reply["text"])
            if reply["more"] == " ":
                dialogue.append((command, _answer(int(reply["code"]), lines)))
                lines = []
    return dialogue


def submit(
    port: int,
    content: bytes,
    *,
    sender: str,
    recipients: Sequence[str],
    tls: Tls = Tls.NONE,
    ca_file: Path | None = None,
    login: tuple[str, str] | None = None,
    host: str = "localhost",
    options: Sequence[str] = (),
) -> Outcome:
    """Submits with smtplib.

    Args:
        options: parameters of the MAIL command: `SIZE=1000`, `BODY=8BITMIME`, `SMTPUTF8`.
    """
    context = ssl.create_default_context(cafile=ca_file) if ca_file else None
    if tls is Tls.IMPLICIT:
        connection: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT_SECONDS, context=context)
    else:
        connection = smtplib.SMTP(host, port, timeout=_TIMEOUT_SECONDS)
    with connection as client:
        if tls is Tls.STARTTLS:
            client.starttls(context=context)
        if "SMTPUTF8" in options:
            client.command_encoding = "utf-8"
        commands = [" ".join([f"MAIL FROM:<{sender}>", *options])]
        commands += [f"RCPT TO:<{recipient}>" for recipient in recipients]
        return Outcome(tuple(_dialogue(client, content, commands, login)))


def _dialogue(
    client: smtplib.SMTP,
    content: bytes,
    commands: Sequence[str],
    login: tuple[str, str] | None,
) -> Iterator[tuple[str, Answer]]:
    """Every command with its reply, up to the first refusal of anything but one of several recipients."""
    yield "EHLO", _parsed(client.ehlo())
    if login:
        yield "AUTH PLAIN", (answer := _parsed(_login(client, *login)))
        if answer.code != 235:
            return
    accepted = 0
    for command in commands:
        yield command, (answer := _parsed(client.docmd(command)))
        if command.startswith("MAIL") and answer.code >= 400:
            return
        accepted += command.startswith("RCPT") and answer.code < 400
    if accepted:
        yield ".", _parsed(_data(client, content))


def _parsed(reply: tuple[int, bytes]) -> Answer:
    return _answer(reply[0], reply[1].decode("utf-8", "replace").split("\n"))


def _login(client: smtplib.SMTP, user: str, password: str) -> tuple[int, bytes]:
    """AUTH PLAIN in UTF-8 (RFC 4616); smtplib's own login takes ASCII only."""
    secret = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
    return client.docmd("AUTH", f"PLAIN {secret}")


def _data(client: smtplib.SMTP, content: bytes) -> tuple[int, bytes]:
    try:
        return client.data(content)
    except smtplib.SMTPDataError as refused:  # the answer to the DATA command itself
        error = refused.smtp_error
        return refused.smtp_code, error if isinstance(error, bytes) else error.encode()


def _stuffed(content: bytes) -> bytes:
    """The content with dots stuffed and the final dot (RFC 5321 §4.5.2); swaks adds the last CRLF."""
    ended = content if content.endswith(b"\r\n") else content + b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", ended) + b"."
