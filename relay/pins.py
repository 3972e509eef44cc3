"""Weighs what the sources answered against the key that was used for the address before.

The first key of a discovered source that is used for an address is pinned (RFC 7929 §5.2). A key that
disappears later is never "no key", and another key takes its place only if the old one vouches for it, if a
better source gives it, or if the rule or the administrator says so. The administrator's own files need no
pins: they are asked for on every message.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from relay.message import Address, Certificate, KeyChange, Lookup, LookupResult, PinConflict, Rule, Verdict
from relay.remembered import PendingKey, PendingState, Pin, Trust

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relay.seams import Clock, Journal, KeyJudge, PinBook

MAX_REMEMBERED = 4096
"""Pins in memory; a certificate takes a few KiB."""


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

    def changed(self, address_keys: Iterable[str]) -> None:
        """Another process, or a command of the administrator, wrote about these addresses."""
        for key in address_keys:
            self._remembered.pop(key, None)

    def forget_all(self) -> None:
        """It cannot be told who wrote what."""
        self._remembered.clear()

    async def was_seen(self, address: Address) -> bool:
        """Whether any source outside of this machine ever had a key for the address."""
        return await self._book.was_seen(address.key)

    async def weigh(self, recipient: Address, rule: Rule, lookup: Lookup, explaining: bool) -> Lookup:
        """The lookup with its pin: as it was, with the pinned key chosen, or with the conflict between them.

        Args:
            lookup: not chosen by hand, nor from the administrator's own files.
            explaining: nothing is written.
        """
        pin = await self._pin(recipient, lookup)
        if lookup.result is not LookupResult.USABLE:
            return lookup if pin is None else await self._without_key(recipient, rule, lookup, pin)
        best = lookup.chosen[0]
        if pin is None:
            pin = await self._first(recipient, lookup, best, explaining)
            if pin is None:
                return lookup
        if pin.fingerprint == best.certificate.fingerprint:
            return replace(lookup, pin=await self._current(pin, lookup, best, explaining))
        return await self._changed(recipient, rule, lookup, pin, explaining)

    async def _pin(self, recipient: Address, lookup: Lookup) -> Pin | None:
        """From memory only where it confirms the key that was chosen; everything else asks the database."""
        known = self._remembered.get(recipient.key)
        if known and lookup.chosen and known.fingerprint == lookup.chosen[0].certificate.fingerprint:
            self._remembered.move_to_end(recipient.key)
            return known
        return self._remember(await self._book.pin_of(recipient.key))

    def _remember(self, pin: Pin | None) -> Pin | None:
        if pin:
            self._remembered[pin.address_key] = pin
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return pin

    async def _first(self, recipient: Address, lookup: Lookup, best: Verdict, explaining: bool) -> Pin | None:
        if explaining:
            return None
        pin = _pin_for(recipient, lookup, best, self._clock.now())
        self._record("key_pinned", recipient, best)
        return self._remember(await self._book.pin_first(pin))

    async def _current(self, pin: Pin, lookup: Lookup, best: Verdict, explaining: bool) -> Pin:
        """The pin with the certificate as it is now: its revocation or its new subkeys are kept with it."""
        trust = max(pin.trust, lookup.trusts[pin.fingerprint])
        if explaining or (pin.certificate == best.certificate.data and pin.trust == trust):
            return pin
        source = best.certificate.source if trust > pin.trust else pin.source
        newer = replace(pin, certificate=best.certificate.data, trust=trust, source=source)
        return self._remember(await self._book.replace_pin(pin.fingerprint, newer)) or pin

    # ------------------------------------------------------------------------- nothing usable

    async def _without_key(self, recipient: Address, rule: Rule, lookup: Lookup, pin: Pin) -> Lookup:
        """A key was used before, and now there is none that may be used."""
        if any(verdict.certificate.fingerprint == pin.fingerprint for verdict in lookup.verdicts):
            return replace(lookup, pin=pin)  # it is there, and the judge says why it may not be used
        [verdict] = await asyncio.to_thread(
            self._judge.judge, [_certificate(pin)], recipient, self._clock.now()
        )
        verdicts = (*lookup.verdicts, verdict)
        trusts = {**lookup.trusts, pin.fingerprint: pin.trust}
        if rule.use_missing_pin and verdict.usable and pin.trust >= rule.min_trust:
            return replace(
                lookup,
                result=LookupResult.USABLE,
                chosen=(verdict,),
                verdicts=verdicts,
                pin=pin,
                trusts=trusts,
            )
        return replace(
            lookup,
            result=LookupResult.UNUSABLE,
            verdicts=verdicts,
            pin=pin,
            conflict=PinConflict.MISSING,
            trusts=trusts,
        )

    # ------------------------------------------------------------------------- another key

    async def _changed(
        self, recipient: Address, rule: Rule, lookup: Lookup, pin: Pin, explaining: bool
    ) -> Lookup:
        best = lookup.chosen[0]
        pending = await self._pending(recipient, best)
        reason = await self._why_accepted(recipient, rule, lookup, pin, pending)
        old = next(
            (each for each in lookup.verdicts if each.certificate.fingerprint == pin.fingerprint), None
        )
        if reason == "rule" and old and old.usable:
            reason = ""  # both are offered: there is no need to change
        if reason:
            return await self._replaced(recipient, lookup, pin, reason, explaining)
        if old and old.usable:
            return replace(lookup, chosen=(old,), pin=pin)
        is_refused = rule.key_change is KeyChange.REFUSE or (
            pending is not None and pending.state is PendingState.REJECTED
        )
        if not explaining and pending is None:
            await self._ask_administrator(recipient, lookup, best)
        return replace(
            lookup,
            result=LookupResult.UNUSABLE,
            chosen=(),
            pin=pin,
            conflict=PinConflict.REFUSED if is_refused else PinConflict.HELD,
            contender=best.certificate.fingerprint,
        )

    async def _pending(self, recipient: Address, best: Verdict) -> PendingKey | None:
        known = await self._book.pending(recipient.key)
        return next((each for each in known if each.fingerprint == best.certificate.fingerprint), None)

    async def _why_accepted(
        self, recipient: Address, rule: Rule, lookup: Lookup, pin: Pin, pending: PendingKey | None
    ) -> str:
        """Why the other key may take the place of the pinned one, in a word for the log; or nothing."""
        if pending and pending.state is PendingState.APPROVED:
            return "approved"
        if pending and pending.state is PendingState.REJECTED:
            return ""
        new = lookup.chosen[0].certificate
        if lookup.trusts[new.fingerprint] > pin.trust:
            return "trust"
        copies = [each.certificate for each in lookup.verdicts]
        old = next((each.data for each in copies if each.fingerprint == pin.fingerprint), pin.certificate)
        now = self._clock.now()
        if await asyncio.to_thread(self._judge.certifies, old, new.data, recipient, now):
            return "certified"
        return "rule" if rule.key_change is KeyChange.ACCEPT else ""

    async def _replaced(
        self, recipient: Address, lookup: Lookup, pin: Pin, reason: str, explaining: bool
    ) -> Lookup:
        best = lookup.chosen[0]
        newer = _pin_for(recipient, lookup, best, self._clock.now())
        if explaining:
            return replace(lookup, pin=pin)
        now = await self._book.replace_pin(pin.fingerprint, newer)
        self._remember(now)
        if now.fingerprint != newer.fingerprint:  # somebody else was quicker, with another key
            return replace(
                lookup,
                result=LookupResult.UNUSABLE,
                chosen=(),
                pin=now,
                conflict=PinConflict.HELD,
                contender=newer.fingerprint,
            )
        self._record("key_changed", recipient, best, before=pin.fingerprint, because=reason)
        return replace(lookup, pin=now)

    async def _ask_administrator(self, recipient: Address, lookup: Lookup, best: Verdict) -> None:
        certificate = best.certificate
        await self._book.add_pending(
            PendingKey(
                recipient.key,
                certificate.fingerprint,
                certificate.source,
                lookup.trusts[certificate.fingerprint],
                certificate.data,
                self._clock.now(),
            )
        )
        self._record("key_change_refused", recipient, best)

    def _record(self, event: str, recipient: Address, verdict: Verdict, **more: str) -> None:
        self._journal.record(
            event,
            recipient=str(recipient),
            certificate=verdict.certificate.fingerprint,
            source=verdict.certificate.source,
            **more,
        )


def _pin_for(recipient: Address, lookup: Lookup, best: Verdict, now: datetime) -> Pin:
    certificate = best.certificate
    trust: Trust = lookup.trusts[certificate.fingerprint]
    return Pin(recipient.key, certificate.fingerprint, certificate.source, trust, certificate.data, now)


def _certificate(pin: Pin) -> Certificate:
    return Certificate(pin.certificate, pin.fingerprint, (), pin.source, fetched=pin.since)
