"""The rules of kept answers: times, back-off, distrust, revocations that a source leaves out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceDistrusted, KeySourceUnavailable, KeySourceUnreachable
from relay.keys import entries
from relay.keys.entries import CacheTimes, Question, with_revocations
from relay.message import Certificate
from relay.mime.packets import Malformed
from relay.remembered import CacheEntry
from tests.forge import Owner
from tests.keys import certificate

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY, HOUR = 86_400, 3600
TIMES = CacheTimes()
BOB = Question("wkd", "bob@example.com", parse_mailbox("bob@example.com"))
DOWN = KeySourceUnavailable("down")


def _lifetime(
    *,
    positive: bool = True,
    max_age_seconds: int | None = None,
    expires_seconds: float | None = None,
    spread: float = 1.0,
    times: CacheTimes = TIMES,
) -> tuple[float, float]:
    return entries.lifetime(
        times,
        positive=positive,
        max_age_seconds=max_age_seconds,
        expires_seconds=expires_seconds,
        spread=spread,
    )


def _entry(*certificates: Certificate, fresh: float = DAY, usable: float = 8 * DAY) -> CacheEntry:
    return entries.answered(BOB, certificates, NOW, (fresh, usable), None)


def _failed(
    old: CacheEntry | None, exc: KeySourceUnavailable = DOWN, after: float = 0, times: CacheTimes = TIMES
) -> CacheEntry:
    return entries.failed(BOB, old, exc, NOW + timedelta(seconds=after), times)


def _wait(entry: CacheEntry, after: float = 0) -> float:
    return (entry.fresh_until - NOW).total_seconds() - after


# --------------------------------------------------------------------------- times


def test_lifetime_positive_may_be_stale() -> None:
    """A key is fresh for a day and serves a week longer while the source is down."""
    assert (DAY, 8 * DAY) == _lifetime()


def test_lifetime_negative_is_never_stale() -> None:
    """An outage must not prolong "there is no key"."""
    assert (HOUR, HOUR) == _lifetime(positive=False)


@pytest.mark.parametrize(("positive", "expected"), [(True, (300, 300)), (False, (300, 300))])
def test_lifetime_with_a_maximum_ends_there(positive: bool, expected: tuple[float, float]) -> None:
    """What names its own lifetime serves no second longer (RFC 7929 §7.1)."""
    assert expected == _lifetime(positive=positive, max_age_seconds=300, spread=1.1)


def test_lifetime_with_a_long_maximum_is_as_configured() -> None:
    """A maximum only shortens; even so the answer is never stale."""
    assert (DAY, DAY) == _lifetime(max_age_seconds=30 * DAY)
    assert (0, 0) == _lifetime(max_age_seconds=-1)


def test_lifetime_is_spread() -> None:
    """What was asked together is not refreshed together."""
    assert (0.9 * DAY, 0.9 * DAY + 7 * DAY) == _lifetime(spread=0.9)


@pytest.mark.parametrize(
    ("expires_seconds", "expected"),
    [(None, 30 * DAY), (90 * DAY, 30 * DAY), (20 * DAY, 13 * DAY), (5 * DAY, DAY), (-DAY, DAY)],
)
def test_lifetime_of_a_key_that_expires_is_daily_near_its_end(
    expires_seconds: float | None, expected: float
) -> None:
    """Within the last seven days, and after them, the owner's extension is looked for every day."""
    times = replace(TIMES, keep_seconds=30 * DAY)

    assert expected == _lifetime(expires_seconds=expires_seconds, times=times)[0]


def test_is_half_over_at_the_half() -> None:
    """Half of the time between answer and end."""
    entry = _entry(certificate("rsa2048"))

    assert not entries.is_half_over(entry, NOW + timedelta(seconds=DAY / 2 - 1))
    assert entries.is_half_over(entry, NOW + timedelta(seconds=DAY / 2))
    assert not entries.is_half_over(_failed(None), NOW + timedelta(days=9))


# --------------------------------------------------------------------------- failures


def test_failed_keeps_what_was_known() -> None:
    """The certificates, when they were given and until when they may serve."""
    old = replace(_entry(certificate("rsa2048")), used_at=NOW)
    entry = _failed(old, after=2 * DAY)

    assert "down" == entry.failure
    assert old == replace(entry, failure="", failures=0, fresh_until=old.fresh_until)


def test_failed_backs_off_twice_as_long_each_time() -> None:
    """A minute, two, four, up to an hour."""
    entry, waits = _failed(None), []
    for _ in range(8):
        waits.append(_wait(entry))
        entry = _failed(replace(entry, fresh_until=NOW))

    assert [60, 120, 240, 480, 960, 1920, 3600, 3600] == waits
    assert 9 == entry.failures


def test_failed_very_often_still_waits_an_hour() -> None:
    """A number of failures without bound does not become a number without bound."""
    assert HOUR == _wait(_failed(replace(_failed(None), failures=10**6)))


def test_failed_with_a_longer_configured_wait_keeps_it() -> None:
    """The bound does not shorten what the administrator set."""
    assert 2 * HOUR == _wait(_failed(None, times=replace(TIMES, retry_failed_seconds=2 * HOUR)))


@pytest.mark.parametrize(("asked", "expected"), [(10.0, 60), (7200.0, 7200), (1e9, DAY)])
def test_failed_heeds_retry_after_up_to_a_day(asked: float, expected: float) -> None:
    """What a source asks for counts where it is longer than ours."""
    assert expected == _wait(_failed(None, KeySourceUnavailable("429", retry_after_seconds=asked)))


def test_failed_while_fresh_stays_fresh() -> None:
    """A refresh in the background that fails takes nothing away."""
    old = _entry(certificate("rsa2048"))

    assert old.fresh_until == _failed(old, after=HOUR).fresh_until


def test_failed_after_a_clock_that_was_ahead_waits_and_ends() -> None:
    """An answer of "next year" neither makes every message ask nor serves for a year."""
    old = _entry(certificate("rsa2048"), fresh=365 * DAY, usable=372 * DAY)
    entry = _failed(old)

    assert 60 == _wait(entry)
    assert entry.usable_until <= NOW + timedelta(days=9)


def test_failed_that_is_unreachable_says_so_after_a_restart() -> None:
    """`unreachable_means` is for servers that are away; what else another host said cannot look like that."""
    away = _failed(None, KeySourceUnreachable("down"))
    other = _failed(None, KeySourceUnavailable("unreachable: down"))

    kinds = [type(entries.error(each)) for each in (away, other)]
    assert [KeySourceUnreachable, KeySourceUnavailable] == kinds
    assert ["unreachable: down", "failed: unreachable: down"] == [away.failure, other.failure]


def test_failed_text_is_bounded_and_printable() -> None:
    """What another host said does not break lines nor fill a column; an empty text names the class."""
    assert "a?b" == _failed(None, KeySourceUnavailable("a\nb")).failure
    assert 300 == len(_failed(None, KeySourceUnavailable("x" * 1000)).failure)
    assert "KeySourceUnavailable" == _failed(None, KeySourceUnavailable()).failure


# --------------------------------------------------------------------------- what may be served


def _refused(entry: CacheEntry, after: float) -> str:
    error = entries.refusal(entry, NOW + timedelta(seconds=after))
    return "" if error is None else f"{type(error).__name__}: {error}"


def test_refusal_of_a_positive_answer_begins_when_it_is_too_old() -> None:
    """Stale-if-error, within its limit."""
    entry = _failed(_entry(certificate("rsa2048")), after=2 * DAY)

    assert "" == _refused(entry, 8 * DAY - 1)
    assert "KeySourceUnavailable: down" == _refused(entry, 8 * DAY)


def test_refusal_of_a_negative_answer_begins_with_its_end() -> None:
    """An outage is never "no key"."""
    entry = _failed(_entry(fresh=HOUR, usable=HOUR), after=HOUR)

    assert "" == _refused(entry, HOUR - 1)
    assert "KeySourceUnavailable: down" == _refused(entry, HOUR)


def test_refusal_where_nothing_was_ever_answered() -> None:
    """A failure alone is no answer."""
    assert "KeySourceUnavailable: down" == _refused(_failed(None), 0)


def test_refusal_of_distrust_ends_with_an_answer_alone() -> None:
    """Bogus answers, then silence, do not bring the old keys back (RFC 7929 §7.1)."""
    entry = _failed(_entry(certificate("rsa2048")), KeySourceDistrusted("bogus"))
    later = _failed(entry, KeySourceUnavailable("timeout"))

    assert "KeySourceDistrusted: distrusted: bogus" == _refused(entry, 0)
    assert "KeySourceDistrusted: distrusted: timeout" == _refused(later, 0)
    assert 60 == _wait(entry)
    assert KeySourceDistrusted is type(entries.error(later))


def test_refusal_does_not_take_a_stranger_for_our_mark() -> None:
    """A text that begins like distrust does not become one."""
    entry = _failed(_entry(certificate("rsa2048")), KeySourceUnavailable("distrusted: ha"), after=2 * DAY)

    assert not entries.is_distrusted(entry)
    assert "failed: distrusted: ha" == entry.failure


# --------------------------------------------------------------------------- revocations

BEFORE, REVOKED = certificate("revoked-primary-before", "wkd"), certificate("revoked-primary", "wkd")


@pytest.mark.parametrize("kind", [0x20, 0x28, 0x30])
def test_with_revocations_keeps_each_kind(kind: int) -> None:
    """Revocations of the key, of a subkey and of a certification are not forgotten."""
    owner = Owner("bob")
    target = {0x20: b"", 0x28: owner.subkey(), 0x30: owner.user_id}[kind]
    clean = _made(owner, owner.start() + owner.bind())
    revoked = _made(owner, owner.start() + owner.bind() + owner.sign(kind, target))

    assert (clean, revoked) == with_revocations((clean,), (revoked,))


def _made(owner: Owner, data: bytes) -> Certificate:
    return Certificate(data, owner.fingerprint, (), "wkd")


def test_with_revocations_keeps_no_copy_that_adds_none() -> None:
    """Neither ordinary older copies nor those whose revocations the source still gives."""
    assert (REVOKED,) == with_revocations((REVOKED,), (BEFORE,))
    assert (REVOKED,) == with_revocations((REVOKED,), (REVOKED,))
    assert (BEFORE,) == with_revocations((BEFORE,), (BEFORE,))


def test_with_revocations_keeps_nothing_of_other_certificates() -> None:
    """A certificate that the source no longer gives is gone, revoked or not."""
    other = certificate("rsa2048", "wkd")

    assert (other,) == with_revocations((other,), (REVOKED,))
    assert () == with_revocations((), (REVOKED,))


def test_with_revocations_does_not_mix_unknown_versions() -> None:
    """An empty fingerprint names nothing."""
    new, old = replace(BEFORE, fingerprint=""), replace(REVOKED, fingerprint="")

    assert (new,) == with_revocations((new,), (old,))


def test_with_revocations_keeps_it_over_many_refreshes() -> None:
    """A copy that was kept once is kept again, without growing."""
    kept: tuple[Certificate, ...] = (REVOKED,)
    for _ in range(5):
        kept = with_revocations((BEFORE,), kept)

    assert (BEFORE, REVOKED) == kept


def test_with_revocations_of_a_flood_keeps_the_first() -> None:
    """Whoever varies the revocations pushes out none that was seen before, and fills no memory."""
    owner = Owner("bob")
    clean = _made(owner, owner.start())
    variants = [_made(owner, owner.start() + owner.sign(0x20, on=owner.created + n)) for n in range(6)]
    kept: tuple[Certificate, ...] = (clean,)
    for variant in variants:
        kept = with_revocations((variant,), kept)
    kept = with_revocations((clean,), kept)

    assert (clean, *variants[:3]) == kept


def test_with_revocations_reads_version_3() -> None:
    """Its type stands behind a length (RFC 9580 §5.2.2)."""
    body = bytes([3, 5, 0x20]) + bytes(16)
    old = replace(BEFORE, data=BEFORE.data + bytes([0xC2, len(body)]) + body)

    assert (BEFORE, old) == with_revocations((BEFORE,), (old,))


def test_with_revocations_of_an_empty_signature_is_harmless() -> None:
    """A signature packet without a body has no type."""
    old = replace(BEFORE, data=BEFORE.data + bytes([0xC2, 0]))

    assert (BEFORE,) == with_revocations((BEFORE,), (old,))


# --------------------------------------------------------------------------- entries and questions


def test_parse_gives_back_what_was_kept() -> None:
    """An entry brings its certificates back, dated by the answer."""
    found = entries.parse(_entry(BEFORE, REVOKED))

    assert (BEFORE, REVOKED) == found
    assert [NOW, NOW] == [one.fetched for one in found]


def test_parse_of_damage_raises() -> None:
    """What cannot be read is no answer."""
    with pytest.raises(Malformed):
        entries.parse(replace(_entry(), certificates=(b"garbage",)))


@pytest.mark.parametrize("text", ["bob@example.com", '"b ob"@example.com.', "bob@bücher.example"])
def test_question_of_an_entry_is_what_was_asked(text: str) -> None:
    """The address that was asked comes back from the text that was kept."""
    question = Question("wkd", "a key", parse_mailbox(text))
    entry = entries.answered(question, (), NOW, (1, 1), None)

    assert question == Question.of(entry)


def test_question_of_a_fingerprint_comes_back() -> None:
    """Questions for fingerprints are refreshed as such."""
    question = Question.about_fingerprint("wkd", "AB12")

    assert question == Question.of(entries.answered(question, (), NOW, (1, 1), None))
    assert ("fingerprint:AB12", "fingerprint:AB12") == (question.key, question.name)


def test_question_of_damage_is_unavailable() -> None:
    """A kept address that is none is a fault of the store, not "no key"."""
    with pytest.raises(KeySourceUnavailable, match="cannot be read"):
        Question.of(replace(_entry(), address="nobody"))
