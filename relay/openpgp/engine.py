"""What all engines do alike: whom a message is encrypted to, and how many messages at once.

Nothing here encrypts, and nothing decides whether a certificate may be used: that is the judge's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.errors import EncryptionFailed
from relay.message import Verdict

TIMEOUT_SECONDS = 120.0
"""For one message, the wait for its turn included; the largest message needs about two seconds."""

MAX_WAITING = 1024
"""Messages that may wait for their turn.

Memory does not bound it: whoever waits has taken its octets from `relay.budget` before. Time does: the
slowest way, one gpg for each message, makes some tens in a second on two processors, so that the last one
has its turn well within `TIMEOUT_SECONDS`. A shorter line refuses bursts that would have been served in time;
this one holds a message of each connection that `limits.connections` allows by default.
"""


class EngineUnavailable(Exception):
    """The engine cannot work on this machine at all; raised while it is built, never for a message."""


def intended(keys: tuple[Verdict, ...]) -> tuple[Verdict, ...]:
    """The verdicts to encrypt to, without those whose subkeys another one already covers.

    Recipients may share a certificate (an alias, a role key); a second session key packet for the same subkey
    would only tell how many they are.

    Raises:
        EncryptionFailed: there is none, or one of them may not be used.
    """
    if not keys:
        raise EncryptionFailed("no certificate to encrypt to")
    if not all(verdict.usable and verdict.subkeys and verdict.reduced for verdict in keys):
        raise EncryptionFailed("a certificate that may not be used reached the engine")
    chosen: list[Verdict] = []
    covered: set[str] = set()
    for verdict in sorted(keys, key=lambda verdict: len(verdict.subkeys), reverse=True):
        fingerprints = {subkey.fingerprint for subkey in verdict.subkeys}
        if not fingerprints <= covered:
            chosen.append(verdict)
            covered |= fingerprints
    return tuple(chosen)


class Turns:
    """Lets a bounded number of messages run and a bounded number wait.

    Args:
        at_once: how many run at the same time.
        max_waiting: how many may stand in line behind them.
        timeout_seconds: for the wait and the work together.
    """

    def __init__(self, at_once: int, max_waiting: int, timeout_seconds: float) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._waiting = 0

    @asynccontextmanager
    async def take(self) -> AsyncIterator[None]:
        """One turn; whatever runs in it is cancelled when the time is over.

        Raises:
            EncryptionFailed: too many wait already, or it took too long.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._wait()
                try:
                    yield
                finally:
                    self._free.release()
        except TimeoutError as exc:
            raise EncryptionFailed(f"encryption took longer than {self._timeout_seconds} seconds") from exc

    async def _wait(self) -> None:
        if self._free.locked() and self._waiting >= self._max_waiting:
            raise EncryptionFailed(f"{self._waiting} messages wait for encryption already")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
