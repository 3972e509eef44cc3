"""Queries in flight: shared, outliving those who wait, never taken for an answer when they end in a bug."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from relay.errors import KeySourceUnavailable, StoreUnavailable
from relay.keys.queries import Queries
from tests.fakes import ListJournal


class Bench:
    """Queries, and one query that can be held and counted."""

    def __init__(self) -> None:
        self.journal = ListJournal()
        self.queries = Queries[str]("wkd", self.journal)
        self.begun = 0
        self.go = asyncio.Event()
        self.outcome: str | BaseException = "answer"

    async def query(self) -> str:
        self.begun += 1
        await self.go.wait()
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome

    def wait(self, key: str = "bob") -> asyncio.Task[str]:
        return asyncio.create_task(self.queries.joined(key, self.query))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.queries.close()


async def _steps() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_joined_by_many_is_one_query(bench: Bench) -> None:
    """However many ask for the same key."""
    waiting = [bench.wait() for _ in range(20)]
    await _steps()
    bench.go.set()

    assert ["answer"] * 20 == await asyncio.gather(*waiting)
    assert 1 == bench.begun


async def test_joined_with_other_keys_is_another_query(bench: Bench) -> None:
    """One key does not wait for another."""
    bench.go.set()
    await asyncio.gather(bench.wait("bob"), bench.wait("carol"))

    assert 2 == bench.begun


async def test_joined_after_the_end_begins_anew(bench: Bench) -> None:
    """Nothing is remembered here."""
    bench.go.set()
    await bench.wait()
    await bench.wait()

    assert 2 == bench.begun


async def test_joined_that_is_cancelled_leaves_the_query(bench: Bench) -> None:
    """Who gives up takes nothing from the others."""
    first, second = bench.wait(), bench.wait()
    await _steps()
    first.cancel()
    await _steps()
    bench.go.set()

    assert "answer" == await second
    assert first.cancelled()
    assert 1 == bench.begun


async def test_joined_by_nobody_any_more_still_ends(bench: Bench) -> None:
    """A query that all have left is still one that others join."""
    first = bench.wait()
    await _steps()
    first.cancel()
    await _steps()
    second = bench.wait()
    bench.go.set()

    assert "answer" == await second
    assert 1 == bench.begun


async def test_joined_with_a_failure_raises_it_for_all(bench: Bench) -> None:
    """Each waiter gets an exception of its own, of the same class and words."""
    bench.outcome = StoreUnavailable("the disk is gone")
    bench.go.set()
    results = await asyncio.gather(bench.wait(), bench.wait(), return_exceptions=True)

    assert [("StoreUnavailable", "the disk is gone")] * 2 == [(type(e).__name__, str(e)) for e in results]
    assert results[0] is not results[1]
    assert [] == bench.journal.events


async def test_joined_with_a_bug_is_unavailable_and_reported(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is never "no key"; the log says what it was, without its words."""
    bench.outcome = ZeroDivisionError("secret words")
    bench.go.set()
    with caplog.at_level(logging.ERROR, "relay"), pytest.raises(KeySourceUnavailable, match="ZeroDivision"):
        await bench.wait()

    assert [("unexpected", {"id": "", "source": "wkd", "exception": "ZeroDivisionError"})] == (
        bench.journal.events
    )
    assert ["unexpected"] == [record.getMessage() for record in caplog.records]


async def test_joined_with_a_cancelled_query_is_unavailable(bench: Bench) -> None:
    """What ends the query is not what ends those who wait."""
    bench.outcome = asyncio.CancelledError()
    bench.go.set()

    with pytest.raises(KeySourceUnavailable, match="was ended"):
        await bench.wait()


async def test_begin_with_one_in_flight_is_no_second(bench: Bench) -> None:
    """Work in the background joins too."""
    bench.queries.begin("bob", bench.query)
    bench.queries.begin("bob", bench.query)
    await _steps()

    assert 1 == bench.begun
    assert "bob" in bench.queries
    assert "carol" not in bench.queries


async def test_over_waits_for_the_query_in_flight_whatever_its_end(bench: Bench) -> None:
    """It returns for a failure, and at once where there is none."""
    await bench.queries.over("bob")
    bench.outcome = ZeroDivisionError()
    bench.queries.begin("bob", bench.query)
    waiting = asyncio.create_task(bench.queries.over("bob"))
    await _steps()
    was_waiting = not waiting.done()
    bench.go.set()
    await waiting

    assert was_waiting
    assert "bob" not in bench.queries


async def test_close_ends_what_is_in_flight(bench: Bench) -> None:
    """Who waits hears that it could not be found out, and nothing begins any more."""
    waiting = bench.wait()
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("work")

    bench.queries.spawn(work)
    await _steps()
    await bench.queries.close()
    bench.queries.spawn(work)

    with pytest.raises(KeySourceUnavailable, match="was ended"):
        await waiting
    with pytest.raises(KeySourceUnavailable, match="was closed"):
        await bench.wait()
    assert ["work"] == ended
    assert 1 == bench.begun


async def test_close_of_nothing_returns(bench: Bench) -> None:
    """Twice, and without any query."""
    await bench.queries.close()
    await bench.queries.close()

    assert 0 == bench.begun
