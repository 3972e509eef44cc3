"""Remembers what became of a message whose client may not know it, so that its retry is not sent twice.

Two cases (RFC 1047): the client vanished before it could read the reply, or some copies of a message were
delivered and the client was told 451. Kept in memory only: across a restart a duplicate is preferred to a
loss. The key is a keyed hash with a secret of this process, because a plain hash would confirm guesses.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.seams import Clock

_KEEP_SECONDS = 3600.0
"""Clients retry within minutes; an identical mail sent on purpose an hour later is delivered."""

_MAX_ENTRIES = 10_000
"""Past that the oldest is forgotten: a duplicate at worst."""


@dataclass(slots=True)
class Outcome:
    """What is known of one message of one login."""

    expires: float
    delivered: frozenset[str] = frozenset()
    """Keys of the recipients whose copy the next hop took."""
    running: asyncio.Event | None = field(default=None)
    """Set when the delivery that the vanished client started has ended; None if none is running."""


class Outcomes:
    """A bounded table of outcomes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._entries: OrderedDict[bytes, Outcome] = OrderedDict()

    def key(self, login: str, sender: str, content: bytes) -> bytes:
        """Names a message of a login without telling anything about it. Blocks for 1 ms per MB."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in (login.encode(), sender.encode(), content):
            mac.update(len(part).to_bytes(8))
            mac.update(part)
        return mac.digest()

    async def delivered(self, key: bytes) -> frozenset[str]:
        """Recipients (`Address.key`) that already have this message; waits for a delivery that still runs."""
        outcome = self._entries.get(key)
        if outcome is not None and outcome.running is not None:
            await outcome.running.wait()
        outcome = self._entries.get(key)
        if outcome is None or outcome.expires < self._clock.monotonic():
            return frozenset()
        return outcome.delivered

    def remember(self, key: bytes, recipients: Iterable[str]) -> None:
        """These recipients have it, and the client does not know (or was told 451)."""
        known = self._entries.pop(key, None)
        delivered = frozenset(recipients) | (known.delivered if known else frozenset())
        running = known.running if known else None
        self._entries[key] = Outcome(self._clock.monotonic() + _KEEP_SECONDS, delivered, running)
        while len(self._entries) > _MAX_ENTRIES:
            self._entries.popitem(last=False)

    def forget(self, key: bytes) -> None:
        """The client knows the outcome: the same message again is a new message."""
        self._entries.pop(key, None)

    def begin_orphaned(self, key: bytes) -> asyncio.Event:
        """The client vanished while its message is on its way; set the event when that has ended."""
        self.remember(key, ())
        ended = asyncio.Event()
        self._entries[key].running = ended
        return ended
