"""The default engine: pysequoia, in this process for small messages, in worker processes for large ones."""

from __future__ import annotations

from functools import lru_cache

from relay.errors import EncryptionFailed
from relay.message import Verdict
from relay.openpgp import worker
from relay.openpgp.engine import MAX_WAITING, TIMEOUT_SECONDS, intended
from relay.openpgp.pool import WorkerPool

IN_PROCESS_OCTETS = 256 * 1024
"""Largest plaintext that is encrypted on the event loop: about 2 ms with its armour."""

IN_PROCESS_SUBKEYS = 8
"""Most subkeys that are encrypted to on the event loop: P-521, X448 and ML-KEM cost 1.4 ms each."""

CACHED_CERTIFICATES = 1024
"""Parsed certificates that are kept, at about 22 KB each."""


class SequoiaEngine:
    """Encrypts with pysequoia (`relay.seams.Engine`); writes RFC 9580.

    v2 SEIPD where every verdict allows it, else v1 for all of them; then a v6 key is named by the first 16
    digits of its fingerprint (RFC 9580 §5.1.1). The cipher is AES-256, for v2 with OCB in chunks of 4 KiB:
    pysequoia has no option and does not look at what the owners prefer.

    Args:
        workers: processes for large messages; None: one per processor.
        max_waiting: large messages that may wait for one.
        timeout_seconds: for one large message, waiting included.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        max_waiting: int = MAX_WAITING,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.pool = WorkerPool(workers=workers, max_waiting=max_waiting, timeout_seconds=timeout_seconds)
        self._parse = lru_cache(maxsize=CACHED_CERTIFICATES)(worker.parse)

    async def encrypt(self, plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        """An ASCII-armoured message to every subkey of every verdict. Raises EncryptionFailed."""
        verdicts = intended(keys)
        subkeys = sum(len(verdict.subkeys) for verdict in verdicts)
        certificates = [verdict.reduced for verdict in verdicts]
        allows_v2 = all(verdict.allows_v2 for verdict in keys)  # one may differ for another User ID
        if len(plaintext) <= IN_PROCESS_OCTETS and subkeys <= IN_PROCESS_SUBKEYS:
            return self._encrypt_here(plaintext, certificates, allows_v2=allows_v2)
        return await self.pool.encrypt(plaintext, certificates, allows_v2=allows_v2)

    async def close(self) -> None:
        """Ends the worker processes; messages in them fail."""
        await self.pool.close()

    def _encrypt_here(self, plaintext: bytes, certificates: list[bytes], *, allows_v2: bool) -> bytes:
        try:
            parsed = [self._parse(certificate) for certificate in certificates]
            return bytes(worker.encrypt(plaintext, parsed, allows_v2=allows_v2))
        except worker.LibraryRefused as exc:
            raise EncryptionFailed(str(exc)) from exc
