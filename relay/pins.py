"""Weighs what the sources answered against the key that was used for the address before.

The first key of a discovered source that is used for an address is pinned (RFC 7929 §5.2). A key that
disappears later is never "no key", and another key takes its place only if the old one vouches for it, if a
better source gives it, or if the rule or the administrator says so. The administrator's own files need no
pins: they are asked for on every message.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from relay.message import Address, Certificate, Lookup, LookupResult, PinConflict, Verdict
from relay.remembered import PendingKey, PendingState, Pin
from relay.rule import KeyChange, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from relay.seams import Clock, Journal, KeyJudge, PinBook

MAX_REMEMBERED = 4096
MAX_REMEMBERED_OCTETS = 16 << 20
"""Pins in memory."""

_LARGE_OCTETS = 32 << 10
"""Of a larger certificate only what was verified is kept: strangers choose what else stands in it."""

_AT_MOST_EVERY = timedelta(hours=1)
"""How often a pin is written anew because its certificate reads differently."""


class Pins:
    """Keeps keys from changing or disappearing unnoticed. Every method may raise StoreUnavailable.

    Args:
        book: where pins are kept; other processes write to it as well, see `changed`.
    """

    def __init__(self, book: PinBook, judge: KeyJudge, clock: Clock, journal: Journal) -> None:
        self._book = book
        self._judge = judge
        self._clock = clock
        self._journal = journal
        self._remembered: OrderedDict[str, Pin] = OrderedDict()
        self._octets = 0
        """Of the certificates in `_remembered`."""
        self._examined: OrderedDict[str, int] = OrderedDict()
        """Hashes of the copies in which revocations were looked for last."""
        self._written: OrderedDict[str, datetime] = OrderedDict()
        """When this process last wrote a pin only because its certificate reads differently."""

    def changed(self, address_keys: Iterable[str]) -> None:
        """Another process, or a command of the administrator, wrote about these addresses."""
        for key in address_keys:
            self._forget(key)

    def forget_all(self) -> None:
        """It cannot be told who wrote what."""
        self._remembered.clear()
        self._octets = 0

    async def was_seen(self, address: Address) -> bool:
        """Whether any source outside of this machine ever had a key for the address."""
        return await self._book.was_seen(address.key)

    async def known(self, recipient: Address) -> Pin | None:
        """The pin of the address, maybe a second old: what was revoked of its key counts in a judgement."""
        return self._remembered.get(recipient.key) or self._remember(await self._book.pin_of(recipient.key))

    async def weigh(
        self, recipient: Address, rule: Rule, lookup: Lookup, found: Sequence[Certificate], explaining: bool
    ) -> Lookup:
        """The lookup with its pin: as it was, with the pinned key chosen, or with the conflict between them.

        Args:
            lookup: not chosen by hand, nor from the administrator's own files.
            found: every certificate that it was made from.
            explaining: nothing is written.
        """
        case = _Case(recipient, rule, lookup, tuple(found), explaining)
        pin = await self._pin(recipient, lookup)
        if pin and not explaining:
            pin = await self._with_revocations(case, pin)
        if lookup.result is not LookupResult.USABLE:
            return lookup if pin is None else await self._without_key(case, pin)
        if pin is None:
            pin = await self._first(case)
            if pin is None:
                return lookup
        if pin.fingerprint == case.best.certificate.fingerprint:
            return replace(lookup, pin=await self._current(case, pin))
        return await self._changed(case, pin)

    async def _pin(self, recipient: Address, lookup: Lookup) -> Pin | None:
        """From memory only where it confirms the key that was chosen; everything else asks the database."""
        known = self._remembered.get(recipient.key)
        if known and lookup.chosen and known.fingerprint == lookup.chosen[0].certificate.fingerprint:
            self._remembered.move_to_end(recipient.key)
            return known
        return self._remember(await self._book.pin_of(recipient.key))

    def _remember(self, pin: Pin | None) -> Pin | None:
        if pin:
            self._forget(pin.address_key)
            self._remembered[pin.address_key] = pin
            self._octets += len(pin.certificate) + len(pin.revocations)
            while len(self._remembered) > MAX_REMEMBERED or self._octets > MAX_REMEMBERED_OCTETS:
                self._forget(next(iter(self._remembered)))
        return pin

    def _forget(self, key: str) -> None:
        if pin := self._remembered.pop(key, None):
            self._octets -= len(pin.certificate) + len(pin.revocations)

    # ------------------------------------------------------------------------- the same key

    async def _first(self, case: _Case) -> Pin | None:
        if case.explaining:
            return None
        pin = await self._book.pin_first(case.pin(self._clock.now()))
        if pin.fingerprint == case.best.certificate.fingerprint:  # else somebody else was quicker
            self._record("key_pinned", case)
        return self._remember(pin)

    async def _with_revocations(self, case: _Case, pin: Pin) -> Pin:
        """The pin with what its owner has revoked by now, whoever leaves it out later."""
        copies = case.copies(pin)
        examined = hash((*copies, pin.revocations))
        if not copies or self._examined.get(pin.address_key) == examined:
            return pin
        revoked = await asyncio.to_thread(self._judge.revocations, [*copies, *_own_copies(pin)])
        if revoked != pin.revocations:
            pin = await self._write(pin, replace(pin, revocations=revoked))
        _put(self._examined, pin.address_key, examined)
        return pin

    async def _current(self, case: _Case, pin: Pin) -> Pin:
        """The pin with the certificate as it is now: a longer life or new subkeys are kept with it."""
        trust = max(pin.trust, case.lookup.trusts[pin.fingerprint])
        kept = _kept(case.best)
        if case.explaining or (pin.certificate == kept and pin.trust == trust):
            return pin
        if pin.trust == trust and not self._may_write(pin.address_key):
            return pin  # two sources with two copies would make each message write
        source = case.best.certificate.source if trust > pin.trust else pin.source
        return await self._write(pin, replace(pin, certificate=kept, trust=trust, source=source))

    def _may_write(self, key: str) -> bool:
        now, last = self._clock.now(), self._written.get(key)
        may = last is None or abs(now - last) >= _AT_MOST_EVERY
        if may:
            _put(self._written, key, now)
        return may

    async def _write(self, pin: Pin, newer: Pin) -> Pin:
        return self._remember(await self._book.replace_pin(pin.fingerprint, newer)) or newer

    # ------------------------------------------------------------------------- nothing usable

    async def _without_key(self, case: _Case, pin: Pin) -> Lookup:
        """A key was used before, and now there is none that may be used."""
        if any(verdict.certificate.fingerprint == pin.fingerprint for verdict in case.lookup.verdicts):
            return replace(case.lookup, pin=pin)  # it is there, and the judge says why it may not be used
        lookup = await self._with_pinned_verdict(case, pin)
        verdict = lookup.verdicts[-1]
        if case.rule.use_missing_pin and verdict.usable and pin.trust >= case.rule.min_trust:
            return replace(lookup, result=LookupResult.USABLE, chosen=(verdict,))
        return replace(lookup, result=LookupResult.UNUSABLE, conflict=PinConflict.MISSING)

    async def _with_pinned_verdict(self, case: _Case, pin: Pin) -> Lookup:
        """The lookup with the pin, and with the judge's word about what is kept of its key."""
        copies = [_certificate(pin, data) for data in _own_copies(pin)]
        [verdict] = await asyncio.to_thread(self._judge.judge, copies, case.recipient, self._clock.now())
        return replace(
            case.lookup,
            verdicts=(*case.lookup.verdicts, verdict),
            pin=pin,
            trusts={**case.lookup.trusts, pin.fingerprint: pin.trust},
        )

    # ------------------------------------------------------------------------- another key

    async def _changed(self, case: _Case, pin: Pin) -> Lookup:
        lookup, best = case.lookup, case.best
        pending = await self._pending(case)
        reason = await self._why_accepted(case, pin, pending)
        old = next(
            (each for each in lookup.verdicts if each.certificate.fingerprint == pin.fingerprint), None
        )
        if reason == "rule" and old and old.usable:
            reason = ""  # both are offered: there is no need to change
        if reason:
            return await self._replaced(case, pin, reason)
        if old and old.usable:
            return replace(lookup, chosen=(old,), pin=pin)
        is_refused = case.rule.key_change is KeyChange.REFUSE or (
            pending is not None and pending.state is PendingState.REJECTED
        )
        conflict = PinConflict.REFUSED if is_refused else PinConflict.HELD
        if not case.explaining and pending is None:
            await self._ask_administrator(case, pin, conflict)
        known = lookup if old else await self._with_pinned_verdict(case, pin)
        return _against(known, pin, conflict, best.certificate.fingerprint)

    async def _pending(self, case: _Case) -> PendingKey | None:
        known = await self._book.pending(case.recipient.key)
        return next((each for each in known if each.fingerprint == case.best.certificate.fingerprint), None)

    async def _why_accepted(self, case: _Case, pin: Pin, pending: PendingKey | None) -> str:
        """Why the other key may take the place of the pinned one, in a word for the log; or nothing."""
        if pending and pending.state is PendingState.APPROVED:
            return "approved"
        if pending and pending.state is PendingState.REJECTED:
            return ""
        new = case.best.certificate
        if case.lookup.trusts[new.fingerprint] > pin.trust:
            return "trust"
        old, *copies = [*case.copies(pin), *_own_copies(pin)]
        now = self._clock.now()
        if await asyncio.to_thread(self._judge.certifies, old, new.data, case.recipient, now, copies):
            return "certified"
        return "rule" if case.rule.key_change is KeyChange.ACCEPT else ""

    async def _replaced(self, case: _Case, pin: Pin, reason: str) -> Lookup:
        if case.explaining:
            return replace(case.lookup, pin=pin)
        newer = case.pin(self._clock.now())
        now = await self._book.replace_pin(pin.fingerprint, newer)
        self._remember(now)
        if now.fingerprint != newer.fingerprint:  # somebody else was quicker, with another key
            return _against(case.lookup, now, PinConflict.HELD, newer.fingerprint)
        self._record("key_changed", case, before=pin.fingerprint, because=reason)
        return replace(case.lookup, pin=now)

    async def _ask_administrator(self, case: _Case, pin: Pin, conflict: PinConflict) -> None:
        certificate = case.best.certificate
        await self._book.add_pending(
            PendingKey(
                case.recipient.key,
                certificate.fingerprint,
                certificate.source,
                case.lookup.trusts[certificate.fingerprint],
                certificate.data,
                self._clock.now(),
            )
        )
        self._record(f"key_change_{conflict}", case, before=pin.fingerprint)

    def _record(self, event: str, case: _Case, **more: str) -> None:
        self._journal.record(
            event,
            recipient=str(case.recipient),
            certificate=case.best.certificate.fingerprint,
            source=case.best.certificate.source,
            **more,
        )


@dataclass(frozen=True, slots=True)
class _Case:
    """One lookup that is weighed."""

    recipient: Address
    rule: Rule
    lookup: Lookup
    found: tuple[Certificate, ...]
    explaining: bool

    @property
    def best(self) -> Verdict:
        """The choice without the pin; there is one exactly if the lookup is usable."""
        return self.lookup.chosen[0]

    def copies(self, pin: Pin) -> list[bytes]:
        """The pinned certificate as the sources give it."""
        return [each.data for each in self.found if each.fingerprint == pin.fingerprint]

    def pin(self, now: datetime) -> Pin:
        """A pin of the choice."""
        name, source = self.best.certificate.fingerprint, self.best.certificate.source
        return Pin(self.recipient.key, name, source, self.lookup.trusts[name], _kept(self.best), now)


def _against(lookup: Lookup, pin: Pin, conflict: PinConflict, contender: str) -> Lookup:
    """Nothing is chosen, because another key was used before."""
    return replace(
        lookup, result=LookupResult.UNUSABLE, chosen=(), pin=pin, conflict=conflict, contender=contender
    )


_T = TypeVar("_T")


def _put(known: OrderedDict[str, _T], key: str, value: _T) -> None:
    """Bounded: the oldest goes."""
    known.pop(key, None)
    known[key] = value
    if len(known) > MAX_REMEMBERED:
        known.popitem(last=False)


def _kept(verdict: Verdict) -> bytes:
    """What a pin keeps of a usable certificate."""
    data = verdict.certificate.data
    return data if len(data) <= _LARGE_OCTETS else verdict.reduced


def _own_copies(pin: Pin) -> list[bytes]:
    """The pinned certificate as the pin has it."""
    return [data for data in (pin.certificate, pin.revocations) if data]


def _certificate(pin: Pin, data: bytes) -> Certificate:
    return Certificate(data, pin.fingerprint, (), pin.source, fetched=pin.since)
