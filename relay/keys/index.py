"""What the local key sources share: splitting files into certificates, finding them by address, refreshing.

Nothing here is verified: a User ID is text that anyone can write. It only decides which certificates the
judge gets to see, so an address must never be missed here that a verified User ID would carry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.address import user_id_key
from relay.errors import KeySourceUnavailable
from relay.message import Certificate
from relay.mime import armor, packets

if TYPE_CHECKING:
    from relay.seams import Clock

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_EVERY_SECONDS = 1.0
"""How old an answer may be: a scan of many files is too dear for every recipient of every message."""


# --------------------------------------------------------------------------- certificates and addresses


def parse(data: bytes, source: str) -> list[Certificate]:
    """Every certificate in a file, armoured (any number of blocks) or binary; at least one.

    Raises:
        Malformed: it holds anything else, a secret key for example; the text says what.
    """
    found = [certificate for block in blocks(data) for certificate in packets.certificates(block, source)]
    if not found:
        raise packets.Malformed("it holds no OpenPGP certificate")
    return found


def blocks(data: bytes) -> Iterator[bytes]:
    """The packets in a file: of each armoured block, or the data itself where it is binary.

    Raises:
        Malformed: the armour is broken, or of something else.
    """
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if data[:1] >= b"\x80":  # the first octet of every packet (RFC 9580 §4.2), never one of armour
        yield data
        return
    for block in armor.blocks(data):
        # Private keys go on to `packets.certificates`, which refuses them with a text of its own.
        if block.label not in {"PUBLIC KEY BLOCK", "PRIVATE KEY BLOCK"}:
            raise packets.Malformed(f"it holds a PGP {block.label}, not a certificate")
        yield block.data


def address_keys(certificate: Certificate) -> frozenset[str]:
    """`Address.key` of every mailbox that the certificate's User IDs name."""
    return frozenset(key for user_id in certificate.user_ids if (key := user_id_key(user_id)) is not None)


@dataclass(frozen=True, slots=True)
class Entry:
    """A certificate and the addresses for which it is returned."""

    certificate: Certificate
    address_keys: frozenset[str]


class Index:
    """Certificates by address and by fingerprint; it never changes."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.all: list[Certificate] = []
        self._by_address: dict[str, list[Certificate]] = {}
        self._by_fingerprint: dict[str, list[Certificate]] = {}
        for entry in entries:
            self.all.append(entry.certificate)
            self._by_fingerprint.setdefault(entry.certificate.fingerprint, []).append(entry.certificate)
            for key in entry.address_keys:
                self._by_address.setdefault(key, []).append(entry.certificate)

    def find(self, address_key: str) -> list[Certificate]:
        """Every certificate for this `Address.key`."""
        return list(self._by_address.get(address_key, ()))

    def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        """Every copy of the certificate with this primary fingerprint; none has an empty one."""
        return list(self._by_fingerprint.get(fingerprint, ())) if fingerprint else []


# --------------------------------------------------------------------------- refreshing


class Refresher:
    """Runs `refresh` at most once a second, and only while somebody asks; all who ask share one run.

    Looking at the files is preferred to being notified of changes (inotify): notifications are lost on
    network and overlay file systems and when the queue overflows, and a lost one would be a revocation never
    seen.

    Args:
        refresh: reads what changed; everything where its argument is true. Raises KeySourceUnavailable.
        patience_seconds: how long one lookup waits; the refresh itself goes on for the next one.
    """

    def __init__(
        self, refresh: Callable[[bool], Awaitable[None]], clock: Clock, *, patience_seconds: float = 30.0
    ) -> None:
        self._refresh = refresh
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._due = clock.monotonic()
        self._failure = ""
        self._run: asyncio.Task[None] | None = None

    async def fresh(self) -> None:
        """Returns when what was read is at most a second old. Raises KeySourceUnavailable."""
        if self._run is None and self._clock.monotonic() >= self._due:
            self._begin(everything=False)
        await self._ended()

    async def anew(self) -> None:
        """Reads everything, changed or not. Raises KeySourceUnavailable."""
        if self._run is not None:
            await self._wait(self._run)
        if self._run is None:
            self._begin(everything=True)
        await self._ended()

    def _begin(self, *, everything: bool) -> None:
        # Not a TaskGroup: the run belongs to all lookups that wait for it, and outlives a cancelled one.
        self._run = asyncio.create_task(self._guarded(everything=everything))

    async def _guarded(self, *, everything: bool) -> None:
        failure = "reading it ended unexpectedly"  # what stays after a bug or a cancellation: never "no key"
        try:
            await self._refresh(everything)
            failure = ""
        except KeySourceUnavailable as exc:
            failure = str(exc)
        finally:
            self._failure = failure
            self._due = self._clock.monotonic() + _EVERY_SECONDS
            self._run = None

    async def _ended(self) -> None:
        if self._run is not None:
            await self._wait(self._run)
        if self._failure:
            raise KeySourceUnavailable(self._failure)

    async def _wait(self, run: asyncio.Task[None]) -> None:
        try:
            async with asyncio.timeout(self._patience_seconds):
                await asyncio.shield(run)
        except TimeoutError as exc:
            raise KeySourceUnavailable(f"reading it takes over {self._patience_seconds:.0f} seconds") from exc
