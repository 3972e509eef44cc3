"""relay.store.pins, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from relay.errors import StoreUnavailable
from relay.remembered import PendingState
from relay.store.database import Store
from relay.store.tables import MAX_BYTES
from tests.unit.store.values import BOB, FIRST, NOW, SECOND, THIRD, pending, pin

EVE = "eve@example.org"


async def test_pin_of_unknown_address_is_none(store: Store) -> None:
    """No pin is a value."""
    assert None is await store.pins.pin_of(BOB)


async def test_pin_first_new_address_pins_and_marks(store: Store) -> None:
    """The first key is pinned as given, and the address counts as seen."""
    assert pin() == await store.pins.pin_first(pin())
    assert pin() == await store.pins.pin_of(BOB)
    assert await store.pins.was_seen(BOB)


async def test_pin_first_known_address_returns_the_pin(store: Store, other: Store) -> None:
    """The second key of an address is not pinned, and whoever tried learns of the first."""
    await other.pins.pin_first(pin(FIRST))

    assert pin(FIRST) == await store.pins.pin_first(pin(SECOND))
    assert pin(FIRST) == await store.pins.pin_of(BOB)


async def test_pin_first_at_once_all_agree(store: Store, other: Store) -> None:
    """However many pin at the same time, one wins and all return it."""
    keys = [f"{number:040X}" for number in range(12)]
    now = await asyncio.gather(
        *((store if number % 2 else other).pins.pin_first(pin(key)) for number, key in enumerate(keys))
    )

    assert {await store.pins.pin_of(BOB)} == set(now)


async def test_pin_first_and_forget_at_once_never_fails_quietly(store: Store, other: Store) -> None:
    """Each pinning returns a pin of this address, while another process forgets."""
    async with asyncio.TaskGroup() as tasks:
        pinned = [tasks.create_task(store.pins.pin_first(pin())) for _ in range(20)]
        for _ in range(20):
            tasks.create_task(other.pins.forget_pin(BOB))

    assert {pin()} == {task.result() for task in pinned}


async def test_replace_pin_with_the_right_old_key_replaces(store: Store) -> None:
    """The new key is pinned, the pending key that it was is gone, others stay."""
    await store.pins.pin_first(pin(FIRST))
    await store.pins.add_pending(pending(SECOND))
    await store.pins.add_pending(pending(THIRD))

    assert pin(SECOND) == await store.pins.replace_pin(FIRST, pin(SECOND))
    assert pin(SECOND) == await store.pins.pin_of(BOB)
    assert [pending(THIRD)] == await store.pins.pending(BOB)


async def test_replace_pin_when_somebody_was_quicker_changes_nothing(store: Store, other: Store) -> None:
    """The pin is another one than expected: it stays, and so does the pending key."""
    await store.pins.pin_first(pin(FIRST))
    await store.pins.add_pending(pending(THIRD))
    await other.pins.replace_pin(FIRST, pin(SECOND))

    assert pin(SECOND) == await store.pins.replace_pin(FIRST, pin(THIRD))
    assert pin(SECOND) == await store.pins.pin_of(BOB)
    assert [pending(THIRD)] == await store.pins.pending(BOB)


async def test_replace_pin_at_once_one_wins(store: Store, other: Store) -> None:
    """Of replacements of the same key one succeeds, and the others return it."""
    await store.pins.pin_first(pin(FIRST))
    keys = [f"{number:040X}" for number in range(12)]
    now = await asyncio.gather(
        *((store if i % 2 else other).pins.replace_pin(FIRST, pin(key)) for i, key in enumerate(keys))
    )

    assert {await store.pins.pin_of(BOB)} == set(now)


async def test_replace_pin_that_was_forgotten_pins(store: Store) -> None:
    """After the administrator forgot the address its next key is the first one, and it counts as seen."""
    assert pin(SECOND) == await store.pins.replace_pin(FIRST, pin(SECOND))
    assert pin(SECOND) == await store.pins.pin_of(BOB)
    assert await store.pins.was_seen(BOB)


async def test_replace_pin_of_another_address_is_left_alone(store: Store) -> None:
    """The same key may be pinned for two addresses; one replacement touches one."""
    await store.pins.pin_first(pin(FIRST))
    await store.pins.pin_first(pin(FIRST, EVE))
    await store.pins.replace_pin(FIRST, pin(SECOND))

    assert pin(FIRST, EVE) == await store.pins.pin_of(EVE)


async def test_add_pending_second_time_returns_what_was_there(store: Store) -> None:
    """A decision about a key is not undone when the key appears again."""
    await store.pins.add_pending(pending())
    await store.pins.decide(BOB, SECOND, PendingState.REJECTED)

    again = await store.pins.add_pending(pending(since=NOW + timedelta(days=1)))

    assert pending(state=PendingState.REJECTED) == again
    assert [again] == await store.pins.pending()


async def test_pending_without_address_returns_all_oldest_first(store: Store) -> None:
    """The administrator sees the keys of all addresses, whatever became of them."""
    young, old = pending(), pending(FIRST, EVE, since=NOW - timedelta(days=1), state=PendingState.APPROVED)
    await store.pins.add_pending(young)
    await store.pins.add_pending(old)

    assert [old, young] == await store.pins.pending()
    assert [young] == await store.pins.pending(BOB)


async def test_add_pending_too_many_drops_the_oldest_undecided(store: Store) -> None:
    """A source with another key each time fills no disk, and rejected keys stay rejected."""
    keys = [f"{number:040X}" for number in range(30)]
    await store.pins.add_pending(pending(SECOND, state=PendingState.REJECTED))
    await store.pins.add_pending(pending(SECOND, EVE))
    for number, key in enumerate(keys):
        await store.pins.add_pending(pending(key, since=NOW + timedelta(seconds=number)))

    assert [SECOND, *keys[10:]] == [each.fingerprint for each in await store.pins.pending(BOB)]
    assert [SECOND] == [each.fingerprint for each in await store.pins.pending(EVE)]


@pytest.mark.parametrize("state", list(PendingState))
async def test_decide_known_key_is_kept(store: Store, state: PendingState) -> None:
    """The decision is what everybody reads from then on, about this key alone."""
    await store.pins.add_pending(pending(SECOND))
    await store.pins.add_pending(pending(THIRD))

    assert await store.pins.decide(BOB, SECOND, state)
    assert [pending(SECOND, state=state), pending(THIRD)] == await store.pins.pending()


async def test_decide_unknown_key_is_false(store: Store) -> None:
    """A typing error of the administrator is not taken for a decision."""
    await store.pins.add_pending(pending(SECOND))

    assert not await store.pins.decide(BOB, THIRD, PendingState.APPROVED)
    assert not await store.pins.decide(EVE, SECOND, PendingState.APPROVED)
    assert [pending(SECOND)] == await store.pins.pending()


async def test_forget_pin_drops_pin_and_pending_but_not_seen(store: Store) -> None:
    """The address begins anew, and an outage is still no "none" for it."""
    await store.pins.pin_first(pin())
    await store.pins.add_pending(pending())
    await store.pins.pin_first(pin(FIRST, EVE))
    await store.pins.add_pending(pending(SECOND, EVE))

    assert await store.pins.forget_pin(BOB)
    assert (None, []) == (await store.pins.pin_of(BOB), await store.pins.pending(BOB))
    assert await store.pins.was_seen(BOB)
    assert (pin(FIRST, EVE), [pending(SECOND, EVE)]) == (
        await store.pins.pin_of(EVE),
        await store.pins.pending(EVE),
    )


async def test_forget_pin_without_pin_is_false(store: Store) -> None:
    """There was nothing to forget, though a pending key without pin goes as well."""
    await store.pins.add_pending(pending())

    assert not await store.pins.forget_pin(BOB)
    assert [] == await store.pins.pending()


async def test_mark_seen_is_seen_by_others(store: Store, other: Store) -> None:
    """What one process saw all have seen, and twice is once."""
    assert not await other.pins.was_seen(BOB)
    await store.pins.mark_seen(BOB)
    await store.pins.mark_seen(BOB)

    assert await other.pins.was_seen(BOB)
    assert not await other.pins.was_seen(EVE)


@pytest.mark.parametrize("call", ["pin_first", "add_pending"])
async def test_write_too_many_octets_is_refused(store: Store, call: str) -> None:
    """A certificate beyond the limit is not kept, and nothing else of the call either."""
    large = b"x" * (MAX_BYTES + 1)
    value = pin() if call == "pin_first" else pending()
    object.__setattr__(value, "certificate", large)

    with pytest.raises(StoreUnavailable, match="too large"):
        await getattr(store.pins, call)(value)
    assert (None, [], False) == (
        await store.pins.pin_of(BOB),
        await store.pins.pending(),
        await store.pins.was_seen(BOB),
    )
