"""The key source `autocrypt`: keys that the relay's own users hand out in the messages which they send.

`mime.autocrypt` says what a message teaches; here it is decided whether that is kept. The source is the
least trusted one, so a key that is known already is never replaced because a message says so: the rule's
`key_change`, or the administrator, decides (K-29).

Deviation from Autocrypt 1.1, "Updating Autocrypt Peer State": there the youngest field wins. That text is for
a mail program, whose user sees the change; here nobody would.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from relay.errors import KeySourceUnavailable
from relay.keys import entries
from relay.message import Address, Certificate, Verdict
from relay.mime import packets
from relay.remembered import LearnedKey, PendingKey, PendingState, Trust
from relay.rule import KeyChange

if TYPE_CHECKING:
    from relay.mime.autocrypt import Header
    from relay.seams import Clock, Journal, KeyJudge, LearnedKeys, PinBook

_MAX_PENDING = 10
"""Keys that may wait for the administrator, for each address: nobody fills the database by sending mail."""


class Outcome(StrEnum):
    """What became of a key that a message brought."""

    LEARNED = "learned"
    """The first key of the address is kept."""
    SAME = "same"
    """The key is the known one; its newer copy is kept."""
    REPLACED = "replaced"
    """It takes the place of another one, as the rule or the administrator allowed."""
    HELD = "held"
    """It would replace another one and waits for the administrator."""
    IGNORED = "ignored"
    """Nothing was changed."""


_EVENTS = {Outcome.LEARNED: "key_learned"}
"""Names in the journal; the others are `key_learned_` and the outcome."""


_TOO_OLD = "the message is older than the one that brought the known key"


class LearnedSource:
    """A `CachedSource` over what was learned: there is nobody to ask but the store.

    Args:
        name: as in the configuration.
    """

    def __init__(self, name: str, keys: LearnedKeys) -> None:
        self.name = name
        self._keys = keys

    async def find(self, address: Address) -> list[Certificate]:
        """The copies of the certificate that was learned for the address, if there is one.

        Raises:
            StoreUnavailable: the store could not be read.
            KeySourceUnavailable: what it holds is damaged.
        """
        learned = await self._keys.get(address.key)
        return await asyncio.to_thread(certificates_of, learned, self.name) if learned else []

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        """Nothing: a key is learned for one address and never given for another."""
        return []

    async def recall(self, address: Address) -> list[Certificate]:
        """As `find`."""
        return await self.find(address)

    async def asked_at(self, address: Address) -> datetime | None:
        """When the key was learned or confirmed (UTC). Raises StoreUnavailable."""
        learned = await self._keys.get(address.key)
        return learned.learned_at if learned else None

    async def refresh(self, address: Address) -> list[Certificate]:
        """As `find`: only a message teaches anything new."""
        return await self.find(address)


def certificates_of(learned: LearnedKey, source: str) -> list[Certificate]:
    """The certificate as the source gives it: a copy, then others with revocations that this one lacks.

    Reading them can take milliseconds.

    Raises:
        KeySourceUnavailable: it is damaged.
    """
    try:
        found = packets.certificates(learned.certificate, source)
    except packets.Malformed:
        found = []
    if {learned.fingerprint} != {certificate.fingerprint for certificate in found}:
        raise KeySourceUnavailable(f"the key that was learned for {learned.address_key} is damaged")
    return [replace(certificate, fetched=learned.learned_at) for certificate in found]


def _merged(key: LearnedKey, known: LearnedKey) -> LearnedKey:
    """The newer of two copies of a certificate, beside it the revocations that it lacks and the other has.

    Raises:
        KeySourceUnavailable: one of them is damaged; it might have held a revocation.
    """
    [brought], [last, *kept] = certificates_of(key, ""), certificates_of(known, "")
    is_older = key.effective_at < known.effective_at
    newer, older = (last, brought) if is_older else (brought, last)
    copies = entries.with_revocations((newer,), (older, *kept))
    return replace(known if is_older else key, certificate=b"".join(copy.data for copy in copies))


class Learner:
    """Keeps what accepted messages teach.

    Args:
        name: of the source in the configuration, for the pending keys.
        judge: a certificate that could not be used now is not learned.
        patience_seconds: how long the reply to a message may wait for what the message teaches.
    """

    def __init__(
        self,
        name: str,
        keys: LearnedKeys,
        pins: PinBook,
        judge: KeyJudge,
        *,
        clock: Clock,
        journal: Journal,
        patience_seconds: float = 2.0,
    ) -> None:
        self._name = name
        self._keys = keys
        self._pins = pins
        self._judge = judge
        self._clock = clock
        self._journal = journal
        self._patience_seconds = patience_seconds
        self._deciding = asyncio.Lock()
        """The store is read, then written: of two messages with two keys only one brings the first."""

    async def hear(
        self, header: Header, sent_at: datetime | None, key_change: KeyChange, *, id: str = ""
    ) -> None:
        """`learn` for a message that was sent already: within a time, and what fails is only journaled.

        Nothing is raised, bugs included: as the reply to a message that the next hop has taken, any error
        would make the client send it again.
        """
        # Not a TaskGroup: it would raise.
        learning = asyncio.create_task(self.learn(header, sent_at, key_change, id=id))
        try:
            await asyncio.wait({learning}, timeout=self._patience_seconds)
        finally:
            learning.cancel()
        await asyncio.wait({learning}, timeout=self._patience_seconds)  # until its cleaning-up is over
        if problem := _problem(learning):
            self._journal.record(
                "key_learning_failed",
                id=id,
                source=self._name,
                address=str(header.addr),
                fingerprint=header.fingerprint,
                detail=problem,
            )

    async def learn(
        self, header: Header, sent_at: datetime | None, key_change: KeyChange, *, id: str = ""
    ) -> Outcome:
        """Keeps the key of an accepted message, holds it, or ignores it; what happened.

        Args:
            header: of a message whose author is proven to belong to its login (`mime.autocrypt.taught`).
            sent_at: what the message says (aware); None where it says nothing.
            key_change: of the rule for mail to the author.
            id: log id of the message.

        Raises:
            StoreUnavailable: the store could not be read or written.
        """
        now = self._clock.now()
        # The effective date of a message from the future is that of its receipt ("Updating … Peer State").
        effective_at = min(sent_at or now, now)
        key = LearnedKey(header.addr.key, header.fingerprint, header.certificate, effective_at, now)
        async with self._deciding:
            known = await self._keys.get(key.address_key)
            outcome, reason = await self._decide(header.addr, key, known, key_change)
        self._journal.record(
            _EVENTS.get(outcome, f"key_learned_{outcome}"),
            id=id,
            source=self._name,
            address=str(header.addr),
            fingerprint=key.fingerprint,
            known=known.fingerprint if known else "",
            reason=reason,
        )
        return outcome

    async def _decide(
        self, address: Address, key: LearnedKey, known: LearnedKey | None, key_change: KeyChange
    ) -> tuple[Outcome, str]:
        """What becomes of the key, and why."""
        if known and known.fingerprint == key.fingerprint:
            return await self._again(key, known)
        if known and key.effective_at < known.effective_at:
            return Outcome.IGNORED, _TOO_OLD
        verdict = await asyncio.to_thread(self._verdict, address, key)
        if not verdict.usable:
            return Outcome.IGNORED, verdict.sentence
        pin = await self._pins.pin_of(key.address_key)
        # What the address is pinned to was decided already; the known key is then the older story.
        current = pin or known
        if current and current.fingerprint != key.fingerprint:
            return await self._change(key, key_change)
        await self._keys.put(key)
        return (Outcome.REPLACED, "it is the pinned key") if known else (Outcome.LEARNED, "")

    async def _again(self, key: LearnedKey, known: LearnedKey) -> tuple[Outcome, str]:
        """What becomes of another copy of the known key, usable or not: its owner may have revoked it."""
        merged = await asyncio.to_thread(_merged, key, known)
        if merged == known and key.effective_at < known.effective_at:
            return Outcome.IGNORED, _TOO_OLD
        await self._keys.put(merged)
        return Outcome.SAME, ""

    def _verdict(self, address: Address, key: LearnedKey) -> Verdict:
        """Could mail to the address be encrypted with the key now? To tell may take a tenth of a second."""
        # One certificate, one verdict.
        [verdict] = self._judge.judge(certificates_of(key, self._name), address, key.learned_at)
        return verdict

    async def _change(self, key: LearnedKey, key_change: KeyChange) -> tuple[Outcome, str]:
        """What becomes of a key that would take the place of another one."""
        pending = await self._pins.pending(key.address_key)
        state = next((entry.state for entry in pending if entry.fingerprint == key.fingerprint), None)
        if state is PendingState.REJECTED:
            return Outcome.IGNORED, "the administrator rejected it"
        if state is PendingState.APPROVED:
            return await self._replace(key, "the administrator approved it")
        if key_change is KeyChange.ACCEPT:
            return await self._replace(key, "key_change is accept")
        if key_change is KeyChange.REFUSE:
            return Outcome.IGNORED, "key_change is refuse"
        if state is PendingState.WAITING:
            return Outcome.IGNORED, "it waits for the administrator already"
        if len(pending) >= _MAX_PENDING:
            return Outcome.IGNORED, f"{_MAX_PENDING} keys of this address are pending already"
        await self._pins.add_pending(self._pending(key))
        return Outcome.HELD, "key_change is hold"

    async def _replace(self, key: LearnedKey, reason: str) -> tuple[Outcome, str]:
        await self._keys.put(key)
        return Outcome.REPLACED, reason

    def _pending(self, key: LearnedKey) -> PendingKey:
        return PendingKey(
            key.address_key, key.fingerprint, self._name, Trust.LEARNED, key.certificate, key.learned_at
        )


def _problem(learning: asyncio.Task[Outcome]) -> str:
    """Why the task has no outcome, for the journal; a bug goes to the log of the event loop as well."""
    if not learning.done() or learning.cancelled():
        return "it took too long"
    failure = learning.exception()
    if failure is None:
        return ""
    if isinstance(failure, KeySourceUnavailable):
        return str(failure) or "the store is unavailable"
    learning.get_loop().call_exception_handler({"message": "a key was not learned", "exception": failure})
    return type(failure).__name__
