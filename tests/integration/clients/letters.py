"""The letters that readers open: every shape of mail that a client may show in its own way."""

from __future__ import annotations

import base64
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.mail import crlf
from tests.programs import require

READER, SIGNER = "rsa3072", "curve25519"
"""Key fixtures: whom the letters are for, and who writes them and signs some."""
READER_ADDRESS, AUTHOR = f"{READER}@example.com", f"{SIGNER}@example.com"
_SIGNED_AT = "20250602T080000"
"""The moment in the letters' Date field: Thunderbird finds fault with a signature of another day."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What the sender wrote, and what the reader is to see."""

    name: str
    subject: str
    entity: bytes
    """Content-* fields, empty line, body."""
    text: str
    attachments: tuple[str, ...] = ()
    encoded_subject: str = ""
    """As it stands in the header; empty where it is the same."""

    @property
    def message_id(self) -> str:
        return f"{self.name.replace(' ', '-')}@letters.example"

    @property
    def header(self) -> bytes:
        lines = (
            f"From: Author <{AUTHOR}>",
            f"To: Reader <{READER_ADDRESS}>",
            f"Subject: {self.encoded_subject or self.subject}",
            "Date: Mon, 02 Jun 2025 08:00:00 +0000",
            f"Message-ID: <{self.message_id}>",
            "User-Agent: Letters/1.0",
        )
        return "".join(f"{line}\r\n" for line in lines).encode("ascii")

    @property
    def content(self) -> bytes:
        return self.header + b"MIME-Version: 1.0\r\n" + self.entity


PLAIN = Letter(
    name="plain",
    subject="The marker subject",
    entity=crlf("""
        Content-Type: text/plain; charset=us-ascii

        Nothing but text.
        """),
    text="Nothing but text.",
)

HTML = Letter(
    name="html",
    subject="Grüße aus Köln – vertraulich",
    encoded_subject="=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_K=C3=B6ln?=\r\n =?utf-8?b?IOKAkyB2ZXJ0cmF1bGljaA==?=",
    entity=crlf("""
        Content-Type: multipart/alternative; boundary="alternatives"

        --alternatives
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        Gr=C3=BC=C3=9Fe in zwei Fassungen.
        --alternatives
        Content-Type: text/html; charset=utf-8
        Content-Transfer-Encoding: 8bit

        <p>Grüße in <b>zwei</b> Fassungen.</p>
        --alternatives--
        """),
    text="Grüße in zwei Fassungen.",
)

ATTACHMENT = Letter(
    name="attachment",
    subject="The figures",
    entity=crlf("""
        Content-Type: multipart/mixed; boundary="parts"

        --parts
        Content-Type: text/plain

        See the file.
        --parts
        Content-Type: application/pdf; name="payroll.pdf"
        Content-Disposition: attachment; filename="payroll.pdf"
        Content-Transfer-Encoding: base64

        """)
    + base64.encodebytes(b"%PDF-1.4 \n" * 100).replace(b"\n", b"\r\n")
    + b"--parts--\r\n",
    text="See the file.",
    attachments=("payroll.pdf",),
)

LETTERS = (PLAIN, HTML, ATTACHMENT)


def signed(gnupg: Path) -> Letter:
    """A letter with a PGP/MIME signature by the sender."""
    part = crlf("""
        Content-Type: text/plain; charset=us-ascii

        Signed by its author.
        """)
    entity = _signed(gnupg, part)
    return Letter("signed", "A signed letter", entity, "Signed by its author.")


def signed_with_header(gnupg: Path) -> Letter:
    """A letter whose signed part carries the header, as RFC 9788 has it and as older clients do."""
    bare = Letter("signed with header", "Header and signature", b"", "Signed with its header.")
    kind = b'Content-Type: text/plain; charset=us-ascii; hp="clear";\r\n\tprotected-headers="v1"\r\n'
    part = kind + bare.header + f"\r\n{bare.text}\r\n".encode()
    return Letter(bare.name, bare.subject, _signed(gnupg, part), bare.text)


def _signed(gnupg: Path, part: bytes) -> bytes:
    command = [require("gpg"), "--homedir", str(gnupg), "--batch", "--quiet", "--armor"]
    command += ["--faked-system-time", _SIGNED_AT, "--local-user", AUTHOR]
    done = subprocess.run(
        [*command, "--digest-algo", "SHA512", "--detach-sign"], input=part, check=True, capture_output=True
    )
    return b"".join(
        [
            b'Content-Type: multipart/signed; micalg=pgp-sha512; boundary="signed";\r\n'
            b'\tprotocol="application/pgp-signature"\r\n\r\n--signed\r\n',
            part,
            b'\r\n--signed\r\nContent-Type: application/pgp-signature; name="signature.asc"\r\n\r\n',
            done.stdout.replace(b"\n", b"\r\n"),
            b"\r\n--signed--\r\n",
        ]
    )
