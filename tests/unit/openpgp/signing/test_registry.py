"""The contract of every place with secret keys; what one signs, gpg and pysequoia verify."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.errors import EncryptionFailed, SigningUnavailable
from relay.message import Verdict
from relay.mime import armor, packets
from relay.openpgp.sequoia import IN_PROCESS_OCTETS
from relay.openpgp.signing import registry
from relay.openpgp.signing.assessment import KeyUnfit, SigningKey
from relay.openpgp.signing.gnupg import GnupgHome
from relay.openpgp.signing.keyfile import KeyFile, parse
from relay.openpgp.signing.registry import KeyProblem, SecretKeys, Store
from tests.fakes import FixedClock
from tests.unit.openpgp.parties import Parties, until
from tests.unit.openpgp.signing.offices import PASSPHRASE, Office, open_with_gpg

pytestmark = pytest.mark.system

RULE = "policy.senders.office"
OFFICE = "office@example.org"

Open = Callable[..., Awaitable[SecretKeys]]
"""Opens a registry over the keys of the office as they are now."""


@pytest.fixture(params=["file", "gnupg"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _clock() -> FixedClock:
    """Now: the keys were made a moment ago."""
    return FixedClock(datetime.now(UTC) + timedelta(seconds=5))


@pytest.fixture
async def opened(kind: str, office: Office, scratch: Path) -> AsyncIterator[Open]:
    made: list[SecretKeys] = []

    async def open_now(*fingerprints: str, clock: FixedClock | None = None, **limits: float) -> SecretKeys:
        store = await asyncio.to_thread(_store, kind, office, scratch, fingerprints, **limits)
        made.append(SecretKeys([store], clock or _clock()))
        assert () == await made[-1].open(fingerprints)
        return made[-1]

    yield open_now
    for secret_keys in made:
        await secret_keys.close()


def _store(kind: str, office: Office, scratch: Path, fingerprints: tuple[str, ...], **limits: float) -> Store:
    if kind == "gnupg":
        return GnupgHome("office", office.home, scratch, **limits)  # type: ignore[arg-type]  # numbers by name
    held = tuple(key for name in fingerprints for key in parse(office.secret(name)))
    return KeyFile("office", held, **limits)  # type: ignore[arg-type]  # numbers by name


async def _home(office: Office, scratch: Path) -> GnupgHome:
    return await asyncio.to_thread(GnupgHome, "office", office.home, scratch)


async def _problems(kind: str, office: Office, scratch: Path, wanted: str, now: datetime) -> list[KeyProblem]:
    store = await asyncio.to_thread(_store, kind, office, scratch, (wanted,))
    secret_keys = SecretKeys([store], FixedClock(now))
    try:
        return list(await secret_keys.open([wanted]))
    finally:
        await secret_keys.close()


def _octets(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def _verified_by_sequoia(parties: Parties, message: bytes, signer: bytes) -> tuple[bytes | None, list[str]]:
    """Plaintext and signing keys, as pysequoia sees them as the recipient `curve`."""
    secret = parties.gpg("--export-secret-keys", parties.verdicts["curve"].certificate.fingerprint)
    certificate = pysequoia.Cert.from_bytes(signer)
    decryptor = pysequoia.Tsk.from_bytes(secret).decryptor()
    opened = pysequoia.decrypt(message, decryptor, store=lambda _: [certificate])
    return opened.bytes, [str(each.signing_key).upper() for each in opened.valid_sigs]


# --------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("algorithm", ["ed25519", "rsa3072", "nistp256", "nistp521"])
async def test_sign_gpg_verifies(opened: Open, office: Office, parties: Parties, algorithm: str) -> None:
    """GnuPG says that the signature is good, by exactly this key, version 4 with SHA-512 (P-26)."""
    fingerprint = office.add(OFFICE, algorithm)
    secret_keys = await opened(fingerprint)

    message = await secret_keys.sign_and_encrypt(
        b"text\r\n", (parties.verdicts["curve"],), fingerprint, rule=RULE
    )

    read = open_with_gpg(parties, message, office.public(fingerprint))
    assert (b"text\r\n", fingerprint) == (read.text, read.signer)
    assert ("4", "10") == read.signature


@pytest.mark.parametrize("size", [0, 1, IN_PROCESS_OCTETS, IN_PROCESS_OCTETS + 1, 10_000_000])
async def test_sign_any_size_is_verified_by_both(
    opened: Open, office: Office, parties: Parties, size: int
) -> None:
    """Every size arrives byte for byte with a good signature, on both sides of the process border."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)
    text = _octets(size)

    message = await secret_keys.sign_and_encrypt(text, (parties.verdicts["curve"],), fingerprint, rule=RULE)

    read = open_with_gpg(parties, message, office.public(fingerprint))
    assert text == read.text
    assert fingerprint == read.signer
    assert (text, [fingerprint]) == _verified_by_sequoia(parties, message, office.public(fingerprint))


@pytest.mark.parametrize("size", [100, IN_PROCESS_OCTETS + 1])
async def test_sign_outside_is_as_an_engine_writes(
    opened: Open, office: Office, parties: Parties, size: int
) -> None:
    """Armour, session keys and container are those of any message: nothing shows that it is signed."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)
    verdicts = (parties.verdicts["rsa"], parties.verdicts["double"])

    message = await secret_keys.sign_and_encrypt(_octets(size), verdicts, fingerprint, rule=RULE)

    [block] = armor.blocks(message)
    outside = packets.encrypted_message(block.data)
    intended = sorted(subkey.key_id for verdict in verdicts for subkey in verdict.subkeys)
    assert (0, len(message), (), True) == (block.start, block.end, block.headers, block.has_checksum)
    assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")
    assert max(len(line) for line in message.split(b"\r\n")) <= 76
    assert (intended, 1) == (sorted(outside.pkesk_ids), outside.seipd_version)


async def test_sign_inside_is_one_pass_literal_and_signature(
    opened: Open, office: Office, parties: Parties
) -> None:
    """RFC 3156 §6.2, P-14, P-15: signed, then encrypted, in one message; binary, no name, no compression."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)

    message = await secret_keys.sign_and_encrypt(
        b"aaaa" * 50, (parties.verdicts["curve"],), fingerprint, rule=RULE
    )

    listing = parties.gpg("--list-packets", stdin=message).decode()
    found = [line[1:].split(" packet")[0] for line in listing.splitlines() if line.startswith(":")]
    assert ["pubkey enc", "encrypted data", "onepass_sig", "literal data", "signature"] == found
    assert "mode b" in listing
    assert 'name=""' in listing


async def test_sign_signature_names_no_recipient(opened: Open, office: Office, parties: Parties) -> None:
    """P-25: neither library writes Intended Recipients, so no copy names the recipient of another."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)

    message = await secret_keys.sign_and_encrypt(
        b"text", tuple(parties.verdicts.values()), fingerprint, rule=RULE
    )

    listing = parties.gpg("--list-packets", stdin=message).decode()
    signature = listing[listing.index(":signature packet:") :]
    assert "subpkt 35" not in signature
    assert [] == [
        verdict.certificate.fingerprint
        for verdict in parties.verdicts.values()
        if verdict.certificate.fingerprint in signature.upper()
    ]


async def test_sign_subkey_is_chosen_for_its_primary(opened: Open, office: Office, parties: Parties) -> None:
    """A rule that names the primary key means its signing subkey."""
    fingerprint = office.add(OFFICE)
    subkey = office.add_subkey(fingerprint, "ed25519", "sign")
    secret_keys = await opened(fingerprint)

    message = await secret_keys.sign_and_encrypt(
        b"text", (parties.verdicts["curve"],), fingerprint, rule=RULE
    )

    assert subkey == open_with_gpg(parties, message, office.public(fingerprint)).signer


async def test_sign_subkey_that_a_rule_names_is_used(opened: Open, office: Office, parties: Parties) -> None:
    """A rule may name the older of two signing subkeys."""
    fingerprint = office.add(OFFICE)
    older = office.add_subkey(fingerprint, "ed25519", "sign")
    office.add_subkey(fingerprint, "ed25519", "sign")
    secret_keys = await opened(older)

    message = await secret_keys.sign_and_encrypt(b"text", (parties.verdicts["curve"],), older, rule=RULE)

    assert older == open_with_gpg(parties, message, office.public(fingerprint)).signer


async def test_sign_to_oneself_beside_others(opened: Open, office: Office, parties: Parties) -> None:
    """The sender's own key may be among those that can read the copy."""
    from relay.openpgp.judge import Judge

    fingerprint = office.add(OFFICE)
    clock = _clock()
    secret_keys = await opened(fingerprint, clock=clock)
    [certificate] = packets.certificates(office.public(fingerprint), "test")
    [own] = Judge().judge([certificate], parse_mailbox(OFFICE), clock.now())

    message = await secret_keys.sign_and_encrypt(
        b"text", (parties.verdicts["curve"], own), fingerprint, rule=RULE
    )

    assert b"text" == office.gpg("--decrypt", stdin=message)
    assert fingerprint == open_with_gpg(parties, message, office.public(fingerprint)).signer


async def test_sign_twenty_at_once_each_is_its_own(opened: Open, office: Office, parties: Parties) -> None:
    """Nothing is mixed up between messages that run at the same time, small and large."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)
    texts = [_octets(size) for size in (*range(100, 115), *range(300_000, 300_005))]
    curve = (parties.verdicts["curve"],)

    messages = await asyncio.gather(
        *(secret_keys.sign_and_encrypt(text, curve, fingerprint, rule=RULE) for text in texts)
    )

    reads = [open_with_gpg(parties, message, office.public(fingerprint)) for message in messages]
    assert [(text, fingerprint) for text in texts] == [(read.text, read.signer) for read in reads]


# --------------------------------------------------------------------------- keys that cannot sign


async def test_open_unknown_fingerprint_is_a_problem(kind: str, office: Office, scratch: Path) -> None:
    """A key that is nowhere is named, and no waiting would help."""
    office.add(OFFICE)

    wanted = "A" * 40
    secret_keys = SecretKeys([await _home(office, scratch)], _clock())
    problems = await secret_keys.open([wanted])
    await secret_keys.close()

    sentence = f"the signing key {wanted} is in none of secret_keys: office"
    assert (KeyProblem(wanted, sentence, is_temporary=False, is_mistake=True),) == problems


async def test_open_expired_key_is_a_problem(kind: str, office: Office, scratch: Path) -> None:
    """An expired key is found when the relay starts, although pysequoia would sign with it."""
    fingerprint = office.add(OFFICE, expires="seconds=86400")
    later = datetime.now(UTC) + timedelta(days=2)

    [problem] = await _problems(kind, office, scratch, fingerprint, later)

    assert problem.sentence.startswith(f"the signing key {fingerprint} expired on ")
    assert (False, False) == (problem.is_temporary, problem.is_mistake)


async def test_open_expired_subkey_is_a_problem(kind: str, office: Office, scratch: Path) -> None:
    """A signing subkey has a date of its own, and the primary is not taken in its place."""
    fingerprint = office.add(OFFICE)
    office.add_subkey(fingerprint, "ed25519", "sign", "seconds=86400")
    subkey_later = datetime.now(UTC) + timedelta(days=2)
    named = office.gpg("--with-colons", "--list-keys", fingerprint).decode()
    subkey = [line for line in named.splitlines() if line.startswith("fpr")][-1].split(":")[9]

    held = tuple(parse(office.secret(fingerprint)))
    store = KeyFile("office", held) if kind == "file" else await _home(office, scratch)
    secret_keys = SecretKeys([store], FixedClock(subkey_later))
    [problem] = await secret_keys.open([subkey])
    await secret_keys.close()

    assert "its signing subkey expired on" in problem.sentence


async def test_open_revoked_key_is_a_problem(kind: str, office: Office, scratch: Path) -> None:
    """A revoked key does not sign."""
    fingerprint = office.add(OFFICE)
    office.revoke(fingerprint)

    [problem] = await _problems(kind, office, scratch, fingerprint, datetime.now(UTC) + timedelta(seconds=5))

    assert problem.sentence.startswith(f"the signing key {fingerprint} revoked on ")


async def test_open_revoked_subkey_is_a_problem(kind: str, office: Office, scratch: Path) -> None:
    """A revoked signing subkey does not sign."""
    fingerprint = office.add(OFFICE, "ed25519")
    subkey = office.add_subkey(fingerprint, "ed25519", "sign")
    office.gpg("--command-fd=0", "--edit-key", fingerprint, "key 2", "revkey", "save", stdin=b"y\n0\n\ny\n")

    held = tuple(parse(office.secret(fingerprint)))
    store = KeyFile("office", held) if kind == "file" else await _home(office, scratch)
    secret_keys = SecretKeys([store], _clock())
    [problem] = await secret_keys.open([subkey])
    await secret_keys.close()

    assert "its signing subkey was revoked on" in problem.sentence


async def test_open_key_without_a_signing_flag_is_a_problem(kind: str, office: Office, scratch: Path) -> None:
    """A key that may only certify and encrypt does not sign."""
    office.gpg("--quick-generate-key", OFFICE, "ed25519", "cert", "never")
    listing = office.gpg("--with-colons", "--list-keys").decode()
    fingerprint = next(line for line in listing.splitlines() if line.startswith("fpr")).split(":")[9]

    [problem] = await _problems(kind, office, scratch, fingerprint, datetime.now(UTC) + timedelta(seconds=5))

    assert "is not a key for signing" in problem.sentence


async def test_sign_key_expires_while_running_raises(opened: Open, office: Office, parties: Parties) -> None:
    """The date is asked for each message: afterwards nothing is signed, and nothing leaves unsigned."""
    fingerprint = office.add(OFFICE, expires="seconds=86400")
    clock = _clock()
    secret_keys = await opened(fingerprint, clock=clock)
    curve = (parties.verdicts["curve"],)
    await secret_keys.sign_and_encrypt(b"text", curve, fingerprint, rule=RULE)
    clock.advance(90_000)

    with pytest.raises(SigningUnavailable, match="expired on") as caught:
        await secret_keys.sign_and_encrypt(b"text", curve, fingerprint, rule=RULE)
    assert (451, "4.7.5") == (caught.value.reply().code, caught.value.reply().enhanced)
    assert RULE in caught.value.reply().text


async def test_sign_unknown_fingerprint_raises(opened: Open, office: Office, parties: Parties) -> None:
    """A key that nobody has makes the message wait, never leave unsigned."""
    secret_keys = await opened(office.add(OFFICE))

    with pytest.raises(SigningUnavailable, match="in none of secret_keys"):
        await secret_keys.sign_and_encrypt(b"text", (parties.verdicts["curve"],), "A" * 40, rule=RULE)


async def test_sign_to_nobody_raises(opened: Open, office: Office) -> None:
    """Without a certificate nothing is made."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)

    with pytest.raises(EncryptionFailed):
        await secret_keys.sign_and_encrypt(b"text", (), fingerprint, rule=RULE)


@pytest.mark.parametrize("size", [100, 300_000])
async def test_sign_after_close_raises(opened: Open, office: Office, parties: Parties, size: int) -> None:
    """A closed registry signs nothing and starts nothing."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)
    await secret_keys.close()

    with pytest.raises((SigningUnavailable, EncryptionFailed)):
        await secret_keys.sign_and_encrypt(
            _octets(size), (parties.verdicts["curve"],), fingerprint, rule=RULE
        )


async def test_sign_cancelled_leaves_no_process(opened: Open, office: Office, parties: Parties) -> None:
    """Whoever stops waiting takes the process with him, and the next message is its own."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)
    curve = (parties.verdicts["curve"],)
    for delay_seconds in (0.001, 0.03):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_seconds):
                await secret_keys.sign_and_encrypt(_octets(8_000_000), curve, fingerprint, rule=RULE)

    message = await secret_keys.sign_and_encrypt(b"x" * 300_000, curve, fingerprint, rule=RULE)

    assert [] == _children()
    assert b"x" * 300_000 == open_with_gpg(parties, message, office.public(fingerprint)).text


def _children() -> list[str]:
    """Command lines of the processes that this one has started and that still run."""
    path = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    lines = []
    for pid in path.read_text().split():
        with contextlib.suppress(OSError):
            lines.append(Path(f"/proc/{pid}/cmdline").read_text())
    return [line for line in lines if line and not line.startswith("gpg-agent")]


async def test_sign_too_slow_raises(opened: Open, office: Office, parties: Parties) -> None:
    """A message that takes too long is a temporary refusal."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint, timeout_seconds=0.001)

    with pytest.raises((SigningUnavailable, EncryptionFailed), match="longer"):
        await secret_keys.sign_and_encrypt(
            _octets(8_000_000), (parties.verdicts["curve"],), fingerprint, rule=RULE
        )


# --------------------------------------------------------------------------- the key that is handed out


async def test_certificate_is_minimal(opened: Open, office: Office) -> None:
    """Autocrypt 1.1: primary key, the author's User ID, one encryption subkey, and two signatures."""
    fingerprint = office.add(OFFICE)
    office.gpg("--quick-add-uid", fingerprint, "Sales <sales@example.org>")
    office.add_subkey(fingerprint, "ed25519", "sign")
    secret_keys = await opened(fingerprint)

    data = await secret_keys.certificate(fingerprint, parse_mailbox(OFFICE))

    assert data is not None
    found = list(packets.walk(data))
    assert [6, 13, 2, 14, 2] == [packet.tag for packet in found]
    assert OFFICE.encode() == found[1].head


@pytest.mark.parametrize("address", ["other@example.org", "office@other.example"])
async def test_certificate_of_another_address_is_none(opened: Open, office: Office, address: str) -> None:
    """Nobody is told to encrypt to a key that does not name the author."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)

    assert await secret_keys.certificate(fingerprint, parse_mailbox(address)) is None
    why = await secret_keys.why_no_certificate(fingerprint, parse_mailbox(address))
    assert f"has no User ID <{address}>" in why


async def test_why_no_certificate_is_empty_where_there_is_one(opened: Open, office: Office) -> None:
    """Nothing is wrong with an ordinary key."""
    fingerprint = office.add(OFFICE)
    secret_keys = await opened(fingerprint)

    assert "" == await secret_keys.why_no_certificate(fingerprint, parse_mailbox(OFFICE))


# --------------------------------------------------------------------------- several stores


async def test_store_is_found_by_the_key(office: Office, scratch: Path, parties: Parties) -> None:
    """Each key is signed with where it lies, whatever the others hold."""
    in_file, in_home = office.add(OFFICE), office.add("sales@example.org")
    file = KeyFile("file", parse(office.secret(in_file)))
    office.forget_secret(in_file)
    secret_keys = SecretKeys([file, await _home(office, scratch)], _clock())
    curve = (parties.verdicts["curve"],)

    problems = await secret_keys.open([in_file, in_home])
    messages = [
        await secret_keys.sign_and_encrypt(b"text", curve, name, rule=RULE) for name in (in_file, in_home)
    ]
    await secret_keys.close()

    assert () == problems
    publics = office.public(in_file) + office.public(in_home)
    assert [in_file, in_home] == [open_with_gpg(parties, message, publics).signer for message in messages]


async def test_open_protected_key_in_the_home_that_is_locked_is_temporary(
    office: Office, scratch: Path, parties: Parties
) -> None:
    """A locked key is a problem within seconds; it signs without a restart once it is unlocked."""
    fingerprint = office.add(OFFICE, passphrase=PASSPHRASE)
    office.kill_agent()
    clock = _clock()
    secret_keys = SecretKeys([await _home(office, scratch)], clock)
    async with asyncio.timeout(20):
        [problem] = await secret_keys.open([fingerprint])
        with pytest.raises(SigningUnavailable, match="is locked"):
            await secret_keys.sign_and_encrypt(b"text", (parties.verdicts["curve"],), fingerprint, rule=RULE)

    # what signs once with the passphrase leaves it in the cache of the agent
    office.gpg("--detach-sign", "-u", fingerprint, stdin=b"unlock", passphrase=PASSPHRASE)
    clock.advance(6)
    message = await secret_keys.sign_and_encrypt(
        b"text", (parties.verdicts["curve"],), fingerprint, rule=RULE
    )
    await secret_keys.close()

    assert problem.is_temporary
    assert "is locked" in problem.sentence
    assert fingerprint == open_with_gpg(parties, message, office.public(fingerprint)).signer


# --------------------------------------------------------------------------- keys that change while it runs


@dataclass
class Desk:
    """A registry over a store of the kind, and what the administrator does to that store."""

    kind: str
    office: Office
    file: Path
    clock: FixedClock
    secret_keys: SecretKeys

    def publish(self, fingerprint: str) -> None:
        """What was changed in the home becomes the content of the file."""
        if self.kind == "file":
            self.file.write_bytes(self.office.secret(fingerprint))

    async def sign(self, parties: Parties, fingerprint: str) -> str:
        """Fingerprint of the key that signed a message."""
        curve = (parties.verdicts["curve"],)
        message = await self.secret_keys.sign_and_encrypt(b"text", curve, fingerprint, rule=RULE)
        return open_with_gpg(parties, message, self.office.public(fingerprint)).signer


async def _desk(kind: str, office: Office, scratch: Path, fingerprint: str) -> Desk:
    file, clock = scratch / "signing.pgp", _clock()
    file.touch(0o600)
    desk = Desk(kind, office, file, clock, SecretKeys([], clock))
    desk.publish(fingerprint)
    store = await asyncio.to_thread(_changing_store, kind, office, scratch, file)
    desk.secret_keys = SecretKeys([store], clock)
    assert () == await desk.secret_keys.open([fingerprint])
    return desk


def _changing_store(kind: str, office: Office, scratch: Path, file: Path) -> Store:
    return KeyFile.of("office", file) if kind == "file" else GnupgHome("office", office.home, scratch)


async def test_sign_key_revoked_in_its_store_is_dropped_within_a_minute(
    kind: str, office: Office, scratch: Path, parties: Parties
) -> None:
    """A revocation counts without a reload, and the refusal says why."""
    fingerprint = office.add(OFFICE)
    desk = await _desk(kind, office, scratch, fingerprint)
    assert fingerprint == await desk.sign(parties, fingerprint)
    office.revoke(fingerprint)
    desk.publish(fingerprint)
    desk.clock.advance(61)

    with pytest.raises(SigningUnavailable, match=f"the signing key {fingerprint} revoked on ") as caught:
        await desk.sign(parties, fingerprint)
    await desk.secret_keys.close()

    assert 451 == caught.value.reply().code


async def test_sign_key_prolonged_in_its_store_signs_without_a_reload(
    kind: str, office: Office, scratch: Path, parties: Parties
) -> None:
    """A new date of expiry is found when the old one is over."""
    fingerprint = office.add(OFFICE, expires="seconds=86400")
    desk = await _desk(kind, office, scratch, fingerprint)
    desk.clock.advance(90_000)
    with pytest.raises(SigningUnavailable, match="expired on"):
        await desk.sign(parties, fingerprint)

    office.gpg("--quick-set-expire", fingerprint, "1y")
    desk.publish(fingerprint)
    desk.clock.advance(6)

    assert fingerprint == await desk.sign(parties, fingerprint)
    await desk.secret_keys.close()


async def test_sign_older_subkey_takes_over_when_the_newer_one_expires(
    kind: str, office: Office, scratch: Path, parties: Parties
) -> None:
    """A primary key with a live signing subkey goes on signing, at once."""
    before = int(datetime.now(UTC).timestamp()) - 100
    fingerprint = office.add(OFFICE, before=before)
    older = office.add_subkey(fingerprint, "ed25519", "sign", before=before + 10)
    newer = office.add_subkey(fingerprint, "ed25519", "sign", "seconds=86400")
    desk = await _desk(kind, office, scratch, fingerprint)
    assert newer == await desk.sign(parties, fingerprint)
    desk.clock.advance(90_000)

    assert older == await desk.sign(parties, fingerprint)
    await desk.secret_keys.close()


class SlowStore:
    """A store that answers when it is let; counts how often it is asked."""

    name = "slow"

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.asked: list[str] = []

    async def find(self, fingerprint: str) -> bytes | None:
        self.asked.append(fingerprint)
        await self.answers.wait()
        raise KeyUnfit("is locked", is_temporary=True)

    async def open(self, fingerprint: str, now: int) -> SigningKey:
        raise AssertionError

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], key: SigningKey, rule: str
    ) -> bytes:
        raise AssertionError

    async def close(self) -> None:
        self.answers.set()


async def _refused(secret_keys: SecretKeys, fingerprint: str) -> str:
    with pytest.raises(SigningUnavailable) as caught:
        await secret_keys.sign_and_encrypt(b"text", (), fingerprint, rule=RULE)
    return str(caught.value.detail)


async def test_sign_messages_wait_together_for_one_attempt() -> None:
    """Behind an agent that does not answer nobody waits longer than the first one, and it is asked once."""
    store, clock = SlowStore(), FixedClock()
    secret_keys = SecretKeys([store], clock)
    messages = [asyncio.create_task(_refused(secret_keys, "A" * 40)) for _ in range(50)]
    await until(lambda: bool(store.asked))
    messages[0].cancel()  # a client that goes away takes the attempt from nobody
    store.answers.set()

    said = await asyncio.gather(*messages[1:])
    again = await _refused(secret_keys, "A" * 40)

    assert {f"the signing key {'A' * 40} is locked"} == {*said, again}
    assert ["A" * 40] == store.asked
    clock.advance(6)
    await _refused(secret_keys, "A" * 40)
    assert 2 == len(store.asked)


async def test_open_keys_are_opened_side_by_side() -> None:
    """Nobody waits for the one before: all are looked for before the first one is found."""
    store = SlowStore()
    wanted = [letter * 40 for letter in "ABCDEF"]
    opening = asyncio.create_task(SecretKeys([store], FixedClock()).open(wanted))
    await until(lambda: len(store.asked) == len(wanted))
    store.answers.set()

    assert wanted == [problem.fingerprint for problem in await opening]


async def test_open_store_that_hangs_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer delays the start by one deadline, and its keys are tried again later."""
    monkeypatch.setattr(registry, "_LOOK_SECONDS", 0.01)

    [problem] = await SecretKeys([SlowStore()], FixedClock()).open(["A" * 40])

    assert problem.is_temporary
    assert "could not be opened within" in problem.sentence


async def test_close_ends_attempts_under_way() -> None:
    """Whoever waits for a key when the signer is closed is refused; nothing runs on."""
    store = SlowStore()
    secret_keys = SecretKeys([store], FixedClock())
    message = asyncio.create_task(_refused(secret_keys, "A" * 40))
    await until(lambda: bool(store.asked))

    await secret_keys.close()

    assert "is locked" in await message


async def test_sign_key_that_failed_has_to_prove_itself_again(
    office: Office, scratch: Path, parties: Parties
) -> None:
    """After a failure the key is opened anew for the next message, and the log says why it cannot be."""
    fingerprint = office.add(OFFICE)
    desk = await _desk("gnupg", office, scratch, fingerprint)
    office.forget_secret(fingerprint)
    with pytest.raises(SigningUnavailable, match="INV_SGNR"):
        await desk.sign(parties, fingerprint)

    with pytest.raises(SigningUnavailable, match="its secret part is not there"):
        await desk.sign(parties, fingerprint)
    await desk.secret_keys.close()


async def test_sign_agent_that_hangs_makes_only_the_first_message_wait(
    office: Office, scratch: Path, parties: Parties, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes after a message that took too long waits for one short attempt, and later for none."""
    fingerprint = office.add(OFFICE)
    store = await asyncio.to_thread(GnupgHome, "office", office.home, scratch, timeout_seconds=0.3)
    secret_keys, curve = SecretKeys([store], _clock()), (parties.verdicts["curve"],)
    assert () == await secret_keys.open([fingerprint])
    monkeypatch.setattr(registry, "_LOOK_SECONDS", 0.3)
    with office.frozen():
        with pytest.raises((SigningUnavailable, EncryptionFailed), match="longer"):
            await secret_keys.sign_and_encrypt(b"text", curve, fingerprint, rule=RULE)
        for _ in range(2):
            with pytest.raises(SigningUnavailable, match="could not be opened within"):
                await secret_keys.sign_and_encrypt(b"text", curve, fingerprint, rule=RULE)
    await secret_keys.close()
