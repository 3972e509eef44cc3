"""relay.store.database: the whole store, with several processes, a kill, and a restart."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import subprocess
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import StoreUnavailable
from relay.store.database import Store
from relay.store.settings import StoreSettings
from tests.fakes import FixedClock, ListJournal
from tests.unit.store import writer
from tests.unit.store.values import BOB, SECOND, entry, learned, pending, pin


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _integrity(settings: StoreSettings) -> str:
    with contextlib.closing(sqlite3.connect(str(settings.place))) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


async def test_store_opened_again_has_everything(settings: StoreSettings) -> None:
    """A restart of the relay forgets nothing."""
    async with Store(settings, FixedClock(), ListJournal()) as store:
        await store.cache.put(entry())
        await store.pins.pin_first(pin())
        await store.pins.add_pending(pending())
        await store.learned.put(learned())

    async with Store(settings, FixedClock(), ListJournal()) as store:
        assert [entry()] == await store.cache.entries(BOB)
        assert pin() == await store.pins.pin_of(BOB)
        assert [pending()] == await store.pins.pending()
        assert learned() == await store.learned.get(BOB)
        assert await store.pins.was_seen(BOB)


async def test_store_open_is_recorded_without_the_password(
    store: Store, journal: ListJournal, settings: StoreSettings
) -> None:
    """The log says which database is used, and prunings."""
    await store.prune(FixedClock().now())

    assert [
        ("store_opened", {"id": "", "database": str(settings.place)}),
        ("store_pruned", {"id": "", "entries": 0}),
    ] == journal.events


async def test_store_several_processes_start_and_pin_at_once_agree(settings: StoreSettings) -> None:
    """Relays that start on an empty database make the tables once, and of their pins one wins each."""
    names = ["A" * 40, "B" * 40, "C" * 40]
    with ExitStack() as stack:
        processes = [stack.enter_context(writer.started(settings, "race", name)) for name in names]
        ready = [_line(process) for process in processes]
        for process in processes:
            _go(process)
        results = [json.loads(_line(process)) for process in processes]

    async with Store(settings, FixedClock(), ListJournal()) as store:
        pinned = [await store.pins.pin_of(each) for each in writer.ADDRESSES]

    assert ["ready"] * 3 == ready
    assert [[each.fingerprint for each in pinned if each]] * 3 == results


async def test_store_written_by_another_process_is_noticed(store: Store, settings: StoreSettings) -> None:
    """The command line writes, the running relay reads it and learns that it must."""
    with writer.started(settings, "endless") as process:
        _line(process)
        _go(process)
        address = _line(process)
        changed = await store.changes.poll()
        found = await store.pins.pin_of(address)

    assert pin(SECOND, address) == found
    assert address in changed


@pytest.mark.parametrize("written", [3, 17, 60])
async def test_store_killed_while_writing_keeps_what_was_acknowledged(
    settings: StoreSettings, written: int
) -> None:
    """After kill -9 the database opens, is whole, and has every write that had returned."""
    with writer.started(settings, "endless") as process:
        _line(process)
        _go(process)
        addresses = [_line(process) for _ in range(written)]
        process.kill()
        process.wait(10)

    async with Store(settings, FixedClock(), ListJournal()) as store:
        pins = [await store.pins.pin_of(address) for address in addresses]
        kept = [await store.cache.get("wkd", address) for address in addresses]
        await store.pins.pin_first(pin())

    assert [pin(SECOND, address) for address in addresses] == pins
    assert [(b"x" * 5000,)] * written == [each.certificates for each in kept if each]
    if settings.url.startswith("sqlite"):
        assert "ok" == _integrity(settings)


async def test_store_that_cannot_be_opened_closes_what_it_had(tmp_path: Path) -> None:
    """A failed start leaves no thread and no connection behind (they would be warnings)."""
    (tmp_path / "relay.db").write_bytes(b"no database" * 1000)
    store = Store(StoreSettings(f"sqlite:///{tmp_path}/relay.db"), FixedClock(), ListJournal())

    with pytest.raises(StoreUnavailable, match="is damaged or no database"):
        await store.__aenter__()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.pins.pin_of(BOB)


async def test_store_opened_without_its_database_works_when_it_is_there(tmp_path: Path) -> None:
    """A relay may start before its database; no use of the store is an empty answer meanwhile."""
    settings = StoreSettings(f"sqlite:///{tmp_path}/folder/relay.db")
    store = Store(settings, FixedClock(), ListJournal())
    try:
        with pytest.raises(StoreUnavailable):
            await store.open()
        with pytest.raises(StoreUnavailable):
            await store.cache.get("wkd", BOB)
        (tmp_path / "folder").mkdir()
        await store.cache.put(replace(entry(), source="dane"))

        assert 1 == len(await store.cache.entries(BOB))
    finally:
        await store.close()
