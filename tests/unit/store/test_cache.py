"""relay.store.cache, on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import sqlite

from relay.errors import StoreUnavailable
from relay.store.cache import due_query
from relay.store.database import Store
from relay.store.settings import StoreSettings
from relay.store.tables import MAX_BYTES
from tests.fakes import FixedClock, ListJournal
from tests.unit.store.values import BOB, NOW, entry

DAY = timedelta(days=1)


async def test_get_unknown_entry_returns_none(store: Store) -> None:
    """What was never asked is not there."""
    assert None is await store.cache.get("wkd", BOB)


async def test_get_after_put_returns_an_equal_entry(store: Store) -> None:
    """Every field comes back, times with their microseconds and in UTC."""
    await store.cache.put(entry())

    found = await store.cache.get("wkd", BOB)

    assert entry() == found
    assert found is not None and found.fresh_until.tzinfo is UTC


async def test_get_entry_of_a_fingerprint_returns_an_equal_entry(store: Store) -> None:
    """A question for a fingerprint has no address, and is reported to other processes under its own key."""
    key = "fingerprint:" + "A" * 40
    await store.cache.put(entry(key=key, address=""))

    assert entry(key=key, address="") == await store.cache.get("wkd", key)
    assert [key] == await store.changes.poll()


async def test_get_entry_without_answer_returns_an_equal_entry(store: Store) -> None:
    """What may be missing may be missing: "none", never answered, never used."""
    empty = entry(certificates=(), answered_at=None, used_at=None, failure="", failures=0)
    await store.cache.put(empty)

    assert empty == await store.cache.get("wkd", BOB)


async def test_put_second_time_replaces_the_entry(store: Store) -> None:
    """The last answer counts, in every field."""
    later = entry(
        certificates=(b"new",), answered_at=NOW + DAY, fresh_until=NOW + DAY, failures=0, used_at=None
    )
    await store.cache.put(entry())
    await store.cache.put(later)

    assert [later] == await store.cache.entries(BOB)


async def test_put_time_of_another_zone_is_the_same_moment(store: Store) -> None:
    """A time is a moment, whatever zone it was given in."""
    moment = datetime(2026, 6, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    await store.cache.put(entry(answered_at=moment))

    found = await store.cache.get("wkd", BOB)

    assert found is not None
    assert datetime(2026, 6, 1, 12, 0, tzinfo=UTC) == found.answered_at


async def test_put_too_many_octets_is_refused(store: Store) -> None:
    """More than 2 MiB are not kept, and what was kept stays."""
    await store.cache.put(entry())

    with pytest.raises(StoreUnavailable, match="too large"):
        await store.cache.put(entry(certificates=(b"x" * MAX_BYTES, b"y")))
    assert entry() == await store.cache.get("wkd", BOB)


async def test_put_as_many_octets_as_allowed_is_kept(store: Store) -> None:
    """Just below the limit a value comes back whole."""
    large = entry(certificates=(b"x" * (MAX_BYTES - 4),))
    await store.cache.put(large)

    assert large == await store.cache.get("wkd", BOB)


async def test_put_odd_failure_text_is_kept_printable(store: Store) -> None:
    """Text that a database cannot take does not stop the entry from being kept."""
    await store.cache.put(entry(failure="a\x00b\ud800" + "c" * 1000))

    found = await store.cache.get("wkd", BOB)

    assert found is not None
    assert "a?b?" + "c" * 496 == found.failure


async def test_put_address_that_does_not_parse_is_an_error(store: Store) -> None:
    """An entry that nobody could forget is not kept."""
    with pytest.raises(ValueError, match="no domain"):
        await store.cache.put(entry(address="nobody"))


async def test_touch_known_entry_changes_its_use_only(store: Store) -> None:
    """The time of use changes, in this entry alone."""
    await store.cache.put(entry())
    await store.cache.put(entry(source="dane"))
    await store.cache.touch("wkd", BOB, NOW + DAY)

    assert [entry(source="dane"), entry(used_at=NOW + DAY)] == await store.cache.entries(BOB)


async def test_touch_unknown_entry_does_nothing(store: Store) -> None:
    """An entry that was forgotten meanwhile does not come back."""
    await store.cache.touch("wkd", BOB, NOW)

    assert None is await store.cache.get("wkd", BOB)


async def test_due_returns_what_is_over_and_in_use_oldest_first(store: Store) -> None:
    """Only entries of the source that end before the moment and were used after the other one."""
    names = {"b": NOW - 2 * DAY, "a": NOW - 3 * DAY, "c": NOW - DAY, "fresh": NOW}
    for name, until in names.items():
        await store.cache.put(entry(key=name, fresh_until=until, used_at=NOW))
    await store.cache.put(entry(key="unused", fresh_until=NOW - DAY, used_at=NOW - 9 * DAY))
    await store.cache.put(entry(key="never used", fresh_until=NOW - DAY, used_at=None))
    await store.cache.put(entry(source="dane", fresh_until=NOW - DAY, used_at=NOW))
    for number in range(3):  # addresses without a key, which may be most, keep no other from its turn
        nobody = entry(key=f"none {number}", certificates=(), fresh_until=NOW - 9 * DAY, used_at=NOW)
        await store.cache.put(nobody)

    due = await store.cache.due("wkd", NOW, NOW - 8 * DAY, 10)
    two = await store.cache.due("wkd", NOW, NOW - 8 * DAY, 2)

    assert ["a", "b", "c"] == [each.key for each in due]
    assert ["a", "b"] == [each.key for each in two]


async def test_due_uses_the_index(sqlite_settings: StoreSettings, clock: FixedClock) -> None:
    """The refresh does not read the whole table; asked of SQLite, which decides without statistics."""
    query = due_query("wkd", NOW, NOW, 10).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    async with (
        Store(sqlite_settings, clock, ListJournal()) as store,
        store.connections.reading() as database,
    ):
        plan = (await database.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")).all()

    assert [
        "SEARCH cache_entries USING INDEX cache_entries_due (source=? AND has_key=? AND fresh_until<?)"
    ] == [row[3] for row in plan]


async def test_forget_address_drops_every_spelling(store: Store) -> None:
    """What is kept under a key with capital letters (DANE) goes too; other addresses stay."""
    await store.cache.put(entry())
    await store.cache.put(entry(source="dane", key="Bob@example.org"))
    await store.cache.put(entry(source="dane", key="BOB@example.org", address="BOB@example.org"))
    await store.cache.put(entry(key="eve@example.org", address="eve@example.org"))

    assert 3 == await store.cache.forget(BOB)
    assert [] == await store.cache.entries(BOB)
    assert 1 == len(await store.cache.entries("eve@example.org"))
    assert 0 == await store.cache.forget(BOB)


async def test_prune_drops_only_what_nobody_needs(store: Store) -> None:
    """Unused for 30 days, and neither fresh nor usable while the source is away."""
    old = NOW - 31 * DAY
    over = {"fresh_until": old, "usable_until": old}
    await store.cache.put(entry(key="unused", used_at=old, **over))
    await store.cache.put(entry(key="never used", used_at=None, **over))
    await store.cache.put(entry(key="used", used_at=NOW - 29 * DAY, **over))
    await store.cache.put(entry(key="young", used_at=None, fresh_until=NOW - DAY, usable_until=NOW - DAY))
    await store.cache.put(entry(key="usable", used_at=old, fresh_until=old, usable_until=NOW + DAY))
    await store.cache.put(entry(key="fresh", used_at=old, fresh_until=NOW + DAY, usable_until=old))

    assert 2 == await store.prune(NOW)
    assert ["fresh", "usable", "used", "young"] == [each.key for each in await store.cache.entries(BOB)]
