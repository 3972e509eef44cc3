"""Tests of `relay/lookup.py`."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.errors import (
    KeySourceDistrusted,
    KeySourceUnavailable,
    KeySourceUnreachable,
    StoreUnavailable,
)
from relay.lookup import KeyFinder, Listed
from relay.message import Address, Certificate, LookupResult, Verdict
from relay.pins import Pins
from relay.remembered import Pin, Trust
from relay.rule import Rule
from tests.fakes import FixedClock, ListJournal, PinsInMemory

BOB = Address("bob@example.com", "bob", "example.com")
OLD = Certificate(b"old", "A" * 40, ("bob@example.com",), "first")
NEW = Certificate(b"new", "B" * 40, ("bob@example.com",), "first")
OTHER = Certificate(b"other", "C" * 40, ("bob@example.com",), "second")
BAD = Certificate(b"bad", "D" * 40, ("bob@example.com",), "first")
CREATED = {OLD.fingerprint: 2020, NEW.fingerprint: 2025, OTHER.fingerprint: 2026, BAD.fingerprint: 2026}
BOTH = Rule("policy.default", keys=("first", "second"))


class Source:
    """A key source that answers what it was given, or is down."""

    def __init__(
        self, name: str, *certificates: Certificate, down: bool = False, text: str = "connection refused"
    ) -> None:
        self.name = name
        self.asked = 0
        self._certificates = certificates
        self.down = down
        self._text = text

    async def find(self, address: Address) -> list[Certificate]:
        self.asked += 1
        if self.down:
            raise KeySourceUnreachable(self._text)
        return list(self._certificates)

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        return [entry for entry in await self.find(BOB) if entry.fingerprint == fingerprint]


class Judge:
    """Everything is usable but `BAD` and what stands beside a copy that ends in `!`, which revokes it.

    `overlooked` are fingerprints of certificates that are too many; `slow` judgements do not end.
    """

    def __init__(self) -> None:
        self.address: Address | None = BOB
        self.overlooked: set[str] = set()
        self.slow: threading.Event | None = None

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        self.address = address
        if self.slow:
            self.slow.wait()
        distinct = {entry.fingerprint: entry for entry in reversed(certificates)}
        bad = {entry.fingerprint for entry in certificates if entry == BAD or entry.data.endswith(b"!")}
        bad |= self.overlooked
        return [
            Verdict(
                entry,
                entry.fingerprint not in bad,
                "usable" if entry.fingerprint not in bad else "revoked",
                created=datetime(CREATED[entry.fingerprint], 1, 1, tzinfo=UTC),
                overlooked=entry.fingerprint in self.overlooked,
            )
            for entry in distinct.values()
        ]

    def remembers(self, certificates: list[Certificate], address: Address | None, now: datetime) -> bool:
        return self.slow is None

    def certifies(
        self, old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()
    ) -> bool:
        return False

    def revocations(self, copies: Sequence[bytes]) -> bytes:
        return next((copy for copy in copies if copy.endswith(b"!")), b"")


def _finder(*sources: Source, clock: FixedClock | None = None) -> KeyFinder:
    return KeyFinder({source.name: Listed(source) for source in sources}, Judge(), clock or FixedClock())


async def test_find_prefers_the_earlier_source_then_the_newest_primary() -> None:
    """The order of trust decides first, then the creation time."""
    finder = _finder(Source("first", OLD, NEW), Source("second", OTHER))

    lookup = await finder.find(BOB, BOTH)

    assert LookupResult.USABLE is lookup.result
    assert [NEW] == [verdict.certificate for verdict in lookup.chosen]
    assert 3 == len(lookup.verdicts)


async def test_find_goes_on_past_an_unusable_certificate() -> None:
    """A revoked certificate in the first source does not hide the good one in the second."""
    lookup = await _finder(Source("first", BAD), Source("second", OTHER)).find(BOB, BOTH)

    assert [OTHER] == [verdict.certificate for verdict in lookup.chosen]


async def test_find_nothing_anywhere_is_none() -> None:
    """None needs every source of the rule to have answered."""
    lookup = await _finder(Source("first"), Source("second")).find(BOB, BOTH)

    assert LookupResult.NONE is lookup.result
    assert [("first", 0), ("second", 0)] == [(answer.source, answer.found) for answer in lookup.answers]


async def test_find_only_unusable_is_unusable_with_the_verdict() -> None:
    """What was found and may not be used is not "none"."""
    lookup = await _finder(Source("first", BAD), Source("second")).find(BOB, BOTH)

    assert (LookupResult.UNUSABLE, "revoked") == (lookup.result, lookup.sentence)


@pytest.mark.parametrize("position", ["first", "second"])
async def test_find_with_any_source_down_is_unavailable(position: str) -> None:
    """An outage never changes with which key a message is encrypted, wherever the source stands."""
    first = Source("first", NEW, down=position == "first")
    second = Source("second", OTHER, down=position == "second")

    lookup = await _finder(first, second).find(BOB, BOTH)

    assert (LookupResult.UNAVAILABLE, (), position) == (lookup.result, lookup.chosen, lookup.failed_source)


async def test_find_stops_at_the_source_that_is_down() -> None:
    """The sources behind an unavailable one are not asked."""
    second = Source("second", OTHER)

    await _finder(Source("first", down=True), second).find(BOB, BOTH)

    assert 0 == second.asked


async def test_find_with_an_unknown_source_name_is_unavailable() -> None:
    """A dangling name is never "no key"."""
    lookup = await _finder().find(BOB, BOTH)

    assert LookupResult.UNAVAILABLE is lookup.result


async def test_find_counts_how_long_an_address_fails() -> None:
    """The time runs from the first failure and starts again after an answer."""
    clock = FixedClock()
    source = Source("first", down=True)
    finder = _finder(source, clock=clock)
    rule = Rule("policy.default", keys=("first",))
    failing = []
    for source.down in (True, True, False, True):
        failing.append((await finder.find(BOB, rule)).failing_seconds)
        clock.advance(60)

    assert [0, 60, 0, 0] == failing


async def test_find_after_a_long_silence_counts_another_outage() -> None:
    """An outage that nobody saw the end of is not the beginning of the next one, weeks later."""
    clock = FixedClock()
    finder = _finder(Source("first", down=True), clock=clock)
    rule = Rule("policy.default", keys=("first",))
    failing = []
    for pause_seconds in (0, 4 * 3600, 30 * 86_400):
        clock.advance(pause_seconds)
        failing.append((await finder.find(BOB, rule)).failing_seconds)

    assert [0, 4 * 3600, 0] == failing


async def test_find_by_hand_skips_the_user_id_and_wants_all() -> None:
    """Named certificates are all used, whoever they name."""
    judge = Judge()
    sources = {"first": Listed(Source("first", OLD, NEW)), "second": Listed(Source("second", OTHER))}
    finder = KeyFinder(sources, judge, FixedClock())
    rule = Rule("r", keys=("first", "second"), certificates=(NEW.fingerprint, OTHER.fingerprint))

    lookup = await finder.find(BOB, rule)

    assert judge.address is None
    assert {NEW, OTHER} == {verdict.certificate for verdict in lookup.chosen}


@pytest.mark.parametrize("wanted", [BAD.fingerprint, "E" * 40])
async def test_find_by_hand_with_one_bad_or_missing_is_unusable(wanted: str) -> None:
    """A certificate that the admin named and that is missing is never "no key"."""
    finder = _finder(Source("first", NEW, BAD), Source("second"))
    rule = Rule("r", keys=("first", "second"), certificates=(NEW.fingerprint, wanted))

    lookup = await finder.find(BOB, rule)

    assert (LookupResult.UNUSABLE, ()) == (lookup.result, lookup.chosen)


async def test_find_with_a_source_that_fails_without_a_word_names_it() -> None:
    """An exception without text is a failure all the same, and the reply names the source."""
    lookup = await _finder(Source("first", down=True, text=""), Source("second")).find(BOB, BOTH)

    assert (LookupResult.UNAVAILABLE, "first") == (lookup.result, lookup.failed_source)


@pytest.mark.parametrize("order", [(BAD, OTHER), (OTHER, BAD)])
async def test_find_chooses_the_same_of_two_equals_in_any_order(order: tuple[Certificate, ...]) -> None:
    """Where source and age are equal the fingerprint decides, so that a restart changes nothing."""
    equals = [Certificate(entry.data, entry.fingerprint, (), "first") for entry in order]
    finder = KeyFinder({"first": Listed(Source("first", *equals))}, LaxJudge(), FixedClock())

    lookup = await finder.find(BOB, Rule("policy.default", keys=("first",)))

    assert [OTHER.fingerprint] == [verdict.certificate.fingerprint for verdict in lookup.chosen]


class LaxJudge(Judge):
    """Everything is usable."""

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        return [replace(verdict, usable=True) for verdict in super().judge(certificates, address, now)]


async def test_find_goes_on_counting_after_a_reload() -> None:
    """A reload makes a new finder; the patience of a rule does not start again."""
    clock = FixedClock()
    shared: OrderedDict[str, float] = OrderedDict()
    for expected in (0, 60):
        finder = KeyFinder({"first": Listed(Source("first", down=True))}, Judge(), clock, shared)
        lookup = await finder.find(BOB, Rule("policy.default", keys=("first",)))
        clock.advance(60)

        assert expected == lookup.failing_seconds


async def test_find_forgets_the_oldest_outage_first() -> None:
    """The table of outages is bounded; forgetting only defers an address for longer."""
    clock = FixedClock()
    finder = _finder(Source("first", down=True), clock=clock)
    rule = Rule("policy.default", keys=("first",))
    addresses = [Address(f"{n}@example.com", str(n), "example.com") for n in range(10_001)]
    for address in addresses:
        await finder.find(address, rule)
    clock.advance(60)

    last = (await finder.find(addresses[-1], rule)).failing_seconds
    first = (await finder.find(addresses[0], rule)).failing_seconds

    assert (0, 60, 10_000) == (first, last, len(finder.failing_since))


# --------------------------------------------------------------------------- sources outside of this machine


class Remote(Source):
    """A source outside of this machine (`relay.seams.CachedSource`), with what it said before."""

    def __init__(
        self, name: str, *certificates: Certificate, known: tuple[Certificate, ...] = (), down: bool = False
    ) -> None:
        super().__init__(name, *certificates, down=down)
        self._known = known
        self.wait: asyncio.Event | None = None

    async def find(self, address: Address) -> list[Certificate]:
        if self.wait:
            await self.wait.wait()
        return await super().find(address)

    async def recall(self, address: Address) -> list[Certificate]:
        return list(self._known)

    async def asked_at(self, address: Address) -> datetime | None:
        return CREATED_AT

    async def refresh(self, address: Address) -> list[Certificate]:
        return await self.find(address)


CREATED_AT = datetime(2026, 6, 1, tzinfo=UTC)


def _remote_finder(
    local: Source, remote: Remote, *, trust: Trust = Trust.WKD, lenient: bool = False, seen: bool = False
) -> KeyFinder:
    listed = {local.name: Listed(local), remote.name: Listed(remote, trust, remote, lenient)}
    book = PinsInMemory()
    if seen:
        book.seen.add(BOB.key)
    judge = Judge()
    pins = Pins(book, judge, FixedClock(), ListJournal())
    return KeyFinder(listed, judge, FixedClock(), pins=pins)


async def test_find_with_a_local_key_asks_nobody_outside() -> None:
    """Who is written to is nobody's business, and an outage that does not matter stops no mail."""
    remote = Remote("second", OTHER, down=True)

    lookup = await _remote_finder(Source("first", NEW), remote).find(BOB, BOTH)

    assert ([NEW], 0) == ([verdict.certificate for verdict in lookup.chosen], remote.asked)
    assert [True, False] == [answer.asked for answer in lookup.answers]


async def test_find_with_a_local_key_still_counts_what_a_remote_source_said() -> None:
    """A revocation that was seen once counts, and then somebody has to be asked after all."""
    revoked = replace(NEW, source="second", data=b"new, revoked!")
    remote = Remote("second", OTHER, known=(revoked,))
    finder = _remote_finder(Source("first", NEW), remote)

    lookup = await finder.find(BOB, BOTH)

    assert ([OTHER], 1) == ([verdict.certificate for verdict in lookup.chosen], remote.asked)
    assert ["revoked", "usable"] == [verdict.sentence for verdict in lookup.verdicts]


async def test_find_takes_no_recommendation_from_what_was_said_before() -> None:
    """An old answer, perhaps past its lifetime, neither offers a key nor lends its trust to one."""
    remote = Remote("second", known=(OTHER, replace(OLD, source="second")))
    finder = _remote_finder(Source("first", OLD), remote, trust=Trust.DNSSEC)

    lookup = await finder.find(BOB, BOTH)

    assert [OLD] == [verdict.certificate for verdict in lookup.verdicts]
    assert {OLD.fingerprint: Trust.MANUAL} == lookup.trusts


async def test_find_asks_for_the_pinned_key_before_another_takes_its_place() -> None:
    """The pinned key may still stand in a source that had no need to be asked."""
    first, second = Remote("first", NEW), Remote("second", OTHER, known=(OTHER,))
    listed = {"first": Listed(first, Trust.WKD, first), "second": Listed(second, Trust.WKD, second)}
    book = PinsInMemory()
    book.pins[BOB.key] = Pin(BOB.key, OTHER.fingerprint, "second", Trust.WKD, OTHER.data, CREATED_AT)
    finder = KeyFinder(listed, Judge(), FixedClock(), pins=Pins(book, Judge(), FixedClock(), ListJournal()))

    lookup = await finder.find(BOB, BOTH)

    assert ([OTHER], 1) == ([verdict.certificate for verdict in lookup.chosen], second.asked)


@pytest.mark.parametrize("failure", [KeySourceUnavailable, StoreUnavailable, KeySourceDistrusted])
async def test_find_waives_nothing_but_an_unreachable_server(failure: type[KeySourceUnavailable]) -> None:
    """An answer that cannot be used, a bug, and a store that fails are not "the server is away"."""

    class Failing(Remote):
        async def find(self, address: Address) -> list[Certificate]:
            raise failure("something else")

    lookup = await _remote_finder(Source("first"), Failing("second"), lenient=True).find(BOB, BOTH)

    assert LookupResult.UNAVAILABLE is lookup.result


async def test_find_waives_nothing_because_the_time_of_the_message_is_over() -> None:
    """A slow server is not known to be away."""
    remote = Remote("second")
    remote.wait = asyncio.Event()

    lookup = await _remote_finder(Source("first"), remote, lenient=True).find(BOB, BOTH, seconds=0.0)

    assert LookupResult.UNAVAILABLE is lookup.result


async def test_find_of_a_certificate_that_was_not_looked_at_cannot_tell() -> None:
    """Whoever uploads many keys for somebody hides the good one, and must not make it "unusable"."""
    judge = Judge()
    judge.overlooked.add(OTHER.fingerprint)
    finder = KeyFinder(
        {"first": Listed(Source("first", BAD, replace(OTHER, source="first")))}, judge, FixedClock()
    )

    lookup = await finder.find(BOB, Rule("policy.default", keys=("first",)))

    assert (LookupResult.UNAVAILABLE, "first") == (lookup.result, lookup.failed_source)


async def test_find_takes_no_longer_than_it_may_to_judge() -> None:
    """Certificates of strangers are judged within the time of the lookup as well."""
    judge, remote = Judge(), Remote("second", replace(OTHER, fetched=CREATED_AT))
    judge.slow = threading.Event()
    listed = {"first": Listed(Source("first")), "second": Listed(remote, Trust.WKD, remote)}

    lookup = await KeyFinder(listed, judge, FixedClock()).find(BOB, BOTH, seconds=0.05)
    judge.slow.set()

    assert (LookupResult.UNAVAILABLE, "second") == (lookup.result, lookup.failed_source)


@pytest.mark.parametrize("local", [(), (BAD,)])
async def test_find_without_a_usable_local_key_asks_outside(local: tuple[Certificate, ...]) -> None:
    """The search goes on past nothing, and past what may not be used."""
    lookup = await _remote_finder(Source("first", *local), Remote("second", OTHER)).find(BOB, BOTH)

    assert [OTHER] == [verdict.certificate for verdict in lookup.chosen]


async def test_find_with_a_local_source_behind_a_usable_key_reads_it() -> None:
    """The administrator's own files are always read, and must be readable."""
    local = Source("second", down=True)
    remote = Remote("first", NEW)
    listed = {"first": Listed(remote, Trust.WKD, remote), "second": Listed(local)}

    lookup = await KeyFinder(listed, Judge(), FixedClock()).find(BOB, BOTH)

    assert LookupResult.UNAVAILABLE is lookup.result


async def test_find_takes_no_longer_than_it_may() -> None:
    """A source that does not answer in time is unavailable, and is named."""
    remote = Remote("second", OTHER)
    remote.wait = asyncio.Event()

    lookup = await _remote_finder(Source("first"), remote).find(BOB, BOTH, seconds=0.0)

    assert (LookupResult.UNAVAILABLE, "second") == (lookup.result, lookup.failed_source)


async def test_find_without_time_left_still_uses_what_is_at_hand() -> None:
    """An answer that needs no waiting is not refused for the time that others took."""
    lookup = await _remote_finder(Source("first"), Remote("second", OTHER)).find(BOB, BOTH, seconds=0.0)

    assert LookupResult.USABLE is lookup.result


@pytest.mark.parametrize(
    ("lenient", "seen", "result"),
    [
        (False, False, LookupResult.UNAVAILABLE),
        (True, True, LookupResult.UNAVAILABLE),
        (True, False, LookupResult.NONE),
    ],
)
async def test_find_with_a_remote_source_down_is_none_only_where_waived(
    lenient: bool, seen: bool, result: LookupResult
) -> None:
    """`unreachable_means: none` is for addresses never seen with a key, and shows in the answer."""
    finder = _remote_finder(Source("first"), Remote("second", down=True), lenient=lenient, seen=seen)

    lookup = await finder.find(BOB, BOTH)

    assert result is lookup.result
    assert (result is LookupResult.NONE) == bool(lookup.answers[-1].waived)


@pytest.mark.parametrize(
    ("demanded", "result"), [(Trust.WKD, LookupResult.USABLE), (Trust.DNSSEC, LookupResult.UNUSABLE)]
)
async def test_find_below_the_demanded_trust_is_unusable(demanded: Trust, result: LookupResult) -> None:
    """A key from a lesser source is not used, and is not "no key" either."""
    rule = replace(BOTH, min_trust=demanded)

    lookup = await _remote_finder(Source("first"), Remote("second", OTHER)).find(BOB, rule)

    assert result is lookup.result
    assert (result is LookupResult.UNUSABLE) == ("trust wkd" in lookup.sentence)


async def test_find_of_all_certificates_by_hand_asks_outside_for_the_missing_one() -> None:
    """One of two at hand is not enough."""
    remote = Remote("second", OTHER)
    rule = replace(BOTH, certificates=(NEW.fingerprint, OTHER.fingerprint))

    lookup = await _remote_finder(Source("first", NEW), remote).find(BOB, rule)

    assert (LookupResult.USABLE, {NEW, OTHER}) == (
        lookup.result,
        {verdict.certificate for verdict in lookup.chosen},
    )


async def test_find_of_a_usable_certificate_among_those_not_looked_at_uses_it() -> None:
    """What nobody knows does not stop what is known to be good."""
    judge = Judge()
    judge.overlooked.add(OLD.fingerprint)
    finder = KeyFinder({"first": Listed(Source("first", NEW, OLD))}, judge, FixedClock())

    lookup = await finder.find(BOB, Rule("policy.default", keys=("first",)))

    assert [NEW] == [verdict.certificate for verdict in lookup.chosen]


async def test_find_of_a_copy_in_a_lesser_source_keeps_the_better_trust() -> None:
    """The order in which sources answer does not lower what one of them proved."""
    local, remote = Source("first", NEW), Remote("second", replace(NEW, source="second"))
    listed = {"first": Listed(local), "second": Listed(remote, Trust.LEARNED, remote)}
    judge = Judge()
    judge.overlooked.add(NEW.fingerprint)  # so that the second source is asked as well

    lookup = await KeyFinder(listed, judge, FixedClock()).find(BOB, BOTH)

    assert {NEW.fingerprint: Trust.MANUAL} == lookup.trusts


async def test_find_trusts_a_certificate_as_its_best_source() -> None:
    """The same key in the administrator's folder and on the web is the administrator's."""
    remote = Remote("first", NEW)
    copy = replace(NEW, source="second")
    listed = {"first": Listed(remote, Trust.WKD, remote), "second": Listed(Source("second", copy))}

    lookup = await KeyFinder(listed, Judge(), FixedClock()).find(BOB, replace(BOTH, min_trust=Trust.MANUAL))

    assert LookupResult.USABLE is lookup.result


async def test_find_while_explaining_tells_when_a_source_was_asked() -> None:
    """`relay explain` shows the age of an answer; local files have none."""
    finder = _remote_finder(Source("first"), Remote("second", OTHER))

    lookup = await finder.find(BOB, BOTH, explaining=True)

    assert [None, CREATED_AT] == [answer.asked_at for answer in lookup.answers]


async def test_find_by_hand_asks_outside_only_for_what_is_missing() -> None:
    """Certificates that the folder has are not looked for elsewhere."""
    remote = Remote("second", OTHER)
    finder = _remote_finder(Source("first", NEW), remote)

    await finder.find(BOB, replace(BOTH, certificates=(NEW.fingerprint,)))
    complete = remote.asked
    await finder.find(BOB, replace(BOTH, certificates=(NEW.fingerprint, OTHER.fingerprint)))

    assert (0, 2) == (complete, remote.asked)


class Revoking(Judge):
    """A certificate is not usable if one of its copies is revoked, as when copies are merged."""

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        revoked = {entry.fingerprint for entry in certificates if entry.data == b"revoked"}
        return [
            replace(verdict, usable=False) if verdict.certificate.fingerprint in revoked else verdict
            for verdict in super().judge(certificates, address, now)
        ]


@pytest.mark.parametrize(("now", "result"), [((OTHER,), LookupResult.USABLE), ((), LookupResult.UNUSABLE)])
async def test_find_with_a_local_key_that_was_revoked_elsewhere_asks_again(
    now: tuple[Certificate, ...], result: LookupResult
) -> None:
    """What a source said once revokes the local key; which key is used instead, it must say now."""
    revoked = Certificate(b"revoked", NEW.fingerprint, (), "second")
    forgotten = Certificate(b"gone", "F" * 40, (), "second")
    remote = Remote("second", *now, known=(revoked, forgotten))
    listed = {"first": Listed(Source("first", NEW)), "second": Listed(remote, Trust.WKD, remote)}
    CREATED["F" * 40] = 2026

    lookup = await KeyFinder(listed, Revoking(), FixedClock()).find(BOB, BOTH)

    assert (result, 1) == (lookup.result, remote.asked)
    assert list(now) == [verdict.certificate for verdict in lookup.chosen]
    assert ["first", "second"] == [answer.source for answer in lookup.answers]
