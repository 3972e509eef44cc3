"""Everything that finds keys, made from the configuration: the sources, what they remember, the pins.

It is opened once for a relay and once for a command of the administrator; both may run at the same time on
the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from relay.build import LoadedSource, build_keys
from relay.errors import KeySourceUnavailable, StoreUnavailable
from relay.keys.autocrypt import LearnedSource
from relay.lookup import Listed
from relay.openpgp.judge import Judge
from relay.pins import Pins

if TYPE_CHECKING:
    from relay.config import Config
    from relay.keys.cached import CachedKeys
    from relay.seams import Clock, Journal, KeyCache, KeyLearner, LearnedKeys, PinBook
    from relay.store.database import Store

_FOLLOW_SECONDS = 1.0
"""How soon a decision of the administrator, or of another relay, is seen."""

_PRUNE_EVERY = timedelta(hours=6)

_log = logging.getLogger("relay")


def judge_of(config: Config) -> Judge:
    """The judge; what it calls usable some engine can serve (`openpgp.choosing`)."""
    return Judge()


class _Follower(Protocol):
    """Keeps in memory what is in the store."""

    def changed(self, address_keys: Iterable[str]) -> None:
        """Somebody else wrote about these addresses."""

    def forget_all(self) -> None:
        """It cannot be told what was written."""


@dataclass(frozen=True, slots=True)
class Sources:
    """What finds keys."""

    listed: Mapping[str, Listed]
    """Every configured source by its name."""
    local: Mapping[str, LoadedSource]
    """Those of this machine."""
    judge: Judge
    remote: tuple[CachedKeys, ...] = ()
    """Those outside, with what they remember in memory."""
    store: Store | None = None
    """None where there is nothing to remember (`Config.needs_store`); so is everything that needs it."""
    pins: Pins | None = None
    learner: KeyLearner | None = None
    cache: KeyCache | None = None
    """Where answers are kept."""

    @property
    def book(self) -> PinBook | None:
        """Where pins are kept."""
        return self.store.pins if self.store else None

    @property
    def learned(self) -> LearnedKeys | None:
        """Where keys from messages are kept."""
        return self.store.learned if self.store else None

    async def load(self, journal: Journal) -> None:
        """Reads the local sources and opens the store. What fails is reported and stays unavailable."""
        try:
            if self.store:
                await self.store.open()
        except StoreUnavailable as exc:
            journal.record("store_failed", reason=str(exc))
        for name, source in self.local.items():
            try:
                await source.load()
            except KeySourceUnavailable as exc:
                journal.record("key_source_failed", source=name, reason=str(exc))

    async def keep(self, clock: Clock, journal: Journal) -> None:
        """Follows what others write to the store and asks again in time, until it is cancelled."""
        if self.store:
            from relay.keys.refreshing import keep_fresh

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keep_fresh(self.remote, clock, journal))
                tasks.create_task(self._follow(self.store, clock, journal))

    async def _follow(self, store: Store, clock: Clock, journal: Journal) -> None:
        """Nothing that fails ends it; a failure that goes on is reported once."""
        pruned, before = clock.now(), None
        while True:
            await clock.sleep(_FOLLOW_SECONDS)
            is_due = clock.now() - pruned > _PRUNE_EVERY
            pruned = clock.now() if is_due else pruned
            # Bugs as well: whoever no longer follows serves for days what an administrator has forgotten.
            [failure] = await asyncio.gather(
                self._catch_up(store, pruned if is_due else None), return_exceptions=True
            )
            if failure is not None and not isinstance(failure, StoreUnavailable):
                self._forget_all()  # it cannot be told what was read and not heeded
            if type(failure) is not type(before):
                _report(journal, failure, before)
            before = failure

    async def _catch_up(self, store: Store, prune_at: datetime | None) -> None:
        """Heeds what others wrote, and drops what is too old where it is time. Raises StoreUnavailable."""
        self.changed(await store.changes.poll())
        if prune_at:
            await store.prune(prune_at)

    def changed(self, address_keys: list[str]) -> None:
        """Forgets what is in memory about these addresses (`EVERYTHING`: about all)."""
        from relay.store.changes import EVERYTHING

        if EVERYTHING in address_keys:
            self._forget_all()
        else:
            for follower in self._followers:
                follower.changed(address_keys)

    def _forget_all(self) -> None:
        for follower in self._followers:
            follower.forget_all()

    @property
    def _followers(self) -> list[_Follower]:
        return [*self.remote, *([self.pins] if self.pins else [])]

    async def close(self) -> None:
        """Ends what is under way; never raises."""
        for source in self.remote:
            await source.close()
        if self.store:
            await self.store.close()


def _report(journal: Journal, failure: BaseException | None, before: BaseException | None) -> None:
    """What began, or is over."""
    if isinstance(failure, StoreUnavailable):
        journal.record("store_failed", reason=str(failure))
    elif failure is not None:
        journal.record("unexpected", exception=type(failure).__name__)
        _log.error("unexpected", exc_info=failure)
    elif isinstance(before, StoreUnavailable):
        journal.record("store_back")


async def make(config: Config, clock: Clock, journal: Journal) -> Sources:
    """Makes the sources; nothing is opened, read or asked yet.

    Raises:
        OSError, ValueError: a CA file or another setting that `relay check` found in order is so no more.
    """
    judge = judge_of(config)
    local = build_keys(config, clock, journal)
    listed = {name: Listed(source) for name, source in local.items()}
    if not config.needs_store:
        return Sources(listed, local, judge)
    from relay import remote  # its libraries take half a second

    store = remote.make_store(config, clock, journal)
    made = await remote.make_remote(config, store, judge, clock, journal)
    for name, source in made.items():
        failure_is_none = getattr(config.keys[name], "unreachable_means", None) == "none"
        listed[name] = Listed(source, config.keys[name].trust, source, failure_is_none)
    cached = tuple(source for source in made.values() if not isinstance(source, LearnedSource))
    pins = Pins(store.pins, judge, clock, journal)
    learner = remote.make_learner(config, store, judge, clock, journal)
    return Sources(listed, local, judge, cached, store, pins, learner, remote.make_cache(config, store))


@contextlib.asynccontextmanager
async def opened(config: Config, clock: Clock, journal: Journal) -> AsyncIterator[Sources]:
    """The sources with their store open, closed at the end.

    Raises:
        StoreUnavailable: the database cannot be opened.
        OSError, ValueError: as `make`.
    """
    sources = await make(config, clock, journal)
    try:
        if sources.store:
            await sources.store.open()
        yield sources
    finally:
        await sources.close()
