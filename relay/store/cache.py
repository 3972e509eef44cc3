"""Keeps the answers of discovered sources (`relay.seams.KeyCache`)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row, Select, delete, func, select, update

from relay.address import parse_mailbox
from relay.remembered import CacheEntry
from relay.store.changes import note
from relay.store.connections import insert_into
from relay.store.tables import cache_entries, pack, unpack

if TYPE_CHECKING:
    from relay.seams import Clock
    from relay.store.connections import Connections

_KEEP_UNUSED = timedelta(days=30)
_MAX_FAILURE_CHARS = 500

_columns = cache_entries.c


class SqlKeyCache:
    """Entries in the table `cache_entries`."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    async def get(self, source: str, key: str) -> CacheEntry | None:
        """The entry, however old. Raises StoreUnavailable."""
        query = select(cache_entries).where(_columns.source == source, _columns.key == key)
        found = await self._select(query)
        return found[0] if found else None

    async def put(self, entry: CacheEntry) -> None:
        """Keeps the entry in place of the one with the same source and key.

        Raises:
            StoreUnavailable: also for certificates that are too large.
            ValueError: its address does not parse.
        """
        # A question for a fingerprint has no address; it is reported under its own key (`Question.name`).
        address_key = parse_mailbox(entry.address).key if entry.address else entry.key
        values = asdict(entry) | {
            "address_key": address_key,
            "certificates": pack(entry.certificates),
            "has_key": int(bool(entry.certificates)),
            "failure": _printable(entry.failure),
        }
        async with self._connections.writing() as database:
            statement = insert_into(database, cache_entries).values(values)
            await database.execute(
                statement.on_conflict_do_update(index_elements=["source", "key"], set_=values)
            )
            await note(database, address_key, self._clock.now())

    async def touch(self, source: str, key: str, used_at: datetime) -> None:
        """Notes that a message needed the entry. Raises StoreUnavailable."""
        is_it = (_columns.source == source) & (_columns.key == key)
        async with self._connections.writing() as database:
            await database.execute(update(cache_entries).where(is_it).values(used_at=used_at))

    async def due(self, source: str, before: datetime, used_after: datetime, limit: int) -> list[CacheEntry]:
        """Entries with certificates that end before a moment and were used after another, the oldest first.

        Raises StoreUnavailable.
        """
        return await self._select(due_query(source, before, used_after, limit))

    async def entries(self, address_key: str) -> list[CacheEntry]:
        """The entries of all sources for the address. Raises StoreUnavailable."""
        is_it = _columns.address_key == address_key
        return await self._select(select(cache_entries).where(is_it).order_by(_columns.source, _columns.key))

    async def forget(self, address_key: str) -> int:
        """Drops the entries of all sources for the address; how many there were. Raises StoreUnavailable."""
        async with self._connections.writing() as database:
            statement = delete(cache_entries).where(_columns.address_key == address_key)
            dropped = (await database.execute(statement)).rowcount
            # Also where there was none: somebody may remember more than the table does.
            await note(database, address_key, self._clock.now())
        return dropped

    async def prune(self, now: datetime) -> int:
        """Drops what nobody used for 30 days and may not be used any more; how many.

        Raises StoreUnavailable.
        """
        unused = func.coalesce(_columns.used_at, _columns.fresh_until) < now - _KEEP_UNUSED
        is_over = (_columns.fresh_until < now) & (_columns.usable_until < now)
        async with self._connections.writing() as database:
            return (await database.execute(delete(cache_entries).where(unused, is_over))).rowcount

    async def _select(self, query: Select[Any]) -> list[CacheEntry]:
        async with self._connections.reading() as database:
            return [_entry(row) for row in (await database.execute(query)).all()]


def due_query(source: str, before: datetime, used_after: datetime, limit: int) -> Select[Any]:
    """The query of `due`; a test asks the database whether it uses the index."""
    return (
        select(cache_entries)
        .where(_columns.source == source, _columns.has_key == 1)
        .where(_columns.fresh_until < before, _columns.used_at > used_after)
        .order_by(_columns.fresh_until)
        .limit(limit)
    )


def _entry(row: Row[Any]) -> CacheEntry:
    values = dict(row._mapping) | {"certificates": unpack(row.certificates)}
    del values["address_key"], values["has_key"]
    return CacheEntry(**values)


def _printable(text: str) -> str:
    """Within bounds and without what a database does not take as text (NUL, half surrogate pairs)."""
    return "".join(char if char.isprintable() else "?" for char in text[:_MAX_FAILURE_CHARS])
