"""How other encrypting gateways failed, each as a test: here it must be impossible."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from relay.address import parse_mailbox
from relay.errors import KeyMissing, KeyUnusable, MixedRefused, RelayError
from relay.message import Released, Sealed
from relay.openpgp.sequoia import SequoiaEngine
from relay.rule import Encrypt
from tests.line import ALICE, BOB, MARKER, Line, policy

PLAIN = b"From: sender@example.com\r\nTo: curve25519@example.com\r\n"


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    engine = SequoiaEngine(workers=1)
    yield Line(engine)
    await engine.close()


@pytest.mark.parametrize(
    "header",
    [
        b"Subject: [noencrypt] x\r\n",
        b"X-Encrypt: no\r\n",
        b"X-GPG-Encrypt: false\r\n",
        b"X-GPG-Mailgate: Encrypted by\r\n",
        b"Auto-Submitted: auto-generated\r\n",
        b"List-Id: <list.example.com>\r\n",
        b"Precedence: bulk\r\n",
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b\r\n',
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n",
        b"Content-Type: text/calendar; method=REQUEST\r\n",
        b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n",
        b"Sensitivity: public\r\n",
    ],
)
async def test_no_header_lowers_the_policy(header: bytes, line: Line) -> None:
    """symfony and others let a header of the message switch encryption off."""
    await line.send(PLAIN + header + b"\r\n" + MARKER + b"\r\n", ALICE)

    (copy,) = line.session.taken
    assert isinstance(copy, Sealed)
    assert not copy.passed_through
    assert MARKER not in copy.header + copy.body


async def test_quoted_pgp_block_in_a_reply_does_not_switch_encryption_off(line: Line) -> None:
    """gpg-mailgate took a reply that quotes an encrypted message for an encrypted one."""
    await line.send(PLAIN + b"\r\n" + MARKER + b"\r\n", ALICE)
    quoted = line.session.taken[0].body.replace(b"\r\n", b"\r\n> ")

    await line.send(PLAIN + b"\r\n" + MARKER + b"\r\n> " + quoted + b"\r\n", ALICE)

    assert MARKER not in line.session.taken[1].body


async def test_plaintext_in_an_encrypted_wrapper_is_encrypted(line: Line) -> None:
    """gpg-mailgate sent plaintext inside multipart/encrypted when a key had expired."""
    wrapped = (
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b\r\n\r\n'
        b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
        b"--b\r\nContent-Type: application/octet-stream\r\n\r\n" + MARKER + b"\r\n--b--\r\n"
    )

    await line.send(PLAIN + wrapped, ALICE)

    assert MARKER not in line.session.taken[0].body


@pytest.mark.parametrize("recipient", ["CURVE25519@Example.COM", "Curve25519@example.com."])
async def test_letter_case_of_the_recipient_does_not_hide_its_key(recipient: str, line: Line) -> None:
    """Zeyple sent mail in clear to a recipient that was written in other letters."""
    await line.send(PLAIN + b"\r\n" + MARKER + b"\r\n", recipient)

    assert isinstance(line.session.taken[0], Sealed)


async def test_bare_address_user_id_is_found(line: Line) -> None:
    """gpg-mailgate never matched a User ID without a name and sent the mail in clear."""
    await line.send(PLAIN + b"\r\n" + MARKER + b"\r\n", "bare-address@example.com")

    assert isinstance(line.session.taken[0], Sealed)


async def test_recipient_without_a_key_is_refused_and_not_dropped(line: Line) -> None:
    """Zeyple answered success, and the mail was gone."""
    with pytest.raises(KeyMissing):
        await line.send(PLAIN + b"\r\nx\r\n", "nokey@example.com")


async def test_second_recipient_with_an_expired_key_stops_nothing_halfway(line: Line) -> None:
    """Zeyple had delivered to the first recipient when the second one's key turned out to be expired."""
    with pytest.raises(KeyUnusable):
        await line.send(PLAIN + b"\r\nx\r\n", ALICE, "expired-primary@example.com")

    assert "data" not in line.session.dialogue


async def test_one_recipient_without_a_key_does_not_put_all_in_clear(line: Line) -> None:
    """openpgpkey-milter sent the message in clear to everybody when one had no key."""
    line.policy = policy(encrypt=Encrypt.WHEN_POSSIBLE)

    await line.send(PLAIN + b"\r\n" + MARKER + b"\r\n", ALICE, "nokey@example.com")

    kinds = {str(copy.recipients[0]): type(copy) for copy in line.session.taken}
    assert {ALICE: Sealed, "nokey@example.com": Released} == kinds


async def test_key_ids_do_not_show_bcc_recipients(line: Line) -> None:
    """gpg-mailgate and others showed Bcc recipients through the key IDs of a shared ciphertext."""
    await line.send(PLAIN + b"Bcc: " + BOB.encode() + b"\r\n\r\nx\r\n", ALICE, BOB)

    assert [1, 1] == [len(copy.key_ids) for copy in line.session.taken if isinstance(copy, Sealed)]


@pytest.mark.parametrize("body", [b"\xff\xfe\x00".replace(b"\0", b"\x01"), b"\xe4\xf6\xfc", "ü".encode()])
async def test_body_that_is_not_utf8_is_encrypted(body: bytes, line: Line) -> None:
    """openpgpkey-milter sent what it could not decode in clear."""
    await line.send(PLAIN + b"\r\n" + MARKER + body + b"\r\n", ALICE)

    assert isinstance(line.session.taken[0], Sealed)


async def test_message_without_from_is_refused_and_does_not_crash(line: Line) -> None:
    """Zeyple crashed."""
    with pytest.raises(RelayError) as refused:
        await line.send(b"To: curve25519@example.com\r\n\r\nx\r\n", ALICE)

    assert 554 == refused.value.reply().code


async def test_leftover_transfer_encoding_is_not_outside(line: Line) -> None:
    """SimpleLogin left Content-Transfer-Encoding on the outer part, which breaks clients."""
    await line.send(PLAIN + b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n", ALICE)

    assert b"Content-Transfer-Encoding" not in line.session.taken[0].header


async def test_unmanaged_sender_does_not_pass_in_clear(line: Line) -> None:
    """Symantec's gateway let mail of an unmanaged sender domain pass in clear."""
    transaction = await line.begin(sender=parse_mailbox("somebody@unknown.example"))

    with pytest.raises(KeyMissing):
        await transaction.admit(parse_mailbox("nokey@example.com"))


async def test_clear_recipient_first_and_strict_one_later_is_still_refused(line: Line) -> None:
    """The order of the recipients changes nothing."""
    with pytest.raises(MixedRefused):
        await line.send(PLAIN + b"\r\nx\r\n", "a@clear.example", ALICE)
