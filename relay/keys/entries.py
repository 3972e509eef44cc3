"""What a kept answer becomes when its source answers again or fails: the rules of `keys.cached`, without I/O.

One rule holds for every entry. Until `fresh_until` the source is not asked, whether because it answered or
because it failed a moment ago. Until `usable_until` its last answer may be served while it cannot be asked:
for a positive answer that is the stale-if-error time, for "none", and for an answer that names its own
lifetime (DANE), it is the end of freshness. So an outage never makes more of an answer than the source did,
and never "none" out of anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from relay.address import parse_mailbox
from relay.errors import KeySourceDistrusted, KeySourceUnavailable, KeySourceUnreachable
from relay.message import Address, Certificate
from relay.mime import packets
from relay.remembered import CacheEntry

_KEY_REVOCATION = 0x20
_REVOCATIONS = frozenset({_KEY_REVOCATION, 0x28, 0x30})
"""Signature types: of the key, of a subkey, of a certification (RFC 9580 §5.2.1)."""

_MAX_KEPT_COPIES = 3
"""Of one certificate, beside what the source gives now: a source that varies its answers fills no memory."""

_MAX_BACK_OFF_SECONDS = 3600.0
_MAX_RETRY_AFTER_SECONDS = 86_400.0
"""A source may ask to be left alone, not for ever."""
_MAX_DOUBLINGS = 16

_EXPIRES_SOON_SECONDS = 7 * 86_400
_DAILY_SECONDS = 86_400
"""How long an answer with a certificate that expires soon is fresh: its owner will extend or replace it."""

_DISTRUSTED = "distrusted: "
"""Begins the failure of an answer that came and was not to be believed; it must survive a restart."""
_UNREACHABLE = "unreachable: "
"""Begins the failure that `unreachable_means` speaks of."""
_MAX_FAILURE_CHARS = 300

_FINGERPRINT = "fingerprint:"
"""Begins the cache key of a question for a fingerprint."""


@dataclass(frozen=True, slots=True)
class CacheTimes:
    """How long answers and failures are kept (`cache:` of the configuration)."""

    keep_seconds: float = 86_400
    """A positive answer."""
    keep_none_seconds: float = 3600
    """The answer that there is no key."""
    retry_failed_seconds: float = 60
    """After the first failure; doubled with each further one, up to an hour."""
    stale_if_error_seconds: float = 7 * 86_400
    """How long past its freshness a positive answer serves while the source cannot be asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a source, and under which key the answer is kept."""

    source: str
    key: str
    address: Address | None
    """None: the question is for a fingerprint."""
    fingerprint: str = ""

    @classmethod
    def about_fingerprint(cls, source: str, fingerprint: str) -> Question:
        """Its key is none of an address, which has an `@`."""
        return cls(source, f"{_FINGERPRINT}{fingerprint}", None, fingerprint)

    @classmethod
    def of(cls, entry: CacheEntry) -> Question:
        """What was asked for the entry; with its own key, since it is this entry that is to become fresh.

        Raises:
            KeySourceUnavailable: what was stored is damaged.
        """
        if not entry.address:
            return cls(entry.source, entry.key, None, entry.key.removeprefix(_FINGERPRINT))
        try:
            return cls(entry.source, entry.key, parse_mailbox(entry.address))
        except ValueError as exc:
            raise KeySourceUnavailable("a kept address cannot be read") from exc

    @property
    def name(self) -> str:
        """Under which other processes report a change of the entry."""
        return self.address.key if self.address else self.key

    @property
    def text(self) -> str:
        """For `CacheEntry.address`; empty for a fingerprint."""
        return self.address.text if self.address else ""


# --------------------------------------------------------------------------- what is kept


def answered(
    question: Question,
    certificates: tuple[Certificate, ...],
    now: datetime,
    lasts: tuple[float, float],
    used_at: datetime | None,
) -> CacheEntry:
    """The entry of an answer.

    Args:
        lasts: what `lifetime` says.
    """
    fresh_seconds, usable_seconds = lasts
    return CacheEntry(
        source=question.source,
        key=question.key,
        address=question.text,
        certificates=tuple(certificate.data for certificate in certificates),
        answered_at=now,
        fresh_until=now + timedelta(seconds=fresh_seconds),
        usable_until=now + timedelta(seconds=usable_seconds),
        used_at=used_at,
    )


def lifetime(
    times: CacheTimes,
    *,
    positive: bool,
    max_age_seconds: int | None,
    expires_seconds: float | None,
    spread: float,
) -> tuple[float, float]:
    """How many seconds an answer is fresh, and how many it is usable.

    Args:
        max_age_seconds: what the source allows at most; past it nothing is served (RFC 7929 §7.1, §7.5).
        expires_seconds: until the certificates expire; negative if they have.
        spread: a factor around 1, so that what was asked together is not refreshed together.
    """
    fresh = (times.keep_seconds if positive else times.keep_none_seconds) * spread
    if positive and expires_seconds is not None:
        fresh = min(fresh, max(_DAILY_SECONDS * spread, expires_seconds - _EXPIRES_SOON_SECONDS))
    if max_age_seconds is not None:
        fresh = min(fresh, max(0, max_age_seconds))
    may_be_stale = positive and max_age_seconds is None
    return fresh, fresh + (times.stale_if_error_seconds if may_be_stale else 0)


def failed(
    question: Question, old: CacheEntry | None, exc: KeySourceUnavailable, now: datetime, times: CacheTimes
) -> CacheEntry:
    """The entry after a failure: what was known stays, and the source is left alone for a while.

    An answer that is still fresh stays fresh, except after an answer that must not be believed: nothing may
    be sent then (RFC 7929 §7.1). The distrust lasts until an answer comes that can be believed; whoever can
    forge answers could also drop them, and must not get the old keys served by that.
    """
    known = old or CacheEntry(question.source, question.key, question.text, (), None, now, now)
    distrusted = isinstance(exc, KeySourceDistrusted)
    keeps = is_fresh(known, now, times) and not distrusted
    wait = timedelta(seconds=_back_off_seconds(known.failures + 1, exc, times))
    return replace(
        known,
        fresh_until=max(now + wait, known.fresh_until) if keeps else now + wait,
        usable_until=min(known.usable_until, now + _longest_usable(times)),
        failure=_failure_text(exc, distrusted=distrusted or is_distrusted(known)),
        failures=known.failures + 1,
    )


def _back_off_seconds(failures: int, exc: KeySourceUnavailable, times: CacheTimes) -> float:
    longest = max(_MAX_BACK_OFF_SECONDS, times.retry_failed_seconds)
    wait = min(times.retry_failed_seconds * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), longest)
    return max(wait, min(exc.retry_after_seconds or 0.0, _MAX_RETRY_AFTER_SECONDS))


def _failure_text(exc: KeySourceUnavailable, *, distrusted: bool) -> str:
    text = str(exc) or type(exc).__name__
    text = "".join(char if char.isprintable() else "?" for char in text[:_MAX_FAILURE_CHARS])
    mark = _DISTRUSTED if distrusted else _UNREACHABLE if isinstance(exc, KeySourceUnreachable) else ""
    if mark:
        return text if text.startswith(mark) else mark + text
    # What another host said must not look like our own mark.
    return f"failed: {text}" if text.startswith((_DISTRUSTED, _UNREACHABLE)) else text


# --------------------------------------------------------------------------- what may be served


def is_fresh(entry: CacheEntry, now: datetime, times: CacheTimes) -> bool:
    """Whether the entry answers, or refuses, without asking the source.

    What claims to be fresh for longer than is possible was written by a clock that was wrong, or before
    `cache.keep` was shortened: it must not stay for years.
    """
    longest = timedelta(
        seconds=max(times.keep_seconds, times.keep_none_seconds, _MAX_RETRY_AFTER_SECONDS) * 1.2
    )
    return now < entry.fresh_until <= now + longest


def _longest_usable(times: CacheTimes) -> timedelta:
    """What is usable for longer was written by a clock that was wrong."""
    return timedelta(seconds=times.keep_seconds * 1.2 + times.stale_if_error_seconds)


def is_distrusted(entry: CacheEntry) -> bool:
    """Whether the last thing that came from the source was an answer that must not be believed."""
    return entry.failure.startswith(_DISTRUSTED)


def refusal(entry: CacheEntry, now: datetime) -> KeySourceUnavailable | None:
    """Why the entry, which is fresh or was just written, answers nothing; None where its answer serves."""
    if not entry.failure:
        return None
    has_answer = entry.answered_at is not None and now < entry.usable_until
    return None if has_answer and not is_distrusted(entry) else error(entry)


def error(entry: CacheEntry) -> KeySourceUnavailable:
    """The failure of an entry as it was raised."""
    if is_distrusted(entry):
        return KeySourceDistrusted(entry.failure)
    if entry.failure.startswith(_UNREACHABLE):
        return KeySourceUnreachable(entry.failure.removeprefix(_UNREACHABLE))
    return KeySourceUnavailable(entry.failure)


def is_half_over(entry: CacheEntry, now: datetime) -> bool:
    """Whether an answer is older than half of its time."""
    if entry.answered_at is None:
        return False
    return now >= entry.answered_at + (entry.fresh_until - entry.answered_at) / 2


# --------------------------------------------------------------------------- revocations


def with_revocations(new: tuple[Certificate, ...], old: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """What the source gives now, and older copies of the same certificates whose revocations it left out.

    A revocation that was seen once counts, although a server, or whoever stands before it, leaves it out
    later. The judge merges the copies of a certificate. A copy without a revocation of its own is not kept,
    so a server that only adds signatures costs nothing. Copies that were kept before come first: they cannot
    be pushed out by newer ones.
    """
    known = {(copy.fingerprint, body) for copy in new for body in _revocations(copy)}
    kept: list[Certificate] = []
    for copy in _oldest_first(old, {certificate.fingerprint for certificate in new}):
        own = {(copy.fingerprint, body) for body in _revocations(copy)}
        beside = sum(other.fingerprint == copy.fingerprint for other in kept)
        if not own <= known and beside < _MAX_KEPT_COPIES:
            kept.append(copy)
            known |= own
    return (*new, *kept)


def with_user_ids(new: tuple[Certificate, ...], old: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """For a question about a fingerprint: an answer without User IDs, and the last copy that had some.

    Key servers withhold User IDs that are not verified, and the answer must then only refresh what is known
    (RFC 9580 §5.2.3.10): what a User ID's self-signature says would be gone with it.
    """
    if not new or any(certificate.user_ids for certificate in new):
        return new
    return (*new, *[copy for copy in old if copy.user_ids][:1])


def only_revoked(certificates: tuple[Certificate, ...]) -> tuple[Certificate, ...]:
    """Of each certificate that holds a revocation of its key, whoever made it, the key and these alone.

    The judge finds no such certificate usable, whatever the revocation is worth: it can take a key back, and
    not bring one that is no longer given for an address into use again.
    """
    cut = ((certificate, _key_and_revocations(certificate.data)) for certificate in certificates)
    return tuple(replace(certificate, data=data, user_ids=()) for certificate, data in cut if data)


def _key_and_revocations(data: bytes) -> bytes:
    key, *others = packets.walk(data)
    kept = [each for each in others if each.tag == packets.SIGNATURE and _type(each.head) == _KEY_REVOCATION]
    return b"".join(data[each.start : each.end] for each in (key, *kept)) if kept else b""


def _oldest_first(old: tuple[Certificate, ...], fingerprints: set[str]) -> list[Certificate]:
    """Copies of these certificates, what was kept before (it stands behind what the source gave) first.

    An empty fingerprint (an unknown version) names nothing.
    """
    given: dict[str, Certificate] = {}
    kept = []
    for copy in old:
        if copy.fingerprint and copy.fingerprint in fingerprints:
            if copy.fingerprint in given:
                kept.append(copy)
            given.setdefault(copy.fingerprint, copy)
    return [*kept, *given.values()]


def _revocations(certificate: Certificate) -> list[bytes]:
    """The bodies of the revocation signatures, whoever made them."""
    return [
        packet.head
        for packet in packets.walk(certificate.data)
        if packet.tag == packets.SIGNATURE and _type(packet.head) in _REVOCATIONS
    ]


def _type(body: bytes) -> int:
    """The type of a signature: behind the version, and in version 3 behind a length (RFC 9580 §5.2.2)."""
    offset = 2 if body[:1] in {b"\x02", b"\x03"} else 1
    return body[offset] if len(body) > offset else -1


def parse(entry: CacheEntry) -> tuple[Certificate, ...]:
    """The certificates of an entry, given when it was answered.

    Raises:
        Malformed: what was stored is damaged.
    """
    return tuple(
        replace(certificate, fetched=entry.answered_at)
        for data in entry.certificates
        for certificate in packets.certificates(data, entry.source)
    )
