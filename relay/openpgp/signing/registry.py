"""Finds the secret key that a rule names, wherever it is, and refuses to go on without it.

A key is proven when it is opened: present, allowed to sign, alive, and its signature verifies. Whether it is
still alive is asked again for each message. Nothing here ever sends a message unsigned.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from relay.errors import SigningUnavailable
from relay.message import Address, Verdict
from relay.mime import autocrypt
from relay.openpgp.judge import Judge
from relay.openpgp.parts import Unusable
from relay.openpgp.signing.assessment import KeyUnfit, SigningKey
from relay.openpgp.signing.minimal import minimal

if TYPE_CHECKING:
    from relay.seams import Clock


class Store(Protocol):
    """A place with secret keys: `KeyFile` or `GnupgHome`."""

    name: str

    async def find(self, fingerprint: str) -> bytes | None:
        """The public certificate with this primary or subkey; None where it is not here. Raises KeyUnfit."""

    async def open(self, fingerprint: str, now: int) -> SigningKey:
        """The key that `find` found, proven and ready to sign. Raises KeyUnfit."""

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], key: SigningKey, rule: str
    ) -> bytes:
        """As `relay.seams.Signer`, with a key that was opened."""

    async def close(self) -> None:
        """Ends what it has started."""


@dataclass(frozen=True, slots=True)
class KeyProblem:
    """Why a key that a rule names cannot sign."""

    fingerprint: str
    sentence: str
    """For people, whole: `the signing key … expired on 2024-03-01`."""
    is_temporary: bool
    """It may be gone without a change of the configuration: the agent is locked, the card is not there."""


class SecretKeys:
    """Signs with the keys of all stores (`relay.seams.Signer`).

    Args:
        stores: in the order of the configuration; the first one that has a key signs with it.
    """

    def __init__(self, stores: Sequence[Store], clock: Clock) -> None:
        self._stores = stores
        self._clock = clock
        self._judge = Judge()
        self._found: dict[str, tuple[Store, SigningKey]] = {}
        self._opening = asyncio.Lock()

    async def open(self, fingerprints: Iterable[str]) -> tuple[KeyProblem, ...]:
        """Opens and proves the keys that rules name; what is wrong with the others.

        A key with a temporary problem is tried again for each message that needs it.
        """
        problems = []
        for fingerprint in dict.fromkeys(fingerprints):
            try:
                await self._get(fingerprint)
            except KeyUnfit as exc:
                sentence = f"the signing key {fingerprint} {exc}"
                problems.append(KeyProblem(fingerprint, sentence, exc.is_temporary))
        return tuple(problems)

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], fingerprint: str, *, rule: str
    ) -> bytes:
        """An armoured message, signed with the key of this fingerprint and encrypted as an engine does.

        Raises:
            SigningUnavailable: the key cannot sign now.
            SigningImpossible: no message can be signed with this key and encrypted to these.
            EncryptionFailed: whatever else went wrong.
        """
        try:
            store, key = await self._get(fingerprint)
        except KeyUnfit as exc:
            raise SigningUnavailable(f"the signing key {fingerprint} {exc}", rule=rule) from exc
        return await store.sign_and_encrypt(plaintext, keys, key, rule)

    async def certificate(self, fingerprint: str, address: Address) -> bytes | None:
        """The minimal certificate for an Autocrypt field about the address; None where there can be none."""
        try:
            return await self._handed_out(fingerprint, address)
        except (KeyUnfit, Unusable, ValueError):
            return None

    async def why_no_certificate(self, fingerprint: str, address: Address) -> str:
        """Why `certificate` says None, for people; empty where it does not."""
        try:
            await self._handed_out(fingerprint, address)
        except (KeyUnfit, Unusable, ValueError) as exc:
            return f"the signing key {fingerprint} cannot be handed out in an Autocrypt field: it {exc}"
        return ""

    async def close(self) -> None:
        """Ends what the stores have started; messages in it fail."""
        for store in self._stores:
            await store.close()

    async def _get(self, fingerprint: str) -> tuple[Store, SigningKey]:
        """The key, alive. Raises KeyUnfit."""
        now = math.floor(self._clock.now().timestamp())
        if fingerprint not in self._found:
            async with self._opening:
                if fingerprint not in self._found:
                    store = await self._store(fingerprint)
                    self._found[fingerprint] = (store, await store.open(fingerprint, now))
        store, key = self._found[fingerprint]
        key.check_live(now)
        return store, key

    async def _store(self, fingerprint: str) -> Store:
        """The first store with the key. Raises KeyUnfit; one that cannot be asked stops the search."""
        for store in self._stores:
            if await store.find(fingerprint) is not None:
                return store
        raise KeyUnfit(
            f"is in none of secret_keys: {', '.join(store.name for store in self._stores) or 'none'}"
        )

    async def _handed_out(self, fingerprint: str, address: Address) -> bytes:
        """Raises KeyUnfit, Unusable or ValueError."""
        _, key = await self._get(fingerprint)
        certificate = await asyncio.to_thread(minimal, key.whole, address, self._judge, self._clock.now())
        autocrypt.header(str(address), certificate)
        return certificate
