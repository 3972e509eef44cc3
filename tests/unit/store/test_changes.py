"""relay.store.changes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest
from sqlalchemy import delete, func, insert, select, text

from relay.errors import StoreUnavailable
from relay.remembered import PendingState
from relay.store.changes import EVERYTHING, Changes, note
from relay.store.database import Store
from relay.store.settings import StoreSettings
from relay.store.tables import changes
from tests import postgres as postgresql
from tests.fakes import FixedClock, ListJournal
from tests.unit.store.values import BOB, FIRST, SECOND, entry, learned, pending, pin

EVE = "eve@example.org"

Write = Callable[[Store], Awaitable[object]]

WRITES: dict[str, Write] = {
    "put": lambda store: store.cache.put(entry()),
    "forget": lambda store: store.cache.forget(BOB),
    "pin_first": lambda store: store.pins.pin_first(pin()),
    "replace_pin": lambda store: store.pins.replace_pin(FIRST, pin(SECOND)),
    "add_pending": lambda store: store.pins.add_pending(pending()),
    "decide": lambda store: store.pins.decide(BOB, SECOND, PendingState.APPROVED),
    "forget_pin": lambda store: store.pins.forget_pin(BOB),
    "mark_seen": lambda store: store.pins.mark_seen(BOB),
    "learned": lambda store: store.learned.put(learned()),
}


async def _rows(store: Store) -> int:
    async with store.connections.reading() as database:
        return (await database.execute(select(func.count()).select_from(changes))).scalar_one()


async def _write(store: Store, id: int, address_key: str = BOB) -> None:
    """A row with an id of the test's choice."""
    async with store.connections.writing() as database:
        await database.execute(insert(changes).values(id=id, address_key=address_key, at=FixedClock().now()))


async def test_poll_nothing_written_is_empty(store: Store) -> None:
    """Quiet times cost no memory of anybody."""
    assert [] == await store.changes.poll()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_poll_after_a_write_names_the_address_once(store: Store, other: Store, write: Write) -> None:
    """What one process writes each process notices, and itself too; once."""
    await write(other)

    assert [[BOB], []] == [await store.changes.poll(), await store.changes.poll()]
    assert [[BOB], []] == [await other.changes.poll(), await other.changes.poll()]


async def test_poll_replaced_pin_is_noticed(store: Store, other: Store) -> None:
    """Also where there was a pin to replace."""
    await store.pins.pin_first(pin(FIRST))
    await store.changes.poll()
    await other.pins.replace_pin(FIRST, pin(SECOND))

    assert [BOB] == await store.changes.poll()


async def test_poll_several_writes_names_each_address_once(store: Store, other: Store) -> None:
    """In the order in which they were first written."""
    await other.pins.mark_seen(EVE)
    await other.cache.put(entry())
    await other.pins.pin_first(pin(FIRST, EVE))

    assert [EVE, BOB] == await store.changes.poll()


async def test_poll_what_was_written_before_the_start_is_no_change(
    store: Store, settings: StoreSettings
) -> None:
    """A process that starts has nothing in memory that could be old."""
    await store.cache.put(entry())
    async with Store(settings, FixedClock(), ListJournal()) as late:
        assert [] == await late.changes.poll()


async def test_poll_write_that_failed_is_no_change(store: Store) -> None:
    """The row goes with its transaction."""
    with pytest.raises(StoreUnavailable):
        async with store.connections.writing() as database:
            await note(database, BOB, FixedClock().now())
            await database.execute(text("SELECT nothing FROM nowhere"))

    assert [] == await store.changes.poll()


async def test_poll_repeated_pinning_is_no_change(store: Store) -> None:
    """Calls that change nothing wake nobody."""
    await store.pins.pin_first(pin())
    await store.pins.add_pending(pending())
    await store.changes.poll()
    await store.pins.pin_first(pin(SECOND))
    await store.pins.add_pending(pending())
    await store.pins.mark_seen(BOB)
    await store.cache.touch("wkd", BOB, FixedClock().now())

    assert [] == await store.changes.poll()


async def test_poll_smaller_id_that_comes_later_is_found(store: Store) -> None:
    """An id that was passed over is asked for again."""
    await _write(store, 5)
    first = await store.changes.poll()
    await _write(store, 3, EVE)

    assert ([BOB], [EVE], []) == (first, await store.changes.poll(), await store.changes.poll())


async def test_poll_smaller_id_from_before_the_start_is_found(store: Store, clock: FixedClock) -> None:
    """A write that was under way when this process started is noticed when it is there."""
    await _write(store, 5)
    late = Changes(store.connections, clock)
    await late.start()
    await _write(store, 3, EVE)

    assert [EVE] == await late.poll()


async def test_poll_id_that_never_comes_is_given_up(store: Store, clock: FixedClock) -> None:
    """Transactions that were rolled back leave gaps; they are not asked for until the end of days."""
    await _write(store, 5)
    await store.changes.poll()
    clock.advance(61)
    await store.changes.poll()
    await _write(store, 3, EVE)

    assert [] == await store.changes.poll()


async def test_poll_old_rows_are_dropped_but_the_newest(store: Store, clock: FixedClock) -> None:
    """After an hour everybody has read a row; the last one stays as a mark."""
    for _ in range(3):
        await store.cache.put(entry())
    for _ in range(7):
        clock.advance(600)
        await store.changes.poll()

    assert 1 == await _rows(store)
    assert [] == await store.changes.poll()


async def test_poll_young_rows_are_kept(store: Store, clock: FixedClock) -> None:
    """Who polls later than this process still finds them."""
    await store.cache.put(entry())
    for _ in range(5):
        clock.advance(600)
        await store.changes.poll()
    await store.cache.put(entry())

    assert 2 == await _rows(store)


async def test_poll_after_a_long_pause_is_everything(store: Store, clock: FixedClock) -> None:
    """Rows may have been dropped that were never read; then nothing in memory can be trusted."""
    clock.advance(31 * 60)

    assert [[EVERYTHING], []] == [await store.changes.poll(), await store.changes.poll()]


async def test_poll_before_the_start_is_everything(store: Store, clock: FixedClock) -> None:
    """A store whose opening failed begins with its first poll."""
    late = Changes(store.connections, clock)

    assert [[EVERYTHING], []] == [await late.poll(), await late.poll()]


async def test_poll_another_database_is_everything(store: Store) -> None:
    """A database restored from a backup counts from an older id; its writes must not pass unnoticed."""
    await store.cache.put(entry())
    await store.changes.poll()
    async with store.connections.writing() as database:
        await database.execute(delete(changes))

    assert [EVERYTHING] == await store.changes.poll()


async def test_poll_a_leap_of_ids_is_everything(store: Store) -> None:
    """Too many changes to name, or ids that nobody could ask for one by one."""
    await _write(store, 50_000)

    assert [[EVERYTHING], []] == [await store.changes.poll(), await store.changes.poll()]


async def test_poll_too_many_gaps_is_everything(store: Store) -> None:
    """Ids that are passed over again and again are not asked for without limit."""
    for id in (9_000, 18_000):
        await _write(store, id)
        await store.changes.poll()

    assert [[EVERYTHING], []] == [await store.changes.poll(), await store.changes.poll()]


@pytest.fixture
async def slow_relay(postgres_settings: StoreSettings) -> AsyncIterator[asyncpg.Connection]:
    """A bare connection that keeps its transaction open."""
    connection = await asyncpg.connect(
        postgres_settings.url, password=postgresql.PASSWORD, ssl=False, timeout=10
    )
    yield connection
    await connection.close()


@pytest.mark.system
async def test_poll_transaction_that_commits_late_is_found(
    postgres_settings: StoreSettings, slow_relay: asyncpg.Connection
) -> None:
    """PostgreSQL gave the smaller id first and shows it last: no change is lost, none comes twice."""
    async with Store(postgres_settings, FixedClock(), ListJournal()) as store:
        async with slow_relay.transaction():
            await slow_relay.execute("INSERT INTO changes (address_key, at) VALUES ($1, 0)", EVE)
            await store.cache.put(entry())
            during = await store.changes.poll()
        after = [await store.changes.poll(), await store.changes.poll()]

    assert ([BOB], [[EVE], []]) == (during, after)
