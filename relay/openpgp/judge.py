"""Judges certificates for the rest of the relay: merges copies, asks `assessment`, remembers what it said.

A verdict depends on the time only through the dates that stand in the certificate. So it is remembered
together with the two dates around now, and is exact for every moment between them; for a day at most,
because pysequoia's own rules have dates too. Whole questions are remembered, all certificates of one address
together, so that an answer costs one look.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from threading import Lock

from relay.message import Address, Certificate, Verdict
from relay.openpgp.assessment import assess, moment
from relay.openpgp.parts import Parts, Unusable, identity, merge
from relay.openpgp.revocations import revocations

MAX_CERTIFICATES = 16
"""In one question: nobody has as many, and each may cost as much time as the worst one."""
MAX_REMEMBERED = 2048
"""Answers; a relay writes to fewer people in an hour."""
MAX_REMEMBERED_OCTETS = 16 << 20
"""Of all certificates and reduced certificates that are remembered."""
_SHARE = 8
"""An answer that needs more than this part of it is not remembered: it would push out all others."""

_MAX_REMEMBERED_SECONDS = 86_400
_MAX_SENTENCE_CHARS = 200


@dataclass(frozen=True, slots=True)
class _Remembered:
    verdicts: tuple[tuple[int, Verdict], ...]
    """Each with the place of the certificate in whose name it speaks."""
    since: float
    until: float
    """Unix times: the verdicts hold from the first to before the second."""
    octets: int


_Question = tuple[tuple[Certificate, ...], Address | None]


class Judge:
    """Judges certificates (`relay.seams.KeyJudge`): no I/O, bounded time and memory; for any threads."""

    def __init__(self) -> None:
        # Held while an answer is looked up or put away, never while one is found: whoever gives a certificate
        # decides how long its judgement takes, and the event loop waits for this lock.
        self._lock = Lock()
        self._remembered: OrderedDict[_Question, _Remembered] = OrderedDict()
        self._octets = 0

    def remembers(self, certificates: list[Certificate], address: Address | None, now: datetime) -> bool:
        """Whether `judge` with these arguments takes microseconds; if not, it belongs into a thread.

        Some hundred milliseconds are possible, and of these the interpreter lock is held for few at a time.
        """
        return self._recall((tuple(certificates), address), math.floor(now.timestamp())) is not None

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        """One verdict per distinct certificate, in the order given; copies of one certificate are merged.

        A merged verdict names the first copy and so its source. Nothing is raised for any certificate.

        Args:
            address: must be bound by a valid User ID; None skips that test.
            now: aware.
        """
        question, seconds = (tuple(certificates), address), math.floor(now.timestamp())
        answer = self._recall(question, seconds)
        if answer is None:
            answer = _answer(question, seconds)
            self._remember(question, answer)
        return [_in_the_name_of(certificates[place], verdict) for place, verdict in answer.verdicts]

    def certifies(
        self, old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()
    ) -> bool:
        """Whether `old` vouches for the User ID of `new` with this address; takes milliseconds.

        Args:
            copies: further ones of `old`; a revocation in any of them counts.
        """
        from relay.openpgp.certification import certifies  # with it comes a library that takes 7 MB

        return certifies(old, new, address, now, copies)

    def revocations(self, copies: Sequence[bytes]) -> bytes:
        """What the owner revoked in these copies of one certificate; see `openpgp.revocations`."""
        return revocations(copies)

    def _recall(self, question: _Question, now: int) -> _Remembered | None:
        with self._lock:
            known = self._remembered.get(question)
            if known is None or not known.since <= now < known.until:
                return None
            self._remembered.move_to_end(question)
            return known

    def _remember(self, question: _Question, answer: _Remembered) -> None:
        if answer.octets > MAX_REMEMBERED_OCTETS // _SHARE:
            return
        with self._lock:
            self._forget(question)
            self._remembered[question] = answer
            self._octets += answer.octets
            while len(self._remembered) > MAX_REMEMBERED or self._octets > MAX_REMEMBERED_OCTETS:
                self._forget(next(iter(self._remembered)))

    def _forget(self, question: _Question) -> None:
        if question in self._remembered:
            self._octets -= self._remembered.pop(question).octets


def _in_the_name_of(certificate: Certificate, verdict: Verdict) -> Verdict:
    """Equal certificates may have been fetched at different times: the verdict names the one in question."""
    return verdict if verdict.certificate is certificate else replace(verdict, certificate=certificate)


def _answer(question: _Question, now: int) -> _Remembered:
    certificates, address = question
    places: dict[bytes, list[int]] = {}
    for place, certificate in enumerate(certificates):
        places.setdefault(identity(certificate.data), []).append(place)
    found = []
    span = _Span(now)
    for number, group in enumerate(places.values()):
        copies = tuple(certificates[place] for place in group)
        verdict = _judge(copies, address, span) if number < MAX_CERTIFICATES else _one_of_too_many(copies[0])
        found.append((group[0], verdict))
    octets = sum(len(certificate.data) for certificate in certificates)
    octets += sum(len(verdict.reduced) for _, verdict in found)
    return _Remembered(tuple(found), span.since, span.until, octets)


def _one_of_too_many(certificate: Certificate) -> Verdict:
    """Whoever answers with thousands of small certificates does not choose how long that takes."""
    sentence = f"was not looked at: {MAX_CERTIFICATES} other certificates come before it"
    return Verdict(certificate, False, sentence, overlooked=True)


class _Span:
    """The time around a moment in which nothing changes."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.since: float = -math.inf
        self.until: float = now + _MAX_REMEMBERED_SECONDS

    def narrow(self, dates: Iterator[int]) -> None:
        """Ends the span at each of these dates."""
        for date in dates:
            if date <= self.now:
                self.since = max(self.since, date)
            else:
                self.until = min(self.until, date)


def _judge(copies: tuple[Certificate, ...], address: Address | None, span: _Span) -> Verdict:
    created = None
    try:
        parts = merge(copy.data for copy in copies)
        created = moment(parts.key.created)
        span.narrow(_dates(parts))
        return assess(parts, copies[0], address, span.now)
    except Unusable as exc:
        return Verdict(copies[0], False, _clean(str(exc)), created=created)


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
