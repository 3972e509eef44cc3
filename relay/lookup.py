"""Finds the certificates of one recipient: asks every source of the rule, judges, chooses.

All sources are asked even after a usable certificate was found, because a revocation in any of them counts.
For the same reason one unavailable source makes the whole lookup unavailable: an outage must not change
whether, or with which key, a message is encrypted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from relay.errors import KeySourceUnavailable
from relay.message import Address, Answer, Certificate, Lookup, LookupResult, Rule, Verdict

if TYPE_CHECKING:
    from relay.seams import Clock, KeyJudge, KeySource

_MAX_FAILING = 10_000
"""Addresses whose outage is remembered; past that the oldest is forgotten, which only defers it longer."""

_MAX_GAP_SECONDS = 8 * 3600.0
"""Programs that keep a message try again more often. A failure after a longer silence is another outage."""


class KeyFinder:
    """Looks addresses up in named sources.

    Args:
        sources: every configured source by its name.
        judge: decides which certificates may be used.
        failing_since: shared between reloads, so that a reload does not restart the patience of a rule.
    """

    def __init__(
        self,
        sources: Mapping[str, KeySource],
        judge: KeyJudge,
        clock: Clock,
        failing_since: OrderedDict[str, tuple[float, float]] | None = None,
    ) -> None:
        self._sources = sources
        self._judge = judge
        self._clock = clock
        self.failing_since = (
            OrderedDict[str, tuple[float, float]]() if failing_since is None else failing_since
        )
        """The first and the last failure of an outage, by `Address.key`."""

    async def find(self, recipient: Address, rule: Rule) -> Lookup:
        """Asks the sources of `rule` in their order. Never raises for a source that is down."""
        answers: list[Answer] = []
        found: list[Certificate] = []
        for name in rule.keys:
            try:
                certificates = await self._ask(name, recipient, rule)
            except KeySourceUnavailable as exc:
                answers.append(Answer(name, failure=str(exc) or "unavailable"))
                return self._unavailable(recipient, found, answers)
            answers.append(Answer(name, found=len(certificates)))
            found.extend(certificates)
        self.failing_since.pop(recipient.key, None)
        return self._judged(recipient, rule, found, answers)

    async def _ask(self, name: str, recipient: Address, rule: Rule) -> list[Certificate]:
        source = self._sources.get(name)
        if source is None:  # `relay check` refuses dangling names; a reload must not turn one into "none"
            raise KeySourceUnavailable(f"no source is named {name}")
        if not rule.certificates:
            return await source.find(recipient)
        found = [await source.find_fingerprint(fingerprint) for fingerprint in rule.certificates]
        return [certificate for certificates in found for certificate in certificates]

    def _unavailable(self, recipient: Address, found: list[Certificate], answers: list[Answer]) -> Lookup:
        now = self._clock.monotonic()
        since, last = self.failing_since.pop(recipient.key, (now, now))
        if now - last > _MAX_GAP_SECONDS:
            since = now
        self.failing_since[recipient.key] = since, now
        if len(self.failing_since) > _MAX_FAILING:
            self.failing_since.popitem(last=False)
        verdicts = tuple(Verdict(certificate, False, "was not judged") for certificate in found)
        return Lookup(
            LookupResult.UNAVAILABLE,
            verdicts=verdicts,
            answers=tuple(answers),
            failing_seconds=now - since,
        )

    def _judged(
        self, recipient: Address, rule: Rule, found: list[Certificate], answers: list[Answer]
    ) -> Lookup:
        address = None if rule.certificates else recipient
        verdicts = tuple(self._judge.judge(found, address, self._clock.now())) if found else ()
        if rule.certificates:
            return _by_hand(rule, verdicts, tuple(answers))
        if not verdicts:
            return Lookup(LookupResult.NONE, answers=tuple(answers))
        usable = [verdict for verdict in verdicts if verdict.usable]
        if not usable:
            return Lookup(LookupResult.UNUSABLE, verdicts=verdicts, answers=tuple(answers))
        best = min(usable, key=lambda verdict: _preference(rule, verdict))
        return Lookup(LookupResult.USABLE, (best,), verdicts, tuple(answers))


def _preference(rule: Rule, verdict: Verdict) -> tuple[int, float, str]:
    """Earlier source first, then the newest primary key; the fingerprint makes it deterministic."""
    created = verdict.created or datetime.fromtimestamp(0, UTC)
    return rule.keys.index(verdict.certificate.source), -created.timestamp(), verdict.certificate.fingerprint


def _by_hand(rule: Rule, verdicts: tuple[Verdict, ...], answers: tuple[Answer, ...]) -> Lookup:
    """Every certificate that the admin named must be there and usable; a missing one is never "no key"."""
    known = {verdict.certificate.fingerprint for verdict in verdicts}
    missing = tuple(
        Verdict(Certificate(b"", wanted, (), ""), False, f"{wanted} is in none of the sources of the rule")
        for wanted in rule.certificates
        if wanted not in known
    )
    everything = verdicts + missing
    if all(verdict.usable for verdict in everything):
        return Lookup(LookupResult.USABLE, everything, everything, answers)
    return Lookup(LookupResult.UNUSABLE, verdicts=everything, answers=answers)
