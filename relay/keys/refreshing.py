"""Asks the sources again before what is kept of their answers grows old, so that no message waits (K-30).

So an expiry that was extended, or a revocation, is known before the next message. Only what a message needed
lately is asked for, few at a time, and never all at once.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from relay.errors import KeySourceUnavailable

if TYPE_CHECKING:
    from random import Random

    from relay.keys.cached import CachedKeys
    from relay.remembered import CacheEntry
    from relay.seams import Clock, Journal

_EVERY_SECONDS = 60.0
_AHEAD = timedelta(minutes=10)
"""How long before the end of freshness an entry is refreshed: several rounds."""
_USED_WITHIN = timedelta(days=14)
"""What no message needed for longer is left alone: each query tells its server whom we write to (K-28)."""
_MAX_ENTRIES = 200
"""A round and a source; the next round takes the next ones."""
_AT_ONCE = 4
_MAX_PAUSE_SECONDS = 2.0
"""Before each query, by chance: several relays that share a database do not ask in step."""

_log = logging.getLogger("relay")


async def keep_fresh(
    sources: Sequence[CachedKeys], clock: Clock, journal: Journal, random: Random | None = None
) -> None:
    """Refreshes what is due, once a minute, until it is cancelled. Nothing that fails ends it."""
    while sources:
        await clock.sleep(_EVERY_SECONDS)
        rounds = [refresh_due(source, clock, journal, random) for source in sources]
        _report(journal, "", await asyncio.gather(*rounds, return_exceptions=True))


async def refresh_due(
    source: CachedKeys, clock: Clock, journal: Journal, random: Random | None = None
) -> int:
    """One round for one source; how many entries were due. Raises StoreUnavailable."""
    now = clock.now()
    due = await source.due(now + _AHEAD, now - _USED_WITHIN, _MAX_ENTRIES)
    places = asyncio.Semaphore(_AT_ONCE)
    chance = random or secrets.SystemRandom()

    async def refresh(entry: CacheEntry) -> None:
        async with places:
            await clock.sleep(chance.uniform(0, _MAX_PAUSE_SECONDS))
            await source.refresh_entry(entry)

    outcomes = await asyncio.gather(*(refresh(entry) for entry in due), return_exceptions=True)
    _report(journal, source.name, outcomes)
    return len(due)


def _report(journal: Journal, source: str, outcomes: Sequence[object]) -> None:
    """What went wrong, but the failures of sources themselves, which are kept with their entries."""
    for error in outcomes:
        if isinstance(error, KeySourceUnavailable):
            journal.record("keys_refresh_failed", source=source, reason=str(error))
        elif isinstance(error, Exception):
            journal.record("unexpected", source=source, exception=type(error).__name__)
            _log.error("unexpected", exc_info=error)
