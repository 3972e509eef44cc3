"""Keeps answers under what a source is, not under its name alone (`relay.seams.KeyCache`).

A name stays when its source becomes another one: `ext` was a key server and is DNSSEC now. What the old one
has answered must not be served with the trust of the new one, so that begins with nothing. Everybody else
sees the names of the configuration only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from relay.remembered import CacheEntry

if TYPE_CHECKING:
    from relay.seams import KeyCache


class CacheByOrigin:
    """A `KeyCache` that gives a source only what this very source has answered.

    Args:
        cache: where the entries are.
        origins: what tells each source of the configuration from others that had its name, by that name;
            without blanks.
    """

    def __init__(self, cache: KeyCache, origins: Mapping[str, str]) -> None:
        self._cache = cache
        self._kept_as = {name: f"{name} {origin}" for name, origin in origins.items()}
        self._names = {kept_as: name for name, kept_as in self._kept_as.items()}

    async def get(self, source: str, key: str) -> CacheEntry | None:
        """The entry, however old. Raises StoreUnavailable."""
        entry = await self._cache.get(self._kept_as[source], key)
        return replace(entry, source=source) if entry else None

    async def put(self, entry: CacheEntry) -> None:
        """Keeps the entry in place of the one with the same source and key. Raises StoreUnavailable."""
        await self._cache.put(replace(entry, source=self._kept_as[entry.source]))

    async def touch(self, source: str, key: str, used_at: datetime) -> None:
        """Notes that a message needed the entry. Raises StoreUnavailable."""
        await self._cache.touch(self._kept_as[source], key, used_at)

    async def due(self, source: str, before: datetime, used_after: datetime, limit: int) -> list[CacheEntry]:
        """Entries that end before a moment and were used after another. Raises StoreUnavailable."""
        found = await self._cache.due(self._kept_as[source], before, used_after, limit)
        return [replace(entry, source=source) for entry in found]

    async def entries(self, address_key: str) -> list[CacheEntry]:
        """What the sources of the configuration have answered about it. Raises StoreUnavailable."""
        found = await self._cache.entries(address_key)
        return [
            replace(entry, source=self._names[entry.source]) for entry in found if entry.source in self._names
        ]

    async def forget(self, address_key: str) -> int:
        """Drops all entries of the address, of former sources too. Raises StoreUnavailable."""
        return await self._cache.forget(address_key)
