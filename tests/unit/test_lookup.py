"""Tests of `relay/lookup.py`."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.errors import KeySourceUnavailable
from relay.lookup import KeyFinder
from relay.message import Address, Certificate, LookupResult, Rule, Verdict
from tests.fakes import FixedClock

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
            raise KeySourceUnavailable(self._text)
        return list(self._certificates)

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        return [entry for entry in await self.find(BOB) if entry.fingerprint == fingerprint]


class Judge:
    """Everything is usable but `BAD`; remembers which address it was asked for."""

    def __init__(self) -> None:
        self.address: Address | None = BOB

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        self.address = address
        distinct = {entry.fingerprint: entry for entry in reversed(certificates)}
        return [
            Verdict(
                entry,
                entry != BAD,
                "usable" if entry != BAD else "revoked",
                created=datetime(CREATED[entry.fingerprint], 1, 1, tzinfo=UTC),
            )
            for entry in distinct.values()
        ]


def _finder(*sources: Source, clock: FixedClock | None = None) -> KeyFinder:
    return KeyFinder({source.name: source for source in sources}, Judge(), clock or FixedClock())


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
    sources = {"first": Source("first", OLD, NEW), "second": Source("second", OTHER)}
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
    finder = KeyFinder({"first": Source("first", *equals)}, LaxJudge(), FixedClock())

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
        finder = KeyFinder({"first": Source("first", down=True)}, Judge(), clock, shared)
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
