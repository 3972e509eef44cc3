"""The engine in this process: versions, what goes to a worker, the cache."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pysequoia
import pytest

from relay.errors import EncryptionFailed
from relay.message import Verdict
from relay.mime import armor, packets
from relay.openpgp import sequoia
from relay.openpgp.judge import Judge
from relay.openpgp.sequoia import SequoiaEngine
from tests import keys
from tests.fakes import FixedClock
from tests.opinions import GnuPG
from tests.unit.openpgp.parties import Parties, public, verdict_of, version_6


@pytest.fixture
async def engine() -> AsyncIterator[SequoiaEngine]:
    made = SequoiaEngine()
    yield made
    await made.close()


def _outside(message: bytes) -> packets.EncryptedMessage:
    [block] = armor.blocks(message)
    return packets.encrypted_message(block.data)


async def test_encrypt_version_6_writes_version_2(engine: SequoiaEngine) -> None:
    """P-17, P-19: a v6 key gets PKESK v6 and SEIPD v2, and reads it."""
    key = version_6("six")
    verdict = verdict_of(public(key))

    message = await engine.encrypt(b"text", (verdict,))

    [block] = armor.blocks(message)
    outside = packets.EncryptedMessage((verdict.subkeys[0].key_id,), (6,), 0, 2)
    assert (outside, False) == (_outside(message), block.has_checksum)
    assert b"text" == pysequoia.decrypt(message, key.decryptor()).bytes


@pytest.mark.system
async def test_encrypt_version_6_beside_an_old_key_writes_version_1(
    engine: SequoiaEngine, parties: Parties
) -> None:
    """P-17, P-19: versions are not mixed; the v6 key is named by the first 16 digits of its fingerprint."""
    key = version_6("six")
    six, old = verdict_of(public(key)), parties.verdicts["curve"]

    message = await engine.encrypt(b"text", (six, old))

    outside = _outside(message)
    assert {six.subkeys[0].fingerprint[:16], old.subkeys[0].key_id} == set(outside.pkesk_ids)
    assert ((3, 3), 1) == (outside.pkesk_versions, outside.seipd_version)
    assert b"text" == pysequoia.decrypt(message, key.decryptor()).bytes
    assert b"text" == parties.read_with_gpg(message)


def _verdict(name: str) -> Verdict:
    """What the judge says of a fixture."""
    fixture = keys.fixture(name)
    [verdict] = Judge().judge([fixture.certificate], fixture.address, FixedClock().now())
    return verdict


_SIZES = [5000, sequoia.IN_PROCESS_OCTETS + 1]


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("fixture", keys.USABLE, ids=lambda found: found.name)
async def test_encrypt_version_is_what_the_owner_allows(
    engine: SequoiaEngine, fixture: keys.Fixture, size: int
) -> None:
    """P-13, P-16 to P-19, P-22: one row of the version table, no other container, small AEAD chunks."""
    verdict = _verdict(fixture.name)

    [block] = armor.blocks(await engine.encrypt(bytes(size), (verdict,)))

    outside, found = packets.encrypted_message(block.data), list(packets.walk(block.data))
    expected = (2, {6}, False) if verdict.allows_v2 else (1, {3}, True)
    assert expected == (outside.seipd_version, set(outside.pkesk_versions), block.has_checksum)
    assert [packets.PKESK] * len(verdict.subkeys) + [packets.SEIPD] == [packet.tag for packet in found]
    assert not verdict.allows_v2 or found[-1].head[3] <= 16  # version, cipher, mode, chunk size


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("other", ["no-features", "features-7", "features-unhashed", "curve25519"])
async def test_encrypt_one_who_does_not_allow_version_2_makes_version_1_for_all(
    engine: SequoiaEngine, other: str, size: int
) -> None:
    """P-17, P-19: beside keys of every kind that allow it; exactly the chosen subkeys are named."""
    verdicts = tuple(map(_verdict, ["v6", "v6-no-features", "pqc", "features-9", other]))

    message = await engine.encrypt(bytes(size), verdicts)

    outside = _outside(message)
    ids = [packets.v3_pkesk_id(subkey.key_id) for verdict in verdicts for subkey in verdict.subkeys]
    assert (1, sorted(ids)) == (outside.seipd_version, sorted(outside.pkesk_ids))
    assert {3} == set(outside.pkesk_versions)
    for name in ("v6", "v6-no-features", "pqc", "features-9", other):
        secret = pysequoia.Tsk.from_bytes(keys.secret(name))
        assert bytes(size) == pysequoia.decrypt(message, secret.decryptor()).bytes


async def test_encrypt_all_who_allow_version_2_share_it(engine: SequoiaEngine) -> None:
    """P-17: version 4 and 6 side by side."""
    verdicts = tuple(map(_verdict, ["v6", "v6-no-features", "pqc", "features-9"]))

    outside = _outside(await engine.encrypt(b"text", verdicts))

    assert (2, {6}) == (outside.seipd_version, set(outside.pkesk_versions))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_encrypt_one_key_found_by_two_names_is_as_strict_as_either(
    engine: SequoiaEngine, order: tuple[int, int]
) -> None:
    """R-13: the same certificate may come with two verdicts, and it is encrypted to once."""
    both = (_verdict("features-9"), replace(_verdict("features-9"), allows_v2=False))

    outside = _outside(await engine.encrypt(b"text", tuple(both[place] for place in order)))

    assert (1, 1) == (outside.seipd_version, len(outside.pkesk_ids))


@pytest.mark.system
@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize("name", ["no-features", "features-unhashed", "features-7", "aes128-only"])
async def test_encrypt_old_key_is_read_by_gnupg(
    engine: SequoiaEngine, tmp_path: Path, name: str, size: int
) -> None:
    """Whoever uses GnuPG 2.2 reads what is written to a key that says nothing of RFC 9580."""
    gnupg = GnuPG(tmp_path / "h")
    try:
        gnupg.run("--pinentry-mode", "loopback", "--import", stdin=keys.secret(name))
        message = await engine.encrypt(bytes(size), (_verdict(name),))

        assert bytes(size) == gnupg.run("--decrypt", stdin=message)
    finally:
        gnupg.close()


@pytest.mark.system
@pytest.mark.parametrize("name", ["aes128-only", "curve25519", "no-features"])
async def test_encrypt_cipher_is_aes_256_whatever_is_preferred(
    engine: SequoiaEngine, tmp_path: Path, name: str
) -> None:
    """A deviation from P-20: pysequoia has no option. Should that change, this test tells."""
    gnupg = GnuPG(tmp_path / "h")
    try:
        gnupg.run("--pinentry-mode", "loopback", "--import", stdin=keys.secret(name))
        message = await engine.encrypt(b"text", (_verdict(name),))

        shown = gnupg.run("--show-session-key", "--status-fd=1", "--decrypt", stdin=message)
    finally:
        gnupg.close()
    assert b"SESSION_KEY 9:" in shown


async def test_encrypt_version_2_session_keys_and_salts_are_fresh(engine: SequoiaEngine) -> None:
    """P-21: two copies have nothing in common, neither the salt nor the session key packet."""
    copies = [await engine.encrypt(b"text", (_verdict("v6"),)) for _ in range(2)]

    blocks = [block.data for copy in copies for block in armor.blocks(copy)]
    (key, data), (other_key, other_data) = ([packet.head for packet in packets.walk(one)] for one in blocks)
    assert key[-40:] != other_key[-40:]  # the wrapped session key
    assert data[4:36] != other_data[4:36]  # the salt (RFC 9580 §5.13.2)


async def test_encrypt_small_stays_in_this_process(engine: SequoiaEngine) -> None:
    """Small mail does not pay for a worker."""
    await engine.encrypt(bytes(sequoia.IN_PROCESS_OCTETS), (verdict_of(public(version_6("six"))),))

    assert () == engine.pool.pids


async def test_encrypt_large_goes_to_a_worker(engine: SequoiaEngine) -> None:
    """Large mail does not hold the event loop."""
    await engine.encrypt(bytes(sequoia.IN_PROCESS_OCTETS + 1), (verdict_of(public(version_6("six"))),))

    assert 1 == len(engine.pool.pids)


async def test_encrypt_many_subkeys_go_to_a_worker(engine: SequoiaEngine) -> None:
    """Many recipients do not hold the event loop either, however small the message is."""
    keys = [version_6(str(number)) for number in range(sequoia.IN_PROCESS_SUBKEYS + 1)]

    message = await engine.encrypt(b"text", tuple(verdict_of(public(key)) for key in keys))

    assert 1 == len(engine.pool.pids)
    assert {b"text"} == {pysequoia.decrypt(message, key.decryptor()).bytes for key in keys}


async def test_encrypt_panic_of_the_library_raises_our_error(
    engine: SequoiaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Rust panic, which no `except Exception` catches, refuses one message and ends nothing else."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def fail(*_: object, **__: object) -> bytes:
        raise panic("index out of range\n  backtrace")

    monkeypatch.setattr(pysequoia, "encrypt", fail)

    with pytest.raises(EncryptionFailed, match=r"^panic: index out of range$"):
        await engine.encrypt(b"text", (verdict_of(public(version_6("six"))),))


async def test_encrypt_library_returns_plaintext_raises(
    engine: SequoiaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that is no longer than the plaintext cannot be its ciphertext, whatever it looks like."""
    verdict = verdict_of(public(version_6("six")))
    armoured = pysequoia.encrypt(b"the client's own", [pysequoia.Cert.from_bytes(verdict.reduced)])
    monkeypatch.setattr(pysequoia, "encrypt", lambda plaintext, *_, **__: plaintext)

    with pytest.raises(EncryptionFailed):
        await engine.encrypt(armoured, (verdict,))


async def test_encrypt_other_error_of_ours_is_not_hidden(
    engine: SequoiaEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what the library raises is mapped: an interrupt stays one."""

    def interrupt(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(pysequoia, "encrypt", interrupt)

    with pytest.raises(KeyboardInterrupt):
        await engine.encrypt(b"text", (verdict_of(public(version_6("six"))),))
