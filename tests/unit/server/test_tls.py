from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from relay.server.tls import ReloadingContext, load_context
from tests.fakes import FixedClock, ListJournal


class Pair:
    """A certificate and its key in files."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "cert.pem"
        self.key = folder / "key.pem"
        self._stamp = 1_000_000_000

    def write(self, certificate: bytes, key: bytes) -> None:
        self.certificate.write_bytes(certificate)
        self.key.write_bytes(key)
        self._stamp += 1
        for path in (self.certificate, self.key):
            os.utime(path, (self._stamp, self._stamp))


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> Pair:
    pair = Pair(tmp_path)
    pair.write(*issue(authority))
    return pair


def issue(authority: trustme.CA) -> tuple[bytes, bytes]:
    issued = authority.issue_cert("relay.example")
    return issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()


def test_context_takes_tls_1_2_and_later(pair: Pair) -> None:
    """Nothing older is negotiated (S-02)."""
    assert ssl.TLSVersion.TLSv1_2 == load_context(pair.certificate, pair.key).minimum_version


def test_context_with_encrypted_key_fails_without_asking(pair: Pair) -> None:
    """A key with a passphrase is an error, not a question on the terminal."""
    key = load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    )

    with pytest.raises(OSError):
        load_context(pair.certificate, pair.key)


def test_reloading_new_pair_is_taken(pair: Pair, authority: trustme.CA) -> None:
    """A pair that changed serves from then on, one that did not is not read again."""
    journal = ListJournal()
    context = ReloadingContext(pair.certificate, pair.key, journal)
    first = context()
    context.refresh()
    unchanged = context()
    pair.write(*issue(authority))
    context.refresh()

    assert (True, True) == (unchanged is first, context() is not first)
    assert ["certificate_loaded"] == journal.names()


@pytest.mark.parametrize("damage", ["garbage", "missing", "other key"])
def test_reloading_bad_pair_keeps_the_old_one(pair: Pair, authority: trustme.CA, damage: str) -> None:
    """A bad pair is reported once and never used; the next good one is."""
    journal = ListJournal()
    context = ReloadingContext(pair.certificate, pair.key, journal)
    first = context()
    if damage == "missing":
        pair.key.unlink()
    else:
        pair.write(issue(authority)[0], b"garbage" if damage == "garbage" else issue(authority)[1])
    context.refresh()
    context.refresh()
    kept = context()
    pair.write(*issue(authority))
    context.refresh()

    assert (True, True) == (kept is first, context() is not first)
    assert ["certificate_kept", "certificate_loaded"] == journal.names()


def test_reloading_by_force_reads_an_unchanged_pair(pair: Pair) -> None:
    """HUP reads in any case."""
    context = ReloadingContext(pair.certificate, pair.key, ListJournal())
    first = context()
    context.refresh(force=True)

    assert context() is not first


def test_reloading_needs_a_good_pair_to_begin_with(pair: Pair) -> None:
    """Without any certificate there is no start."""
    pair.key.write_bytes(b"garbage")

    with pytest.raises(OSError):
        ReloadingContext(pair.certificate, pair.key, ListJournal())


class TwoTicks(FixedClock):
    """A clock whose second sleep does not end."""

    def __init__(self) -> None:
        super().__init__()
        self.slept = 0
        self.second = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        if self.slept == 2:
            self.second.set()
            await asyncio.Event().wait()


async def test_watch_takes_a_new_pair(pair: Pair, authority: trustme.CA) -> None:
    """Watching needs no signal and reads off the event loop."""
    clock = TwoTicks()
    context = await asyncio.to_thread(ReloadingContext, pair.certificate, pair.key, ListJournal())
    first = context()
    await asyncio.to_thread(pair.write, *issue(authority))
    task = asyncio.create_task(context.watch(clock))
    await clock.second.wait()
    task.cancel()

    assert context() is not first
    with pytest.raises(asyncio.CancelledError):
        await task
