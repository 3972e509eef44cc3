"""The store: one database with everything that the relay remembers.

    async with Store(StoreSettings("sqlite:////var/lib/relay/relay.db"), clock, journal) as store:
        entry = await store.cache.get("wkd", "bob@example.org")

The parts do not know each other; what they share is `connections.py`.
"""

from __future__ import annotations

from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from relay.store.cache import SqlKeyCache
from relay.store.changes import Changes
from relay.store.connections import Connections
from relay.store.learned import SqlLearnedKeys
from relay.store.pins import SqlPinBook

if TYPE_CHECKING:
    from relay.seams import Clock, Journal, KeyCache, LearnedKeys, PinBook
    from relay.store.settings import StoreSettings


class Store:
    """What is remembered, in one database. It may be used by several processes at once.

    A store whose database is away is no broken store: each use raises StoreUnavailable until it is back.
    """

    def __init__(self, settings: StoreSettings, clock: Clock, journal: Journal) -> None:
        self._settings = settings
        self._journal = journal
        self.connections = Connections(settings)
        self._entries = SqlKeyCache(self.connections, clock)
        self.cache: KeyCache = self._entries
        self.pins: PinBook = SqlPinBook(self.connections, clock)
        self.learned: LearnedKeys = SqlLearnedKeys(self.connections, clock)
        self.changes = Changes(self.connections, clock)

    async def open(self) -> Self:
        """Connects and makes the tables.

        Raises:
            StoreUnavailable: the store may be used all the same, and will try again with each use; or it is
                to be closed.
        """
        await self.connections.ready()
        await self.changes.start()
        self._journal.record("store_opened", database=str(self._settings.place))
        return self

    async def prune(self, now: datetime) -> int:
        """Drops cache entries that nobody used for 30 days and that are of no use; how many.

        Raises StoreUnavailable.
        """
        dropped = await self._entries.prune(now)
        self._journal.record("store_pruned", entries=dropped)
        return dropped

    async def close(self) -> None:
        """Ends the connections; never raises."""
        await self.connections.close()

    async def __aenter__(self) -> Self:
        try:
            return await self.open()
        except BaseException:
            await self.close()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
