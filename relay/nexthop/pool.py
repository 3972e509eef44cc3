"""All connections to the next hop: never more than a fixed number, and idle ones kept for use.

A `slot` is held while somebody talks to the next hop, not while a client uploads: between two commands a
connection is parked. Whoever needs a connection when all places are taken closes the parked one that is
missed least; its owner notices and opens another, because every transaction can be replayed. So neither idle
clients nor slow uploads keep others from sending.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from relay.nexthop.connection import HopConnection
from relay.nexthop.replies import HopFailure, Reason

if TYPE_CHECKING:
    from relay.nexthop.settings import NextHopSettings
    from relay.seams import Clock


class Parked(IntEnum):
    """What a parked connection waits for; the lowest is given up first."""

    SHARED = 0
    """Any session without a login of its own."""
    SESSION = 1
    """The session whose client is logged in on it."""
    TRANSACTION = 2
    """The next command of a transaction."""


@dataclass(frozen=True, slots=True)
class _Place:
    kind: Parked
    since: float


class ConnectionPool:
    """Counts and keeps connections. A connection is either parked here or in use under a slot."""

    def __init__(self, settings: NextHopSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._slots = asyncio.Semaphore(settings.max_connections)
        self._parked: dict[HopConnection, _Place] = {}  # in the order of parking
        self._used: set[HopConnection] = set()
        self._closed = False

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """The right to use one connection. Raises HopFailure if none becomes free in time."""
        try:
            async with asyncio.timeout(self._settings.timeouts.slot_seconds):
                await self._slots.acquire()
        except TimeoutError as exc:
            raise HopFailure(Reason.BUSY, f"all {self._settings.max_connections} are in use") from exc
        try:
            yield
        finally:
            self._slots.release()

    def new(self) -> HopConnection:
        """A connection that is not open yet, after making room for it."""
        while self._parked and len(self._parked) + len(self._used) >= self._settings.max_connections:
            self.drop(min(self._parked, key=lambda connection: self._parked[connection].kind))
        connection = HopConnection(self._settings)
        self._used.add(connection)
        return connection

    def take_shared(self) -> HopConnection | None:
        """The shared connection that was used last, if one is fit for use."""
        shared = [one for one, place in self._parked.items() if place.kind is Parked.SHARED]
        return next((one for one in reversed(shared) if self.reclaim(one)), None)

    def reclaim(self, connection: HopConnection) -> bool:
        """Takes a connection back into use; False if it was given up, died, or is too old (then closed)."""
        place = self._parked.pop(connection, None)
        if place is None:
            return False
        if not connection.is_usable or self._is_worn(connection, place):
            connection.close()
            return False
        self._used.add(connection)
        return True

    def _is_worn(self, connection: HopConnection, place: _Place) -> bool:
        if place.kind is Parked.TRANSACTION:
            return False
        age = self._clock.monotonic() - place.since
        worn_out = connection.messages >= self._settings.messages_per_connection
        return worn_out or age > self._settings.idle_seconds

    def park(self, connection: HopConnection, kind: Parked) -> None:
        """Ends the use of a connection for now, or for good if it died or nobody will share it any more."""
        self._used.discard(connection)
        if not connection.is_usable or (self._closed and kind is Parked.SHARED):
            connection.close()
        else:
            self._parked[connection] = _Place(kind, self._clock.monotonic())

    def drop(self, connection: HopConnection) -> None:
        """Closes a connection, parked or in use."""
        self._used.discard(connection)
        self._parked.pop(connection, None)
        connection.close()

    def close(self) -> None:
        """Closes what is idle, now and from now on.

        Sessions that are still open go on until they end: a new configuration drops no message under way.
        """
        self._closed = True
        for connection in [one for one, place in self._parked.items() if place.kind is Parked.SHARED]:
            self.drop(connection)
