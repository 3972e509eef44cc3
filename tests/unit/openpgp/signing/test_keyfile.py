"""Keys in a file: how it is read, who may read it, and where the secret never goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pysequoia
import pytest

from relay.errors import EncryptionFailed, SigningUnavailable
from relay.mime import armor, packets
from relay.openpgp.sequoia import IN_PROCESS_OCTETS
from relay.openpgp.signing import keyfile
from relay.openpgp.signing.assessment import KeyUnfit
from relay.openpgp.signing.keyfile import KeyFile, KeyFileInvalid, parse, read
from relay.openpgp.signing.registry import SecretKeys
from tests import keys
from tests.fakes import FixedClock
from tests.unit.openpgp.parties import Parties, public, until, verdict_of, version_6
from tests.unit.openpgp.signing.offices import PASSPHRASE, Office

RULE = "policy.senders.office"
OFFICE = "office@example.org"
NOW = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp())


def _written(path: Path, octets: bytes, mode: int = 0o600) -> Path:
    file = path / "signing.pgp"
    file.write_bytes(octets)
    file.chmod(mode)
    return file


def _fingerprint(secret: bytes) -> str:
    return parse(secret)[0].fingerprint


async def _opened(secret: bytes, password: str | None = None, now: int = NOW) -> SecretKeys:
    clock = FixedClock(datetime.fromtimestamp(now, UTC))
    secret_keys = SecretKeys([KeyFile("file", parse(secret), password)], clock)
    assert () == await secret_keys.open([_fingerprint(secret)])
    return secret_keys


# --------------------------------------------------------------------------- reading the file


@pytest.mark.parametrize("name", ["rsa3072", "curve25519", "p256", "v6", "pqc"])
@pytest.mark.parametrize("is_armoured", [False, True])
def test_read_gives_the_certificate_and_the_secret_that_signs(
    tmp_path: Path, name: str, is_armoured: bool
) -> None:
    """Armoured or not: the certificate is there, packet for packet; a secret that decrypts is not."""
    secret = keys.secret(name)
    text = pysequoia.armor(secret, pysequoia.ArmorKind.SecretKey).encode() if is_armoured else secret

    [held] = read(_written(tmp_path, text))

    def key_packets(data: bytes) -> list[str]:
        walked = packets.walk(data)
        return [packets.fingerprint(packet) for packet in walked if packet.tag in {6, 14}]

    expected = key_packets(keys.certificate(name).data)
    assert expected == key_packets(held.public)
    assert 1 == len(held.secrets)
    assert {*held.secrets} < {*expected}
    assert frozenset() == held.protected


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o622])
def test_read_file_for_others_is_refused(tmp_path: Path, mode: int) -> None:
    """O-07: a secret key that others can read or replace is not used."""
    with pytest.raises(KeyFileInvalid, match="chmod 600"):
        read(_written(tmp_path, keys.secret("curve25519"), mode))


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_read_file_of_the_owner_alone(tmp_path: Path, mode: int) -> None:
    """Whether the owner may write it does not matter."""
    assert 1 == len(read(_written(tmp_path, keys.secret("curve25519"), mode)))


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"", "holds no secret key"),
        (b"hello", "damaged"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nxjMEY", "damaged"),
        (keys.certificate("curve25519").data, "holds no secret key"),
        (keys.secret("curve25519")[:-10], "damaged"),
        (b"\xc5\x02\x04\x00", "damaged"),
        (b"\0" * (keyfile.MAX_FILE_BYTES + 1), "larger than"),
    ],
)
def test_read_file_without_a_whole_secret_key_is_refused(
    tmp_path: Path, octets: bytes, expected: str
) -> None:
    """What is no secret key is named as what it is."""
    with pytest.raises(KeyFileInvalid, match=expected):
        read(_written(tmp_path, octets))


def test_read_missing_file_is_refused(tmp_path: Path) -> None:
    """A file that is not there is said to be so."""
    with pytest.raises(KeyFileInvalid, match="cannot be read: No such file"):
        read(tmp_path / "missing")


def test_read_several_keys(tmp_path: Path) -> None:
    """One file may hold the keys of several senders, and certificates between them."""
    names = ["curve25519", "rsa3072", "v6"]
    octets = keys.certificate("p256").data + b"".join(map(keys.secret, names))

    held = read(_written(tmp_path, octets))

    assert [keys.certificate(name).fingerprint for name in names] == [key.fingerprint for key in held]


def test_check_good_file_says_nothing(tmp_path: Path) -> None:
    """A file whose key signs is no problem."""
    secret = keys.secret("curve25519")
    keyfile.check(_written(tmp_path, secret), None, {_fingerprint(secret)}, NOW)


def test_check_key_that_has_expired_is_not_for_this_place(tmp_path: Path) -> None:
    """The state of a key is that key's problem: neither the file nor other mail is refused because of it."""
    secret = bytes(pysequoia.Tsk.generate("<office@example.org>", validity_seconds=86_400))

    keyfile.check(_written(tmp_path, secret), None, {_fingerprint(secret)}, _today() + 90_000)


def test_read_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """A pipe into which nobody writes holds up neither the start nor a reload."""
    os.mkfifo(tmp_path / "pipe", 0o600)

    with pytest.raises(KeyFileInvalid, match="cannot be read: not a regular file"):
        read(tmp_path / "pipe")


def test_read_device_is_refused(tmp_path: Path) -> None:
    """A device has no end."""
    with pytest.raises(KeyFileInvalid, match="cannot be read: not a regular file"):
        read(Path("/dev/zero"))


# --------------------------------------------------------------------------- several copies of a key


def _revocation(secret: bytes) -> bytes:
    key = pysequoia.Tsk.from_bytes(secret)
    return bytes(pysequoia.Cert.from_bytes(bytes(key.extract_certificate())).revoke(key.certifier()))


def _after_the_primary(data: bytes, octets: bytes) -> bytes:
    """The key with a signature packet where signatures on the primary key alone stand."""
    end = next(packets.walk(data)).end
    return data[:end] + octets + data[end:]


_OWN = keys.secret("curve25519")
_OTHER = keys.secret("rsa3072")
_PUBLIC_REVOKED = _after_the_primary(keys.certificate("curve25519").data, _revocation(_OWN))
_SECRET_REVOKED = _after_the_primary(_OWN, _revocation(_OWN))


def _block(octets: bytes, kind: pysequoia.ArmorKind) -> bytes:
    return pysequoia.armor(octets, kind).encode()


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(_OWN + _PUBLIC_REVOKED, id="public copy behind"),
        pytest.param(_PUBLIC_REVOKED + _OWN, id="public copy before"),
        pytest.param(_PUBLIC_REVOKED + _OTHER + _OWN, id="another key between"),
        pytest.param(_OWN + _SECRET_REVOKED, id="newer export behind"),
        pytest.param(_SECRET_REVOKED + _OWN, id="older export behind"),
        pytest.param(
            _block(_OWN, pysequoia.ArmorKind.SecretKey)
            + _block(_revocation(_OWN), pysequoia.ArmorKind.PublicKey),
            id="revocation in a block of its own",
        ),
    ],
)
async def test_open_key_with_a_copy_that_is_revoked_raises(octets: bytes) -> None:
    """All copies of a key count together, in whatever order they stand: a revocation is never overlooked."""
    fingerprint = keys.certificate("curve25519").fingerprint

    with pytest.raises(KeyUnfit, match=r"^revoked on ") as caught:
        await KeyFile("file", parse(octets)).open(fingerprint, _today())
    assert (False, False) == (caught.value.is_temporary, caught.value.is_mistake)


async def test_open_revocation_of_another_key_does_not_count() -> None:
    """Whose revocation it is, stands in it."""
    octets = _revocation(_OTHER) + _OWN
    fingerprint = keys.certificate("curve25519").fingerprint

    key = await KeyFile("file", parse(octets)).open(fingerprint, NOW)

    assert fingerprint == key.fingerprint


# --------------------------------------------------------------------------- a file that changes


async def _key_file(path: Path) -> KeyFile:
    return await asyncio.to_thread(KeyFile.of, "file", path)


async def test_find_file_that_was_replaced_is_read_again(tmp_path: Path) -> None:
    """Another key in the place of the old one is there without a reload, and the old one is gone."""
    store = await _key_file(_written(tmp_path, _OWN))
    (tmp_path / "new").write_bytes(_OTHER)
    (tmp_path / "new").chmod(0o600)
    (tmp_path / "new").replace(tmp_path / "signing.pgp")

    assert await store.find(keys.certificate("curve25519").fingerprint) is None
    assert await store.find(keys.certificate("rsa3072").fingerprint) is not None
    with pytest.raises(KeyUnfit, match="was taken out"):
        await store.open(keys.certificate("curve25519").fingerprint, NOW)


async def test_find_file_that_is_half_written_is_a_problem_for_a_moment(tmp_path: Path) -> None:
    """What cannot be read now makes mail wait; nothing is signed with what stood there before."""
    fingerprint = keys.certificate("curve25519").fingerprint
    store = await _key_file(_written(tmp_path, _OWN))
    _written(tmp_path, _OWN[:-10])
    with pytest.raises(KeyUnfit, match="is damaged") as caught:
        await store.find(fingerprint)
    _written(tmp_path, _OWN + _OTHER)

    assert caught.value.is_temporary
    assert await store.find(fingerprint) is not None


async def test_find_file_that_went_away_is_a_problem(tmp_path: Path) -> None:
    """A key that was taken away signs no more."""
    store = await _key_file(_written(tmp_path, _OWN))
    (tmp_path / "signing.pgp").unlink()

    with pytest.raises(KeyUnfit, match="cannot be read: No such file") as caught:
        await store.find(keys.certificate("curve25519").fingerprint)
    assert caught.value.is_temporary


# --------------------------------------------------------------------------- passwords


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A key that GnuPG protected with the passphrase."""
    import tempfile

    from tests.programs import require

    require("gpg")
    office = Office(Path(tempfile.mkdtemp(prefix="gpg-")))
    try:
        return office.secret(office.add(OFFICE, passphrase=PASSPHRASE), PASSPHRASE)
    finally:
        office.close()


@pytest.mark.system
@pytest.mark.parametrize(
    ("password", "expected"),
    [
        (None, "is protected with a password; name a password_file"),
        ("wrong", "is not opened by the password in password_file"),
        ("", "is not opened by the password in password_file"),
    ],
)
def test_check_wrong_password_is_a_problem(
    tmp_path: Path, protected: bytes, password: str | None, expected: str
) -> None:
    """A password that does not fit is found before any mail waits for it."""
    with pytest.raises(KeyFileInvalid, match=expected) as caught:
        keyfile.check(_written(tmp_path, protected), password, {_fingerprint(protected)}, _today())

    assert f"holds the key {_fingerprint(protected)}, which " in str(caught.value)


@pytest.mark.system
def test_check_wrong_password_of_a_key_that_no_rule_names_says_nothing(
    tmp_path: Path, protected: bytes
) -> None:
    """What nobody uses stops nothing."""
    keyfile.check(_written(tmp_path, protected), "wrong", {"A" * 40}, _today())


@pytest.mark.system
def test_check_right_password_says_nothing(tmp_path: Path, protected: bytes) -> None:
    """The password opens the key."""
    keyfile.check(_written(tmp_path, protected), PASSPHRASE, {_fingerprint(protected)}, _today())


def _today() -> int:
    return int(datetime.now(UTC).timestamp()) + 5


@pytest.mark.system
@pytest.mark.parametrize("size", [100, IN_PROCESS_OCTETS + 1])
async def test_sign_protected_key_on_both_sides_of_the_border(
    protected: bytes, parties: Parties, size: int
) -> None:
    """The process of large messages opens the key with the same password."""
    secret_keys = await _opened(protected, PASSPHRASE, _today())

    message = await secret_keys.sign_and_encrypt(
        b"x" * size, (parties.verdicts["curve"],), _fingerprint(protected), rule=RULE
    )
    await secret_keys.close()

    secret = parties.gpg("--export-secret-keys", parties.verdicts["curve"].certificate.fingerprint)
    signer = pysequoia.Cert.from_bytes(parse(protected)[0].public)
    opened = pysequoia.decrypt(
        message, pysequoia.Tsk.from_bytes(secret).decryptor(), store=lambda _: [signer]
    )
    assert (b"x" * size, 1) == (opened.bytes, len(opened.valid_sigs))


@pytest.mark.system
async def test_open_subkeys_without_primary_secret(office: Office, parties: Parties) -> None:
    """A file of `--export-secret-subkeys` signs: the primary key may stay in a safe."""
    fingerprint = office.add(OFFICE)
    subkey = office.add_subkey(fingerprint, "ed25519", "sign")
    octets = office.gpg("--export-secret-subkeys", fingerprint)
    secret_keys = SecretKeys([KeyFile("file", parse(octets))], FixedClock(datetime.now(UTC)))

    assert () == await secret_keys.open([fingerprint, subkey])
    assert fingerprint not in parse(octets)[0].secrets


@pytest.mark.system
async def test_open_only_stub_is_refused(office: Office) -> None:
    """A primary key that signs and whose secret was left out cannot sign."""
    fingerprint = office.add(OFFICE)
    held = parse(office.gpg("--export-secret-subkeys", fingerprint))

    with pytest.raises(KeyUnfit, match="secret part is not there"):
        await KeyFile("file", held).open(fingerprint, _today())


# --------------------------------------------------------------------------- versions


@pytest.mark.parametrize(
    ("name", "version"), [("rsa3072", 4), ("curve25519", 4), ("p256", 4), ("v6", 6), ("pqc", 6)]
)
@pytest.mark.parametrize("size", [100, IN_PROCESS_OCTETS + 1])
async def test_sign_signature_has_the_version_of_the_key(name: str, version: int, size: int) -> None:
    """P-26: a version 4 key makes version 4 signatures, version 6 makes version 6; SHA-512."""
    from pysequoia.packet import HashAlgorithm, PacketPile, Tag

    secret = keys.secret(name)
    secret_keys = await _opened(secret)
    recipient = version_6("six")

    message = await secret_keys.sign_and_encrypt(
        b"x" * size, (verdict_of(public(recipient)),), _fingerprint(secret), rule=RULE
    )
    await secret_keys.close()

    signer = pysequoia.Cert.from_bytes(keys.certificate(name).data)
    opened = pysequoia.decrypt(message, recipient.decryptor(), store=lambda _: [signer])
    assert (b"x" * size, 1) == (opened.bytes, len(opened.valid_sigs))
    detached = pysequoia.sign(
        pysequoia.Tsk.from_bytes(secret).signer(), b"x", mode=pysequoia.SignatureMode.DETACHED, armor=False
    )
    [made] = [packet for packet in PacketPile.from_bytes(detached) if packet.tag == Tag.Signature]
    assert (version, HashAlgorithm.SHA512) == (made.signature_version, made.hash_algorithm)


@pytest.mark.parametrize("size", [100, IN_PROCESS_OCTETS + 1])
@pytest.mark.parametrize("allows_v2", [True, False])
async def test_sign_container_is_what_the_verdicts_allow(size: int, allows_v2: bool) -> None:
    """Signing changes nothing about which version of encrypted data is written."""
    from dataclasses import replace

    secret = keys.secret("curve25519")
    secret_keys = await _opened(secret)
    verdict = replace(verdict_of(public(version_6("six"))), allows_v2=allows_v2)

    message = await secret_keys.sign_and_encrypt(b"x" * size, (verdict,), _fingerprint(secret), rule=RULE)
    await secret_keys.close()

    [block] = armor.blocks(message)
    assert (2 if allows_v2 else 1) == packets.encrypted_message(block.data).seipd_version


@pytest.mark.parametrize("size", [100, IN_PROCESS_OCTETS + 1])
async def test_sign_bad_certificate_raises(size: int) -> None:
    """Whatever is wrong with a recipient's certificate, there is no message at all."""
    from dataclasses import replace

    secret = keys.secret("curve25519")
    secret_keys = await _opened(secret)
    spoiled = replace(verdict_of(public(version_6("six"))), reduced=b"garbage")

    with pytest.raises(EncryptionFailed):
        await secret_keys.sign_and_encrypt(b"x" * size, (spoiled,), _fingerprint(secret), rule=RULE)
    await secret_keys.close()


# --------------------------------------------------------------------------- where the secret does not go


@pytest.fixture
async def signing(
    protected: bytes, parties: Parties, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[asyncio.Task[bytes], int]]:
    """A large message that is being signed, and the process that does it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    secret_keys = await _opened(protected, PASSPHRASE, _today())
    started = set(_children())
    task = asyncio.create_task(
        secret_keys.sign_and_encrypt(
            b"x" * 20_000_000, (parties.verdicts["curve"],), _fingerprint(protected), rule=RULE
        )
    )
    await until(lambda: bool(set(_children()) - started))
    [pid] = set(_children()) - started
    yield task, pid
    with contextlib.suppress(EncryptionFailed, SigningUnavailable, asyncio.CancelledError):
        await task
    await secret_keys.close()


def _children() -> list[int]:
    text = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()
    return [int(pid) for pid in text.split()]


@pytest.mark.system
async def test_secret_is_in_no_argument_environment_or_file(
    signing: tuple[asyncio.Task[bytes], int], tmp_path: Path
) -> None:
    """The process gets key and password over a pipe, and nothing of it is written to a disk."""
    task, pid = signing
    await until(lambda: b"relay.openpgp.signing" in Path(f"/proc/{pid}/cmdline").read_bytes())
    shown = Path(f"/proc/{pid}/cmdline").read_bytes()
    with contextlib.suppress(PermissionError):  # it has forbidden to be looked at already
        shown += Path(f"/proc/{pid}/environ").read_bytes()

    assert PASSPHRASE.encode() not in shown
    assert b"PRIVATE KEY" not in shown
    await task
    assert [] == list(tmp_path.iterdir())


@pytest.mark.system
async def test_sign_process_killed_in_the_middle_raises(
    signing: tuple[asyncio.Task[bytes], int],
) -> None:
    """Half a message is no message."""
    task, pid = signing
    os.kill(pid, 9)

    with pytest.raises(EncryptionFailed, match=r"failed \(-9\)"):
        await task


@pytest.mark.system
async def test_secret_is_in_no_log_and_no_repr(
    protected: bytes, parties: Parties, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither what is logged nor what an error or a traceback could show holds the password or the key."""
    caplog.set_level(logging.DEBUG)
    [held] = parse(protected)
    store = KeyFile("file", (held,), PASSPHRASE)
    key = await store.open(held.fingerprint, _today())
    await store.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE)
    with pytest.raises(KeyUnfit) as wrong:
        await KeyFile("file", (held,), "another password").open(held.fingerprint, _today())

    shown = f"{caplog.text} {store!r} {key!r} {held!r} {store._opened!r} {wrong.value!r}"
    assert PASSPHRASE not in shown
    assert "another password" not in shown
    assert repr(next(iter(held.secrets.values())))[20:60] not in shown
    await store.close()
