"""relay.store.schema, on SQLite and on PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, select, text, update

from relay.errors import StoreUnavailable
from relay.store.connections import Connections
from relay.store.database import Store
from relay.store.schema import STEPS, prepare
from relay.store.settings import StoreSettings
from relay.store.tables import schema_version
from tests.fakes import FixedClock, ListJournal
from tests.unit.store.values import BOB, pin

KNOWN = 1 + len(STEPS)


async def _version(connections: Connections) -> list[int]:
    async with connections.reading() as database:
        return list((await database.execute(select(schema_version.c.version))).scalars().all())


async def test_prepare_empty_database_notes_the_version(store: Store) -> None:
    """A new database has the tables of this relay and says so."""
    assert [KNOWN] == await _version(store.connections)


async def test_prepare_second_time_keeps_what_is_there(store: Store, settings: StoreSettings) -> None:
    """A restart forgets nothing."""
    await store.pins.pin_first(pin())
    async with Store(settings, FixedClock(), ListJournal()) as again:
        found = await again.pins.pin_of(BOB)

    assert pin() == found
    assert [KNOWN] == await _version(store.connections)


async def test_prepare_tables_of_a_newer_relay_are_refused(store: Store, settings: StoreSettings) -> None:
    """After a downgrade the relay says what to do, and touches nothing that it does not know."""
    async with store.connections.writing() as database:
        await database.execute(update(schema_version).values(version=KNOWN + 1))

    with pytest.raises(
        StoreUnavailable, match=r"newer relay \(schema 2, this one knows 1\): update this relay"
    ):
        await Store(settings, FixedClock(), ListJournal()).__aenter__()
    assert [KNOWN + 1] == await _version(store.connections)


async def test_prepare_older_tables_takes_the_missing_steps(store: Store) -> None:
    """Each step is taken once, in order, and the version follows."""
    taken = []

    def step(name: str) -> None:
        taken.append(name)

    def second(connection: Connection) -> None:
        step("to 2")
        connection.execute(text("ALTER TABLE pins ADD COLUMN note VARCHAR"))

    steps = (second, lambda connection: step("to 3"))
    for _ in range(2):
        async with store.connections.writing() as database:
            await database.run_sync(prepare, steps)

    assert ["to 2", "to 3"] == taken
    assert [3] == await _version(store.connections)


async def test_prepare_failing_step_leaves_the_old_tables(store: Store) -> None:
    """A migration is whole or not at all."""

    def broken(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE pins ADD COLUMN note VARCHAR"))
        connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(StoreUnavailable):
        async with store.connections.writing() as database:
            await database.run_sync(prepare, (broken,))

    assert [KNOWN] == await _version(store.connections)
    with pytest.raises(StoreUnavailable, match="note"):
        async with store.connections.reading() as database:
            await database.execute(text("SELECT note FROM pins"))
