"""The memory budget over all messages in flight (`limits.memory_bytes`).

Every octet of mail that the relay holds is reserved here first, so that a flood is answered `452 4.3.1` and
not by the kernel. Uploads may fill one half and are refused past it; encryption waits for the other half.
Two halves keep it free of deadlock: nobody holds a part of the second one while waiting for more of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.errors import OverMemory, TooManyCopies

UPLOAD_FACTOR = 2
"""Peak of receiving and looking at a message, in message sizes: the message and its body cut out of it."""

ENCRYPT_FACTOR = 9
"""Peak of encrypting and forwarding one copy, in message sizes: in this process the payload, the armour and
the message around it (1.4 each) and what the self-check decodes; in a worker the payload, the ciphertext and
its armour. Measured by the memory test."""

COPY_FACTOR = 2
"""What each further copy adds: all ciphertexts exist before any content is sent."""

PEAK_FACTOR = 2 * max(UPLOAD_FACTOR, ENCRYPT_FACTOR)
"""`memory_bytes` must be at least this many times `message_bytes`, or the largest message never fits."""


class Budget:
    """Counts octets; refuses uploads and lets encryption wait when they are used up.

    Args:
        memory_bytes: the whole budget.
        patience_seconds: how long encryption waits for its share before the client gets 452.
    """

    def __init__(self, memory_bytes: int, patience_seconds: float = 60.0) -> None:
        self._upload_free = memory_bytes // 2
        self._encrypt_total = memory_bytes - self._upload_free
        self._encrypt_free = self._encrypt_total
        self._patience_seconds = patience_seconds
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        """First come, first served, so that a large message is not overtaken for ever."""

    def reserve(self, message_bytes: int) -> Reservation:
        """Room for an upload that announced `message_bytes` (0: nothing announced); raises OverMemory."""
        reservation = Reservation(self)
        reservation.declare(message_bytes)
        return reservation

    def take_upload(self, octets: int) -> None:
        """Takes octets of the upload share; raises OverMemory."""
        if octets > self._upload_free:
            raise OverMemory(f"{octets} octets asked, {self._upload_free} free")
        self._upload_free -= octets

    def give_upload(self, octets: int) -> None:
        """Gives octets of the upload share back."""
        self._upload_free += octets

    @asynccontextmanager
    async def encrypting(self, message_bytes: int, copies: int) -> AsyncIterator[None]:
        """Room for encrypting and forwarding; waits for it, `patience_seconds` at most.

        Raises:
            TooManyCopies: it can never fit.
            OverMemory: it did not fit in time.
        """
        octets = message_bytes * (ENCRYPT_FACTOR + COPY_FACTOR * (copies - 1))
        if octets > self._encrypt_total:
            raise TooManyCopies(f"{octets} octets asked, {self._encrypt_total} in all", copies=copies)
        await self._take_encrypt(octets)
        try:
            yield
        finally:
            self._give_encrypt(octets)

    async def _take_encrypt(self, octets: int) -> None:
        if not self._waiting and octets <= self._encrypt_free:
            self._encrypt_free -= octets
            return
        await self._wait(octets)

    async def _wait(self, octets: int) -> None:
        """Queues for octets; on time-out or cancellation nothing stays taken."""
        place = (octets, asyncio.get_running_loop().create_future())
        self._waiting.append(place)
        try:
            async with asyncio.timeout(self._patience_seconds):
                await place[1]
        except BaseException as exc:
            self._leave(place)
            if isinstance(exc, TimeoutError):
                raise OverMemory(f"{octets} octets were not free in time") from exc
            raise

    def _leave(self, place: tuple[int, asyncio.Future[None]]) -> None:
        if place in self._waiting:
            self._waiting.remove(place)
            self._serve()
        else:  # it was served in the same turn of the loop in which it gave up
            self._give_encrypt(place[0])

    def _give_encrypt(self, octets: int) -> None:
        self._encrypt_free += octets
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._encrypt_free:
            octets, future = self._waiting.popleft()
            self._encrypt_free -= octets
            if not future.done():
                future.set_result(None)


class Reservation:
    """Octets reserved for one upload; `release` gives them back and may be called more than once."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._held_octets = 0
        self._declared_bytes = 0

    def declare(self, message_bytes: int) -> None:
        """Reserves what MAIL SIZE= announced; raises OverMemory."""
        self._take(message_bytes)
        self._declared_bytes += message_bytes

    def grow(self, message_bytes: int) -> None:
        """Makes room for `message_bytes` more of the message; raises OverMemory.

        What the client declared is already reserved and is used up first.
        """
        covered = min(message_bytes, self._declared_bytes)
        self._declared_bytes -= covered
        self._take(message_bytes - covered)

    def release(self) -> None:
        """Gives everything back."""
        self._budget.give_upload(self._held_octets)
        self._held_octets = self._declared_bytes = 0

    def _take(self, message_bytes: int) -> None:
        octets = message_bytes * UPLOAD_FACTOR
        self._budget.take_upload(octets)
        self._held_octets += octets
