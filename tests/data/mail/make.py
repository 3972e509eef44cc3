"""Makes the signed and encrypted messages of this folder. Needs gpg 2.2 and openssl.

    .venv/bin/python tests/data/mail/make.py

The keys that sign are made anew each time and thrown away; `signer.pgp` and `signer.crt`, their public parts,
are written beside the messages, so that tests can verify. The ciphertexts can be read with the secret part of
the fixture `curve25519` of `tests/data/keys`. All other messages were written by hand. See README.md.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import tempfile
import textwrap
from pathlib import Path

HERE = Path(__file__).parent
RECIPIENT_KEY = HERE.parent / "keys" / "curve25519.pgp"
RECIPIENT = "curve25519@example.com"
SIGNER = "Ole Strand <ole.strand@example.org>"
PLAIN = "Content-Type: text/plain; charset=utf-8\n"
GPG = [
    "gpg", "--batch", "--quiet", "--yes", "--no-random-seed-file", "--no-auto-key-locate", "--trust-model",
    "always", "--pinentry-mode", "loopback", "--passphrase", "", "--faked-system-time", "20250131T080000!",
]  # fmt: skip


def marker(name: str, label: str = "subject") -> str:
    """A token that must be readable nowhere outside; `tests/corpus.py` knows its shape."""
    return "mk" + hashlib.sha256(f"{name}:{label}".encode()).hexdigest()[:24] + "x"


def crlf(text: str) -> bytes:
    """The text as it travels."""
    return text.replace("\n", "\r\n").encode()


def header(name: str, subject: str = "", more: str = "") -> str:
    """The fields of a message of this name, up to its Content-Type."""
    return (
        f"From: {SIGNER}\nTo: Alma Berg <{RECIPIENT}>\nSubject: {subject or marker(name)}\n"
        f"Date: Fri, 31 Jan 2025 09:00:00 +0100\nMessage-ID: <{name}@example.org>\n{more}MIME-Version: 1.0\n"
    )


def write(name: str, text: str) -> None:
    (HERE / f"{name}.eml").write_bytes(crlf(text))


# --------------------------------------------------------------------------- OpenPGP


class Gnupg:
    """A GnuPG home of its own with one new signing key."""

    def __init__(self, home: Path) -> None:
        self._env = os.environ | {"GNUPGHOME": str(home), "LC_ALL": "C"}
        self.run("--quick-generate-key", SIGNER, "ed25519", "sign", "never")
        (HERE / "signer.pgp").write_bytes(self.run("--export", SIGNER))

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(
            [*GPG, *arguments], check=True, env=self._env, input=stdin, capture_output=True
        ).stdout

    def signature(self, part: str) -> str:
        return self.run("--armor", "--detach-sign", stdin=crlf(part)).decode()

    def clearsigned(self, text: str) -> str:
        return self.run("--clear-sign", stdin=text.encode()).decode()

    def encrypted(self, text: str) -> str:
        options = ("--armor", "--encrypt", "--recipient-file", str(RECIPIENT_KEY))
        return self.run(*options, stdin=crlf(text)).decode()

    def end(self) -> None:
        subprocess.run(["gpgconf", "--kill", "all"], env=self._env, check=True)


def signed(part: str, signature: str, boundary: str) -> str:
    """A multipart/signed from its Content-Type on (RFC 3156 §5).

    The line end behind `part` belongs to the delimiter and is not signed.
    """
    return (
        f'Content-Type: multipart/signed; micalg=pgp-sha512;\n protocol="application/pgp-signature";\n'
        f' boundary="{boundary}"\n\n'
        f"This is an OpenPGP/MIME signed message (RFC 4880 and 3156)\n--{boundary}\n{part}\n--{boundary}\n"
        'Content-Type: application/pgp-signature; name="OpenPGP_signature.asc"\n'
        "Content-Description: OpenPGP digital signature\n"
        f'Content-Disposition: attachment; filename="OpenPGP_signature.asc"\n\n{signature}\n--{boundary}--\n'
    )


def encrypted(armored: str) -> str:
    """A multipart/encrypted from its Content-Type on, as Thunderbird writes it (RFC 3156 §4)."""
    line = "------------k5Zb0pQxYw1f9cVtRm2a3sDe"
    return (
        'Content-Type: multipart/encrypted;\n protocol="application/pgp-encrypted";\n'
        f' boundary="{line[2:]}"\n\nThis is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\n{line}\n'
        "Content-Type: application/pgp-encrypted\nContent-Description: PGP/MIME version identification\n\n"
        f"Version: 1\n\n{line}\n"
        'Content-Type: application/octet-stream; name="encrypted.asc"\n'
        "Content-Description: OpenPGP encrypted message\n"
        f'Content-Disposition: inline; filename="encrypted.asc"\n\n{armored}\n{line}--\n'
    )


def make_signed(gnupg: Gnupg) -> None:
    name = "pgp-signed"
    text = f"=C3=A5 {marker(name, 'text')} =\n\n-- =20\nOle\n"
    part = f"{PLAIN}Content-Transfer-Encoding: quoted-printable\n\n{text}"
    write(name, header(name) + signed(part, gnupg.signature(part), "----------0pgp"))

    name = "pgp-signed-hp-clear"
    inner = header(name).replace("MIME-Version: 1.0\n", "")
    part = f'Content-Type: text/plain; charset=utf-8; hp="clear"\n{inner}\n{marker(name, "text")}\n'
    write(name, header(name) + signed(part, gnupg.signature(part), "hp-clear"))

    name = "pgp-signed-protected-v1"
    part = (
        'Content-Type: multipart/mixed; boundary="------------in";\n protected-headers="v1"\n'
        f"From: {SIGNER}\nTo: Alma Berg <{RECIPIENT}>\nMessage-ID: <{name}@example.org>\n"
        f"Subject: {marker(name)}\n\n--------------in\n"
        "Content-Type: text/plain; charset=UTF-8; format=flowed\n\n"
        f"{marker(name, 'text')}\n\n--------------in--\n"
    )
    more = "User-Agent: Mozilla Thunderbird\n"
    write(name, header(name, more=more) + signed(part, gnupg.signature(part), "------------out"))

    name = "pgp-signed-protected-other-subject"
    inner = f"Subject: {marker(name, 'old')}\n\n{marker(name, 'text')}\n"
    part = f'Content-Type: text/plain; protected-headers="v1"\n{inner}'
    write(name, header(name) + signed(part, gnupg.signature(part), "other"))

    name = "pgp-signed-protected-with-keywords"
    inner = f"Subject: {marker(name)}\n\n{marker(name, 'text')}\n"
    part = f'Content-Type: text/plain; protected-headers="v1"\n{inner}'
    more = f"Keywords: {marker(name, 'keyword')}\n"
    write(name, header(name, more=more) + signed(part, gnupg.signature(part), "keywords"))

    name = "pgp-signed-with-list-footer"
    part = f"Content-Type: text/plain; charset=us-ascii\n\n{marker(name, 'text')}\n"
    whole = signed(part, gnupg.signature(part), "within")
    write(
        name,
        header(name, more="List-Id: <talk.lists.example.org>\n")
        + f'Content-Type: multipart/mixed; boundary="around"\n\n--around\n{whole}\n--around\n'
        "Content-Type: text/plain\n\n-- \nTalk mailing list\n--around--\n",
    )


def make_inline(gnupg: Gnupg) -> None:
    name = "pgp-clearsigned"
    write(name, header(name) + PLAIN + "\n" + gnupg.clearsigned(f"- dash\n{marker(name, 'text')}\n"))

    name = "pgp-inline-reply"
    block = gnupg.encrypted("what was asked\n")
    quoted = textwrap.indent(block, "> ", lambda line: True)
    reply = "In-Reply-To: <asked-1@example.com>\nReferences: <asked-1@example.com>\n"
    text = f"Sorry, I cannot read this: {marker(name, 'text')}\n\nOn Thursday Alma Berg wrote:\n{quoted}"
    write(name, header(name, f"Re: {marker(name)}", reply) + PLAIN + f"\n{text}")

    name = "pgp-inline-reply-below"
    write(name, header(name) + PLAIN + f"\n{marker(name, 'text')}\n\n{block}\n-- \nOle\n")

    name = "pgp-attached-message"
    write(
        name,
        header(name)
        + f'Content-Type: multipart/mixed; boundary="at"\n\n--at\n{PLAIN}\n{marker(name, "text")}\n'
        f'--at\nContent-Type: application/pgp-encrypted; name="message.asc"\n'
        f'Content-Disposition: attachment; filename="{marker(name, "file")}.asc"\n\n{block}\n--at--\n',
    )

    name = "pgp-attached-key"
    key = gnupg.run("--armor", "--export", SIGNER).decode()
    write(
        name,
        header(name)
        + f'Content-Type: multipart/mixed; boundary="ak"\n\n--ak\n{PLAIN}\n{marker(name, "text")}\n'
        f'--ak\nContent-Type: application/pgp-keys; name="OpenPGP_0x1.asc"\n'
        f"Content-Description: OpenPGP public key\n"
        f'Content-Disposition: attachment; filename="OpenPGP_0x1.asc"\n\n{key}\n--ak--\n',
    )


def make_encrypted(gnupg: Gnupg) -> None:
    name = "pgp-encrypted"
    inner = 'Content-Type: text/plain; charset=utf-8; protected-headers="v1"\n'
    inner += f"Subject: {marker(name)}\n\n{marker(name, 'text')}\n"
    write(name, header(name, "...") + encrypted(gnupg.encrypted(inner)))

    name = "pgp-encrypted-inline"
    text = gnupg.encrypted(marker(name, "text") + "\n")
    write(name, header(name, "for you") + f"Content-Type: text/plain; charset=utf-8\n\n{text}")

    name = "pgp-encrypted-list-footer"
    write(
        name,
        header(name, marker(name), "List-Id: <talk.lists.example.org>\n")
        + 'Content-Type: multipart/mixed; boundary="lf"\n\n--lf\n'
        + encrypted(gnupg.encrypted(inner))
        + f"\n--lf\nContent-Type: text/plain\n\nfooter {marker(name, 'footer')}\n--lf--\n",
    )


# --------------------------------------------------------------------------- S/MIME


class Openssl:
    """One new S/MIME key with a self-signed certificate that outlives these tests."""

    def __init__(self, home: Path) -> None:
        self._key, self._crt = home / "key.pem", HERE / "signer.crt"
        extensions = [
            "keyUsage=critical,digitalSignature,keyEncipherment", "extendedKeyUsage=emailProtection",
            "subjectAltName=email:ole.strand@example.org",
        ]  # fmt: skip
        options = [word for extension in extensions for word in ("-addext", extension)]
        self.run("req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "36500", "-subj", "/CN=Ole Strand",
                 "-keyout", str(self._key), "-out", str(self._crt), *options)  # fmt: skip

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], check=True, input=stdin, capture_output=True).stdout

    def signed(self, part: str, *options: str) -> str:
        """Base64 of the CMS structure."""
        key = ("-signer", str(self._crt), "-inkey", str(self._key))
        return _base64(
            self.run("cms", "-sign", "-binary", "-outform", "DER", *key, *options, stdin=crlf(part))
        )

    def encrypted(self, part: str) -> str:
        return _base64(
            self.run(
                "cms", "-encrypt", "-binary", "-aes256", "-outform", "DER", str(self._crt), stdin=crlf(part)
            )
        )


def _base64(data: bytes) -> str:
    return "\n".join(textwrap.wrap(base64.b64encode(data).decode(), 64)) + "\n"


def enveloped(kind: str, data: str) -> str:
    """An application/pkcs7-mime from its Content-Type on (RFC 8551 §3)."""
    return (
        f'Content-Type: application/pkcs7-mime; smime-type={kind}; name="smime.p7m"\n'
        "Content-Transfer-Encoding: base64\n"
        f'Content-Disposition: attachment; filename="smime.p7m"\n\n{data}'
    )


def make_smime(openssl: Openssl) -> None:
    name = "smime-signed"
    part = f"{PLAIN}Content-Transfer-Encoding: 7bit\n\n{marker(name, 'text')}\n"
    write(
        name,
        header(name)
        + 'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256;\n'
        f' boundary="------------ms01"\n\nThis is a cryptographically signed message in MIME format.\n\n'
        f"--------------ms01\n{part}\n--------------ms01\n"
        'Content-Type: application/pkcs7-signature; name="smime.p7s"\nContent-Transfer-Encoding: base64\n'
        'Content-Disposition: attachment; filename="smime.p7s"\n'
        "Content-Description: S/MIME Cryptographic Signature\n\n"
        f"{openssl.signed(part)}\n--------------ms01--\n",
    )
    name = "smime-opaque-signed"
    part = f"Content-Type: text/plain; charset=utf-8\n\n{marker(name, 'text')}\n"
    write(name, header(name) + enveloped("signed-data", openssl.signed(part, "-nodetach")))

    name = "smime-encrypted"
    write(name, header(name) + enveloped("enveloped-data", openssl.encrypted(part)))


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        gnupg = Gnupg(Path(home))
        try:
            make_signed(gnupg)
            make_inline(gnupg)
            make_encrypted(gnupg)
        finally:
            gnupg.end()
        make_smime(Openssl(Path(home)))


if __name__ == "__main__":
    main()
