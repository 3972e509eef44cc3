"""How a process learns what another one wrote: a row of `changes` in the same transaction as the write.

Ids are given when a row is inserted and become visible when its transaction commits, which on PostgreSQL may
be in another order. So an id that was passed over is asked for again, as long as a transaction can last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import Row, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.store.tables import changes

if TYPE_CHECKING:
    from relay.seams import Clock
    from relay.store.connections import Connections

EVERYTHING = "*"
"""In place of the addresses where it cannot be told which changed: forget all that is kept in memory."""

_KEEP = timedelta(hours=1)
_PRUNE_EVERY = timedelta(minutes=10)

_MAX_PAUSE = timedelta(minutes=30)
"""After a longer one rows may be gone that were never read. Half of what is kept: clocks of hosts differ."""

_GAP_SECONDS = 60.0
"""An id that has not appeared by then never will: a write may last five seconds, in the server as well."""

_LOOK_BACK = 1000
"""Ids below the first one that are taken for passed over: writes that were under way at the start."""

_MAX_ROWS = 10_000
"""In one poll, and gaps that are asked for: databases take some 32 000 parameters. More are EVERYTHING."""


async def note(database: AsyncConnection, address_key: str, at: datetime) -> None:
    """Tells other processes about the write of this transaction."""
    await database.execute(insert(changes).values(address_key=address_key, at=at))


class Changes:
    """Which addresses were written, by this process or another. For one reader, which polls."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock
        self._last: int | None = None
        """The highest id that was read; None before the start."""
        self._gaps: dict[int, float] = {}
        """Ids below it that were not there, each with the monotonic time at which it is given up."""
        self._polled_at = self._pruned_at = clock.now()

    async def start(self) -> None:
        """What was written before is no change. Raises StoreUnavailable."""
        async with self._connections.reading() as database:
            newest = select(func.coalesce(func.max(changes.c.id), 0)).scalar_subquery()
            rows = (
                await database.execute(select(changes.c.id).where(changes.c.id > newest - _LOOK_BACK))
            ).all()
        ids = {row.id for row in rows}
        self._last = max(ids, default=0)
        self._gaps = {}
        self._remember_gaps(set(range(max(1, self._last - _LOOK_BACK), self._last)) - ids)
        self._polled_at = self._clock.now()

    async def poll(self) -> list[str]:
        """The addresses (`Address.key`) that changed since the last poll, each once; or EVERYTHING.

        Raises:
            StoreUnavailable: nothing is lost; the next poll has it.
        """
        if self._last is None or abs(self._clock.now() - self._polled_at) > _MAX_PAUSE:
            await self.start()
            return [EVERYTHING]
        await self._prune()
        rows = await self._read(self._last)
        if not _is_continuous(rows, self._last) or len(self._gaps) > _MAX_ROWS:
            await self.start()
            return [EVERYTHING]
        return self._take(rows, self._last)

    async def _read(self, last: int) -> Sequence[Row[int, str]]:
        """New rows, those of gaps, and the last one again: if it is gone, this is another database."""
        is_asked = or_(changes.c.id >= last, changes.c.id.in_(self._gaps))
        query = select(changes.c.id, changes.c.address_key).where(is_asked).order_by(changes.c.id)
        async with self._connections.reading() as database:
            return (await database.execute(query.limit(_MAX_ROWS))).all()

    def _take(self, rows: Sequence[Row[int, str]], last: int) -> list[str]:
        """No await: what is noted here as read is also returned."""
        new = [row for row in rows if row.id > last or row.id in self._gaps]
        ids = {row.id for row in new}
        now = self._clock.monotonic()
        self._gaps = {id: until for id, until in self._gaps.items() if id not in ids and until > now}
        self._last = max(ids | {last})
        self._remember_gaps(set(range(last + 1, self._last)) - ids)
        self._polled_at = self._clock.now()
        return list(dict.fromkeys(row.address_key for row in new))

    def _remember_gaps(self, ids: Iterable[int]) -> None:
        until = self._clock.monotonic() + _GAP_SECONDS
        self._gaps.update(dict.fromkeys(ids, until))

    async def _prune(self) -> None:
        """Drops what everybody has read; never the newest row, by which readers know the database."""
        now = self._clock.now()
        if now - self._pruned_at < _PRUNE_EVERY:
            return
        newest = select(func.max(changes.c.id)).scalar_subquery()
        async with self._connections.writing() as database:
            await database.execute(delete(changes).where(changes.c.at < now - _KEEP, changes.c.id < newest))
        self._pruned_at = now


def _is_continuous(rows: Sequence[Row[int, str]], last: int) -> bool:
    """Whether these rows can be the sequel of row `last`; 0 was none."""
    if len(rows) == _MAX_ROWS:
        return False
    newest = rows[-1].id if rows else 0
    return bool(last <= newest <= last + _MAX_ROWS)
