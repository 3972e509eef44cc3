"""The key sources `vks` and `hkps`: key servers, who are third parties to the recipient and to us.

Each question tells the operator who writes to whom, so both are off unless they are configured (K-26, K-28).
A server that answers 429 is left alone by the source itself, for all addresses, as long as it asks for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

from relay.errors import KeySourceUnavailable
from relay.keys import answers
from relay.message import Address, Discovered

if TYPE_CHECKING:
    from relay.keys.web import WebClient
    from relay.seams import Clock

_MIN_PAUSE_SECONDS = 60.0
"""After a 429 that names no time, or a shorter one: addresses are many, and each would ask again."""
_MAX_PAUSE_SECONDS = 3600.0
_V4_FINGERPRINT_CHARS = 40


class _Server:
    """One key server: its URL, and whether it wants to be left alone."""

    def __init__(self, web: WebClient, clock: Clock, url: str) -> None:
        self._web = web
        self._clock = clock
        self._url = url.rstrip("/")
        self._paused_until = clock.monotonic()

    async def get(self, path: str) -> bytes | None:
        """The body; None where the server has nothing. Raises KeySourceUnavailable."""
        pause = self._paused_until - self._clock.monotonic()
        if pause > 0:
            raise KeySourceUnavailable(
                f"it wants to be left alone for another {pause:.0f} seconds", retry_after_seconds=pause
            )
        answer = await self._web.get(self._url + path)
        if answer is None:
            raise KeySourceUnavailable("its host name has no address")
        if answer.status == 429:
            self._pause(answer.retry_after_seconds or 0.0)
        return answer.found()

    def _pause(self, seconds: float) -> None:
        bounded = min(max(seconds, _MIN_PAUSE_SECONDS), _MAX_PAUSE_SECONDS)
        self._paused_until = self._clock.monotonic() + bounded


def _mailbox(address: Address) -> str:
    """The address as User IDs have it, fit for a URL."""
    return quote(f"{address.local}@{address.domain}", safe="")


class VksSource:
    """A `KeyDiscovery` over a server that verifies addresses (the API of keys.openpgp.org, K-24).

    Args:
        name: as in the configuration.
        web: a client for the port of the URL (`web.https_port`).
        url: of the server, https.
    """

    def __init__(self, name: str, web: WebClient, clock: Clock, url: str) -> None:
        self.name = name
        self._server = _Server(web, clock, url)

    def cache_key(self, address: Address) -> str:
        """The server folds letters as we do."""
        return address.key

    async def discover(self, address: Address) -> Discovered:
        """The one certificate of the address. Raises KeySourceUnavailable.

        The server promises an exact match, so a certificate for others is treated as in a directory.
        """
        body = await self._server.get(f"/vks/v1/by-email/{_mailbox(address)}")
        if body is None:
            return Discovered()
        found = await asyncio.to_thread(answers.from_exact, body, self.name, address.key)
        return Discovered(tuple(found))

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        """The certificate, maybe without User IDs (K-25); of version 4 alone. Raises KeySourceUnavailable."""
        if len(fingerprint) != _V4_FINGERPRINT_CHARS:
            return Discovered()
        body = await self._server.get(f"/vks/v1/by-fingerprint/{fingerprint.upper()}")
        return await _with_fingerprint(body, self.name, fingerprint)

    async def close(self) -> None:
        """Nothing is kept open."""


class HkpsSource:
    """A `KeyDiscovery` over HKP with TLS (draft-gallagher-openpgp-hkp): anyone can upload, nobody verifies.

    Args: as `VksSource`.
    """

    def __init__(self, name: str, web: WebClient, clock: Clock, url: str) -> None:
        self.name = name
        self._server = _Server(web, clock, url)

    def cache_key(self, address: Address) -> str:
        """Servers search without regard to letter case."""
        return address.key

    async def discover(self, address: Address) -> Discovered:
        """The certificates that name the address. Raises KeySourceUnavailable.

        Others are dropped, and are no sign of anything: many servers ignore `exact`.
        """
        body = await self._server.get(_lookup(_mailbox(address)))
        if body is None:
            return Discovered()
        return Discovered(tuple(await asyncio.to_thread(answers.from_search, body, self.name, address.key)))

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        """The certificate, maybe without User IDs (K-25). Raises KeySourceUnavailable."""
        body = await self._server.get(_lookup(f"0x{fingerprint}"))
        return await _with_fingerprint(body, self.name, fingerprint)

    async def close(self) -> None:
        """Nothing is kept open."""


def _lookup(search: str) -> str:
    return f"/pks/lookup?op=get&options=mr&exact=on&search={search}"


async def _with_fingerprint(body: bytes | None, name: str, fingerprint: str) -> Discovered:
    if body is None:
        return Discovered()
    return Discovered(tuple(await asyncio.to_thread(answers.with_fingerprint, body, name, fingerprint)))
