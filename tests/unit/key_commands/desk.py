"""An administrator's desk: a configuration, a folder of keys, and sources and a store in memory behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from click.testing import CliRunner, Result

from relay.address import parse_mailbox
from relay.config import Config
from relay.errors import KeySourceUnavailable, StoreUnavailable
from relay.key_commands.opening import local_sources
from relay.keys.autocrypt import LearnedSource
from relay.lookup import Listed
from relay.message import Address, Certificate
from relay.mime.packets import certificates
from relay.openpgp.judge import Judge
from relay.pins import Pins
from relay.remembered import CacheEntry, LearnedKey, PendingKey, PendingState, Pin, Trust
from relay.seams import Clock, Journal
from tests.fakes import FixedClock, ListJournal, PinsInMemory
from tests.unit.keys.learned import MemoryKeys

BOB = parse_mailbox("bob@example.com")
EARLIER = datetime(2026, 5, 1, tzinfo=UTC)

_CONFIG = """\
hostname: relay.example.com
listen:
  - {{address: "127.0.0.1:0", tls: none}}
auth: {{type: none}}
next_hop: {{address: "127.0.0.1:2525", tls: none}}
keys:
{sources}
store: {{url: "sqlite:///relay.db"}}
policy:
  default: {{keys: [{names}]}}
"""
FOLDER = {"folder": "{type: directory, path: keys}"}
OUTSIDE = {"web": "{type: wkd}", "dns": "{type: dane}"}


def certificate(data: bytes, source: str = "web") -> Certificate:
    """One certificate as a source gives it."""
    [found] = certificates(data, source)
    return replace(found, fetched=EARLIER if source != "folder" else None)


@dataclass(frozen=True)
class Found:
    """What the commands need of `relay.sources.Sources`, without a database."""

    listed: dict[str, Listed]
    pins: Pins | None = None
    book: PinsInMemory | None = None
    cache: CacheInMemory | None = None
    learned: MemoryKeys | None = None


class CacheInMemory:
    """A `relay.seams.KeyCache` that forgets everything at the end, and can be taken down."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], CacheEntry] = {}
        self.down = False

    def _all(self) -> list[CacheEntry]:
        if self.down:
            raise StoreUnavailable("the store is down")
        return list(self.kept.values())

    async def get(self, source: str, key: str) -> CacheEntry | None:
        return next((entry for entry in self._all() if (entry.source, entry.key) == (source, key)), None)

    async def put(self, entry: CacheEntry) -> None:
        self._all()
        self.kept[entry.source, entry.key] = entry

    async def touch(self, source: str, key: str, used_at: datetime) -> None:
        self._all()

    async def due(self, source: str, before: datetime, used_after: datetime, limit: int) -> list[CacheEntry]:
        return [
            entry
            for entry in self._all()
            if entry.source == source and entry.certificates and entry.fresh_until < before
            if entry.used_at and entry.used_at > used_after
        ][:limit]

    async def entries(self, address_key: str) -> list[CacheEntry]:
        return [entry for entry in self._all() if entry.key == address_key]

    async def forget(self, address_key: str) -> int:
        entries = await self.entries(address_key)
        gone = [place for place, entry in self.kept.items() if entry in entries]
        for place in gone:
            del self.kept[place]
        return len(gone)


class Outside:
    """A source outside of this machine (`relay.seams.CachedSource`): what it would say now, and was kept."""

    def __init__(self, name: str, cache: CacheInMemory) -> None:
        self.name = name
        self.says: dict[str, list[bytes]] = {}
        """By `Address.key`."""
        self.down = ""
        self.hangs = False
        self.asked: list[str] = []
        self.meets: asyncio.Barrier | None = None
        """Where every query waits for others to come."""
        self.most = 0
        """Queries at the same time."""
        self._current = 0
        self._cache = cache

    def keep(self, address: Address, *data: bytes, used_at: datetime | None = EARLIER) -> None:
        """Puts an answer into the cache, and into the source as well."""
        self.says[address.key] = list(data)
        self._cache.kept[self.name, address.key] = CacheEntry(
            self.name, address.key, str(address), data, EARLIER, EARLIER, EARLIER, used_at=used_at
        )

    async def find(self, address: Address) -> list[Certificate]:
        return await self.recall(address) or await self.refresh(address)

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        return []

    async def recall(self, address: Address) -> list[Certificate]:
        entry = await self._cache.get(self.name, address.key)
        return [certificate(data, self.name) for data in entry.certificates] if entry else []

    async def asked_at(self, address: Address) -> datetime | None:
        entry = await self._cache.get(self.name, address.key)
        return entry.answered_at if entry else None

    async def refresh(self, address: Address) -> list[Certificate]:
        self.asked.append(str(address))
        self._current += 1
        self.most = max(self.most, self._current)
        try:
            await self._wait()
        finally:
            self._current -= 1
        if self.down:
            raise KeySourceUnavailable(self.down)
        self.keep(address, *self.says.get(address.key, ()))
        return await self.recall(address)

    async def _wait(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.meets:
            await self.meets.wait()


@dataclass
class Desk:
    """The configuration in `root`, and what a command finds behind it; `run` runs one."""

    root: Path
    outside: bool = True
    """Whether there are sources outside of this machine, and so a store."""
    broken: str = ""
    """Why the store does not open."""
    clock: FixedClock = field(default_factory=FixedClock)
    cache: CacheInMemory = field(default_factory=CacheInMemory)
    book: PinsInMemory = field(default_factory=PinsInMemory)
    learned: MemoryKeys = field(default_factory=MemoryKeys)
    home: Path | None = None
    """Of a keyring beside the folder."""

    def __post_init__(self) -> None:
        self.folder = self.root / "keys"
        self.folder.mkdir()
        self.config = self.root / "relay.yaml"
        self.web, self.dns = Outside("web", self.cache), Outside("dns", self.cache)
        ring = {"ring": f"{{type: gnupg, home: {self.home}}}"} if self.home else {}
        self.configure(FOLDER | ring | (OUTSIDE if self.outside else {}))

    def configure(self, sources: dict[str, str]) -> None:
        """Writes the configuration anew with these sources."""
        lines = "\n".join(f"  {name}: {text}" for name, text in sources.items())
        self.config.write_text(_CONFIG.format(sources=lines, names=", ".join(sources)))

    def put(self, name: str, data: bytes) -> Path:
        """A file in the folder of keys."""
        path = self.folder / name
        path.write_bytes(data)
        return path

    def upload(self, data: bytes) -> Path:
        """A file to import."""
        path = self.root / "upload.asc"
        path.write_bytes(data)
        return path

    def pin(self, data: bytes, address: Address = BOB) -> Pin:
        """Pins a certificate that the web had."""
        known = certificate(data)
        pin = Pin(address.key, known.fingerprint, "web", Trust.WKD, data, EARLIER)
        self.book.pins[address.key] = pin
        return pin

    def wait(self, data: bytes, address: Address = BOB) -> str:
        """Puts a key on the list for the administrator; its fingerprint."""
        name = certificate(data).fingerprint
        key = PendingKey(address.key, name, "dns", Trust.DNSSEC, data, EARLIER + timedelta(days=1))
        self.book.keys[address.key, name] = key
        return name

    def learn(self, data: bytes, address: Address = BOB) -> None:
        """Keeps a certificate as a message would have taught it."""
        name = certificate(data).fingerprint
        self.learned.rows[address.key] = LearnedKey(address.key, name, data, EARLIER, EARLIER)

    def states(self) -> list[PendingState]:
        return [key.state for key in self.book.keys.values()]

    @property
    def sources(self) -> Found:
        """What a command opens, but for the local sources."""
        listed = {
            "web": Listed(self.web, Trust.WKD, self.web),
            "dns": Listed(self.dns, Trust.DNSSEC, self.dns),
        }
        if self.learned.rows:
            heard = LearnedSource("heard", self.learned)
            listed["heard"] = Listed(heard, Trust.LEARNED, heard)
        pins = Pins(self.book, Judge(), self.clock, ListJournal())
        return Found(listed, pins, self.book, self.cache, self.learned)

    @asynccontextmanager
    async def opened(self, config: Config, clock: Clock, journal: Journal) -> AsyncIterator[Found]:
        """Stands in for `relay.sources.opened`."""
        if self.broken:
            raise StoreUnavailable(self.broken)
        local = {name: Listed(source) for name, source in local_sources(config).items()}
        if not config.needs_store:
            yield Found(local)
            return
        made = self.sources
        yield replace(made, listed=local | made.listed)

    def run(self, command: click.Command, *arguments: str | Path) -> Result:
        """The result of a key command with this configuration."""
        given = ["--config", str(self.config), *map(str, arguments)]
        return CliRunner().invoke(command, given)
