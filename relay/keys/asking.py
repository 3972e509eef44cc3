"""One query to a source outside of this machine, and what is written down about it in the database.

An answer counts when it is in the database. If that cannot be read or written, StoreUnavailable is raised
although the source may just have answered: a revocation in an answer that nobody remembers would be
forgotten with it, and what was pinned or seen before stands in the same database, so nothing can be decided
without it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from relay.errors import KeySourceUnavailable, StoreUnavailable
from relay.keys import entries
from relay.keys.entries import CacheTimes, Question
from relay.keys.memory import Kept
from relay.message import Certificate, Discovered
from relay.mime.packets import Malformed
from relay.remembered import CacheEntry

if TYPE_CHECKING:
    from random import Random

    from relay.seams import Clock, Journal, KeyCache, KeyDiscovery, PinBook

_SPREAD = 0.1
"""How far freshness strays from what is configured, either way (K-30)."""

_MAX_OCTETS_ON_LOOP = 64 << 10
"""Larger certificates are parsed in a thread: a megabyte can be half a million packets."""

_MAX_VANISHED = 4
"""Of the keys of one address that are no longer given for it; each is one more question."""

PATIENCE_SECONDS = 30.0
"""For one query, whoever waits for it. The sources have shorter limits of their own."""

Expires = Callable[[list[Certificate]], datetime | None]
"""When certificates end (UTC), as far as that is known."""

_T = TypeVar("_T")
_P = ParamSpec("_P")


class Asking:
    """Asks, and keeps the outcome; holds nothing in memory.

    Args:
        pins: learns which addresses had a key; None where nothing is pinned.
        random: for the jitter.
        expires: so that a certificate that ends soon is asked for daily.
        patience_seconds: for one query.
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
        random: Random | None = None,
        expires: Expires | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._source = discovery.name
        self._discovery = discovery
        self._cache = cache
        self._clock = clock
        self._journal = journal
        self._times = times
        self._pins = pins
        self._random = random or secrets.SystemRandom()
        self._expires = expires
        self._patience_seconds = patience_seconds

    async def read(self, question: Question) -> Kept:
        """What the database has, however old. Raises StoreUnavailable."""
        entry = await self._cache.get(self._source, question.key)
        now = self._clock.now()
        if entry is None:
            return Kept(question.key, question.name, None, (), now)
        try:
            certificates = await _off_loop(entry.certificates, entries.parse, entry)
        except Malformed as exc:  # then nothing is known; in particular not that there is no key
            self._journal.record(
                "key_entry_unreadable", source=self._source, address=question.name, reason=str(exc)
            )
            return Kept(question.key, question.name, None, (), now)
        # Whoever kept a certificate had marked the address that it asked about.
        seen = {question.name} if certificates and question.text == entry.address else set()
        return Kept(question.key, question.name, entry, certificates, now, entry.used_at, seen=seen)

    async def mark_seen(self, question: Question, seen: set[str]) -> None:
        """Remembers that the address had a key, once: `seen` says who is marked. Raises StoreUnavailable.

        Before an answer is kept, so that a kept one means that its address is marked.
        """
        if self._pins is not None and question.address is not None and question.name not in seen:
            await self._pins.mark_seen(question.name)
            seen.add(question.name)

    async def query(self, question: Question, used_at: datetime | None = None) -> Kept:
        """Asks the source and keeps what comes of it, a failure too.

        Args:
            used_at: when a message needed it; None: as it was.

        Raises:
            StoreUnavailable: whatever came, it could not be kept.
        """
        try:
            async with asyncio.timeout(self._patience_seconds):
                found = await self._discover(question)
                # Not from memory: another process may have seen a revocation meanwhile.
                old = await self.read(question)
                found = await self._with_vanished(question, found, old)
        except StoreUnavailable:
            raise
        except TimeoutError:
            return await self._failed(question, KeySourceUnavailable("it does not answer in time"), used_at)
        except KeySourceUnavailable as exc:
            return await self._failed(question, exc, used_at)
        return await self._answered(question, found, old, used_at)

    async def _discover(self, question: Question) -> Discovered:
        if question.address is None:
            return await self._discovery.discover_fingerprint(question.fingerprint)
        return await self._discovery.discover(question.address)

    async def _with_vanished(self, question: Question, found: Discovered, old: Kept) -> Discovered:
        """The answer, and the revocation of a key that it no longer names.

        A key server drops the addresses of a key that was revoked, and gives it by its fingerprint alone. "It
        is gone" and "its owner took it back" are not the same, least of all for `use-pin`.
        """
        if question.address is None:
            return found
        here = {certificate.fingerprint for certificate in found.certificates}
        known = {certificate.fingerprint for certificate in old.certificates}
        revoked: list[Certificate] = []
        for fingerprint in sorted(known - here - {""})[:_MAX_VANISHED]:
            again = await self._discovery.discover_fingerprint(fingerprint)
            octets = (certificate.data for certificate in again.certificates)
            revoked += await _off_loop(octets, entries.only_revoked, again.certificates)
        return replace(found, certificates=(*found.certificates, *revoked))

    async def _answered(
        self, question: Question, found: Discovered, old: Kept, used_at: datetime | None
    ) -> Kept:
        now = self._clock.now()
        given = tuple(replace(item, source=self._source, fetched=now) for item in found.certificates)
        merging = (*given, *old.certificates)
        octets = [certificate.data for certificate in merging]
        certificates = await _off_loop(octets, entries.with_revocations, given, old.certificates)
        if question.address is None:
            certificates = entries.with_user_ids(certificates, old.certificates)
        lasts = await self._lifetime(list(certificates), found.max_age_seconds, now)
        entry = entries.answered(question, certificates, now, lasts, used_at or old.used_at)
        seen = set(old.seen)
        if certificates:
            await self.mark_seen(question, seen)
        return await self._keep(question, entry, certificates, seen)

    async def _lifetime(
        self, certificates: list[Certificate], max_age_seconds: int | None, now: datetime
    ) -> tuple[float, float]:
        end = None
        if self._expires and certificates:
            end = await asyncio.to_thread(self._expires, certificates)  # strangers can make it take long
        return entries.lifetime(
            self._times,
            # What cannot be used is worth as little as "none", and its owner may renew it any moment.
            positive=bool(certificates) and not (end and end <= now),
            max_age_seconds=max_age_seconds,
            expires_seconds=(end - now).total_seconds() if end else None,
            spread=self._random.uniform(1 - _SPREAD, 1 + _SPREAD),
        )

    async def _failed(self, question: Question, exc: KeySourceUnavailable, used_at: datetime | None) -> Kept:
        old = await self.read(question)
        now = self._clock.now()
        entry = entries.failed(question, old.entry, exc, now, self._times)
        entry = replace(entry, used_at=used_at or entry.used_at)
        about = {"source": self._source, "address": question.name}
        self._journal.record("key_query_failed", **about, reason=entry.failure, failures=entry.failures)
        was_fresh = old.entry is not None and entry.fresh_until == old.entry.fresh_until
        if old.certificates and not was_fresh and entries.refusal(entry, now) is None:
            self._journal.record(
                "key_answer_stale", **about, usable_until=entry.usable_until.isoformat(timespec="seconds")
            )
        return await self._keep(question, entry, old.certificates, old.seen)

    async def _keep(
        self, question: Question, entry: CacheEntry, certificates: tuple[Certificate, ...], seen: set[str]
    ) -> Kept:
        await self._cache.put(entry)
        now = self._clock.now()
        return Kept(
            question.key, question.name, entry, certificates, now, entry.used_at, tried_at=now, seen=seen
        )


async def _off_loop(
    octets: Iterable[bytes], work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs
) -> _T:
    """What walks packets, in a thread if there is much to walk."""
    if sum(map(len, octets)) <= _MAX_OCTETS_ON_LOOP:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
