"""relay.store.connections: time limits, outages and their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import aiosqlite
import asyncpg
import pytest

from relay.errors import StoreUnavailable
from relay.store.database import Store
from relay.store.settings import StoreSettings
from tests import postgres as postgresql
from tests.fakes import FixedClock, ListJournal
from tests.network import Authority
from tests.postgres import Postgres
from tests.unit.store.values import BOB, entry, pin

NOBODY = 65534


def _hasty(settings: StoreSettings) -> StoreSettings:
    """For tests that wait for the end of the time."""
    return replace(settings, timeout_seconds=0.4)


def _store(settings: StoreSettings) -> Store:
    return Store(settings, FixedClock(), ListJournal())


@pytest.fixture
def server(authority: Authority) -> Iterator[Postgres]:
    """A server that the test may stop."""
    with postgresql.running(authority) as server:
        yield server


@pytest.fixture
def server_settings(server: Postgres) -> StoreSettings:
    return StoreSettings(server.create_database(), postgresql.PASSWORD)


@contextlib.contextmanager
def locked(settings: StoreSettings) -> Iterator[None]:
    """Another process holds the write lock of the file."""
    with contextlib.closing(sqlite3.connect(str(settings.place), isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


# --------------------------------------------------------------------------- both kinds


async def test_writing_that_fails_leaves_nothing(store: Store) -> None:
    """A transaction is whole or not at all, and the next one is not hurt."""
    with pytest.raises(StoreUnavailable):
        async with store.connections.writing() as database:
            await database.exec_driver_sql("INSERT INTO seen_addresses VALUES ('bob@example.org')")
            await database.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    assert not await store.pins.was_seen(BOB)
    await store.pins.mark_seen(BOB)


async def test_value_that_cannot_be_decoded_is_unavailable(store: Store) -> None:
    """Damage is never read as "none"."""
    await store.cache.put(entry())
    async with store.connections.writing() as database:
        await database.exec_driver_sql("UPDATE cache_entries SET certificates = 'abc'")

    with pytest.raises(StoreUnavailable, match="cut off"):
        await store.cache.get("wkd", BOB)


async def test_tables_that_are_gone_are_unavailable(store: Store) -> None:
    """Somebody dropped a table: that is no database without pins."""
    async with store.connections.writing() as database:
        await database.exec_driver_sql("DROP TABLE pins")

    with pytest.raises(StoreUnavailable, match="pins"):
        await store.pins.pin_of(BOB)


async def test_use_that_is_cancelled_is_cancelled(store: Store) -> None:
    """A client that hangs up ends the waiting; the next use finds everything in order."""
    async with store.connections.writing():
        waiting = asyncio.create_task(store.changes.poll())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await store.pins.pin_first(pin())

    assert pin() == await store.pins.pin_of(BOB)


async def test_closed_store_is_unavailable_and_closes_twice(settings: StoreSettings) -> None:
    """What comes after the end is refused, in words."""
    async with _store(settings) as store:
        await store.close()

        with pytest.raises(StoreUnavailable, match="the store is closed"):
            await store.pins.was_seen(BOB)


async def test_many_uses_at_once_all_succeed(store: Store) -> None:
    """A burst of messages shares the few connections."""
    addresses = [f"{number}@example.org" for number in range(100)]
    async with asyncio.TaskGroup() as tasks:
        for address in addresses:
            tasks.create_task(store.pins.pin_first(pin(address_key=address)))
            tasks.create_task(store.pins.pin_of(address))

    assert [pin(address_key=each) for each in addresses] == [
        await store.pins.pin_of(each) for each in addresses
    ]


# --------------------------------------------------------------------------- SQLite


async def test_sqlite_locked_file_is_unavailable_until_it_is_free(sqlite_settings: StoreSettings) -> None:
    """Another process writes for too long: reading goes on, writing fails in time and works again later."""
    async with _store(_hasty(sqlite_settings)) as store:
        with locked(sqlite_settings):
            with pytest.raises(StoreUnavailable, match="in use by another process"):
                await store.cache.put(entry())
            found = await store.cache.get("wkd", BOB)
        await store.cache.put(entry())

        assert (None, entry()) == (found, await store.cache.get("wkd", BOB))


async def test_sqlite_cancelled_statement_does_no_harm(sqlite_settings: StoreSettings) -> None:
    """A write that is cancelled while SQLite waits for its lock is not done, and blocks nobody."""
    async with _store(replace(sqlite_settings, timeout_seconds=2)) as store:
        with locked(sqlite_settings):
            task = asyncio.create_task(store.cache.put(entry()))
            for _ in range(50):
                await store.cache.get("wkd", BOB)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await store.cache.put(entry(source="dane"))

        assert [entry(source="dane")] == await store.cache.entries(BOB)


async def test_sqlite_statement_without_end_has_a_limit(sqlite_settings: StoreSettings) -> None:
    """A disk that hangs keeps the thread of its connection, but neither the message nor the other uses."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    async with _store(_hasty(sqlite_settings)) as store:
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            async with store.connections.reading() as database:
                driver = (await database.get_raw_connection()).driver_connection
                assert isinstance(driver, aiosqlite.Connection)
                hanging = driver._conn
                await database.exec_driver_sql(endless)
        found = await store.pins.pin_of(BOB)
        hanging.interrupt()
        await asyncio.to_thread(driver._thread.join)

    assert None is found


async def test_sqlite_damaged_file_says_what_to_do(sqlite_settings: StoreSettings, tmp_path: Path) -> None:
    """A file whose pages were overwritten is no empty database."""
    async with _store(sqlite_settings) as store:
        await store.pins.pin_first(pin())
    file = tmp_path / "relay.db"
    file.write_bytes(file.read_bytes()[:4096] + b"\xff" * (file.stat().st_size - 4096))

    with pytest.raises(StoreUnavailable, match=r"is damaged .* restore it from a backup"):
        async with _store(sqlite_settings) as store:
            await store.pins.pin_of(BOB)


async def test_sqlite_file_cut_short_is_unavailable(sqlite_settings: StoreSettings, tmp_path: Path) -> None:
    """A copy that ended early is damaged, not small."""
    async with _store(sqlite_settings) as store:
        await store.pins.pin_first(pin())
    file = tmp_path / "relay.db"
    file.write_bytes(file.read_bytes()[:8192])

    with pytest.raises(StoreUnavailable, match="is damaged"):
        async with _store(sqlite_settings) as store:
            await store.pins.pin_of(BOB)


async def test_sqlite_disk_that_is_full_is_unavailable_until_there_is_room(
    sqlite_settings: StoreSettings,
) -> None:
    """What does not fit is refused, what was kept stays, and later there is room again."""
    async with _store(sqlite_settings) as store:
        await store.pins.pin_first(pin())
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
        try:
            with pytest.raises(StoreUnavailable):
                await store.cache.put(entry(certificates=(b"x" * 1_000_000,)))
            kept = await store.pins.pin_of(BOB), await store.cache.get("wkd", BOB)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await store.cache.put(entry())

        assert (pin(), None) == kept
        assert entry() == await store.cache.get("wkd", BOB)


@pytest.fixture
def unprivileged_folder() -> Iterator[Path]:
    """A folder of an account that is not root, as which the test then runs."""
    with tempfile.TemporaryDirectory(prefix="relay-store-") as name:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)


async def test_sqlite_read_only_file_is_unavailable(unprivileged_folder: Path) -> None:
    """A store that cannot write remembers nothing: it says so when it is opened."""
    settings = StoreSettings(f"sqlite:///{unprivileged_folder}/relay.db")
    async with _store(settings) as store:
        await store.pins.pin_first(pin())
    (unprivileged_folder / "relay.db").chmod(0o400)

    with pytest.raises(StoreUnavailable, match="cannot be written"):
        await _store(settings).__aenter__()


# --------------------------------------------------------------------------- PostgreSQL


async def test_postgres_silent_server_has_a_limit() -> None:
    """A server that takes the connection and says nothing is not waited for."""
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        gone.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable, match="did not answer in time"):
            await _store(_hasty(StoreSettings(f"postgresql://relay@127.0.0.1:{port}/x"))).__aenter__()
        await gone.wait()


@pytest.mark.system
async def test_postgres_frozen_server_has_a_limit_and_works_again(
    postgres: Postgres, postgres_settings: StoreSettings
) -> None:
    """A network that swallows everything is an outage; nobody has to restart the relay afterwards."""
    async with _store(_hasty(postgres_settings)) as store:
        await store.pins.pin_first(pin())
        with postgres.frozen():
            for use in (store.pins.pin_of(BOB), store.cache.put(entry()), store.changes.poll()):
                with pytest.raises(StoreUnavailable, match="did not answer in time"):
                    await use

        assert pin() == await store.pins.pin_of(BOB)


@pytest.mark.system
@pytest.mark.parametrize("at_once", [False, True])
async def test_postgres_restart_is_an_outage_and_then_works_again(
    server: Postgres, server_settings: StoreSettings, at_once: bool
) -> None:
    """Stopped or crashed: unavailable while it is down, and nothing is forgotten."""
    async with _store(server_settings) as store:
        await store.pins.pin_first(pin())
        server.run("CHECKPOINT")
        server.stop(at_once=at_once)
        for use in (store.pins.pin_of(BOB), store.changes.poll(), store.cache.put(entry())):
            with pytest.raises(StoreUnavailable, match="Connect"):
                await use
        server.start()

        assert pin() == await store.pins.pin_of(BOB)
        assert [BOB] == await store.changes.poll()
        await store.cache.put(entry())


@pytest.mark.system
async def test_postgres_restart_between_two_uses_is_not_noticed(
    server: Postgres, server_settings: StoreSettings
) -> None:
    """Connections that died while nobody used them are replaced before they are."""
    async with _store(server_settings) as store:
        await store.pins.pin_first(pin())
        server.stop()
        server.start()

        assert pin() == await store.pins.pin_of(BOB)


@pytest.mark.system
async def test_postgres_that_is_down_at_the_start_is_used_when_it_is_up(
    server: Postgres, server_settings: StoreSettings
) -> None:
    """A relay may start before its database."""
    server.stop()
    store = _store(server_settings)
    try:
        with pytest.raises(StoreUnavailable):
            await store.open()
        server.start()

        assert None is await store.pins.pin_of(BOB)
    finally:
        await store.close()


@pytest.fixture
async def blocker(postgres_settings: StoreSettings) -> AsyncIterator[asyncpg.Connection]:
    """A connection of somebody else."""
    connection = await asyncpg.connect(
        postgres_settings.url, password=postgresql.PASSWORD, ssl=False, timeout=10
    )
    yield connection
    await connection.close()


@pytest.mark.system
async def test_postgres_cancelled_statement_does_no_harm(
    postgres_settings: StoreSettings, blocker: asyncpg.Connection
) -> None:
    """A write that is cancelled while the server works on it is not done, and blocks nobody."""
    async with _store(postgres_settings) as store:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE cache_entries IN EXCLUSIVE MODE")
            task = asyncio.create_task(store.cache.put(entry()))
            async with asyncio.timeout(10):
                while not await blocker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await store.cache.put(entry(source="dane"))

        assert [entry(source="dane")] == await store.cache.entries(BOB)


@pytest.mark.system
async def test_postgres_lock_of_somebody_else_has_a_limit(
    postgres_settings: StoreSettings, blocker: asyncpg.Connection
) -> None:
    """A table that somebody locked is an outage for writers."""
    async with _store(_hasty(postgres_settings)) as store:
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE cache_entries IN EXCLUSIVE MODE")
            with pytest.raises(StoreUnavailable):
                await store.cache.put(entry())
        await store.cache.put(entry())

        assert [entry()] == await store.cache.entries(BOB)
