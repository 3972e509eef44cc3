"""Kept answers of a discovered source: asked seldom, never more than was answered, never less safe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceDistrusted, KeySourceUnavailable, StoreUnavailable
from relay.keys.memory import Memory
from relay.message import Certificate
from tests.keys import certificate
from tests.unit.keys.cachemachine import CacheMachine
from tests.unit.keys.discoveries import ADDRESS, BOB, NONE, Bench, Outcome, positive

DAY, HOUR, MINUTE = 86_400, 3600, 60
KEY, OTHER = certificate("rsa2048", "wkd"), certificate("curve25519", "wkd")
REVOKED = certificate("revoked-primary", "wkd")
DOWN, BOGUS = KeySourceUnavailable("down"), KeySourceDistrusted("bogus")

TestMachine = CacheMachine.TestCase
"""Whatever is answered, fails, passes and restarts in whatever order: see the invariants there."""


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    if bench.discovery.hold:
        bench.discovery.hold.set()
    await bench.source.close()


# --------------------------------------------------------------------------- fresh answers


@pytest.mark.parametrize(
    ("answer", "expected", "seconds"), [(positive(KEY), [KEY], DAY), (NONE, [], HOUR)], ids=["key", "none"]
)
async def test_find_while_fresh_asks_once(
    bench: Bench, answer: Outcome, expected: list[Certificate], seconds: float
) -> None:
    """A key for a day, "none" for an hour; then the source is asked again."""
    bench.says(answer)
    first = await bench.find()
    bench.clock.advance(seconds / 2 - 1)
    second = await bench.find()
    before = bench.queries
    bench.clock.advance(seconds / 2 + 1)
    await bench.find()

    assert (expected, expected) == (first, second)
    assert (1, 2) == (before, bench.queries)


async def test_find_after_a_restart_asks_nobody(bench: Bench) -> None:
    """What is kept is in the database, with the time at which it was answered."""
    bench.says(positive(KEY))
    answered_at = bench.clock.now()
    await bench.find()
    bench.clock.advance(HOUR)
    await bench.restart()
    found = await bench.find()

    assert ([KEY], [answered_at], 1) == (found, [one.fetched for one in found], bench.queries)


async def test_find_from_memory_leaves_the_database_alone(bench: Bench) -> None:
    """A hundred messages are one read and one write."""
    bench.says(positive(KEY))
    for _ in range(100):
        await bench.find()
        bench.clock.advance(30)
    await bench.settle()

    assert ["get", "get", "put"] == bench.cache.calls


async def test_find_gives_a_list_of_its_own(bench: Bench) -> None:
    """Who changes the answer changes nothing here."""
    bench.says(positive(KEY))
    (await bench.find()).clear()

    assert [KEY] == await bench.find()


async def test_find_with_a_maximum_age_asks_when_it_is_over(bench: Bench) -> None:
    """The lifetime of a DNS record ends the answer, whatever is configured (K-18)."""
    bench.says(positive(KEY, max_age_seconds=300), DOWN)
    await bench.find()
    bench.clock.advance(301)

    with pytest.raises(KeySourceUnavailable, match="down"):
        await bench.find()
    assert [KEY] == await bench.source.recall(ADDRESS)


async def test_changed_makes_it_read_again(bench: Bench) -> None:
    """What another process found is served a moment later."""
    bench.says(positive(KEY), positive(OTHER))
    await bench.find()
    other = bench.make()
    await other.refresh(ADDRESS)
    before = await bench.find()
    bench.source.changed(["carol@example.com"])
    still = await bench.find()
    bench.source.changed([BOB])

    assert ([KEY], [KEY], [OTHER]) == (before, still, await bench.find())


async def test_changed_during_a_read_keeps_nothing_of_it(bench: Bench) -> None:
    """What was read before the change is not in memory after it."""
    bench.says(positive(KEY), positive(OTHER))
    await bench.find()
    await bench.restart()
    bench.cache.hold = asyncio.Event()
    reading = asyncio.create_task(bench.find())
    await bench.cache.reading.wait()
    bench.cache.hold.set()
    bench.cache.hold = None
    await bench.make().refresh(ADDRESS)
    bench.source.changed([BOB])
    await reading

    assert [OTHER] == await bench.find()


async def test_find_past_freshness_reads_what_another_process_found(bench: Bench) -> None:
    """Before the source is asked, the database is."""
    bench.says(positive(KEY), positive(OTHER))
    await bench.find()
    bench.clock.advance(DAY)
    await bench.make().find(ADDRESS)

    assert ([OTHER], 2) == (await bench.find(), bench.queries)


@pytest.mark.parametrize("before", [None, NONE], ids=["never", "none"])
async def test_find_failing_without_a_key_is_unavailable(bench: Bench, before: Outcome | None) -> None:
    """An outage makes neither "none" nor a longer "none"."""
    if before is not None:
        bench.says(before)
        await bench.find()
        bench.clock.advance(HOUR)
    bench.says(DOWN)

    with pytest.raises(KeySourceUnavailable, match="down"):
        await bench.find()
    with pytest.raises(KeySourceUnavailable, match="down"):
        await bench.find()


async def test_find_failing_with_a_key_serves_it_for_a_week(bench: Bench) -> None:
    """Stale-if-error: said in the log once per failure, and over when the week is."""
    bench.says(positive(KEY), DOWN)
    await bench.find()
    bench.clock.advance(DAY)
    stale = [await bench.find(), await bench.find()]
    events = bench.journal.names()
    bench.clock.advance(7 * DAY - 1)
    last = await bench.find()
    bench.clock.advance(1)

    assert ([[KEY], [KEY]], [KEY]) == (stale, last)
    assert ["key_query_failed", "key_answer_stale"] == events
    with pytest.raises(KeySourceUnavailable, match="down"):
        await bench.find()


async def test_find_failing_is_asked_again_after_the_back_off(bench: Bench) -> None:
    """Not before a minute, then two; a restart does not forget it."""
    bench.says(DOWN)
    asked = []
    for seconds in (0, 59, 1, 119, 1):
        bench.clock.advance(seconds)
        await bench.restart()
        with pytest.raises(KeySourceUnavailable):
            await bench.find()
        asked.append(bench.queries)

    assert [1, 1, 2, 2, 3] == asked


async def test_find_failing_heeds_retry_after(bench: Bench) -> None:
    """Who says 429 is left alone for as long as it says (K-24)."""
    bench.says(KeySourceUnavailable("429", retry_after_seconds=7200))
    asked = []
    for seconds in (0, 7199, 1):
        bench.clock.advance(seconds)
        with pytest.raises(KeySourceUnavailable):
            await bench.find()
        asked.append(bench.queries)

    assert [1, 1, 2] == asked


async def test_find_after_a_failure_answered_forgets_it(bench: Bench) -> None:
    """An answer ends the back-off, its count and its text."""
    bench.says(DOWN, NONE)
    with pytest.raises(KeySourceUnavailable):
        await bench.find()
    bench.clock.advance(60)

    assert [] == await bench.find()
    entry = bench.cache.kept["wkd", BOB]
    assert ("", 0, bench.clock.now()) == (entry.failure, entry.failures, entry.answered_at)


async def test_find_that_cannot_note_its_use_answers(bench: Bench) -> None:
    """The answer does not depend on it."""
    bench.says(positive(KEY))
    await bench.find()
    bench.cache.down = {"touch"}
    bench.clock.advance(HOUR)
    found = await bench.find()
    await bench.settle()

    assert ([KEY], ["key_use_lost"]) == (found, bench.journal.names())


async def test_recall_and_asked_at_without_the_store_raise(bench: Bench) -> None:
    """Nothing known is not the same as nothing to be read."""
    bench.cache.down = {"get"}

    with pytest.raises(StoreUnavailable):
        await bench.source.recall(ADDRESS)
    with pytest.raises(StoreUnavailable):
        await bench.source.asked_at(ADDRESS)


async def test_find_distrusted_serves_nothing_old(bench: Bench) -> None:
    """Nothing may be sent, not during the back-off and not after a restart (RFC 7929 §7.1)."""
    bench.says(positive(KEY), BOGUS, DOWN, positive(OTHER))
    await bench.find()
    bench.clock.advance(DAY)
    for seconds in (0, 1, 60):  # asked: bogus; not asked; asked: down
        bench.clock.advance(seconds)
        await bench.restart()
        with pytest.raises(KeySourceDistrusted):
            await bench.find()
    bench.clock.advance(120)

    assert (3, [OTHER]) == (bench.queries, await bench.find())
    assert "key_answer_stale" not in bench.journal.names()


async def test_find_with_a_bug_is_unavailable(bench: Bench) -> None:
    """Never "none", and no entry: it is reported, and the next message tries again."""
    bench.says(ZeroDivisionError("secret"), positive(KEY))

    with pytest.raises(KeySourceUnavailable, match="ZeroDivisionError"):
        await bench.find()
    assert ["unexpected"] == bench.journal.names()
    assert [KEY] == await bench.find()


async def test_find_of_a_damaged_entry_asks_the_source(bench: Bench) -> None:
    """What cannot be read is neither a key nor "none"."""
    bench.says(positive(KEY))
    await bench.find()
    bench.cache.kept["wkd", BOB] = replace(bench.entry, certificates=(b"garbage",))
    await bench.restart()

    assert ([KEY], 2) == (await bench.find(), bench.queries)


@pytest.mark.parametrize(("what", "queries"), [("get", 0), ("put", 1)])
@pytest.mark.parametrize("outcome", [positive(KEY), NONE, DOWN], ids=["key", "none", "down"])
async def test_find_without_the_store_raises(bench: Bench, what: str, queries: int, outcome: Outcome) -> None:
    """What cannot be read is not asked, what cannot be remembered is not answered; and it heals."""
    bench.says(outcome)
    bench.cache.down = {what}

    with pytest.raises(StoreUnavailable):
        await bench.find()
    assert queries == bench.queries
    bench.cache.down = set()
    bench.says(positive(KEY))
    assert [KEY] == await bench.find()


async def test_find_with_a_maximum_of_zero_is_answered(bench: Bench) -> None:
    """What may not be kept still answers the question that was asked."""
    bench.says(positive(KEY, max_age_seconds=0))

    assert ([KEY], [KEY], 2) == (await bench.find(), await bench.find(), bench.queries)


# --------------------------------------------------------------------------- who waits


async def test_find_by_many_asks_once(bench: Bench) -> None:
    """However many messages want the same address."""
    bench.says(positive(KEY))
    found = await asyncio.gather(*(bench.find() for _ in range(50)))

    assert ([[KEY]] * 50, 1) == (found, bench.queries)


async def test_find_that_is_cancelled_leaves_its_answer(bench: Bench) -> None:
    """The next message finds what the impatient one asked for."""
    bench.says(positive(KEY))
    bench.discovery.hold = asyncio.Event()
    waiting = asyncio.create_task(bench.find())
    await bench.discovery.arrived.wait()
    waiting.cancel()
    await asyncio.wait({waiting})
    bench.discovery.hold.set()
    await bench.settle()

    assert waiting.cancelled()
    assert ([KEY], 1) == (await bench.find(), bench.queries)
    assert [BOB] == bench.seen.marked


async def test_close_ends_the_query_and_the_source(bench: Bench) -> None:
    """Who waits is told that it could not be found out."""
    bench.discovery.hold = asyncio.Event()
    waiting = asyncio.create_task(bench.find())
    await bench.discovery.arrived.wait()
    await bench.source.close()

    with pytest.raises(KeySourceUnavailable, match="ended"):
        await waiting
    with pytest.raises(KeySourceUnavailable, match="closed"):
        await bench.find()
    assert bench.discovery.closed


# --------------------------------------------------------------------------- what is known of old


async def test_recall_gives_what_is_known_however_old(bench: Bench) -> None:
    """A revocation that was seen a year ago is one; nobody is asked."""
    bench.says(positive(REVOKED))
    answered_at = bench.clock.now()
    await bench.find()
    bench.clock.advance(365 * DAY)
    await bench.restart()

    assert ([REVOKED], answered_at) == (
        await bench.source.recall(ADDRESS),
        await bench.source.asked_at(ADDRESS),
    )
    assert 1 == bench.queries


async def test_recall_of_nothing_is_nothing(bench: Bench) -> None:
    """Neither a key nor a time, and nobody is asked; the database is read once a minute."""
    known = []
    for seconds in (0, 59, 1):
        bench.clock.advance(seconds)
        known.append((await bench.source.recall(ADDRESS), await bench.source.asked_at(ADDRESS)))

    assert [([], None)] * 3 == known
    assert (["get", "get"], 0) == (bench.cache.calls, bench.queries)


async def test_recall_does_not_hide_a_key_from_find(bench: Bench) -> None:
    """That nothing was known is not an answer."""
    bench.says(positive(KEY))
    await bench.source.recall(ADDRESS)

    assert [KEY] == await bench.find()


async def test_recall_of_a_failure_keeps_the_time_of_the_answer(bench: Bench) -> None:
    """Asked in vain is not answered."""
    bench.says(positive(KEY), DOWN)
    answered_at = bench.clock.now()
    await bench.find()
    bench.clock.advance(DAY)
    await bench.find()

    assert answered_at == await bench.source.asked_at(ADDRESS)


# --------------------------------------------------------------------------- use, marks, fingerprints


async def test_find_notes_its_use_once_an_hour(bench: Bench) -> None:
    """A write per lookup would cost more than the lookup."""
    bench.says(positive(KEY))
    await bench.find()
    for _ in range(12):
        bench.clock.advance(10 * MINUTE)
        await bench.find()
        await bench.settle()

    assert 2 == bench.cache.calls.count("touch")
    assert bench.clock.now() == bench.entry.used_at


async def test_find_marks_each_address_once(bench: Bench) -> None:
    """Not for every message, not after a restart, but for each address that an answer is given for."""
    bench.discovery.cache_key = lambda address: "the same"  # type: ignore[method-assign]
    bench.says(positive(KEY))
    for _ in range(3):
        await bench.find()
        await bench.restart()
    for _ in range(3):
        await bench.source.find(parse_mailbox("carol@example.com"))

    assert ([BOB, "carol@example.com"], 1) == (bench.seen.marked, bench.queries)


async def test_find_fingerprint_is_kept_by_itself(bench: Bench) -> None:
    """The same rules under another key; an empty one is never asked for."""
    bench.discovery.says(KEY.fingerprint, positive(KEY))
    found = [await bench.source.find_fingerprint(text) for text in (KEY.fingerprint, KEY.fingerprint, "")]

    assert ([[KEY], [KEY], []], [KEY.fingerprint]) == (found, bench.discovery.asked)
    assert [] == await bench.find()


async def test_find_with_a_full_memory_reads_the_database(bench: Bench) -> None:
    """What does not fit is read again, not asked again."""
    await bench.restart(memory=Memory(max_octets=1))
    bench.says(positive(KEY))

    assert ([KEY], [KEY], 1) == (await bench.find(), await bench.find(), bench.queries)


async def test_find_of_an_entry_from_the_future_asks(bench: Bench) -> None:
    """A clock that was wrong for an hour does not keep an answer for years."""
    bench.says(positive(KEY), positive(OTHER))
    bench.clock.advance(10 * 365 * DAY)
    await bench.find()
    bench.clock.advance(-10 * 365 * DAY)

    assert [OTHER] == await bench.find()
