"""Never more connections than allowed, and nobody waits for an idle one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.nexthop.connection import HopConnection
from relay.nexthop.pool import ConnectionPool, Parked
from relay.nexthop.replies import HopFailure, Reason
from relay.nexthop.settings import Timeouts
from relay.nexthop.wire import Needs
from tests.fakes import FakeNextHop, FixedClock
from tests.unit.nexthop.conftest import ALICE, settings_for


@asynccontextmanager
async def pool_of(fake: FakeNextHop, clock: FixedClock, most: int = 2) -> AsyncIterator[ConnectionPool]:
    settings = settings_for(
        fake,
        max_connections=most,
        idle_seconds=60,
        messages_per_connection=2,
        timeouts=Timeouts(slot_seconds=0.1, open_seconds=5, command_seconds=5),
    )
    pool = ConnectionPool(settings, clock)
    try:
        yield pool
    finally:
        pool.close()


async def opened(pool: ConnectionPool) -> HopConnection:
    connection = pool.new()
    await connection.open(None)
    return connection


async def test_slot_beyond_the_limit_waits_and_then_fails(clock: FixedClock) -> None:
    """The wait is bounded, and its end is 451 for the client."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool, pool.slot(), pool.slot():
        with pytest.raises(HopFailure) as caught:
            async with pool.slot():
                pass

        assert caught.value.reason is Reason.BUSY
        assert caught.value.reply().code == 451


async def test_slot_is_free_again_after_an_error_or_a_cancellation(clock: FixedClock) -> None:
    """No way out keeps a slot."""
    async with FakeNextHop() as fake, pool_of(fake, clock, most=1) as pool:
        with pytest.raises(ZeroDivisionError):
            async with pool.slot():
                raise ZeroDivisionError

        async def hold() -> None:
            async with pool.slot():
                await asyncio.Event().wait()

        task = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        async with pool.slot():
            pass


async def test_take_shared_prefers_the_last_used(clock: FixedClock) -> None:
    """So that surplus ones grow old, and a message's next copy finds the connection of its first."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        first, second = await opened(pool), await opened(pool)
        pool.park(first, Parked.SHARED)
        pool.park(second, Parked.SHARED)

        assert pool.take_shared() is second
        assert pool.take_shared() is first
        assert pool.take_shared() is None


@pytest.mark.parametrize("kind", [Parked.SESSION, Parked.TRANSACTION])
async def test_take_shared_never_takes_a_logged_in_or_busy_one(clock: FixedClock, kind: Parked) -> None:
    """One client's login never serves another client."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        pool.park(await opened(pool), kind)

        assert pool.take_shared() is None


@pytest.mark.parametrize(("seconds", "expected"), [(60, True), (60.1, False)])
async def test_reclaim_of_an_old_connection_closes_it(
    clock: FixedClock, seconds: float, expected: bool
) -> None:
    """A next hop closes idle connections; ours are given up before."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        connection = await opened(pool)
        pool.park(connection, Parked.SHARED)
        clock.advance(seconds)

        assert pool.reclaim(connection) is expected
        assert connection.is_usable is expected


async def test_reclaim_of_a_transaction_minds_no_age(clock: FixedClock) -> None:
    """A slow upload keeps its connection as long as the next hop does."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        connection = await opened(pool)
        pool.park(connection, Parked.TRANSACTION)
        clock.advance(3600)

        assert pool.reclaim(connection)


async def test_reclaim_of_a_much_used_connection_closes_it(clock: FixedClock) -> None:
    """After `messages_per_connection` messages a new connection is made."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        connection = await opened(pool)
        for _ in range(2):
            await connection.mail(ALICE, Needs())
        pool.park(connection, Parked.SHARED)

        assert pool.take_shared() is None
        assert not connection.is_usable


async def test_reclaim_of_a_dead_connection_fails(clock: FixedClock) -> None:
    """A next hop that hung up is noticed without a command."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        connection = await opened(pool)
        pool.park(connection, Parked.SHARED)
        await fake.hang_up()
        await asyncio.sleep(0.02)

        assert not pool.reclaim(connection)


@pytest.mark.parametrize(
    ("parked", "given_up"),
    [
        ((Parked.TRANSACTION, Parked.SHARED), 1),
        ((Parked.TRANSACTION, Parked.SESSION), 1),
        ((Parked.SESSION, Parked.SHARED), 1),
        ((Parked.SHARED, Parked.SHARED), 0),
        ((Parked.TRANSACTION, Parked.TRANSACTION), 0),
    ],
)
async def test_new_at_the_limit_gives_up_what_is_missed_least(
    clock: FixedClock, parked: tuple[Parked, Parked], given_up: int
) -> None:
    """Idle before logged in before in transaction, and among equals the oldest; the limit holds."""
    async with FakeNextHop() as fake, pool_of(fake, clock) as pool:
        connections = [await opened(pool), await opened(pool)]
        for connection, kind in zip(connections, parked, strict=True):
            pool.park(connection, kind)
        third = await opened(pool)
        await asyncio.sleep(0.02)

        assert [connection.is_usable for connection in connections] == [given_up != 0, given_up != 1]
        assert third.is_usable
        assert fake.current == 2
        pool.drop(third)


async def test_close_closes_idle_and_later_idle(clock: FixedClock) -> None:
    """After the end nothing is kept, but a transaction under way keeps its connection."""
    async with FakeNextHop() as fake, pool_of(fake, clock, most=3) as pool:
        idle, used, waiting = await opened(pool), await opened(pool), await opened(pool)
        pool.park(idle, Parked.SHARED)
        pool.park(waiting, Parked.TRANSACTION)
        pool.close()
        pool.park(used, Parked.SHARED)

        assert [one.is_usable for one in (idle, used, waiting)] == [False, False, True]
        pool.drop(waiting)
