"""What is remembered about keys: how far their source is believed, kept answers, pins, learned keys.

Values like those of `relay/message.py`, kept in the store between messages; what they mean is in
`keys/entries.py` and `pins.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class Trust(IntEnum):
    """How far a key source is believed about whose key it gives; more is better (RFC 7929 §7)."""

    LEARNED = 1
    """From messages that passed (Autocrypt)."""
    THIRD_PARTY = 2
    """A key server: nobody of the recipient's domain vouches for it."""
    WKD = 3
    """The web server of the recipient's domain, proven by TLS."""
    DNSSEC = 4
    """The zone of the recipient's domain, proven by signatures up to the root."""
    MANUAL = 5
    """The administrator's own files."""

    @property
    def word(self) -> str:
        """As it stands in the configuration: `third-party`."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The last answer of a discovered source about one address, as it is kept."""

    source: str
    key: str
    """What was asked for, `KeyDiscovery.cache_key`."""
    address: str
    """The address as text that parses to what was asked for, for the refresh."""
    certificates: tuple[bytes, ...]
    """Of the last answer that was one; empty where it was "none" or there never was an answer."""
    answered_at: datetime | None
    """When the source last answered (UTC); None: never."""
    fresh_until: datetime
    """Until then the entry answers without asking the source."""
    usable_until: datetime
    """Until then `certificates` may serve while the source cannot be asked (stale-if-error)."""
    failure: str = ""
    """Why the last try failed; empty where it was answered."""
    failures: int = 0
    """Failed tries since the last answer, for the back-off."""
    used_at: datetime | None = None
    """When a message last needed it (UTC), so that the refresh leaves alone what nobody uses."""


@dataclass(frozen=True, slots=True)
class Pin:
    """The key that was first used for an address through a discovered source."""

    address_key: str
    """`Address.key`."""
    fingerprint: str
    source: str
    trust: Trust
    certificate: bytes
    """As it was when it was last used; cut down to what the judge verified where it is large."""
    since: datetime
    """UTC."""
    revocations: bytes = b""
    """A copy with nothing but what its owner ever revoked (`KeyJudge.revocations`); empty: nothing."""


class PendingState(StrEnum):
    """What became of a key that would replace a pinned one."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class PendingKey:
    """A key that would replace a pinned one."""

    address_key: str
    fingerprint: str
    source: str
    trust: Trust
    certificate: bytes
    since: datetime
    """UTC; when it was first seen."""
    state: PendingState = PendingState.WAITING


@dataclass(frozen=True, slots=True)
class LearnedKey:
    """A key that a message of its owner carried (Autocrypt)."""

    address_key: str
    """`Address.key`."""
    fingerprint: str
    certificate: bytes
    effective_at: datetime
    """UTC; the date of the message, or when it came if that was earlier (Autocrypt Level 1 §2.3)."""
    learned_at: datetime
    """UTC; when the relay took it."""
