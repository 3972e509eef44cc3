"""Values as the store keeps them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.remembered import CacheEntry, LearnedKey, PendingKey, Pin, Trust

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
"""With microseconds, which must come back."""

BOB = "bob@example.org"
FIRST, SECOND, THIRD = "A" * 40, "B" * 40, "C" * 40
"""Fingerprints."""


def entry(**changes: Any) -> CacheEntry:
    """An answer of WKD about Bob with two certificates, in which every field is set."""
    made = CacheEntry(
        source="wkd",
        key=BOB,
        address="Bob@Example.org",
        certificates=(b"\x99\x00one", b"\x99two\xff"),
        answered_at=NOW,
        fresh_until=NOW + timedelta(hours=24),
        usable_until=NOW + timedelta(days=7),
        failure="timed out",
        failures=2,
        used_at=NOW - timedelta(minutes=1),
    )
    return replace(made, **changes)


def pin(fingerprint: str = FIRST, address_key: str = BOB) -> Pin:
    """A pin whose certificate says which key it is."""
    return Pin(address_key, fingerprint, "wkd", Trust.WKD, b"\x99" + fingerprint.encode(), NOW)


def pending(fingerprint: str = SECOND, address_key: str = BOB, **changes: Any) -> PendingKey:
    """A key that waits to replace a pin."""
    made = PendingKey(address_key, fingerprint, "koo", Trust.THIRD_PARTY, b"\x99" + fingerprint.encode(), NOW)
    return replace(made, **changes)


def learned(fingerprint: str = FIRST, address_key: str = BOB) -> LearnedKey:
    """A key from a message of yesterday."""
    return LearnedKey(address_key, fingerprint, b"\x99" + fingerprint.encode(), NOW - timedelta(days=1), NOW)
