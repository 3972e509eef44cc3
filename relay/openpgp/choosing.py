"""The engine behind `engine: gnupg`: GnuPG encrypts wherever it can, pysequoia the rest.

Without it, owners of newer keys could get no mail at all from a relay that is set to GnuPG. One message is
always the work of one engine.
"""

from __future__ import annotations

from relay.message import Verdict
from relay.openpgp.gnupg import GnupgEngine
from relay.openpgp.sequoia import SequoiaEngine


class ByKey:
    """Chooses by the keys of each message (`relay.seams.Engine`).

    Args:
        gnupg: for messages whose keys it can all serve.
        sequoia: for the others.
    """

    def __init__(self, gnupg: GnupgEngine, sequoia: SequoiaEngine) -> None:
        self._gnupg = gnupg
        self._sequoia = sequoia

    async def encrypt(self, plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        """An ASCII-armoured message to every subkey of every verdict. Raises EncryptionFailed."""
        if any(verdict.needs_sequoia for verdict in keys):
            return await self._sequoia.encrypt(plaintext, keys)
        return await self._gnupg.encrypt(plaintext, keys)

    async def close(self) -> None:
        """Ends the processes of both; messages in them fail."""
        try:
            await self._gnupg.close()
        finally:
            await self._sequoia.close()
