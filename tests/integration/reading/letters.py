"""The messages that readers open: each kind as a client submits it, sealed by each engine on the line."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from relay.message import Sealed
from relay.mime import armor
from relay.openpgp.gnupg import GnupgEngine
from relay.openpgp.sequoia import SequoiaEngine
from relay.rule import Headers
from relay.seams import Engine
from tests import keys
from tests.line import SENDER, Line, policy
from tests.mail import crlf
from tests.programs import require

SIGNER = "rsa2048"
"""The key fixture that the client of the sender signs with."""

SUBJECT = "Grüße aus der Gehaltsabteilung"

_HEADER = """\
From: Sender <{sender}>
To: {to}
Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe_aus_der_Gehaltsabteilung?=
Date: Mon, 01 Jun 2026 12:00:00 +0000
Message-ID: <letter@example.com>
User-Agent: Client/1.0
MIME-Version: 1.0
"""
_OCTETS = bytes(range(256))
_TO_SIGN = b"Content-Transfer-Encoding: 7bit\r\n\r\nSigned.  \r\n-- \r\nme"
"""With trailing blanks, and without a line end: exactly these octets are signed (RFC 3156 §5)."""
_PROTECTED_TYPE = b'Content-Type: text/plain; protected-headers="v1"; hp="clear"\r\n'


def _base64_lines(octets: bytes) -> bytes:
    """As a client encodes an attachment."""
    return base64.encodebytes(octets).replace(b"\n", b"\r\n")


SMALL = "small"

_ENTITIES: dict[str, bytes] = {
    SMALL: b"Content-Type: text/plain; charset=us-ascii\r\n\r\nHello.\r\n",
    "without a type": b"\r\nHello.\r\n",
    "empty": b"Content-Type: text/plain\r\n\r\n",
    "8-bit": "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße \xa0 trailing blanks  \t\r\n\r\n-- \r\nme\r\n".encode(),
    "latin-1": b"Content-Type: text/plain; charset=iso-8859-1\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n\r\nGr\xfc\xdfe, not UTF-8: \xff\xfe\r\n",
    "dots and dashes": b"Content-Type: text/plain\r\n\r\n.\r\n..\r\n--\r\n- dash\r\nFrom here\r\n"
    + b"x" * 990
    + b"\r\n",
    "one megabyte": b'Content-Type: application/pdf; name="payroll.pdf"\r\n'
    b"Content-Transfer-Encoding: base64\r\n"
    b'Content-Disposition: attachment; filename="payroll.pdf"\r\n\r\n' + _base64_lines(_OCTETS * 3000),
    "multiparts": crlf("""
        Content-Type: multipart/mixed; boundary="outer"

        A preamble.
        --outer
        Content-Type: multipart/alternative; boundary=inner

        --inner
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        Gr=C3=BC=C3=9Fe
        --inner
        Content-Type: text/html; charset=utf-8

        <p>Hello</p>
        --inner--
        --outer
        Content-Type: message/rfc822

        Subject: An older message
        From: somebody@example.com

        With its own text.
        --outer
        Content-Type: application/octet-stream; name="payroll.xlsx"
        Content-Transfer-Encoding: base64

        """)
    + _base64_lines(_OCTETS)
    + b"--outer--\r\nAn epilogue.\r\n",
}
"""Content-* fields, an empty line and the body, by the name of the kind."""

SIGNED = "signed"
SIGNED_WITH_HEADER = "signed, with a header that the client protects"
HEADER_KEPT = "small, under a rule that keeps the header outside"
KINDS = (*_ENTITIES, SIGNED, SIGNED_WITH_HEADER, HEADER_KEPT)


@dataclass(frozen=True)
class Letter:
    """One copy of a message that a client submitted and the relay sealed."""

    kind: str
    engine: str
    submitted: bytes
    sealed: Sealed
    owners: tuple[str, ...]
    """The key fixtures of those who are to read this copy."""

    @property
    def armored(self) -> bytes:
        """The OpenPGP message in it."""
        (block,) = armor.blocks(self.sealed.body)
        return self.sealed.body[block.start : block.end]

    def __str__(self) -> str:
        return f"{self.kind}, by {self.engine}"


def letters(
    groups: Iterable[tuple[str, ...]], kinds: Iterable[str] = KINDS
) -> dict[tuple[str, ...], list[Letter]]:
    """Every kind of message to each group of key fixtures, sealed by every engine that knows their keys."""
    with tempfile.TemporaryDirectory(prefix="letters-") as directory:
        engines = (SequoiaEngine(workers=1), GnupgEngine(Path(directory)))
        return asyncio.run(_letters(tuple(groups), tuple(kinds), *engines))


async def _letters(
    groups: tuple[tuple[str, ...], ...], kinds: tuple[str, ...], sequoia: SequoiaEngine, gnupg: GnupgEngine
) -> dict[tuple[str, ...], list[Letter]]:
    found: dict[tuple[str, ...], list[Letter]] = {group: [] for group in groups}
    try:
        for group in groups:
            found[group] += [copy for kind in kinds for copy in await _send(kind, "sequoia", sequoia, group)]
            if all(keys.fixture(name).gnupg_reads for name in group):
                found[group] += [copy for kind in kinds for copy in await _send(kind, "gnupg", gnupg, group)]
    finally:
        await gnupg.close()
        await sequoia.close()
    return found


async def _send(kind: str, name: str, engine: Engine, group: tuple[str, ...]) -> list[Letter]:
    owners = {keys.fixture(key).address: key for key in group}
    content = _header(*map(str, owners)) + _entity(kind)
    rule = policy(headers=Headers.KEEP if kind == HEADER_KEPT else Headers.PROTECT)
    line = Line(engine, policy=rule)
    await line.send(content, *map(str, owners))
    copies = [copy for copy in line.session.taken if isinstance(copy, Sealed)]
    assert set(owners) == {address for copy in copies for address in copy.recipients}
    return [
        Letter(kind, name, content, copy, tuple(owners[who] for who in copy.recipients)) for copy in copies
    ]


def _header(*recipients: str) -> bytes:
    """The fields of a submitted message, without the Content-* fields."""
    to = ", ".join(f"<{recipient}>" for recipient in recipients)
    return _HEADER.format(sender=SENDER, to=to).replace("\n", "\r\n").encode()


def _entity(kind: str) -> bytes:
    if kind == SIGNED:
        return _signed(b"Content-Type: text/plain\r\n" + _TO_SIGN)
    if kind == SIGNED_WITH_HEADER:
        return _signed(_header("somebody@example.com") + _PROTECTED_TYPE + _TO_SIGN)
    return _ENTITIES[SMALL if kind == HEADER_KEPT else kind]


@cache  # one signature for all letters: two calls of gpg and an agent each
def _signed(part: bytes) -> bytes:
    """A PGP/MIME signature by the client of the sender (RFC 3156 §5) around a MIME entity."""
    kind = (
        b'Content-Type: multipart/signed; micalg=pgp-sha256; boundary="sig";\r\n'
        b'\tprotocol="application/pgp-signature"\r\n'
    )
    signature = b'Content-Type: application/pgp-signature; name="signature.asc"\r\n\r\n' + _signature(part)
    return kind + b"\r\n--sig\r\n" + part + b"\r\n--sig\r\n" + signature + b"\r\n--sig--\r\n"


def _signature(part: bytes) -> bytes:
    with gnupg_home(keys.secret(SIGNER)) as gpg:
        sign = [*gpg, "--digest-algo", "SHA256", "--armor", "--detach-sign"]
        return run(sign, part).replace(b"\n", b"\r\n")


@contextmanager
def gnupg_home(imported: bytes) -> Iterator[list[str]]:
    """How to call GnuPG in a home of its own, in which there are these keys."""
    # Not in pytest's folder: the path of the agent's socket has to be short.
    with tempfile.TemporaryDirectory(prefix="gnupg-", ignore_cleanup_errors=True) as home:
        gpg = [require("gpg"), "--homedir", home, "--batch", "--quiet", "--disable-dirmngr"]
        try:
            run([*gpg, "--import"], imported)
            yield gpg
        finally:
            run([require("gpgconf"), "--homedir", home, "--kill", "all"])


def run(command: list[str], text: bytes = b"") -> bytes:
    """What a program of the client prints for this text."""
    return subprocess.run(command, input=text, check=True, capture_output=True, timeout=60).stdout
