"""Tests of `relay.keys.origins`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from relay.keys.origins import CacheByOrigin
from relay.remembered import CacheEntry
from tests.unit.keys.discoveries import MemoryCache

NOW = datetime.fromisoformat("2026-06-01T12:00:00Z")
BOB = "bob@example.com"
ENTRY = CacheEntry("ext", BOB, BOB, (b"certificate",), NOW, NOW, NOW, used_at=NOW)


@pytest.fixture
def inner() -> MemoryCache:
    return MemoryCache()


async def _seen(cache: CacheByOrigin) -> list[object]:
    """What every question gives."""
    soon, before = NOW + timedelta(hours=1), NOW - timedelta(hours=1)
    return [await cache.get("ext", BOB), await cache.due("ext", soon, before, 9), await cache.entries(BOB)]


async def test_put_is_read_back_under_the_name_of_the_configuration(inner: MemoryCache) -> None:
    """Nobody but the database sees anything but the configured name."""
    cache = CacheByOrigin(inner, {"ext": "one"})
    await cache.put(ENTRY)

    assert [ENTRY, [ENTRY], [ENTRY]] == await _seen(cache)
    assert ["ext one"] == [entry.source for entry in inner.kept.values()]


async def test_source_that_became_another_one_begins_with_nothing(inner: MemoryCache) -> None:
    """What a key server answered is not served with the trust of the DNS zone that has its name now."""
    await CacheByOrigin(inner, {"ext": "one"}).put(ENTRY)

    assert [None, [], []] == await _seen(CacheByOrigin(inner, {"ext": "other"}))


async def test_source_that_is_what_it_was_again_has_its_answers(inner: MemoryCache) -> None:
    """A change that is taken back costs nothing."""
    await CacheByOrigin(inner, {"ext": "one"}).put(ENTRY)
    await CacheByOrigin(inner, {"ext": "other"}).put(replace(ENTRY, certificates=()))

    assert [ENTRY, [ENTRY], [ENTRY]] == await _seen(CacheByOrigin(inner, {"ext": "one"}))


async def test_touch_notes_the_use(inner: MemoryCache) -> None:
    """What is used stays, and is refreshed."""
    cache, later = CacheByOrigin(inner, {"ext": "one"}), NOW + timedelta(minutes=1)
    await cache.put(ENTRY)
    await cache.touch("ext", BOB, later)

    assert replace(ENTRY, used_at=later) == await cache.get("ext", BOB)


async def test_forget_drops_what_former_sources_answered_too(inner: MemoryCache) -> None:
    """After `keys forget` nothing of the address comes back, whatever the configuration becomes."""
    await CacheByOrigin(inner, {"ext": "one"}).put(ENTRY)
    cache = CacheByOrigin(inner, {"ext": "other"})
    await cache.put(ENTRY)

    assert 2 == await cache.forget(BOB)
    assert {} == inner.kept
