"""Finds the certificates of one recipient: asks the sources of the rule, judges, chooses.

The sources are asked in the order of the rule. One that cannot be asked stops the search: an outage must not
change whether, or with which key, a message is encrypted. Once there is a usable certificate, nobody outside
of this machine is asked any more (it would learn who is written to, and its outages would stop mail that
does not need it). What such a source has said before, and what the pin knows, takes certificates back if a
revocation stands in it; it recommends none.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from relay.errors import KeySourceUnavailable, KeySourceUnreachable
from relay.message import Address, Answer, Certificate, Lookup, LookupResult, Verdict
from relay.remembered import Trust
from relay.rule import Rule

if TYPE_CHECKING:
    from relay.pins import Pins
    from relay.remembered import Pin
    from relay.seams import CachedSource, Clock, KeyJudge, KeySource

_MAX_FAILING = 10_000
"""Addresses whose outage is remembered; past that the oldest is forgotten, which only defers it longer."""

_MAX_GAP_SECONDS = 8 * 3600.0
"""Programs that keep a message try again more often. A failure after a longer silence is another outage."""

LOOKUP_SECONDS = 8.0
"""Default for all lookups of one message, so that the client is answered in time (RFC 6409 §5.3)."""

_TOO_LATE = "no answer in the time that a message may take"

_LARGE_BYTES = 32 * 1024
"""Judging more than this would hold up the event loop."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A key source with what the configuration says about it."""

    source: KeySource
    trust: Trust = Trust.MANUAL
    cached: CachedSource | None = None
    """The same source, where it lies outside of this machine; None for local files."""
    failure_is_none: bool = False
    """`unreachable_means: none`."""


@dataclass(slots=True)
class _Search:
    """One lookup under way."""

    recipient: Address
    rule: Rule
    explaining: bool
    awaited: Answer | None = None
    """What is said of whoever is waited for, should the time be over before."""
    answers: list[Answer] = field(default_factory=list)
    found: list[Certificate] = field(default_factory=list)
    known: list[Certificate] = field(default_factory=list)
    """Older copies, which count for the revocations in them alone."""
    trusts: dict[str, Trust] = field(default_factory=dict)
    """By fingerprint: the same certificate in a better source is as good as that source."""

    def add(self, certificates: list[Certificate], trust: Trust) -> None:
        """What a source gave."""
        self.found.extend(certificates)
        for certificate in certificates:
            known = self.trusts.get(certificate.fingerprint, trust)
            self.trusts[certificate.fingerprint] = max(known, trust)

    def reopen(self, name: str) -> None:
        """Makes room for a new answer of a source that was not asked before."""
        self.answers = [answer for answer in self.answers if answer.source != name]

    def to_judge(self) -> list[Certificate]:
        """What was found, and the known copies of it."""
        if not self.known:
            return self.found
        copies = [copy for copy in self.known if copy.fingerprint and copy.fingerprint in self.trusts]
        return list(dict.fromkeys([*self.found, *copies]))


class KeyFinder:
    """Looks addresses up in named sources.

    Args:
        sources: every configured source by its name.
        judge: decides which certificates may be used.
        failing_since: shared between reloads, so that a reload does not restart the patience of a rule.
        pins: which keys were used before; None where no source lies outside of this machine.
    """

    def __init__(
        self,
        sources: Mapping[str, Listed],
        judge: KeyJudge,
        clock: Clock,
        failing_since: OrderedDict[str, tuple[float, float]] | None = None,
        pins: Pins | None = None,
    ) -> None:
        self._sources = sources
        self._judge = judge
        self._clock = clock
        self._pins = pins
        self.failing_since = (
            OrderedDict[str, tuple[float, float]]() if failing_since is None else failing_since
        )
        """The first and the last failure of an outage, by `Address.key`."""

    async def find(
        self, recipient: Address, rule: Rule, *, seconds: float = LOOKUP_SECONDS, explaining: bool = False
    ) -> Lookup:
        """Asks the sources of `rule` in their order. Never raises for a source that is down.

        Args:
            seconds: how long it may take; a source that has not answered by then is unavailable.
            explaining: nothing is used, so nothing is pinned; answers tell when their source was asked.
        """
        search = _Search(recipient, rule, explaining)
        try:
            # One limit for all of it: most lookups wait for nothing, and five limits took half of their time.
            async with asyncio.timeout(max(seconds, 0.0)):
                lookup = await self._find(search)
        except KeySourceUnavailable as exc:
            return self._unavailable(search, str(exc))
        except TimeoutError:
            search.answers += [search.awaited] if search.awaited else []
            return self._unavailable(search, _TOO_LATE)
        self.failing_since.pop(recipient.key, None)
        return lookup

    async def _find(self, search: _Search) -> Lookup:
        for name in search.rule.keys:
            await self._ask(name, search)
        pin = await self._pin(search)
        lookup = await self._judged(search)
        for name in self._unasked(search, lookup, pin):
            search.reopen(name)
            await self._ask(name, search, needed=True)
            lookup = await self._judged(search)
        if self._pins is None or search.rule.certificates or self._is_local(lookup):
            return lookup
        search.awaited = Answer("store", failure=_TOO_LATE)
        return await self._pins.weigh(
            search.recipient, search.rule, lookup, search.to_judge(), search.explaining
        )

    def _is_local(self, lookup: Lookup) -> bool:
        """Whether the chosen certificates are the administrator's own, for which nothing is pinned."""
        names = {verdict.certificate.source for verdict in lookup.chosen}
        return bool(names) and all(self._sources[name].cached is None for name in names)

    async def _pin(self, search: _Search) -> Pin | None:
        """The pin, where something was found that is not the administrator's own; what it knows counts."""
        is_foreign = any(self._sources[each.source].cached for each in search.found)
        if self._pins is None or search.rule.certificates or not is_foreign:
            return None
        search.awaited = Answer("store", failure=_TOO_LATE)
        pin = await self._pins.known(search.recipient)
        if pin and pin.revocations:
            copy = Certificate(pin.revocations, pin.fingerprint, (), pin.source, fetched=pin.since)
            search.known.append(copy)
        return pin

    def _unasked(self, search: _Search, lookup: Lookup, pin: Pin | None) -> list[str]:
        """Sources that had no need to be asked, where there is one now.

        What was known of old took the usable certificate back, or the pinned one may still stand there.
        """
        unasked = [answer.source for answer in search.answers if not answer.asked]
        if not lookup.chosen:
            return unasked
        if pin is None or pin.fingerprint in search.trusts or self._is_local(lookup):
            return []
        had_it = {copy.source for copy in search.known if copy.fingerprint == pin.fingerprint}
        return [name for name in unasked if name in had_it]

    # ------------------------------------------------------------------------- asking

    async def _ask(self, name: str, search: _Search, *, needed: bool = False) -> None:
        """Adds what one source says. Raises KeySourceUnavailable, with the answer that says so added.

        Args:
            needed: whatever the sources before it gave.
        """
        listed = self._sources.get(name)
        if listed is None:  # `relay check` refuses dangling names; a reload must not turn one into "none"
            search.answers.append(Answer(name, failure=f"no source is named {name}"))
            raise KeySourceUnavailable(f"no source is named {name}")
        began = self._clock.monotonic()
        asks = needed or listed.cached is None or not await self._is_settled(search)
        waived = ""
        search.awaited = Answer(name, failure=_TOO_LATE, asked=asks)
        try:
            certificates = await self._certificates(listed, search, asks=asks)
        except KeySourceUnavailable as exc:
            failure = str(exc) or "unavailable"
            if not await self._is_waived(listed, search, exc):
                failed = Answer(name, failure=failure, seconds=self._since(began), asked=asks)
                search.answers.append(failed)
                raise
            certificates, waived = [], failure
        if asks:
            search.add(certificates, listed.trust)
        else:
            search.known.extend(certificates)
        seconds, asked_at = self._since(began), await self._asked_at(listed, search)
        search.answers.append(
            Answer(name, len(certificates), seconds=seconds, asked=asks, asked_at=asked_at, waived=waived)
        )

    def _since(self, began: float) -> float:
        return self._clock.monotonic() - began

    async def _is_settled(self, search: _Search) -> bool:
        """Whether the sources so far are enough, so that nobody outside of this machine has to be asked."""
        if not search.found:
            return False
        verdicts = await self._verdicts(search)
        usable = {verdict.certificate.fingerprint for verdict in verdicts if verdict.usable}
        return bool(usable) and usable.issuperset(search.rule.certificates)

    async def _certificates(self, listed: Listed, search: _Search, *, asks: bool) -> list[Certificate]:
        wanted = search.rule.certificates
        if wanted and not asks:
            return []
        if wanted:
            found = [await listed.source.find_fingerprint(fingerprint) for fingerprint in wanted]
            return [certificate for certificates in found for certificate in certificates]
        if listed.cached and not asks:
            return await listed.cached.recall(search.recipient)
        return await listed.source.find(search.recipient)

    async def _is_waived(self, listed: Listed, search: _Search, failure: KeySourceUnavailable) -> bool:
        """`unreachable_means: none`, for addresses never seen with a key. Raises KeySourceUnavailable.

        Nothing but a server that does not serve is meant: not an answer that cannot be used, nor a failure
        of the store or a bug, nor that the time of this message is over.
        """
        is_meant = listed.failure_is_none and isinstance(failure, KeySourceUnreachable)
        if not is_meant or self._pins is None or search.rule.certificates:
            return False  # whether an address was seen says nothing about a key that was named by hand
        return not await self._pins.was_seen(search.recipient)

    async def _asked_at(self, listed: Listed, search: _Search) -> datetime | None:
        if not search.explaining or listed.cached is None:
            return None
        return await listed.cached.asked_at(search.recipient)

    def _unavailable(self, search: _Search, failure: str) -> Lookup:
        now = self._clock.monotonic()
        since, last = self.failing_since.pop(search.recipient.key, (now, now))
        if now - last > _MAX_GAP_SECONDS:
            since = now
        self.failing_since[search.recipient.key] = since, now
        if len(self.failing_since) > _MAX_FAILING:
            self.failing_since.popitem(last=False)
        if not any(answer.failure for answer in search.answers):
            search.answers.append(Answer("store", failure=failure or "unavailable"))
        return Lookup(
            LookupResult.UNAVAILABLE,
            verdicts=tuple(Verdict(certificate, False, "was not judged") for certificate in search.found),
            answers=tuple(search.answers),
            failing_seconds=now - since,
            trusts=search.trusts,
        )

    # ------------------------------------------------------------------------- judging

    async def _verdicts(self, search: _Search) -> tuple[Verdict, ...]:
        address = None if search.rule.certificates else search.recipient
        certificates, now = search.to_judge(), self._clock.now()
        if is_slow(self._judge, certificates, address, now):
            failure = "its certificates take too long to judge"
            search.awaited = Answer(search.found[-1].source, failure=failure)
            verdicts = await asyncio.to_thread(self._judge.judge, certificates, address, now)
        else:
            verdicts = self._judge.judge(certificates, address, now)
        return tuple(_trusted(search, verdict) for verdict in verdicts)

    async def _judged(self, search: _Search) -> Lookup:
        rule = search.rule
        verdicts = await self._verdicts(search) if search.found else ()
        result, chosen = LookupResult.NONE, tuple[Verdict, ...]()
        if rule.certificates:
            result, chosen, verdicts = _by_hand(rule, verdicts)
        elif verdicts:
            usable = [verdict for verdict in verdicts if verdict.usable]
            chosen = tuple(sorted(usable, key=lambda verdict: _preference(rule, verdict))[:1])
            result = LookupResult.USABLE if chosen else LookupResult.UNUSABLE
        if not chosen and (unseen := [verdict for verdict in verdicts if verdict.overlooked]):
            failure = "it has more certificates for the address than are looked at"
            search.answers.append(Answer(unseen[-1].certificate.source, failure=failure))
            raise KeySourceUnavailable(failure)
        return Lookup(result, chosen, verdicts, tuple(search.answers), trusts=search.trusts)


Question = tuple[object, ...]
"""What the answer of a lookup depends on."""


def question(recipient: Address, rule: Rule) -> Question:
    """Equal for lookups that have the same answer: rules for one address may differ."""
    wanted = (rule.keys, rule.certificates, rule.min_trust, rule.key_change, rule.use_missing_pin)
    return (recipient, *wanted)


class MessageLookups:
    """The key lookups of one message: those that are known in time run side by side, all within one time.

    Args:
        seconds: how long the client waits for them, all together.
    """

    def __init__(self, finder: KeyFinder, clock: Clock, seconds: float) -> None:
        self._finder = finder
        self._clock = clock
        self._seconds = seconds
        self._begun: dict[Question, asyncio.Task[Lookup]] = {}
        self.waited_seconds = 0.0
        """How long the client has waited so far."""

    def begin(self, recipient: Address, rule: Rule) -> None:
        """Starts a lookup that will be asked for."""
        asked = question(recipient, rule)
        if asked not in self._begun:
            # Not a TaskGroup: each is awaited by its own `find`, and `end` ends those that never come.
            self._begun[asked] = asyncio.create_task(self._find(recipient, rule))

    async def find(self, recipient: Address, rule: Rule) -> Lookup:
        """What `KeyFinder.find` says, in the time that is left."""
        began = self._clock.monotonic()
        lookup = await (self._begun.pop(question(recipient, rule), None) or self._find(recipient, rule))
        self.waited_seconds += self._clock.monotonic() - began
        return lookup

    async def find_again(self, wanted: Mapping[Address, Rule]) -> dict[Address, Lookup]:
        """Looks all of them up anew, side by side, with the whole time."""
        self.waited_seconds = 0.0
        found = await asyncio.gather(*(self._find(recipient, rule) for recipient, rule in wanted.items()))
        return dict(zip(wanted, found, strict=True))

    async def _find(self, recipient: Address, rule: Rule) -> Lookup:
        left = max(self._seconds - self.waited_seconds, 0.0)
        return await self._finder.find(recipient, rule, seconds=left)

    async def end(self) -> None:
        """Ends the lookups that nobody waits for; never raises."""
        for lookup in self._begun.values():
            lookup.cancel()
        await asyncio.gather(*self._begun.values(), return_exceptions=True)
        self._begun.clear()


def is_slow(judge: KeyJudge, certificates: list[Certificate], address: Address | None, now: datetime) -> bool:
    """Whether judging belongs into a thread: strangers can make it take long."""
    is_large = sum(len(certificate.data) for certificate in certificates) > _LARGE_BYTES
    is_foreign = any(certificate.fetched for certificate in certificates)
    return (is_large or is_foreign) and not judge.remembers(certificates, address, now)


async def judge_aside(
    judge: KeyJudge, certificates: list[Certificate], address: Address | None, now: datetime
) -> list[Verdict]:
    """The verdicts, found in a thread where it takes long."""
    if is_slow(judge, certificates, address, now):
        return await asyncio.to_thread(judge.judge, certificates, address, now)
    return judge.judge(certificates, address, now)


def _trusted(search: _Search, verdict: Verdict) -> Verdict:
    """Not usable where the rule demands a better source; not "no key" either."""
    demanded = search.rule.min_trust
    trust = search.trusts[verdict.certificate.fingerprint]
    if not verdict.usable or trust >= demanded:
        return verdict
    sentence = f"comes from a source of trust {trust.word}, where {demanded.word} is demanded"
    return replace(verdict, usable=False, sentence=sentence, subkeys=(), reduced=b"")


def _preference(rule: Rule, verdict: Verdict) -> tuple[int, float, str]:
    """Earlier source first, then the newest primary key; the fingerprint makes it deterministic."""
    created = verdict.created or datetime.fromtimestamp(0, UTC)
    return rule.keys.index(verdict.certificate.source), -created.timestamp(), verdict.certificate.fingerprint


def _by_hand(
    rule: Rule, verdicts: tuple[Verdict, ...]
) -> tuple[LookupResult, tuple[Verdict, ...], tuple[Verdict, ...]]:
    """Every certificate that the admin named must be there and usable; a missing one is never "no key"."""
    known = {verdict.certificate.fingerprint for verdict in verdicts}
    missing = tuple(
        Verdict(Certificate(b"", wanted, (), ""), False, f"{wanted} is in none of the sources of the rule")
        for wanted in rule.certificates
        if wanted not in known
    )
    everything = verdicts + missing
    if all(verdict.usable for verdict in everything):
        return LookupResult.USABLE, everything, everything
    return LookupResult.UNUSABLE, (), everything
