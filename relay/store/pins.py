"""Remembers which key was used for an address (`relay.seams.PinBook`).

Two processes may do the same at the same moment. Each method is one transaction in which the database decides
who was first; what it returns is what was decided.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from relay.errors import StoreUnavailable
from relay.remembered import PendingKey, PendingState, Pin, Trust
from relay.store.changes import note
from relay.store.connections import insert_into
from relay.store.tables import bounded, pending_keys, pins, seen_addresses

if TYPE_CHECKING:
    from relay.seams import Clock
    from relay.store.connections import Connections

_MAX_WAITING = 20
"""Undecided keys of one address. A source that gives another key each time must not fill the disk."""

_TRIES = 3
"""To pin where others pin and forget at the same time."""


class SqlPinBook:
    """Pins, pending keys and seen addresses in the tables of these names."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    async def pin_of(self, address_key: str) -> Pin | None:
        """The pin as it is in the database now. Raises StoreUnavailable."""
        async with self._connections.reading() as database:
            return await _pin_of(database, address_key)

    async def pin_first(self, pin: Pin) -> Pin:
        """Pins the key unless the address has a pin; the pin that it has now. Raises StoreUnavailable."""
        bounded(pin.certificate + pin.revocations)
        async with self._connections.writing() as database:
            return await self._pin_first(database, pin)

    async def replace_pin(self, old_fingerprint: str, pin: Pin) -> Pin:
        """Puts `pin` in the place of the one with the old fingerprint and drops the pending key that it was.

        An address that was forgotten meanwhile has no pin: `pin` is then its first one, as it would be with
        the next message.

        Returns:
            The pin that the address has now: another one if somebody was quicker.

        Raises:
            StoreUnavailable: nothing was changed, or it cannot be told.
        """
        bounded(pin.certificate + pin.revocations)
        is_old = (pins.c.address_key == pin.address_key) & (pins.c.fingerprint == old_fingerprint)
        async with self._connections.writing() as database:
            replaced = (await database.execute(update(pins).where(is_old).values(asdict(pin)))).rowcount
            if not replaced:
                return await self._pin_first(database, pin)
            await database.execute(delete(pending_keys).where(_is_pending(pin.address_key, pin.fingerprint)))
            await self._mark_seen(database, pin.address_key)
            await self._note(database, pin.address_key)
            return pin

    async def pending(self, address_key: str = "") -> list[PendingKey]:
        """Keys that would replace a pin, the oldest first; of all addresses without an argument.

        Raises StoreUnavailable.
        """
        query = select(pending_keys).order_by(pending_keys.c.since, *pending_keys.primary_key)
        if address_key:
            query = query.where(pending_keys.c.address_key == address_key)
        async with self._connections.reading() as database:
            return [_pending(row) for row in (await database.execute(query)).all()]

    async def add_pending(self, key: PendingKey) -> PendingKey:
        """Notes a key that would replace a pin; the entry that was there already, if there was one.

        Of too many undecided ones the oldest is dropped. Raises StoreUnavailable.
        """
        bounded(key.certificate)
        query = select(pending_keys).where(_is_pending(key.address_key, key.fingerprint))
        async with self._connections.writing() as database:
            insert = insert_into(database, pending_keys).values(asdict(key)).on_conflict_do_nothing()
            if (await database.execute(insert.returning(pending_keys.c.fingerprint))).first() is None:
                return _pending((await database.execute(query)).one())
            await self._drop_oldest(database, key)
            await self._note(database, key.address_key)
            return key

    async def decide(self, address_key: str, fingerprint: str, state: PendingState) -> bool:
        """What the administrator decided; False where no such key is pending. Raises StoreUnavailable."""
        is_it = _is_pending(address_key, fingerprint)
        async with self._connections.writing() as database:
            decided = (await database.execute(update(pending_keys).where(is_it).values(state=state))).rowcount
            await self._note(database, address_key)
        return decided > 0

    async def forget_pin(self, address_key: str) -> bool:
        """Drops the pin and the pending keys; False where there was no pin. Raises StoreUnavailable."""
        async with self._connections.writing() as database:
            statement = delete(pins).where(pins.c.address_key == address_key)
            dropped = (await database.execute(statement)).rowcount
            await database.execute(delete(pending_keys).where(pending_keys.c.address_key == address_key))
            await self._note(database, address_key)
        return dropped > 0

    async def was_seen(self, address_key: str) -> bool:
        """Whether any source outside of this machine ever had a certificate. Raises StoreUnavailable."""
        query = select(seen_addresses).where(seen_addresses.c.address_key == address_key)
        async with self._connections.reading() as database:
            return (await database.execute(query)).first() is not None

    async def mark_seen(self, address_key: str) -> None:
        """Remembers for good that one had. Raises StoreUnavailable."""
        async with self._connections.writing() as database:
            if await self._mark_seen(database, address_key):
                await self._note(database, address_key)

    async def _pin_first(self, database: AsyncConnection, pin: Pin) -> Pin:
        insert = insert_into(database, pins).values(asdict(pin)).on_conflict_do_nothing()
        for _ in range(_TRIES):
            is_new = (await database.execute(insert.returning(pins.c.address_key))).first() is not None
            # Between the two statements somebody may forget the pin that was in the way (READ COMMITTED).
            if now := await _pin_of(database, pin.address_key):
                await self._mark_seen(database, pin.address_key)
                if is_new:
                    await self._note(database, pin.address_key)
                return now
        raise StoreUnavailable("the pin of an address is written and forgotten at the same time")

    async def _mark_seen(self, database: AsyncConnection, address_key: str) -> bool:
        """Whether it was new."""
        insert = insert_into(database, seen_addresses).values(address_key=address_key)
        statement = insert.on_conflict_do_nothing().returning(seen_addresses.c.address_key)
        return (await database.execute(statement)).first() is not None

    async def _drop_oldest(self, database: AsyncConnection, key: PendingKey) -> None:
        """Never the one that was just added, nor one that was decided."""
        columns = pending_keys.c
        waiting = (columns.address_key == key.address_key) & (columns.state == PendingState.WAITING)
        others = select(columns.fingerprint).where(waiting, columns.fingerprint != key.fingerprint)
        newest_first = others.order_by(columns.since.desc(), columns.fingerprint)
        # A subquery of its own, because OFFSET would otherwise have no limit on SQLite.
        excess = (await database.execute(newest_first)).scalars().all()[_MAX_WAITING - 1 :]
        if excess:
            await database.execute(delete(pending_keys).where(waiting, columns.fingerprint.in_(excess)))

    async def _note(self, database: AsyncConnection, address_key: str) -> None:
        await note(database, address_key, self._clock.now())


async def _pin_of(database: AsyncConnection, address_key: str) -> Pin | None:
    query = select(pins).where(pins.c.address_key == address_key)
    row = (await database.execute(query)).first()
    return Pin(**(dict(row._mapping) | {"trust": Trust(row.trust)})) if row else None


def _pending(row: Row[Any]) -> PendingKey:
    decoded = {"trust": Trust(row.trust), "state": PendingState(row.state)}
    return PendingKey(**(dict(row._mapping) | decoded))


def _is_pending(address_key: str, fingerprint: str) -> ColumnElement[bool]:
    return (pending_keys.c.address_key == address_key) & (pending_keys.c.fingerprint == fingerprint)
