"""relay.store.learned, on SQLite and on PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.errors import StoreUnavailable
from relay.store.database import Store
from relay.store.tables import MAX_BYTES
from tests.unit.store.values import BOB, FIRST, SECOND, learned

EVE = "eve@example.org"


async def test_get_unknown_address_is_none(store: Store) -> None:
    """Nothing was learned."""
    assert None is await store.learned.get(BOB)


async def test_get_after_put_returns_an_equal_key(store: Store, other: Store) -> None:
    """Every field comes back, in another process too."""
    await store.learned.put(learned())

    assert learned() == await other.learned.get(BOB)


async def test_put_second_time_replaces_the_key_of_this_address(store: Store) -> None:
    """One key for an address; others keep theirs."""
    await store.learned.put(learned(FIRST))
    await store.learned.put(learned(FIRST, EVE))
    await store.learned.put(learned(SECOND))

    assert [learned(SECOND), learned(FIRST, EVE)] == [await store.learned.get(each) for each in (BOB, EVE)]


async def test_put_too_many_octets_is_refused(store: Store) -> None:
    """A certificate beyond the limit is not kept."""
    with pytest.raises(StoreUnavailable, match="too large"):
        await store.learned.put(replace(learned(), certificate=b"x" * (MAX_BYTES + 1)))
    assert None is await store.learned.get(BOB)


async def test_forget_drops_the_key_of_this_address_alone(store: Store) -> None:
    """Whoever learned something wrong can get rid of it; other processes hear of it."""
    await store.learned.put(learned(FIRST))
    await store.learned.put(learned(FIRST, EVE))
    await store.changes.poll()
    outcomes = [await store.learned.forget(BOB), await store.learned.forget(BOB)]

    assert [True, False] == outcomes
    assert [learned(FIRST, EVE)] == await store.learned.all(10)
    assert [BOB] == await store.changes.poll()


async def test_all_is_sorted_and_bounded(store: Store) -> None:
    """For lists: every address once, in order, and no more than was asked for."""
    for address in (EVE, BOB):
        await store.learned.put(learned(FIRST, address))

    assert [learned(FIRST, BOB), learned(FIRST, EVE)] == await store.learned.all(10)
    assert [learned(FIRST, BOB)] == await store.learned.all(1)
