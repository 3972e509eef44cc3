"""Everything that finds keys, made from the configuration: the sources, what they remember, the pins.

It is opened once for a relay and once for a command of the administrator; both may run at the same time on
the same store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
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


def judge_of(config: Config) -> Judge:
    """The judge that fits the engine."""
    return Judge(v4_only=config.engine == "gnupg")


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
    """None where no source lies outside of this machine; so is everything that needs it."""
    pins: Pins | None = None
    learner: KeyLearner | None = None

    @property
    def book(self) -> PinBook | None:
        """Where pins are kept."""
        return self.store.pins if self.store else None

    @property
    def cache(self) -> KeyCache | None:
        """Where answers are kept."""
        return self.store.cache if self.store else None

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
        pruned = clock.now()
        is_away = False
        while True:
            await clock.sleep(_FOLLOW_SECONDS)
            try:
                self.changed(await store.changes.poll())
                if clock.now() - pruned > _PRUNE_EVERY:
                    pruned = clock.now()
                    await store.prune(pruned)
            except StoreUnavailable as exc:
                if not is_away:
                    journal.record("store_failed", reason=str(exc))
                is_away = True
            else:
                if is_away:
                    journal.record("store_back")
                is_away = False

    def changed(self, address_keys: list[str]) -> None:
        """Forgets what is in memory about these addresses (`EVERYTHING`: about all)."""
        from relay.store.changes import EVERYTHING

        followers: list[_Follower] = [*self.remote, *([self.pins] if self.pins else [])]
        for follower in followers:
            if EVERYTHING in address_keys:
                follower.forget_all()
            else:
                follower.changed(address_keys)

    async def close(self) -> None:
        """Ends what is under way; never raises."""
        for source in self.remote:
            await source.close()
        if self.store:
            await self.store.close()


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
    from relay.remote import make_learner, make_remote, make_store  # their libraries take half a second

    store = make_store(config, clock, journal)
    remote = await make_remote(config, store, judge, clock, journal)
    for name, source in remote.items():
        failure_is_none = getattr(config.keys[name], "unreachable_means", None) == "none"
        listed[name] = Listed(source, config.keys[name].trust, source, failure_is_none)
    cached = tuple(source for source in remote.values() if not isinstance(source, LearnedSource))
    pins = Pins(store.pins, judge, clock, journal)
    learner = make_learner(config, store, judge, clock, journal)
    return Sources(listed, local, judge, cached, store, pins, learner)


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
