"""Judges certificates for the rest of the relay: merges copies, asks `assessment`, remembers what it said.

A verdict depends on the time only through the dates that stand in the certificate. So it is remembered
together with the two dates around now, and is exact for every moment between them; for a day at most,
because pysequoia's own rules have dates too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from relay.message import Address, Certificate, Verdict
from relay.openpgp.assessment import assess, moment
from relay.openpgp.parts import Parts, Unusable, identity, merge

MAX_REMEMBERED = 2048
"""Verdicts; a relay writes to fewer people in an hour."""
MAX_REMEMBERED_OCTETS = 16 << 20
"""Of all certificates and reduced certificates that are remembered."""

_MAX_REMEMBERED_SECONDS = 86_400
_MAX_SENTENCE_CHARS = 200
_V4_FINGERPRINT_CHARS = 40


@dataclass(frozen=True, slots=True)
class _Remembered:
    verdict: Verdict
    since: float
    until: float
    """Unix times: the verdict holds from the first to before the second."""
    octets: int


_Question = tuple[tuple[Certificate, ...], Address | None]


class Judge:
    """Judges certificates (`relay.seams.KeyJudge`): no I/O, bounded time and memory; for one thread.

    Args:
        v4_only: the engine is GnuPG, which knows nothing of version 6.
    """

    def __init__(self, *, v4_only: bool = False) -> None:
        self._v4_only = v4_only
        self._remembered: OrderedDict[_Question, _Remembered] = OrderedDict()
        self._octets = 0

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        """One verdict per distinct certificate, in the order given; copies of one certificate are merged.

        A merged verdict names the first copy and so its source. Nothing is raised for any certificate.

        Args:
            address: must be bound by a valid User ID; None skips that test.
            now: aware.
        """
        copies: dict[bytes, list[Certificate]] = {}
        for certificate in certificates:
            copies.setdefault(identity(certificate.data), []).append(certificate)
        seconds = math.floor(now.timestamp())
        verdicts = (self._verdict((tuple(group), address), seconds) for group in copies.values())
        return [_for_gnupg(verdict) if self._v4_only else verdict for verdict in verdicts]

    def _verdict(self, question: _Question, now: int) -> Verdict:
        known = self._remembered.get(question)
        if known is None or not known.since <= now < known.until:
            known = _judge(question, now)
            self._remember(question, known)
        self._remembered.move_to_end(question)
        return known.verdict

    def _remember(self, question: _Question, answer: _Remembered) -> None:
        self._forget(question)
        self._remembered[question] = answer
        self._octets += answer.octets
        while len(self._remembered) > 1 and (
            len(self._remembered) > MAX_REMEMBERED or self._octets > MAX_REMEMBERED_OCTETS
        ):
            self._forget(next(iter(self._remembered)))

    def _forget(self, question: _Question) -> None:
        if question in self._remembered:
            self._octets -= self._remembered.pop(question).octets


def _for_gnupg(verdict: Verdict) -> Verdict:
    """Says no where the engine would, so that the client hears it at RCPT and not as 451 for ever."""
    if not verdict.usable or len(verdict.certificate.fingerprint) == _V4_FINGERPRINT_CHARS:
        return verdict
    sentence = "is a version 6 key, which needs engine: sequoia"
    return replace(verdict, usable=False, sentence=sentence, subkeys=(), reduced=b"")


def _judge(question: _Question, now: int) -> _Remembered:
    copies, address = question
    created, dates = None, [-math.inf, now + _MAX_REMEMBERED_SECONDS]
    try:
        parts = merge(copy.data for copy in copies)
        created = moment(parts.key.created)
        dates += _dates(parts)
        verdict = assess(parts, copies[0], address, now)
    except Unusable as exc:
        verdict = Verdict(copies[0], False, _clean(str(exc)), created=created)
    since = max(date for date in dates if date <= now)
    until = min(date for date in dates if date > now)
    return _Remembered(verdict, since, until, sum(len(copy.data) for copy in copies) + len(verdict.reduced))


def _dates(parts: Parts) -> Iterator[int]:
    """Every moment at which the verdict can change (RFC 9580 §5.2.3.13, §5.2.3.18)."""
    for component in [parts.primary, *parts.user_ids.values(), *parts.subkeys.values()]:
        key = component.key or parts.key
        yield key.created
        for signature in component.signatures.values():
            yield signature.created
            yield signature.created + signature.lasts_seconds
            yield key.created + signature.key_lasts_seconds


def _clean(sentence: str) -> str:
    """ASCII, printable and bounded: an address of the client may stand in it."""
    ascii_only = sentence.encode("ascii", "backslashreplace").decode("ascii")
    return "".join(char if char.isprintable() else "?" for char in ascii_only)[:_MAX_SENTENCE_CHARS]
