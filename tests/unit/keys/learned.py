"""For tests of what is learned: keys and pins in memory, as `relay.seams` describes them, and a learner."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

from relay.errors import StoreUnavailable
from relay.keys.autocrypt import Learner
from relay.mime.autocrypt import Header
from relay.openpgp.judge import Judge
from relay.remembered import LearnedKey, PendingKey, PendingState, Pin, Trust
from relay.rule import KeyChange
from tests.fakes import FixedClock, ListJournal
from tests.keys import certificate, fixture
from tests.mail import packet

WHO = fixture("several-1").address
NOW = FixedClock().now()
EARLIER, LATER = NOW - timedelta(days=2), NOW - timedelta(days=1)
FETCHED = NOW - timedelta(hours=1)
"""When the relay learned what is known: later than the message was written."""


def header(name: str) -> Header:
    """What a message with this key fixture teaches."""
    found = certificate(name)
    return Header(fixture(name).address, found.data, found.fingerprint)


FIRST, OTHER = header("several-1"), header("several-2")
COPY = replace(FIRST, certificate=FIRST.certificate + packet(13, b"another name"))
"""The first certificate with an unsigned User ID: newer octets, the same key."""


class MemoryKeys:
    """A `LearnedKeys` that can be down, hang, or be wrong."""

    def __init__(self) -> None:
        self.rows: dict[str, LearnedKey] = {}
        self.failure: Exception | None = None
        """What every call raises."""
        self.hold: asyncio.Event | None = None
        """While it is set to an event, reading waits for it."""

    async def get(self, address_key: str) -> LearnedKey | None:
        await asyncio.sleep(0)  # others run meanwhile, as with a real database
        if self.hold:
            await self.hold.wait()
        if self.failure:
            raise self.failure
        return self.rows.get(address_key)

    async def put(self, key: LearnedKey) -> None:
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        self.rows[key.address_key] = key

    async def forget(self, address_key: str) -> bool:
        return self.rows.pop(address_key, None) is not None

    async def all(self, limit: int) -> list[LearnedKey]:
        return [self.rows[key] for key in sorted(self.rows)][:limit]


class MemoryPins:
    """The part of a `PinBook` that learning needs."""

    def __init__(self) -> None:
        self.pins: dict[str, Pin] = {}
        self.waiting: list[PendingKey] = []
        self.is_down = False

    async def pin_of(self, address_key: str) -> Pin | None:
        if self.is_down:
            raise StoreUnavailable("the pins cannot be read")
        return self.pins.get(address_key)

    async def pending(self, address_key: str = "") -> list[PendingKey]:
        return [entry for entry in self.waiting if address_key in {"", entry.address_key}]

    async def add_pending(self, key: PendingKey) -> PendingKey:
        for entry in self.waiting:
            if (entry.address_key, entry.fingerprint) == (key.address_key, key.fingerprint):
                return entry
        self.waiting.append(key)
        return key

    async def decide(self, address_key: str, fingerprint: str, state: PendingState) -> bool:
        found = [entry for entry in self.waiting if entry.fingerprint == fingerprint]
        self.waiting = [replace(entry, state=state) if entry in found else entry for entry in self.waiting]
        return bool(found)


class Place:
    """A learner over a store in memory."""

    def __init__(self) -> None:
        self.keys, self.pins = MemoryKeys(), MemoryPins()
        self.clock, self.journal = FixedClock(), ListJournal()
        self.learner = Learner(
            "learned",
            self.keys,
            self.pins,
            Judge(),
            clock=self.clock,
            journal=self.journal,
            patience_seconds=0.01,
        )

    async def learn(
        self, header: Header, sent_at: datetime | None = LATER, change: KeyChange = KeyChange.HOLD
    ) -> str:
        return await self.learner.learn(header, sent_at, change, id="T1")

    def known(self, header: Header = FIRST, effective_at: datetime = EARLIER) -> LearnedKey:
        """Makes the header's key the known one."""
        key = LearnedKey(
            header.addr.key, header.fingerprint, header.certificate, effective_at, learned_at=FETCHED
        )
        self.keys.rows[key.address_key] = key
        return key

    def pinned(self, header: Header) -> None:
        self.pins.pins[WHO.key] = Pin(WHO.key, header.fingerprint, "wkd", Trust.WKD, b"", EARLIER)

    def pending(self, header: Header, state: PendingState) -> None:
        entry = PendingKey(WHO.key, header.fingerprint, "wkd", Trust.WKD, b"", EARLIER, state)
        self.pins.waiting.append(entry)

    @property
    def stored(self) -> LearnedKey:
        return self.keys.rows[WHO.key]
