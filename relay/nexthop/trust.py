"""The TLS client context of the next hop: certificate and name always verified, TLS 1.2 or newer.

One context serves all connections, because loading the CA store takes about 22 ms of CPU. It is made again
when the CA file changes; a file that cannot be read then leaves the old context in use.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from relay.nexthop.replies import HopFailure, Reason

if TYPE_CHECKING:
    from relay.seams import Journal

_Stamp = tuple[int, int, int]


class Trust:
    """Whom to believe: the CAs of one file, or those of the system."""

    def __init__(self, ca_file: Path | None, journal: Journal) -> None:
        self._ca_file = ca_file
        self._journal = journal
        self._lock = asyncio.Lock()
        self._context: ssl.SSLContext | None = None
        self._stamp: _Stamp | None = None

    async def context(self) -> ssl.SSLContext:
        """The shared context. Raises HopFailure while there never was a readable CA file."""
        async with self._lock:
            try:
                await asyncio.to_thread(self._refresh)
            except (OSError, ssl.SSLError) as exc:
                if self._context is None:
                    raise HopFailure(Reason.TLS, f"CA file: {exc}") from exc
                self._journal.record("nexthop_ca_file_unreadable", detail=str(exc))
            assert self._context is not None
            return self._context

    def _refresh(self) -> None:
        """Blocks: reads the file's state, and the file if it changed."""
        stamp = _stamp_of(self._ca_file) if self._ca_file else None
        if self._context is None or stamp != self._stamp:
            self._context = client_context(self._ca_file)
            self._stamp = stamp


def client_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context that verifies chain and name (RFC 9525): DNS or IP names only, never the common name."""
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    return context


def _stamp_of(path: Path) -> _Stamp:
    state = path.stat()
    return state.st_mtime_ns, state.st_size, state.st_ino
