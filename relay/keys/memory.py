"""Parsed answers of a discovered source in memory, before the database; bounded by count and by octets.

It decides nothing: whether an answer is still fresh is for `keys.cached` to say. What other processes change
in the database is dropped here as soon as it is reported.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from relay.message import Certificate
from relay.remembered import CacheEntry

MAX_ENTRIES = 4096
MAX_OCTETS = 32 << 20
"""Of certificates; what else an answer needs is bounded by the count."""


@dataclass(slots=True)
class Kept:
    """One entry as it was read or written, with what this process did about it."""

    key: str
    name: str
    """Under which other processes report a change: `Address.key`, or the key itself."""
    entry: CacheEntry | None
    """None: the database has none."""
    certificates: tuple[Certificate, ...]
    read_at: datetime
    """When it was read from the database, or written there."""
    used_at: datetime | None = None
    """When its use was last written down, or began to be."""
    tried_at: datetime | None = None
    """When the source was last asked in the background."""
    seen: set[str] = field(default_factory=set)
    """`Address.key` of those that are marked as seen with a key."""

    @property
    def octets(self) -> int:
        """Size of the certificates."""
        return sum(len(certificate.data) for certificate in self.certificates)


class Memory:
    """Answers by their cache key; the longest unused goes first."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_octets: int = MAX_OCTETS) -> None:
        self._max_entries = max_entries
        self._max_octets = max_octets
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._keys: dict[str, set[str]] = {}
        self.octets = 0
        """Of all certificates."""
        self.drops = 0
        """How often something was reported as changed: what was read before is not to be kept after."""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str) -> Kept | None:
        """What is kept under the key, however old."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def put(self, kept: Kept) -> None:
        """Keeps it in place of what was there; drops others, or even this one, where it is too much."""
        self._forget(kept.key)
        self._kept[kept.key] = kept
        self._keys.setdefault(kept.name, set()).add(kept.key)
        self.octets += kept.octets
        while len(self._kept) > self._max_entries or self.octets > self._max_octets:
            self._forget(next(iter(self._kept)))

    def drop(self, names: Iterable[str]) -> None:
        """Forgets what stands under these names (`Kept.name`)."""
        for name in names:
            self.drops += 1
            for key in list(self._keys.get(name, ())):
                self._forget(key)

    def drop_all(self) -> None:
        """Forgets everything."""
        self.drops += 1
        self._kept.clear()
        self._keys.clear()
        self.octets = 0

    def _forget(self, key: str) -> None:
        kept = self._kept.pop(key, None)
        if kept is None:
            return
        self.octets -= kept.octets
        keys = self._keys[kept.name]
        keys.discard(key)
        if not keys:
            del self._keys[kept.name]
