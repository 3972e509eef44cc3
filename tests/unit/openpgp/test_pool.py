"""The pool: processes are reused, replaced, bounded and ended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pysequoia
import pytest

from relay.errors import EncryptionFailed
from relay.openpgp.pool import WorkerPool
from tests.unit.openpgp.parties import is_gone, public, until, version_6

_LARGE = bytes(20_000_000)


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    made = WorkerPool(workers=2)
    yield made
    await made.close()


@pytest.fixture(scope="module")
def key() -> pysequoia.Tsk:
    return version_6("six")


async def _in_the_middle(pool: WorkerPool, key: pysequoia.Tsk) -> tuple[asyncio.Task[bytes], int]:
    """A message that is half handed over, and its worker, which is stopped and will not take the rest."""
    await pool.encrypt(b"text", [public(key)], allows_v2=True)
    [pid] = pool.pids
    os.kill(pid, signal.SIGSTOP)
    message = asyncio.create_task(pool.encrypt(_LARGE, [public(key)], allows_v2=True))
    await asyncio.sleep(0)
    return message, pid


async def test_encrypt_first_message_starts_the_first_worker(pool: WorkerPool, key: pysequoia.Tsk) -> None:
    """Nothing is started before it is needed."""
    before = pool.pids

    await pool.encrypt(b"text", [public(key)], allows_v2=True)

    assert (0, 1) == (len(before), len(pool.pids))


async def test_encrypt_next_message_uses_the_same_worker(pool: WorkerPool, key: pysequoia.Tsk) -> None:
    """A worker serves many messages, also after one that it refused."""
    await pool.encrypt(b"text", [public(key)], allows_v2=True)
    before = pool.pids
    with pytest.raises(EncryptionFailed):
        await pool.encrypt(b"text", [b"garbage"], allows_v2=True)
    await pool.encrypt(b"text", [public(key)], allows_v2=True)

    assert before == pool.pids


async def test_encrypt_many_at_once_use_no_more_than_the_bound(pool: WorkerPool, key: pysequoia.Tsk) -> None:
    """Eight messages, two workers."""
    await asyncio.gather(*(pool.encrypt(b"text", [public(key)], allows_v2=True) for _ in range(8)))

    assert 2 == len(pool.pids)


async def test_encrypt_worker_killed_in_the_middle_raises(pool: WorkerPool, key: pysequoia.Tsk) -> None:
    """A crash, or the kernel's memory killer, costs this message and no other."""
    message, pid = await _in_the_middle(pool, key)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(EncryptionFailed, match="ended in the middle"):
        await message

    text = await pool.encrypt(b"text", [public(key)], allows_v2=True)

    assert b"text" == pysequoia.decrypt(text, key.decryptor()).bytes
    assert pid not in pool.pids


async def test_encrypt_worker_died_while_idle_is_replaced(pool: WorkerPool, key: pysequoia.Tsk) -> None:
    """A worker that died between messages costs no message."""
    await pool.encrypt(b"text", [public(key)], allows_v2=True)
    [pid] = pool.pids
    os.kill(pid, signal.SIGKILL)
    await until(lambda: is_gone(pid))

    await pool.encrypt(b"text", [public(key)], allows_v2=True)

    assert 1 == len(pool.pids)
    assert pid not in pool.pids


async def test_encrypt_too_slow_kills_the_worker(key: pysequoia.Tsk) -> None:
    """A worker that hangs is killed, the message fails, and the next one gets a new worker."""
    pool = WorkerPool(workers=1, timeout_seconds=4)
    message, pid = await _in_the_middle(pool, key)
    try:
        with pytest.raises(EncryptionFailed, match="longer"):
            await message
        text = await pool.encrypt(b"text", [public(key)], allows_v2=True)
    finally:
        await pool.close()

    assert b"text" == pysequoia.decrypt(text, key.decryptor()).bytes
    assert is_gone(pid)


async def test_encrypt_cancelled_kills_the_worker(pool: WorkerPool, key: pysequoia.Tsk) -> None:
    """A worker with half a message in it is never used again."""
    message, pid = await _in_the_middle(pool, key)
    message.cancel()
    with pytest.raises(asyncio.CancelledError):
        await message
    await until(lambda: is_gone(pid))

    text = await pool.encrypt(b"text", [public(key)], allows_v2=True)

    assert b"text" == pysequoia.decrypt(text, key.decryptor()).bytes
    assert pid not in pool.pids


async def test_encrypt_cancelled_while_its_worker_starts_keeps_the_worker(
    pool: WorkerPool, key: pysequoia.Tsk
) -> None:
    """A process that nobody waits for any more is not lost: the next message gets it."""
    message = asyncio.create_task(pool.encrypt(b"text", [public(key)], allows_v2=True))
    await asyncio.sleep(0)
    message.cancel()
    with pytest.raises(asyncio.CancelledError):
        await message
    await until(lambda: bool(pool.pids))
    pids = pool.pids

    await pool.encrypt(b"text", [public(key)], allows_v2=True)

    assert pids == pool.pids


async def test_close_ends_busy_and_idle_workers(key: pysequoia.Tsk) -> None:
    """After closing no worker is left, and who waited for one hears a failure."""
    pool = WorkerPool(workers=2)
    await asyncio.gather(*(pool.encrypt(b"text", [public(key)], allows_v2=True) for _ in range(2)))
    pids = pool.pids
    message = asyncio.create_task(pool.encrypt(_LARGE, [public(key)], allows_v2=True))
    await asyncio.sleep(0)

    await pool.close()

    with pytest.raises(EncryptionFailed):
        await message
    assert (2, True, ()) == (len(pids), all(map(is_gone, pids)), pool.pids)


async def test_worker_sees_no_plaintext_in_arguments_or_environment(
    pool: WorkerPool, key: pysequoia.Tsk
) -> None:
    """The message goes through the socket alone, and the only files of the worker are that and /dev/null."""
    await pool.encrypt(b"marker-5f3c", [public(key)], allows_v2=True)
    [pid] = pool.pids
    process = Path(f"/proc/{pid}")

    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    files = {str(link.readlink()).partition(":")[0] for link in (process / "fd").iterdir()}

    assert b"marker-5f3c" not in shown
    assert {"socket", "/dev/null"} == files
