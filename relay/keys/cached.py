"""Keeps the answers of one source outside of this machine (`relay.seams.CachedSource`), and asks it seldom.

In front stands `keys.memory`, behind it the database (`KeyCache`), behind that the source (`KeyDiscovery`).
What an answer or a failure means for the next lookup is in `keys.entries`; one query in `keys.asking`; asking
before somebody needs it in `keys.refreshing`. While the database cannot be read the source is not asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from relay.errors import KeySourceUnavailable, StoreUnavailable
from relay.keys import entries
from relay.keys.asking import PATIENCE_SECONDS, Asking, Expires
from relay.keys.entries import CacheTimes, Question
from relay.keys.memory import Kept, Memory
from relay.keys.queries import Queries
from relay.message import Address, Certificate
from relay.remembered import CacheEntry

if TYPE_CHECKING:
    from random import Random

    from relay.seams import Clock, Journal, KeyCache, KeyDiscovery, PinBook

__all__ = ["CacheTimes", "CachedKeys"]

_AT_MOST_EVERY = timedelta(hours=1)
"""How often the use of an entry is written down, and how often one is refreshed while it is fresh."""

_RECALLED_FOR = timedelta(minutes=1)
"""How old a look into the database may be for what is known of old. Changes are reported, but the reports may
fail."""


class CachedKeys:
    """A `CachedSource` around a `KeyDiscovery`.

    Shared between all messages: `_queries` and `_memory`. Both are used by one event loop only, and what is
    read from them is compared again after an await.

    Args:
        memory: where parsed answers are kept; bounded by itself.
        pins, random, expires, patience_seconds: as `keys.asking.Asking` has them.
    """

    def __init__(
        self,
        discovery: KeyDiscovery,
        cache: KeyCache,
        clock: Clock,
        journal: Journal,
        times: CacheTimes,
        *,
        pins: PinBook | None = None,
        memory: Memory | None = None,
        random: Random | None = None,
        expires: Expires | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.name = discovery.name
        self._discovery = discovery
        self._cache = cache
        self._clock = clock
        self._journal = journal
        self._times = times
        self._memory = Memory() if memory is None else memory
        self._asking = Asking(
            *(discovery, cache, clock, journal, times),
            pins=pins,
            random=random,
            expires=expires,
            patience_seconds=patience_seconds,
        )
        self._queries = Queries[Kept](self.name, journal)

    # ----------------------------------------------------------------- what a lookup asks

    async def find(self, address: Address) -> list[Certificate]:
        """Every certificate for the address, from what is kept or from the source.

        Raises:
            KeySourceDistrusted, KeySourceUnavailable, StoreUnavailable: it could not be found out.
        """
        return await self._find(self._about(address))

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        """The certificates with this fingerprint; none has an empty one. Raises as `find`."""
        return await self._find(Question.about_fingerprint(self.name, fingerprint)) if fingerprint else []

    async def recall(self, address: Address) -> list[Certificate]:
        """What the last answer held, however old it is; asks nobody. Raises StoreUnavailable."""
        return list((await self._known(self._about(address))).certificates)

    async def asked_at(self, address: Address) -> datetime | None:
        """When the source last answered. Raises StoreUnavailable."""
        entry = (await self._known(self._about(address))).entry
        return entry.answered_at if entry else None

    async def refresh(self, address: Address) -> list[Certificate]:
        """Asks now, whatever is kept; a query that began before does not count. Raises as `find`."""
        question = self._about(address)
        await self._queries.over(question.key)
        kept = await self._asked(question)
        if kept.entry is not None and kept.entry.failure:
            raise entries.error(kept.entry)
        return list(kept.certificates)

    def changed(self, address_keys: Iterable[str]) -> None:
        """Another process, or a command of the administrator, wrote about these addresses."""
        self._memory.drop(address_keys)

    def forget_all(self) -> None:
        """It cannot be told who wrote what."""
        self._memory.drop_all()

    async def close(self) -> None:
        """Ends what is under way, and the source; never raises."""
        await self._queries.close()
        await self._discovery.close()

    # ----------------------------------------------------------------- what `keys.refreshing` asks

    async def due(self, before: datetime, used_after: datetime, limit: int) -> list[CacheEntry]:
        """Entries with certificates that will not be fresh much longer. Raises StoreUnavailable.

        "None" is asked for when somebody needs it: an address without a key costs no queries while nobody
        writes to it. What was asked within the hour is left alone: a short lifetime (DANE), or a failure, is
        no reason to ask around the clock.
        """
        found = await self._cache.due(self.name, before, used_after, limit)
        return [entry for entry in found if self._may_refresh(entry)]

    def _may_refresh(self, entry: CacheEntry) -> bool:
        kept = self._memory.get(entry.key)
        return self._is_old(entry.answered_at) and (kept is None or self._is_old(kept.tried_at))

    async def refresh_entry(self, entry: CacheEntry) -> None:
        """Asks again about what is kept, unless somebody else did meanwhile; a failure is kept as one.

        Raises:
            KeySourceUnavailable: the store failed, the entry is damaged, or the query ended in a bug.
        """
        if entry.key in self._queries:
            return
        current = await self._cache.get(self.name, entry.key)
        if current is not None and current.fresh_until == entry.fresh_until:
            await self._asked(Question.of(entry))

    # ----------------------------------------------------------------- finding

    def _about(self, address: Address) -> Question:
        return Question(self.name, self._discovery.cache_key(address), address)

    async def _find(self, question: Question) -> list[Certificate]:
        now = self._clock.now()
        kept = self._memory.get(question.key)
        if kept is None or not self._is_fresh(kept, now):
            kept = await self._load(question)
            if not self._is_fresh(kept, now):
                kept = await self._asked(question, used_at=now)
        self._note_use(question, kept, now)
        return await self._served(question, kept)

    async def _served(self, question: Question, kept: Kept) -> list[Certificate]:
        now = self._clock.now()
        if kept.entry is None:
            raise KeySourceUnavailable("nothing is known")
        if (error := entries.refusal(kept.entry, now)) is not None:
            raise error
        if kept.certificates:
            await self._asking.mark_seen(question, kept.seen)
        if self._wants_refresh(kept, kept.entry, now):
            kept.tried_at = now
            self._queries.begin(question.key, lambda: self._query(question, None))
        return list(kept.certificates)

    def _wants_refresh(self, kept: Kept, entry: CacheEntry, now: datetime) -> bool:
        """In the background, while the answer still serves; a failed one waits until its back-off ends."""
        return not entry.failure and entries.is_half_over(entry, now) and self._is_old(kept.tried_at)

    def _note_use(self, question: Question, kept: Kept, now: datetime) -> None:
        """Not in the way of the lookup, which does not depend on it, and not on every one."""
        if self._is_old(kept.used_at):
            kept.used_at = now
            self._queries.spawn(lambda: self._touch(question, now))

    async def _touch(self, question: Question, now: datetime) -> None:
        try:
            await self._cache.touch(self.name, question.key, now)
        except StoreUnavailable as exc:
            self._journal.record("key_use_lost", source=self.name, reason=str(exc))

    def _is_fresh(self, kept: Kept, now: datetime) -> bool:
        return kept.entry is not None and entries.is_fresh(kept.entry, now, self._times)

    def _is_old(self, moment: datetime | None) -> bool:
        return moment is None or self._clock.now() - moment >= _AT_MOST_EVERY

    # ----------------------------------------------------------------- memory and database

    async def _known(self, question: Question) -> Kept:
        """What is known, fresh or not."""
        now = self._clock.now()
        kept = self._memory.get(question.key)
        if kept is not None and (self._is_fresh(kept, now) or now - kept.read_at < _RECALLED_FOR):
            return kept
        return await self._load(question)

    async def _load(self, question: Question) -> Kept:
        """What the database has, or what a query has brought while that was read."""
        before, drops = self._memory.get(question.key), self._memory.drops
        kept = await self._asking.read(question)
        newer = self._memory.get(question.key)
        if newer is not None and newer is not before:
            return newer
        if drops == self._memory.drops:
            kept.tried_at = before.tried_at if before else None
            self._memory.put(kept)
        return kept

    # ----------------------------------------------------------------- asking

    async def _asked(self, question: Question, used_at: datetime | None = None) -> Kept:
        """The outcome of the query that is in flight or begins now."""
        return await self._queries.joined(question.key, lambda: self._query(question, used_at))

    async def _query(self, question: Question, used_at: datetime | None) -> Kept:
        drops = self._memory.drops
        kept = await self._asking.query(question, used_at)
        if drops == self._memory.drops:
            self._memory.put(kept)
        else:  # what another process wrote meanwhile may be newer: the next lookup reads it
            self._memory.drop([question.name])
        return kept
