"""The server's certificate: loaded strictly, read again when it changes, never replaced by a bad one."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from relay.seams import Clock, Journal


def load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server context with TLS 1.2 and later (RFC 8314 §4.1, RFC 9325 §3.1.1).

    Args:
        certificate: PEM, the server's own first, then the chain.
        key: PEM, without a passphrase.

    Raises:
        OSError: a file cannot be read, or (as ssl.SSLError) the two are not a pair.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    # Without a password OpenSSL would ask on the terminal for that of an encrypted key.
    context.load_cert_chain(certificate, key, password="")
    return context


class ReloadingContext:
    """Gives every new connection the newest good certificate; connections that are open keep theirs.

    Args:
        journal: hears of every new pair, and of a bad one, once.

    Raises:
        OSError: as `load_context`; there must be a good pair to begin with.
    """

    def __init__(self, certificate: Path, key: Path, journal: Journal) -> None:
        self._files = (certificate, key)
        self._journal = journal
        self._seen = self._signature()
        self._context = load_context(certificate, key)

    def __call__(self) -> ssl.SSLContext:
        """The context for a new connection; no I/O."""
        return self._context

    def refresh(self, *, force: bool = False) -> None:
        """Reads the pair again if a file has changed, or in any case with `force`. Blocks on file I/O."""
        # The signature is taken first: what changes while it is read is seen the next time.
        signature = self._signature()
        if signature == self._seen and not force:
            return
        self._seen = signature
        try:
            self._context = load_context(*self._files)
        except OSError as exc:
            self._journal.record("certificate_kept", reason=type(exc).__name__, file=str(self._files[0]))
        else:
            self._journal.record("certificate_loaded", file=str(self._files[0]))

    async def watch(self, clock: Clock, interval_seconds: float = 30.0) -> None:
        """Refreshes for ever, off the event loop."""
        while True:
            await clock.sleep(interval_seconds)
            await asyncio.to_thread(self.refresh)

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_stamp(path) for path in self._files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
