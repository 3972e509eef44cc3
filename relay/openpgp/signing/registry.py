"""Finds the secret key that a rule names, wherever it is, and refuses to go on without it.

A key is proven when it is opened: present, allowed to sign, alive, and its signature verifies. Whether it is
still alive is asked again for each message; whether its store still says the same of it, about once a minute
while messages need it, so that a revocation counts without a reload. Nothing here ever sends a message
unsigned.

Messages never queue up for a key: they wait together for one attempt, which has a deadline, and for some
seconds afterwards they are told what it found.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from relay.errors import EncryptionFailed, SigningUnavailable
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
    """It may be gone without anything being changed: the agent is locked, the card is not there."""
    is_mistake: bool = False
    """The configuration names a key that is nowhere, or not its password."""


_LOOK_SECONDS = 20.0
"""For finding and opening one key, however many programs that takes."""
_FRESH_SECONDS = 60.0
"""How long a key is used without a look at its store: that takes one program, some hundredths of a second."""
_RETRY_SECONDS = 5.0
"""How long a key that could not be opened is not tried again."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A key as its store had it when it was last looked at."""

    store: Store
    public: bytes = field(repr=False)
    key: SigningKey
    until: float
    """In the time of `Clock.monotonic`: when to look again."""


@dataclass(frozen=True, slots=True)
class _Unfit:
    """Why a key could not be opened when it was last tried."""

    problem: KeyUnfit
    until: float
    """As for `_Held`."""


class SecretKeys:
    """Signs with the keys of all stores (`relay.seams.Signer`).

    Args:
        stores: in the order of the configuration; the first one that has a key signs with it.
    """

    def __init__(self, stores: Sequence[Store], clock: Clock) -> None:
        self._stores = stores
        self._clock = clock
        self._judge = Judge()
        self._looks: dict[str, _Held | _Unfit] = {}
        self._looking: dict[str, asyncio.Task[_Held | _Unfit]] = {}

    async def open(self, fingerprints: Iterable[str]) -> tuple[KeyProblem, ...]:
        """Opens and proves the keys that rules name, side by side; what is wrong with the others.

        A key with a problem is tried again when a message needs it.
        """
        wanted = tuple(dict.fromkeys(fingerprints))
        looks = await asyncio.gather(*map(self._look, wanted))
        return tuple(
            KeyProblem(
                fingerprint,
                f"the signing key {fingerprint} {look.problem}",
                is_temporary=look.problem.is_temporary,
                is_mistake=look.problem.is_mistake,
            )
            for fingerprint, look in zip(wanted, looks, strict=True)
            if isinstance(look, _Unfit)
        )

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
        try:
            return await store.sign_and_encrypt(plaintext, keys, key, rule)
        except (SigningUnavailable, EncryptionFailed) as exc:
            if isinstance(exc, SigningUnavailable) or isinstance(exc.__cause__, TimeoutError):
                self._looks.pop(fingerprint, None)  # it has to prove itself again
            raise

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
        """Ends what the stores have started; messages in them fail."""
        for store in self._stores:
            await store.close()
        await asyncio.gather(*self._looking.values(), return_exceptions=True)  # soon: their programs are gone

    async def _get(self, fingerprint: str) -> tuple[Store, SigningKey]:
        """The key, alive. Raises KeyUnfit."""
        look = self._looks.get(fingerprint)
        if look is None or look.until <= self._clock.monotonic() or self._is_over(look):
            look = await self._look(fingerprint)
        if isinstance(look, _Unfit):
            raise look.problem.with_traceback(None)  # it is raised many times
        return look.store, look.key

    def _is_over(self, look: _Held | _Unfit) -> bool:
        """Whether the time of the key is over: it may be prolonged by now, or another subkey take over."""
        return isinstance(look, _Held) and look.key.ends is not None and look.key.ends <= self._now()

    async def _look(self, fingerprint: str) -> _Held | _Unfit:
        """Looks at the key, together with all who want that at this moment."""
        task = self._looking.get(fingerprint)
        if task is None:
            task = self._looking[fingerprint] = asyncio.create_task(self._looked(fingerprint))
            task.add_done_callback(lambda _: self._looking.pop(fingerprint))
        return await asyncio.shield(task)

    async def _looked(self, fingerprint: str) -> _Held | _Unfit:
        """What is found in time; kept."""
        found: _Held | _Unfit
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                found = await self._opened(fingerprint)
        except TimeoutError:
            problem = KeyUnfit(f"could not be opened within {_LOOK_SECONDS:.0f} seconds", is_temporary=True)
            found = _Unfit(problem, self._clock.monotonic() + _RETRY_SECONDS)
        except KeyUnfit as exc:
            found = _Unfit(exc, self._clock.monotonic() + _RETRY_SECONDS)
        self._looks[fingerprint] = found
        return found

    async def _opened(self, fingerprint: str) -> _Held:
        """The key; it is opened again only where its store has something else now. Raises KeyUnfit."""
        store, public = await self._found(fingerprint)
        before = self._looks.get(fingerprint)
        if (
            isinstance(before, _Held)
            and (before.store, before.public) == (store, public)
            and not self._is_over(before)
        ):
            key = before.key
        else:
            key = await store.open(fingerprint, self._now())
        return _Held(store, public, key, self._clock.monotonic() + _FRESH_SECONDS)

    async def _found(self, fingerprint: str) -> tuple[Store, bytes]:
        """The first store with the key. Raises KeyUnfit; one that cannot be asked stops the search."""
        for store in self._stores:
            public = await store.find(fingerprint)
            if public is not None:
                return store, public
        names = ", ".join(store.name for store in self._stores) or "none"
        raise KeyUnfit(f"is in none of secret_keys: {names}", is_mistake=True)

    def _now(self) -> int:
        return math.floor(self._clock.now().timestamp())

    async def _handed_out(self, fingerprint: str, address: Address) -> bytes:
        """Raises KeyUnfit, Unusable or ValueError."""
        _, key = await self._get(fingerprint)
        certificate = await asyncio.to_thread(minimal, key.whole, address, self._judge, self._clock.now())
        autocrypt.header(str(address), certificate)
        return certificate
