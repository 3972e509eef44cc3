"""Refreshing in the background: what is due, few at a time, and no failure ends it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceDistrusted, KeySourceUnavailable, StoreUnavailable
from relay.keys.refreshing import keep_fresh, refresh_due
from relay.message import Certificate
from tests.fakes import FixedClock
from tests.keys import certificate
from tests.unit.keys import discoveries
from tests.unit.keys.discoveries import ADDRESS, NONE, Middle, positive

DAY, HOUR, MINUTE = 86_400, 3600, 60
KEY, OTHER = certificate("rsa2048", "wkd"), certificate("curve25519", "wkd")
DOWN, BOGUS = KeySourceUnavailable("down"), KeySourceDistrusted("bogus")


class Bench(discoveries.Bench):
    """A cached source whose rounds are counted."""

    async def used(self, *names: str, answer: Certificate | None = KEY) -> None:
        """A message asks for each address now."""
        for name in names:
            address = f"{name}@example.com"
            self.discovery.says(address, positive(answer) if answer else NONE)
            await self.source.find(parse_mailbox(address))
        self.discovery.asked.clear()

    async def round(self) -> list[str]:
        """One round: who was asked for."""
        await refresh_due(self.source, self.clock, self.journal, Middle())
        asked = sorted(self.discovery.asked)
        self.discovery.asked.clear()
        return asked


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.source.close()


async def test_refresh_due_asks_shortly_before_the_end(bench: Bench) -> None:
    """Ten minutes before, not earlier; then it is fresh for another day."""
    await bench.used("bob")
    bench.clock.advance(DAY - 11 * MINUTE)
    early = await bench.round()
    bench.clock.advance(2 * MINUTE)

    assert [] == early
    assert ["bob@example.com"] == await bench.round()
    assert (
        bench.clock.now() + timedelta(seconds=DAY) == bench.cache.kept["wkd", "bob@example.com"].fresh_until
    )
    assert [] == await bench.round()


async def test_refresh_due_asks_for_fingerprints_too(bench: Bench) -> None:
    """A certificate that a rule names by hand can be revoked like any other."""
    bench.discovery.says(KEY.fingerprint, positive(KEY))
    await bench.source.find_fingerprint(KEY.fingerprint)
    bench.clock.advance(DAY)
    bench.discovery.asked.clear()

    assert [KEY.fingerprint] == await bench.round()


async def test_refresh_due_leaves_alone_what_nobody_uses(bench: Bench) -> None:
    """Two weeks after the last message the queries end."""
    await bench.used("bob")
    rounds = []
    for _ in range(20):
        bench.clock.advance(DAY)
        rounds.append(len(await bench.round()))

    assert [1] * 13 + [0] * 7 == rounds


async def test_refresh_due_leaves_alone_what_has_no_key(bench: Bench) -> None:
    """That there is no key is asked when somebody writes."""
    await bench.used("bob", answer=None)
    bench.clock.advance(DAY)

    assert [] == await bench.round()


async def test_refresh_due_asks_at_most_once_an_hour(bench: Bench) -> None:
    """A short lifetime is no reason to ask around the clock."""
    bench.discovery.says("bob@example.com", positive(KEY, max_age_seconds=300))
    await bench.source.find(parse_mailbox("bob@example.com"))
    bench.discovery.asked.clear()
    asked = 0
    for _ in range(24 * 60):
        bench.clock.advance(MINUTE)
        asked += len(await bench.round())

    assert 20 <= asked <= 24


async def test_refresh_due_with_a_failure_tries_hourly_and_keeps_the_key(bench: Bench) -> None:
    """An outage in the night neither loses the key nor makes a storm."""
    await bench.used("bob")
    bench.clock.advance(DAY - 5 * MINUTE)
    bench.discovery.says("bob@example.com", KeySourceUnavailable("down"))
    asked = 0
    for _ in range(180):
        bench.clock.advance(MINUTE)
        asked += len(await bench.round())

    assert asked in {3, 4}
    entry = bench.cache.kept["wkd", "bob@example.com"]
    assert ((KEY.data,), "down", asked) == (entry.certificates, entry.failure, entry.failures)


async def test_refresh_due_asks_four_at_once(bench: Bench) -> None:
    """A database full of keys is no burst of queries."""
    await bench.used(*(f"user{number}" for number in range(20)))
    bench.clock.advance(DAY)
    bench.discovery.together = 0
    asked = await bench.round()

    assert 20 == len(asked)
    assert 4 == bench.discovery.together


async def test_refresh_due_leaves_out_what_another_process_did(bench: Bench) -> None:
    """Two relays with one database do not ask twice."""
    await bench.used("bob")
    bench.clock.advance(DAY)
    other = bench.make()
    due = await other.due(bench.clock.now() + timedelta(hours=1), bench.clock.now() - timedelta(days=14), 10)
    await bench.round()
    await other.refresh_entry(due[0])
    await other.close()

    assert [] == bench.discovery.asked


async def test_refresh_due_leaves_out_what_was_forgotten(bench: Bench) -> None:
    """What the administrator forgets does not come back by itself."""
    await bench.used("bob")
    bench.clock.advance(DAY)
    due = await bench.source.due(
        bench.clock.now() + timedelta(hours=1), bench.clock.now() - timedelta(days=14), 10
    )
    await bench.cache.forget("bob@example.com")
    await bench.source.refresh_entry(due[0])

    assert [] == bench.discovery.asked
    assert {} == bench.cache.kept


async def test_refresh_due_without_the_store_raises(bench: Bench) -> None:
    """Its caller goes on; see `keep_fresh`."""
    bench.cache.down = {"due"}

    with pytest.raises(StoreUnavailable):
        await bench.round()


async def test_refresh_due_with_one_that_fails_refreshes_the_others(bench: Bench) -> None:
    """A bug in the answer of one address is reported and stays with it."""
    await bench.used("ann", "bob", "carol")
    bench.clock.advance(DAY)
    bench.discovery.says("bob@example.com", ZeroDivisionError())
    asked = await bench.round()
    fresh = [key for (_, key), entry in bench.cache.kept.items() if entry.fresh_until > bench.clock.now()]

    assert 3 == len(asked)
    assert ["ann@example.com", "carol@example.com"] == sorted(fresh)
    assert "unexpected" in bench.journal.names()
    assert "keys_refresh_failed" in bench.journal.names()


class CountedClock(FixedClock):
    """A clock that says when a number of rounds have begun."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self.left = rounds
        self.done = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)
        self.advance(seconds)
        if seconds == 60.0:
            self.left -= 1
        if self.left < 0:
            self.done.set()
            await asyncio.Event().wait()


class Broken:
    """A source whose list of what is due fails."""

    name = "broken"

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def due(self, *_: object) -> list[object]:
        raise self.error


async def test_keep_fresh_outlives_what_fails(bench: Bench) -> None:
    """Neither a store that is down nor a bug of one source ends the refreshing of the others."""
    await bench.used("bob")
    clock = CountedClock(rounds=3)
    clock.advance(DAY)
    bench.clock.advance(DAY)
    sources = [Broken(StoreUnavailable("gone")), Broken(ZeroDivisionError()), bench.source]
    running = asyncio.create_task(keep_fresh(sources, clock, bench.journal, Middle()))  # type: ignore[arg-type]
    await clock.done.wait()
    was_running = not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert was_running
    assert ["bob@example.com"] == bench.discovery.asked
    assert ["keys_refresh_failed", "unexpected"] * 3 == bench.journal.names()


async def test_keep_fresh_without_sources_ends(bench: Bench) -> None:
    """There is nothing to do."""
    await keep_fresh([], bench.clock, bench.journal)

    assert [] == bench.journal.events


# --------------------------------------------------------------------------- because somebody asks


async def test_find_past_the_half_refreshes_in_the_background(bench: Bench) -> None:
    """The message gets what is kept, the next one what is new."""
    bench.says(positive(KEY), positive(OTHER))
    await bench.find()
    bench.clock.advance(DAY / 2)
    first = await bench.find()
    await bench.settle()

    assert ([KEY], [OTHER], 2) == (first, await bench.find(), bench.queries)


async def test_find_past_the_half_refreshes_once_an_hour(bench: Bench) -> None:
    """However many messages ask, and although the refresh ends in a bug."""
    bench.says(positive(KEY), ZeroDivisionError())
    await bench.find()
    bench.clock.advance(DAY / 2)
    asked = []
    for seconds in (0, 0, HOUR - 1, 1):
        bench.clock.advance(seconds)
        await bench.find()
        await bench.settle()
        asked.append(bench.queries)

    assert [2, 2, 2, 3] == asked


async def test_find_past_the_half_with_a_failure_is_still_fresh(bench: Bench) -> None:
    """A refresh that fails in the background takes nothing away, and is not repeated by each message."""
    bench.says(positive(KEY), DOWN)
    await bench.find()
    bench.clock.advance(DAY / 2)
    for _ in range(3):
        await bench.find()
        await bench.settle()
        bench.clock.advance(HOUR)

    assert ([KEY], 2) == (await bench.find(), bench.queries)
    assert "key_answer_stale" not in bench.journal.names()


async def test_find_past_the_half_distrusted_serves_no_more(bench: Bench) -> None:
    """An answer that must not be believed counts at once, also where nobody waited for it."""
    bench.says(positive(KEY), BOGUS)
    await bench.find()
    bench.clock.advance(DAY / 2)
    await bench.find()
    await bench.settle()

    with pytest.raises(KeySourceDistrusted):
        await bench.find()


async def test_refresh_asks_whatever_is_kept(bench: Bench) -> None:
    """What it brings is what the next message gets."""
    bench.says(positive(KEY), positive(OTHER))
    await bench.find()

    assert ([OTHER], [OTHER], 2) == (
        *(await bench.source.refresh(ADDRESS), await bench.find()),
        bench.queries,
    )


async def test_refresh_that_fails_raises_and_keeps_the_key(bench: Bench) -> None:
    """Whoever wants to know now hears that it cannot be known; messages are served as before."""
    bench.says(positive(KEY), DOWN)
    await bench.find()

    with pytest.raises(KeySourceUnavailable, match="down"):
        await bench.source.refresh(ADDRESS)
    assert ([KEY], "down") == (await bench.find(), bench.entry.failure)


async def test_refresh_during_a_query_asks_after_it(bench: Bench) -> None:
    """What began before may be answered from before; two who refresh share the one after."""
    bench.says(positive(KEY), positive(OTHER), NONE)
    bench.discovery.hold = asyncio.Event()
    finding = asyncio.create_task(bench.find())
    await bench.discovery.arrived.wait()
    refreshing = [asyncio.create_task(bench.source.refresh(ADDRESS)) for _ in range(2)]
    await bench.settle()
    bench.discovery.hold.set()

    assert ([KEY], [[OTHER], [OTHER]]) == (await finding, await asyncio.gather(*refreshing))
    assert (2, 1) == (bench.queries, bench.discovery.at_once)
