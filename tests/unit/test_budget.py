"""Tests of `relay/budget.py`."""

from __future__ import annotations

import asyncio

import pytest

from relay.budget import COPY_FACTOR, ENCRYPT_FACTOR, UPLOAD_FACTOR, Budget
from relay.errors import OverMemory, TooManyCopies

MESSAGE = 1000
ROOM_FOR_ONE = 2 * ENCRYPT_FACTOR * MESSAGE


async def _encrypt_until(budget: Budget, release: asyncio.Event, copies: int = 1) -> None:
    async with budget.encrypting(MESSAGE, copies):
        await release.wait()


def test_reserve_over_half_of_the_budget_is_refused() -> None:
    """Uploads fill at most one half; the next one hears 452."""
    budget = Budget(2 * UPLOAD_FACTOR * MESSAGE)
    budget.reserve(MESSAGE)

    with pytest.raises(OverMemory) as refused:
        budget.reserve(1)

    assert (452, "4.3.1") == (refused.value.reply().code, refused.value.reply().enhanced)


def test_release_gives_everything_back_once() -> None:
    """A released reservation makes room for exactly one like it, even if it is released twice."""
    budget = Budget(2 * UPLOAD_FACTOR * MESSAGE)
    reservation = budget.reserve(MESSAGE)

    reservation.release()
    reservation.release()
    budget.reserve(MESSAGE)

    with pytest.raises(OverMemory):
        budget.reserve(1)


def test_grow_uses_the_declared_size_first() -> None:
    """SIZE= and the octets that then arrive are not counted twice."""
    budget = Budget(2 * UPLOAD_FACTOR * MESSAGE)
    reservation = budget.reserve(MESSAGE)

    reservation.grow(MESSAGE)

    with pytest.raises(OverMemory):
        reservation.grow(1)


async def test_encrypting_waits_for_room_in_order() -> None:
    """A second message waits until the first has left, and is served before a later one."""
    budget = Budget(ROOM_FOR_ONE)
    first, others = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    async def run(name: str, release: asyncio.Event) -> None:
        async with budget.encrypting(MESSAGE, 1):
            order.append(name)
            await release.wait()

    async with asyncio.TaskGroup() as tasks:
        for name, release in (("first", first), ("second", others), ("third", others)):
            tasks.create_task(run(name, release))
            await asyncio.sleep(0)
        assert ["first"] == order
        others.set()
        first.set()

    assert ["first", "second", "third"] == order


async def test_encrypting_what_never_fits_is_permanent() -> None:
    """More copies than the whole budget holds is 552, so that the client does not try for ever."""
    budget = Budget(ROOM_FOR_ONE)

    with pytest.raises(TooManyCopies) as refused:
        async with budget.encrypting(MESSAGE, 1 + ENCRYPT_FACTOR // COPY_FACTOR + 1):
            pytest.fail("there is no room for it")

    assert 552 == refused.value.reply().code


async def test_encrypting_gives_up_after_its_patience_without_a_leak() -> None:
    """A message that waited in vain hears 452, and its place is free again."""
    budget = Budget(ROOM_FOR_ONE, patience_seconds=0.01)
    release = asyncio.Event()
    holder = asyncio.create_task(_encrypt_until(budget, release))
    await asyncio.sleep(0)

    with pytest.raises(OverMemory):
        async with budget.encrypting(MESSAGE, 1):
            pytest.fail("there is no room for it")
    release.set()
    await holder
    async with budget.encrypting(MESSAGE, 1):
        pass


@pytest.mark.parametrize("is_served_first", [None, True, False])
async def test_encrypting_cancelled_while_it_waits_takes_nothing(is_served_first: bool | None) -> None:
    """Cancellation in the queue, and in the very turn in which room is given, leaks nothing."""
    budget = Budget(ROOM_FOR_ONE)
    async with asyncio.TaskGroup() as tasks:
        async with budget.encrypting(MESSAGE, 1):
            waiting = tasks.create_task(_encrypt_until(budget, asyncio.Event()))
            await asyncio.sleep(0)
            if not is_served_first:
                waiting.cancel()
            if is_served_first is None:
                await asyncio.wait([waiting])
        waiting.cancel()

    assert waiting.cancelled()
    async with asyncio.timeout(1), budget.encrypting(MESSAGE, 1):
        pass


async def test_encrypting_serves_whoever_stands_behind_one_that_gave_up() -> None:
    """A large message that leaves the queue no longer holds up the small one behind it."""
    budget = Budget(ROOM_FOR_ONE)
    async with budget.encrypting(MESSAGE // 2, 1), asyncio.timeout(1):
        large = asyncio.create_task(_encrypt_until(budget, asyncio.Event()))
        await asyncio.sleep(0)
        done = asyncio.Event()
        small = asyncio.create_task(_use(budget, MESSAGE // 4, done))
        await asyncio.sleep(0)
        assert not done.is_set()  # it would fit, and does not overtake

        large.cancel()
        await small

    assert done.is_set()


async def _use(budget: Budget, message_bytes: int, done: asyncio.Event) -> None:
    async with budget.encrypting(message_bytes, 1):
        done.set()


def test_release_forgets_what_was_declared() -> None:
    """After a release nothing is covered any more: what still comes is reserved anew."""
    budget = Budget(2 * UPLOAD_FACTOR * MESSAGE)
    reservation = budget.reserve(MESSAGE)

    reservation.release()
    reservation.grow(MESSAGE)

    with pytest.raises(OverMemory):
        budget.reserve(1)
