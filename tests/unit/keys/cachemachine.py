"""Everything that can happen to kept answers, in any order: answers, failures, time, restarts, processes.

The model is a few facts that change when something is written into the database: the last answer, until when
it may serve, whether the source was distrusted since, and whether a revocation was seen in it. What
`CachedKeys` says is compared with them at the moment when it says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.errors import KeySourceDistrusted, KeySourceUnavailable, StoreUnavailable
from relay.keys.refreshing import refresh_due
from relay.message import Certificate, Discovered
from relay.remembered import CacheEntry
from tests.keys import certificate
from tests.unit.keys.discoveries import ADDRESS, Bench, MemoryCache, Middle, Outcome

BEFORE, REVOKED = certificate("revoked-primary-before", "wkd"), certificate("revoked-primary", "wkd")
KEY = certificate("rsa2048", "wkd")

ANSWERS = [(), (BEFORE,), (REVOKED,), (KEY,), (BEFORE, KEY), (KEY, REVOKED)]
FAILURES = [
    KeySourceUnavailable("down"),
    KeySourceUnavailable("429", retry_after_seconds=7200),
    KeySourceDistrusted("bogus"),
    ZeroDivisionError(),
]
STEPS = [1, 61, 3600, 43_200, 86_400, 7 * 86_400]


class _WatchedCache(MemoryCache):
    """Says what is written at the moment when it is."""

    def __init__(self, wrote: Callable[[], None]) -> None:
        super().__init__()
        self._wrote = wrote

    async def put(self, entry: CacheEntry) -> None:
        await super().put(entry)
        self._wrote()


class CacheMachine(RuleBasedStateMachine):
    """One address, one database, several processes."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.bench = Bench()
        self.bench.cache = _WatchedCache(self._wrote)
        self.bench.source = self.bench.make()
        self.says: Outcome = Discovered()
        self.answer: tuple[Certificate, ...] | None = None
        """The last one that was written down."""
        self.serves_until = self.bench.clock.now()
        self.failed = self.distrusted = False
        """Since the last answer."""
        self.revoked = False
        """Whether REVOKED was in an answer, and its certificate in every one since."""

    def teardown(self) -> None:
        self.runner.run(self.bench.source.close())
        self.runner.close()

    # ----------------------------------------------------------------- what happens

    @rule(answer=st.sampled_from(ANSWERS), max_age=st.sampled_from([None, None, 300]))
    def source_answers(self, answer: tuple[Certificate, ...], max_age: int | None) -> None:
        self._says(Discovered(answer, max_age))

    @rule(failure=st.sampled_from(FAILURES))
    def source_fails(self, failure: Exception) -> None:
        self._says(failure)

    def _says(self, outcome: Outcome) -> None:
        self.says = outcome
        self.bench.says(outcome)

    @rule(seconds=st.sampled_from(STEPS))
    def time_passes(self, seconds: int) -> None:
        self.bench.clock.advance(seconds)

    @rule()
    def process_restarts(self) -> None:
        self.runner.run(self.bench.restart())

    @rule(down=st.sets(st.sampled_from(["get", "put", "touch", "due"])))
    def store_breaks(self, down: set[str]) -> None:
        self.bench.cache.down = down

    @rule()
    def store_heals(self) -> None:
        self.bench.cache.down = set()

    @rule(many=st.sampled_from([1, 3]))
    def messages_ask(self, many: int) -> None:
        self._run(*(self._checked(self.bench.find(), self._found, self._not_found) for _ in range(many)))

    @rule()
    def two_refresh(self) -> None:
        two = (self.bench.source.refresh(ADDRESS), self.bench.source.refresh(ADDRESS))
        self._run(*(self._checked(one, self._refreshed, self._not_refreshed) for one in two))

    @rule()
    def somebody_recalls(self) -> None:
        self._run(self._checked(self.bench.source.recall(ADDRESS), self._recalled, self._not_recalled))

    @rule()
    def others_refresh(self) -> None:
        self._run(self._other())

    async def _other(self) -> None:
        other = self.bench.make()
        await self._checked(other.refresh(ADDRESS), self._refreshed, self._not_refreshed)
        await other.close()
        self.bench.source.changed([ADDRESS.key])

    @rule()
    def background_refreshes(self) -> None:
        self._run(self._background())

    async def _background(self) -> None:
        try:
            await refresh_due(self.bench.source, self.bench.clock, self.bench.journal, Middle())
        except StoreUnavailable:
            assert "due" in self.bench.cache.down

    def _run(self, *work: Awaitable[None]) -> None:
        """All of it together, and what it leaves in the background after it."""

        async def run() -> None:
            await asyncio.gather(*work)
            await self.bench.settle()

        self.runner.run(run())

    async def _checked(
        self,
        work: Awaitable[list[Certificate]],
        good: Callable[[list[Certificate]], None],
        bad: Callable[[KeySourceUnavailable], None],
    ) -> None:
        try:
            found = await work
        except KeySourceUnavailable as exc:
            bad(exc)
        else:
            good(found)

    # ----------------------------------------------------------------- what the model knows

    def _wrote(self) -> None:
        if isinstance(self.says, Discovered):
            self._answered(self.says.certificates, self.says.max_age_seconds)
        else:
            self.failed = True
            self.distrusted |= isinstance(self.says, KeySourceDistrusted)

    def _answered(self, answer: tuple[Certificate, ...], max_age: int | None) -> None:
        has = any(one.fingerprint == REVOKED.fingerprint for one in answer)
        self.revoked = has and (self.revoked or REVOKED in answer)
        self.answer, self.failed, self.distrusted = answer, False, False
        lasts = timedelta(days=8) if answer else timedelta(hours=1)
        self.serves_until = self.bench.clock.now() + (
            lasts if max_age is None else timedelta(seconds=max_age)
        )

    @property
    def _expected(self) -> list[Certificate]:
        """What was answered last, and the revoked copy that it left out."""
        answer = list(self.answer or ())
        return [*answer, REVOKED] if self.revoked and REVOKED not in answer else answer

    @property
    def _serves(self) -> bool:
        """Whether the last answer may be served now."""
        return self.answer is not None and not self.distrusted and self.bench.clock.now() < self.serves_until

    @property
    def _store_fails(self) -> bool:
        return bool(self.bench.cache.down & {"get", "put"})

    # ----------------------------------------------------------------- what must be true

    @invariant()
    def never_two_queries_at_once(self) -> None:
        assert self.bench.discovery.at_once <= 1

    def _found(self, found: list[Certificate]) -> None:
        """An outage never makes more of an answer than it was, and "none" out of nothing else."""
        assert self._serves
        assert self._expected == found

    def _not_found(self, error: KeySourceUnavailable) -> None:
        """Nothing is refused without a reason."""
        if isinstance(error, StoreUnavailable):
            assert self._store_fails
        elif not isinstance(self.says, ZeroDivisionError):
            assert self.failed
            assert not self._serves
            assert self.distrusted == isinstance(error, KeySourceDistrusted)

    def _refreshed(self, found: list[Certificate]) -> None:
        assert isinstance(self.says, Discovered)
        assert self.answer == self.says.certificates
        assert self._expected == found

    def _not_refreshed(self, error: KeySourceUnavailable) -> None:
        assert self._store_fails if isinstance(error, StoreUnavailable) else isinstance(self.says, Exception)

    def _recalled(self, found: list[Certificate]) -> None:
        """Whatever the age; nothing that was not answered."""
        assert self._expected == found

    def _not_recalled(self, error: KeySourceUnavailable) -> None:
        assert isinstance(error, StoreUnavailable)
        assert "get" in self.bench.cache.down


CacheMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
