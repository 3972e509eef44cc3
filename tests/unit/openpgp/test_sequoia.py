"""The engine in this process: versions, what goes to a worker, the cache."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pysequoia
import pytest

from relay.errors import EncryptionFailed
from relay.mime import armor, packets
from relay.openpgp import sequoia
from relay.openpgp.sequoia import SequoiaEngine
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
