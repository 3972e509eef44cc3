"""The main job: real clients submit to the running relay, a real Postfix receives, GnuPG and Sequoia read."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import clients
from tests.integration.conftest import SENDER, Site, entity, gpg_decrypt, sequoia_decrypt
from tests.mail import crlf
from tests.postfix import Postfix
from tests.programs import require

pytestmark = pytest.mark.system

ALICE, BOB = "rsa3072@example.com", "curve25519@example.com"
HEADER = crlf(f"""
    From: Sender <{SENDER}>
    To: Alice <{ALICE}>
    Subject: The marker subject
    Date: Mon, 01 Jun 2026 12:00:00 +0000
    Message-ID: <id-1@example.com>
    MIME-Version: 1.0
    """)

ATTACHMENT = base64.encodebytes(bytes(range(256)) * 20).replace(b"\n", b"\r\n")

MESSAGES: dict[str, bytes] = {
    "plain": HEADER
    + crlf("""
        Content-Type: text/plain; charset=us-ascii

        Hello.
        """),
    "html with attachment": HEADER
    + crlf("""
        Content-Type: multipart/mixed; boundary="outer"

        --outer
        Content-Type: text/html; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        <p>Gr=C3=BC=C3=9Fe</p>
        --outer
        Content-Type: application/octet-stream; name="payroll.xlsx"
        Content-Disposition: attachment; filename="payroll.xlsx"
        Content-Transfer-Encoding: base64

        """)
    + ATTACHMENT
    + b"--outer--\r\n",
    "8-bit": HEADER
    + "Content-Type: text/plain; charset=utf-8\r\n"
    "Content-Transfer-Encoding: 8bit\r\n\r\nGrüße \xa0 trailing blanks  \t\r\n".encode(),
    "latin-1": HEADER + b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n",
    "calendar": HEADER
    + crlf("""
        Content-Type: text/calendar; method=REQUEST; charset=utf-8

        BEGIN:VCALENDAR
        METHOD:REQUEST
        END:VCALENDAR
        """),
    "dot lines": HEADER + b"Content-Type: text/plain\r\n\r\n.\r\n..\r\n.x\r\n...\r\n",
    "no trailing newline": HEADER + b"Content-Type: text/plain\r\n\r\nthe end",
    "long lines": HEADER + b"Content-Type: text/plain\r\n\r\n" + b"x" * 20_000 + b"\r\n",
    "empty body": HEADER + b"Content-Type: text/plain\r\n\r\n",
}


def _without_end(content: bytes) -> bytes:
    """SMTP content always ends with CRLF (RFC 5321 §4.1.1.4): a client adds what is missing."""
    return content if content.endswith(b"\r\n") else content + b"\r\n"


@pytest.mark.parametrize("name", list(MESSAGES))
def test_submission_of_every_kind_arrives_byte_for_byte(
    name: str, site: Site, inbox: Postfix, recipients_home: Path
) -> None:
    """What GnuPG decrypts behind Postfix is exactly what the client submitted."""
    content = MESSAGES[name]

    outcome = site.submit(content, ALICE, options=("BODY=8BITMIME",))

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    assert entity(_without_end(content)) == gpg_decrypt(recipients_home, delivered.content)
    assert (SENDER, ALICE) == (delivered.sender, delivered.recipient)
    assert b"multipart/encrypted" in delivered.content
    assert b"payroll" not in delivered.content


@pytest.mark.parametrize("tls", [clients.Tls.IMPLICIT, clients.Tls.STARTTLS])
@pytest.mark.parametrize("client", [clients.submit, clients.swaks])
def test_submission_with_every_client_and_port(
    client: Callable[..., clients.Outcome], tls: clients.Tls, site: Site, inbox: Postfix
) -> None:
    """swaks and smtplib, on 465 and 587: the recipient reads the message."""
    content = MESSAGES["plain"]

    outcome = site.submit(content, BOB, client=client, tls=tls)

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    assert entity(content) == sequoia_decrypt("curve25519", delivered.content)


def test_submission_of_twenty_megabytes(site: Site, inbox: Postfix, recipients_home: Path) -> None:
    """A large attachment goes through a worker process and arrives whole."""
    body = base64.encodebytes(bytes(range(256)) * 4096 * 15).replace(b"\n", b"\r\n")
    content = HEADER + b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n" + body
    assert len(content) > 20_000_000

    outcome = site.submit(content, ALICE)

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1, timeout_seconds=60)
    assert entity(content) == gpg_decrypt(recipients_home, delivered.content)


def test_submission_with_utf8_header_fields(site: Site, inbox: Postfix) -> None:
    """With SMTPUTF8 the header goes out as it was written, and the next hop is told (RFC 6531)."""
    header = HEADER.replace(b"Alice", "Ålice".encode())
    content = header + b"Content-Type: text/plain\r\n\r\nx\r\n"

    outcome = site.submit(content, BOB, options=("BODY=8BITMIME", "SMTPUTF8"))

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    assert "To: Ålice".encode() in delivered.content
    assert b"UTF8SMTP" in delivered.received


def test_submission_signed_by_gpg_stays_verifiable(
    site: Site, inbox: Postfix, recipients_home: Path, tmp_path: Path
) -> None:
    """The signature inside verifies after the way through relay, Postfix and decryption (RFC 1847)."""
    part = b"Content-Type: text/plain; charset=utf-8\r\n\r\nSigned.  \r\n-- \r\nme"
    gpg = [require("gpg"), "--homedir", str(recipients_home), "--batch", "--quiet"]
    signature = subprocess.run(
        [*gpg, "-u", ALICE, "--armor", "--detach-sign"], input=part, check=True, capture_output=True
    ).stdout.replace(b"\n", b"\r\n")
    kind = b'multipart/signed; micalg=pgp-sha512; protocol="application/pgp-signature"; boundary="sig"'
    content = (
        HEADER + b"Content-Type: " + kind + b"\r\n\r\n--sig\r\n" + part
        + b"\r\n--sig\r\nContent-Type: application/pgp-signature\r\n\r\n" + signature + b"\r\n--sig--\r\n"
    )  # fmt: skip

    outcome = site.submit(content, ALICE)

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    inside = gpg_decrypt(recipients_home, delivered.content)
    assert entity(content) == inside
    signed = inside.split(b"--sig\r\n")[1].removesuffix(b"\r\n")
    begin = inside.index(b"-----BEGIN PGP SIGNATURE")
    (tmp_path / "signature.asc").write_bytes(inside[begin : inside.index(b"\r\n--sig--")])
    verified = subprocess.run(
        [*gpg, "--verify", str(tmp_path / "signature.asc"), "-"], input=signed, check=False
    )
    assert 0 == verified.returncode


def test_submission_signed_by_openssl_stays_verifiable(
    site: Site, inbox: Postfix, recipients_home: Path, tmp_path: Path
) -> None:
    """An S/MIME signature inside verifies with openssl afterwards."""
    openssl = require("openssl")
    make = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Sender", "-days", "2"]
    subprocess.run(
        [*make, "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")],
        check=True,
        capture_output=True,
    )
    pair = ["-signer", str(tmp_path / "cert"), "-inkey", str(tmp_path / "key")]
    signed = (
        subprocess.run(
            [openssl, "smime", "-sign", "-crlfeol", *pair],
            input=b"Content-Type: text/plain\r\n\r\nSigned by openssl.\r\n",
            check=True,
            capture_output=True,
        )
        .stdout.replace(b"\r\n", b"\n")
        .replace(b"\n", b"\r\n")
    )
    content = HEADER.replace(b"MIME-Version: 1.0\r\n", b"") + signed

    outcome = site.submit(content, ALICE)

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    inside = gpg_decrypt(recipients_home, delivered.content)
    assert entity(_without_end(content)) == inside
    checked = subprocess.run(
        [openssl, "smime", "-verify", "-noverify"], input=b"MIME-Version: 1.0\r\n" + inside, check=False,
        capture_output=True,
    )  # fmt: skip
    assert 0 == checked.returncode, checked.stderr
    assert b"Signed by openssl." in checked.stdout


def test_submission_keeps_bcc_recipients_apart(site: Site, inbox: Postfix) -> None:
    """A Bcc recipient gets a copy of its own; the other copy shows neither its name nor its key."""
    content = HEADER + b"Bcc: " + BOB.encode() + b"\r\nContent-Type: text/plain\r\n\r\nx\r\n"

    outcome = site.submit(content, ALICE, BOB)

    assert outcome.is_accepted, outcome
    copies = {delivered.recipient: delivered.content for delivered in inbox.wait_for(2)}
    assert {ALICE, BOB} == set(copies)
    assert all(b"Bcc" not in copy and BOB.encode() not in copy for copy in copies.values())
    assert entity(content) == sequoia_decrypt("curve25519", copies[BOB])
    with pytest.raises(Exception, match=r"(?i)decrypt|session key|key"):
        sequoia_decrypt("curve25519", copies[ALICE])


def test_submission_without_key_is_refused_at_rcpt(site: Site, inbox: Postfix) -> None:
    """Under `always` a recipient without a key hears why, and the others are not touched."""
    outcome = site.submit(MESSAGES["plain"], "nokey@example.com", ALICE)

    refused, accepted = outcome.to("rcpt")
    assert (550, "5.7.1") == (refused.code, refused.status)
    assert "nokey@example.com" in refused.text
    assert "policy.default" in refused.text
    assert 250 == accepted.code
    assert [ALICE] == [delivered.recipient for delivered in inbox.wait_for(1)]


def test_submission_to_an_expired_key_is_refused_with_the_date(site: Site, inbox: Postfix) -> None:
    """The verdict of the key reaches the sender."""
    outcome = site.submit(MESSAGES["plain"], "expired-primary@example.com")

    assert "expired on 2025-03-01" in outcome.to("rcpt")[0].text
    assert not inbox.delivered()


def test_submission_mixed_with_clear_is_refused(site: Site, inbox: Postfix) -> None:
    """A message that must be encrypted for one recipient goes to nobody in clear."""
    outcome = site.submit(MESSAGES["plain"], ALICE, "anybody@clear.example")

    assert (550, "5.7.1") == (outcome.final.code, outcome.final.status)
    assert "anybody@clear.example" in outcome.final.text
    assert not inbox.delivered()


def test_submission_released_by_a_rule_leaves_as_it_is(site: Site, inbox: Postfix) -> None:
    """Where a rule says so, the message leaves in clear, byte for byte below the Received field."""
    content = MESSAGES["plain"]

    outcome = site.submit(content, "a@clear.example", "b@maybe.example")

    assert outcome.is_accepted, outcome
    for delivered in inbox.wait_for(2):
        assert delivered.content.endswith(content)
        assert delivered.content.startswith(b"Received: from ")


def test_submission_already_encrypted_passes_through(
    site: Site, inbox: Postfix, recipients_home: Path
) -> None:
    """What the client encrypted to the recipient is not encrypted again."""
    first = site.submit(MESSAGES["plain"], ALICE)
    assert first.is_accepted
    (encrypted,) = inbox.wait_for(1)
    inbox.clear()
    content = encrypted.content.partition(b"From: ")[2]

    outcome = site.submit(b"From: " + content, ALICE)

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    assert delivered.content.endswith(b"From: " + content)
    assert entity(MESSAGES["plain"]) == gpg_decrypt(recipients_home, delivered.content)


def test_submission_refused_by_the_next_hop_keeps_its_class(site: Site, inbox: Postfix) -> None:
    """What Postfix says to a recipient reaches the client with its code."""
    outcome = site.submit(MESSAGES["plain"], "reject@clear.example", "defer@clear.example")

    assert [(550, "5.1.1"), (450, "4.2.1")] == [(answer.code, answer.status) for answer in outcome.to("rcpt")]
    assert not inbox.delivered()


def test_submission_as_somebody_else_is_refused(site: Site, inbox: Postfix) -> None:
    """A login may use its own senders only, in the envelope and in From."""
    envelope = site.submit(MESSAGES["plain"], ALICE, sender="boss@other.example")
    forged = MESSAGES["plain"].replace(f"<{SENDER}>".encode(), b"<boss@other.example>")
    author = site.submit(forged, ALICE)

    assert [(550, "5.7.1")] * 2 == [
        (outcome.final.code, outcome.final.status) for outcome in (envelope, author)
    ]
    assert not inbox.delivered()
