"""Keeps the keys that messages carried (`relay.seams.LearnedKeys`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from relay.remembered import LearnedKey
from relay.store.changes import note
from relay.store.connections import insert_into
from relay.store.tables import bounded, learned_keys

if TYPE_CHECKING:
    from relay.seams import Clock
    from relay.store.connections import Connections


class SqlLearnedKeys:
    """One key for an address, in the table `learned_keys`."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    async def get(self, address_key: str) -> LearnedKey | None:
        """The key that was learned for the address. Raises StoreUnavailable."""
        query = select(learned_keys).where(learned_keys.c.address_key == address_key)
        async with self._connections.reading() as database:
            row = (await database.execute(query)).first()
        return LearnedKey(**row._mapping) if row else None

    async def put(self, key: LearnedKey) -> None:
        """Keeps the key in place of the one of the same address. Raises StoreUnavailable."""
        bounded(key.certificate)
        values = asdict(key)
        async with self._connections.writing() as database:
            statement = insert_into(database, learned_keys).values(values)
            await database.execute(
                statement.on_conflict_do_update(index_elements=["address_key"], set_=values)
            )
            await note(database, key.address_key, self._clock.now())

    async def forget(self, address_key: str) -> bool:
        """Drops what was learned for the address; False where nothing was. Raises StoreUnavailable."""
        async with self._connections.writing() as database:
            statement = delete(learned_keys).where(learned_keys.c.address_key == address_key)
            is_gone = (await database.execute(statement)).rowcount > 0
            await note(database, address_key, self._clock.now())
        return is_gone

    async def all(self, limit: int) -> list[LearnedKey]:
        """The keys of all addresses, sorted by these. Raises StoreUnavailable."""
        query = select(learned_keys).order_by(learned_keys.c.address_key).limit(limit)
        async with self._connections.reading() as database:
            return [LearnedKey(**row._mapping) for row in (await database.execute(query)).all()]
