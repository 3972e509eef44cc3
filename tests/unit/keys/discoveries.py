"""Small real programs around `keys.cached`: a source with a script, a database in memory, a pin book."""

from __future__ import annotations

import asyncio
from collections import Counter
from copy import copy
from dataclasses import replace
from datetime import datetime
from random import Random

from relay.address import parse_mailbox
from relay.errors import StoreUnavailable
from relay.keys.asking import Asking
from relay.keys.cached import CachedKeys, CacheTimes
from relay.message import Address, Certificate, Discovered
from relay.remembered import CacheEntry
from tests.fakes import FixedClock, ListJournal

Outcome = Discovered | BaseException


class ScriptedDiscovery:
    """A source outside of this machine (`relay.seams.KeyDiscovery`).

    Each key has a list of outcomes, used up from the front; the last one stays. Without a script there is
    no key.
    """

    def __init__(self, name: str = "wkd") -> None:
        self.name = name
        self.script: dict[str, list[Outcome]] = {}
        self.asked: list[str] = []
        self.hold: asyncio.Event | None = None
        """While it is set to an event, every question waits for it."""
        self.arrived = asyncio.Event()
        """Set when a question has come."""
        self.at_once = 0
        """The most questions of one key that were under way together."""
        self.together = 0
        """The most questions of any key that were under way together."""
        self.closed = False
        self._open: Counter[str] = Counter()

    def says(self, key: str, *outcomes: Outcome) -> None:
        self.script[key] = list(outcomes)

    def cache_key(self, address: Address) -> str:
        return address.key

    async def discover(self, address: Address) -> Discovered:
        return await self._answer(address.key)

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        return await self._answer(fingerprint)

    async def _answer(self, key: str) -> Discovered:
        self.asked.append(key)
        self._open[key] += 1
        self.at_once = max(self.at_once, self._open[key])
        self.together = max(self.together, self._open.total())
        self.arrived.set()
        try:
            await asyncio.sleep(0)
            if self.hold:
                await self.hold.wait()
        finally:
            self._open[key] -= 1
        outcomes = self.script.get(key) or [Discovered()]
        outcome = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if isinstance(outcome, BaseException):
            raise copy(outcome)  # the same one would collect every traceback
        return outcome

    async def close(self) -> None:
        self.closed = True


class MemoryCache:
    """The database (`relay.seams.KeyCache`) in memory; `down` names the methods that fail."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], CacheEntry] = {}
        self.calls: list[str] = []
        self.down: set[str] = set()
        self.hold: asyncio.Event | None = None
        """While it is set to an event, `get` waits for it after it has read."""
        self.reading = asyncio.Event()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.down:
            raise StoreUnavailable(f"{name}: the disk is gone")

    async def get(self, source: str, key: str) -> CacheEntry | None:
        self._call("get")
        found = self.kept.get((source, key))
        await asyncio.sleep(0)
        if self.hold:
            self.reading.set()
            await self.hold.wait()
        return found

    async def put(self, entry: CacheEntry) -> None:
        self._call("put")
        await asyncio.sleep(0)
        self.kept[entry.source, entry.key] = entry

    async def touch(self, source: str, key: str, used_at: datetime) -> None:
        self._call("touch")
        if (source, key) in self.kept:
            self.kept[source, key] = replace(self.kept[source, key], used_at=used_at)

    async def due(self, source: str, before: datetime, used_after: datetime, limit: int) -> list[CacheEntry]:
        self._call("due")
        found = [
            entry
            for entry in self.kept.values()
            if entry.source == source and entry.certificates and entry.fresh_until < before
            if entry.used_at is not None and entry.used_at > used_after
        ]
        return sorted(found, key=lambda entry: entry.fresh_until)[:limit]

    async def entries(self, address_key: str) -> list[CacheEntry]:
        return [entry for (_, key), entry in self.kept.items() if key == address_key]

    async def forget(self, address_key: str) -> int:
        keys = [kept for kept in self.kept if kept[1] == address_key]
        for kept in keys:
            del self.kept[kept]
        return len(keys)


class SeenBook:
    """The part of `relay.seams.PinBook` that learns who had a key."""

    def __init__(self) -> None:
        self.marked: list[str] = []
        self.is_down = False

    async def was_seen(self, address_key: str) -> bool:
        return address_key in self.marked

    async def mark_seen(self, address_key: str) -> None:
        if self.is_down:
            raise StoreUnavailable("the disk is gone")
        self.marked.append(address_key)


class Middle(Random):
    """Chance that always falls into the middle, so that times are as configured."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def positive(*certificates: Certificate, max_age_seconds: int | None = None) -> Discovered:
    return Discovered(certificates, max_age_seconds)


NONE = Discovered()

ADDRESS = parse_mailbox("bob@example.com")
BOB = ADDRESS.key


class Bench:
    """A cached source with its clock, database, pin book and script."""

    def __init__(self) -> None:
        self.clock = FixedClock()
        self.journal = ListJournal()
        self.discovery = ScriptedDiscovery()
        self.cache = MemoryCache()
        self.seen = SeenBook()
        self.source = self.make()

    def make(self, times: CacheTimes | None = None, **parts: object) -> CachedKeys:
        """Another process with the same database."""
        given = {"pins": self.seen, "random": Middle(), **parts}
        here = (self.discovery, self.cache, self.clock, self.journal)
        return CachedKeys(*here, times or CacheTimes(), **given)  # type: ignore[arg-type]

    async def restart(self, times: CacheTimes | None = None, **parts: object) -> None:
        await self.source.close()
        self.source = self.make(times, **parts)

    def says(self, *outcomes: Outcome) -> None:
        self.discovery.says(BOB, *outcomes)

    async def find(self) -> list[Certificate]:
        return await self.source.find(ADDRESS)

    async def settle(self) -> None:
        """Lets what runs in the background end."""
        for _ in range(30):
            await asyncio.sleep(0)

    @property
    def entry(self) -> CacheEntry:
        return self.cache.kept[self.discovery.name, BOB]

    @property
    def queries(self) -> int:
        """About addresses; a key that is no longer given is asked for by its fingerprint besides."""
        return sum("@" in key for key in self.discovery.asked)

    def asking(self, times: CacheTimes | None = None, **parts: object) -> Asking:
        """Single queries to the same source, kept in the same database."""
        given = {"pins": self.seen, "random": Middle(), **parts}
        here = (self.discovery, self.cache, self.clock, self.journal)
        return Asking(*here, times or CacheTimes(), **given)  # type: ignore[arg-type]
