"""What the relay signs and encrypts is read, and its signature found good, by programs of others.

A key on a card cannot be tried here, for want of a card. For gpg and its agent it is the same call.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.address import parse_mailbox
from relay.merging import Entry
from relay.message import Address, Sealed
from relay.mime import armor, autocrypt, headers, packets
from relay.openpgp.sequoia import SequoiaEngine
from relay.openpgp.signing.gnupg import GnupgHome
from relay.openpgp.signing.keyfile import KeyFile, parse
from relay.openpgp.signing.registry import SecretKeys
from relay.policy import Policy, parse_pattern
from relay.rule import Encrypt, Signing
from tests import keys
from tests.fakes import FixedClock
from tests.integration.reading.letters import gnupg_home, run
from tests.line import Line
from tests.programs import require
from tests.readers import READERS, Reader, reader

pytestmark = pytest.mark.system

SIGNER = "rsa3072"
"""The key fixture that the relay signs with; the owner of its address is the sender."""
SENDER = keys.fixture(SIGNER).address
OWNERS = ("curve25519", "p256", "rsa2048")
STORES = ("file", "gnupg")
SIZES = {"small": 1, "large": 400_000}
"""Octets of the body: below and above what is signed on the event loop."""


@dataclass(frozen=True)
class Copy:
    """One copy of a signed message."""

    store: str
    size: str
    sealed: Sealed

    @property
    def armored(self) -> bytes:
        (block,) = armor.blocks(self.sealed.body)
        return self.sealed.body[block.start : block.end]


@contextmanager
def _agent() -> Iterator[Path]:
    """A GnuPG home with the secret key."""
    with tempfile.TemporaryDirectory(prefix="agent-", ignore_cleanup_errors=True) as home:
        gpg = [require("gpg"), "--homedir", home, "--batch", "--quiet"]
        try:
            run([*gpg, "--import"], keys.secret(SIGNER))
            yield Path(home)
        finally:
            run([require("gpgconf"), "--homedir", home, "--kill", "all"])


def _content(size: int, to: str) -> bytes:
    head = (
        f"From: Sender <{SENDER}>\r\nTo: {to}\r\nSubject: Payroll\r\n"
        "Date: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <signed@example.com>\r\n"
        'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n\r\n'
    )
    return head.encode() + b"A line of text.\r\n" * (size // 17 + 1)


async def _send(signer: SecretKeys, size: int, to: str, *recipients: str) -> list[Sealed]:
    engine = SequoiaEngine(workers=1)
    entry = Entry(name="policy.senders.office", signing=Signing(keys.certificate(SIGNER).fingerprint, True))
    default = Entry(name="policy.default", encrypt=Encrypt.ALWAYS, keys=("folder",))
    line = Line(
        engine, policy=Policy.build(default, [], [(parse_pattern(str(SENDER)), entry)]), signer=signer
    )
    try:
        await line.send(_content(size, to), *recipients, sender=SENDER)
    finally:
        await engine.close()
    return [copy for copy in line.session.taken if isinstance(copy, Sealed)]


async def _with(store: str, home: Path, scratch: Path) -> SecretKeys:
    fingerprint = keys.certificate(SIGNER).fingerprint
    if store == "file":
        made = SecretKeys([KeyFile("office", parse(keys.secret(SIGNER)))], FixedClock())
    else:
        gnupg = await asyncio.to_thread(GnupgHome, "office", home, scratch)
        made = SecretKeys([gnupg], FixedClock())
    assert () == await made.open([fingerprint])
    return made


def _address(name: str) -> str:
    return str(keys.fixture(name).address)


@pytest.fixture(scope="module")
def copies() -> list[Copy]:
    """One copy that every owner can read, of each size and from each kind of store."""

    async def make(home: Path, scratch: Path) -> list[Copy]:
        found = []
        addresses = [_address(name) for name in OWNERS]
        for store in STORES:
            signer = await _with(store, home, scratch)
            for size, octets in SIZES.items():
                [sealed] = await _send(signer, octets, ", ".join(addresses), *addresses)
                found.append(Copy(store, size, sealed))
            await signer.close()
        return found

    with _agent() as home, tempfile.TemporaryDirectory(prefix="rly-") as scratch:
        return asyncio.run(make(home, Path(scratch)))


@pytest.mark.parametrize("owner", OWNERS)
def test_gpg_finds_the_signature_good(copies: list[Copy], owner: str) -> None:
    """GnuPG, as each recipient: a good and valid signature by the key that the rule names."""
    fingerprint = keys.certificate(SIGNER).fingerprint
    with gnupg_home(keys.secret(owner) + keys.certificate(SIGNER).data) as gpg:
        command = [*gpg, "--trust-model=always", "--status-fd=2", "--decrypt"]
        done = [subprocess.run(command, input=copy.armored, capture_output=True) for copy in copies]  # noqa: PLW1510 - its status is looked at

    assert len(done) == len(STORES) * len(SIZES)
    expected = reader("pysequoia").decrypt_all([copy.armored for copy in copies], keys.secret(owner))
    assert [(0, text) for text in expected] == [(each.returncode, each.stdout) for each in done]
    for each in done:
        assert b"[GNUPG:] GOODSIG " in each.stderr
        assert re.search(rf"\[GNUPG:\] VALIDSIG {fingerprint} ".encode(), each.stderr)


@pytest.mark.parametrize("program", [each for each in READERS if each.name != "gpg"], ids=str)
def test_every_reader_decrypts_what_is_signed(copies: list[Copy], program: Reader) -> None:
    """The signature inside is in nobody's way: the same plaintext as with pysequoia, byte for byte.

    GnuPG decrypts, too, and reports that it does not know the signer; see above.
    """
    armored = [copy.armored for copy in copies]
    expected = reader("pysequoia").decrypt_all(armored, keys.secret("curve25519"))

    found = program.decrypt_all(armored, keys.secret("curve25519"))

    assert [program.as_printed(text) for text in expected] == found


def test_signed_text_is_seven_bit_and_whole(copies: list[Copy]) -> None:
    """RFC 3156 §3: 7-bit lines without blanks at their ends; and the body of the message is in it."""
    for copy in copies:
        [text] = reader("pysequoia").decrypt_all([copy.armored], keys.secret("curve25519"))
        assert text.isascii()
        assert not re.search(rb"[ \t]\r?\n", text)
        assert b"A line of text.\r\n" * (SIZES[copy.size] // 17 + 1) in text


def test_autocrypt_field_hands_out_the_signing_key(copies: list[Copy]) -> None:
    """Where the rule says so, the author's key comes with the message, valid for who reads it."""
    for copy in copies:
        outside = headers.parse(copy.sealed.header + b"\r\n")
        found = autocrypt.find(outside, _as_address(SENDER))
        assert found is not None
        assert keys.certificate(SIGNER).fingerprint == found.fingerprint


def _as_address(address: Address) -> Address:
    return parse_mailbox(str(address))


@pytest.mark.parametrize("store", STORES)
def test_copy_of_a_bcc_recipient_is_in_nobody_elses_signature(store: str) -> None:
    """P-25: two copies; no octet of either signature names a recipient, least of all the other's."""

    async def make(home: Path, scratch: Path) -> list[Sealed]:
        signer = await _with(store, home, scratch)
        to, bcc = _address("curve25519"), _address("p256")
        found = await _send(signer, 1, to, to, bcc)
        await signer.close()
        return found

    with _agent() as home, tempfile.TemporaryDirectory(prefix="rly-") as scratch:
        sealed = asyncio.run(make(home, Path(scratch)))

    assert 2 == len(sealed)
    names = {str(copy.recipients[0]): copy for copy in sealed}
    for owner in ("curve25519", "p256"):
        signature = _signature_of(names[_address(owner)].body, owner)
        assert bytes.fromhex(keys.certificate(SIGNER).fingerprint) in signature
        for other in ("curve25519", "p256"):
            assert bytes.fromhex(keys.certificate(other).fingerprint) not in signature


def _signature_of(body: bytes, owner: str) -> bytes:
    """The signature packet inside, as its recipient finds it below the encryption."""
    with gnupg_home(keys.secret(owner)) as gpg:
        [block] = armor.blocks(body)
        inside = run([*gpg, "--unwrap", "--decrypt"], block.data)
    found = list(packets.walk(inside))
    assert [packets.ONE_PASS_SIGNATURE, packets.LITERAL, packets.SIGNATURE] == [each.tag for each in found]
    return found[2].head
