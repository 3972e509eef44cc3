"""Tests of `relay/pins.py`, through the lookups that use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.lookup import KeyFinder, Listed
from relay.message import Address, Certificate, Lookup, LookupResult, PinConflict, Verdict
from relay.pins import MAX_REMEMBERED_OCTETS, Pins
from relay.remembered import PendingState, Pin, Trust
from relay.rule import KeyChange, Rule
from tests.fakes import FixedClock, ListJournal, PinsInMemory

BOB = Address("bob@example.com", "bob", "example.com")
RULE = Rule("policy.default", keys=("folder", "dns", "web"))
YEARS = {"A": 2020, "B": 2024, "C": 2026}


def _cert(letter: str, source: str = "web", data: bytes = b"") -> Certificate:
    return Certificate(data or letter.encode(), letter * 40, ("bob@example.com",), source)


OLD, NEW = _cert("A"), _cert("B")
REVOKED = _cert("A", data=b"A!")


class Source:
    """A source whose certificates the test changes (`relay.seams.CachedSource`)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.certificates: list[Certificate] = []

    async def find(self, address: Address) -> list[Certificate]:
        return self.certificates

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        return [entry for entry in self.certificates if entry.fingerprint == fingerprint]

    async def recall(self, address: Address) -> list[Certificate]:
        return self.certificates

    async def asked_at(self, address: Address) -> datetime | None:
        return datetime(2026, 6, 1, tzinfo=UTC)

    async def refresh(self, address: Address) -> list[Certificate]:
        return self.certificates


class Judge:
    """Everything is usable but what was `expired`, and keys of which a copy ends in `!`, which revokes them;
    `certified` holds pairs of old and new bytes."""

    def __init__(self) -> None:
        self.expired: set[str] = set()
        self.certified: set[tuple[bytes, bytes]] = set()

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        distinct = {entry.fingerprint: entry for entry in reversed(certificates)}
        revoked = {entry.fingerprint for entry in certificates if entry.data.endswith(b"!")}
        return [self._verdict(entry, entry.fingerprint in revoked) for entry in distinct.values()]

    def _verdict(self, entry: Certificate, is_revoked: bool) -> Verdict:
        created = datetime(YEARS[entry.fingerprint[0]], 1, 1, tzinfo=UTC)
        if is_revoked:
            return Verdict(entry, False, "revoked", created=created)
        if entry.fingerprint in self.expired:
            return Verdict(entry, False, "expired", created=created)
        return Verdict(entry, True, "usable", created=created)

    def remembers(self, certificates: list[Certificate], address: Address | None, now: datetime) -> bool:
        return True

    def certifies(
        self, old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()
    ) -> bool:
        return (old, new) in self.certified and not self.revocations([old, *copies])

    def revocations(self, copies: Sequence[bytes]) -> bytes:
        return next((copy for copy in sorted(copies) if copy.endswith(b"!")), b"")


class Desk:
    """A finder with a local folder, DNS and the web, and everything behind them."""

    def __init__(self) -> None:
        self.folder, self.dns, self.web = Source("folder"), Source("dns"), Source("web")
        self.judge, self.book, self.clock, self.journal = Judge(), PinsInMemory(), FixedClock(), ListJournal()
        self.pins = Pins(self.book, self.judge, self.clock, self.journal)
        listed = {
            "folder": Listed(self.folder),
            "dns": Listed(self.dns, Trust.DNSSEC, self.dns),
            "web": Listed(self.web, Trust.WKD, self.web),
        }
        self.finder = KeyFinder(listed, self.judge, self.clock, pins=self.pins)

    async def find(self, rule: Rule = RULE, *, explaining: bool = False) -> Lookup:
        return await self.finder.find(BOB, rule, explaining=explaining)

    @property
    def pinned(self) -> str:
        """First letter of the pinned fingerprint."""
        return self.book.pins[BOB.key].fingerprint[0] if BOB.key in self.book.pins else ""


@pytest.fixture
async def desk() -> Desk:
    """Where the old key was used once, found on the web."""
    desk = Desk()
    desk.web.certificates = [OLD]
    await desk.find()
    return desk


def _letters(lookup: Lookup) -> list[str]:
    return [verdict.certificate.fingerprint[0] for verdict in lookup.chosen]


# --------------------------------------------------------------------------- the first key


async def test_weigh_first_key_pins_it(desk: Desk) -> None:
    """What was used through a discovered source is remembered, with its source and trust."""
    pin = desk.book.pins[BOB.key]

    assert ("A" * 40, "web", Trust.WKD, b"A") == (pin.fingerprint, pin.source, pin.trust, pin.certificate)
    assert ["key_pinned"] == desk.journal.names()


async def test_weigh_while_explaining_pins_nothing() -> None:
    """Who asks what would happen does not change what will."""
    desk = Desk()
    desk.web.certificates = [OLD]

    lookup = await desk.find(explaining=True)

    assert (["A"], "") == (_letters(lookup), desk.pinned)


async def test_weigh_local_key_pins_nothing_and_wins() -> None:
    """The administrator's own files need no pin, and stand above one."""
    desk = Desk()
    desk.web.certificates = [OLD]
    await desk.find()
    desk.folder.certificates = [_cert("B", "folder")]

    lookup = await desk.find()

    assert (["B"], "A") == (_letters(lookup), desk.pinned)


async def test_weigh_same_key_needs_no_database(desk: Desk) -> None:
    """The usual message asks the memory only."""
    reads = desk.book.reads
    for _ in range(3):
        await desk.find()

    assert reads == desk.book.reads


async def test_weigh_same_key_with_new_packets_keeps_them(desk: Desk) -> None:
    """The pin holds the certificate as it was used last."""
    desk.web.certificates = [replace(OLD, data=b"A with a new subkey")]

    await desk.find()

    assert b"A with a new subkey" == desk.book.pins[BOB.key].certificate


async def test_weigh_same_key_in_a_better_source_raises_the_trust(desk: Desk) -> None:
    """Afterwards a source of the former trust cannot replace it by trust alone."""
    desk.dns.certificates = [_cert("A", "dns")]

    await desk.find()

    assert (Trust.DNSSEC, "dns") == (desk.book.pins[BOB.key].trust, desk.book.pins[BOB.key].source)


async def test_weigh_with_another_process_that_pinned_first_obeys_it(desk: Desk) -> None:
    """Two relays that meet an address at once agree on one key."""
    desk.web.certificates = [NEW]
    book = desk.book
    first = book.pins.pop(BOB.key)
    asked = book.pin_of

    async def too_late(address_key: str) -> None:
        await asked(address_key)
        book.pins[BOB.key] = first

    book.pin_of = too_late  # type: ignore[assignment,method-assign]

    lookup = await desk.find()

    assert (PinConflict.HELD, "A") == (lookup.conflict, desk.pinned)


# --------------------------------------------------------------------------- the key is gone


@pytest.mark.parametrize("rule", [RULE, Rule("other", keys=("folder",))])
async def test_weigh_missing_key_is_a_conflict_and_never_none(desk: Desk, rule: Rule) -> None:
    """A key that disappears is not "no key", whatever sources the rule names now."""
    desk.web.certificates = []

    lookup = await desk.find(rule)

    assert (LookupResult.UNUSABLE, PinConflict.MISSING) == (lookup.result, lookup.conflict)


async def test_weigh_missing_key_with_use_pin_is_used(desk: Desk) -> None:
    """`pinned_key_missing: use-pin` goes on with the key as it was."""
    desk.web.certificates = []

    lookup = await desk.find(replace(RULE, use_missing_pin=True))

    assert (LookupResult.USABLE, ["A"], None) == (lookup.result, _letters(lookup), lookup.conflict)


@pytest.mark.parametrize(
    "rule", [replace(RULE, use_missing_pin=True), replace(RULE, min_trust=Trust.DNSSEC, use_missing_pin=True)]
)
async def test_weigh_missing_key_that_may_not_be_used_is_a_conflict(desk: Desk, rule: Rule) -> None:
    """An expired pin, or one from a source that the rule does not trust, is no way out."""
    desk.web.certificates = []
    if rule.min_trust is Trust.LEARNED:
        desk.judge.expired.add(OLD.fingerprint)

    assert PinConflict.MISSING is (await desk.find(rule)).conflict


async def test_weigh_expired_key_is_unusable_with_its_verdict(desk: Desk) -> None:
    """The key is there: its own verdict says more than "gone"; the pin still forbids clear text."""
    desk.judge.expired.add(OLD.fingerprint)

    lookup = await desk.find()

    assert (LookupResult.UNUSABLE, None, "expired") == (lookup.result, lookup.conflict, lookup.sentence)
    assert lookup.pin is not None


async def test_weigh_with_the_store_down_is_unavailable(desk: Desk) -> None:
    """Whether there was a key before cannot be told: never "none"."""
    desk.web.certificates = []
    desk.book.down = True

    lookup = await desk.find()

    assert (LookupResult.UNAVAILABLE, "store") == (lookup.result, lookup.failed_source)


# --------------------------------------------------------------------------- another key


@pytest.mark.parametrize(
    ("change", "result", "conflict", "pinned"),
    [
        (KeyChange.ACCEPT, LookupResult.USABLE, None, "B"),
        (KeyChange.HOLD, LookupResult.UNUSABLE, PinConflict.HELD, "A"),
        (KeyChange.REFUSE, LookupResult.UNUSABLE, PinConflict.REFUSED, "A"),
    ],
)
async def test_weigh_another_key_does_as_the_rule_says(
    desk: Desk, change: KeyChange, result: LookupResult, conflict: PinConflict | None, pinned: str
) -> None:
    """Nothing changes without a word of the rule."""
    desk.web.certificates = [NEW]

    lookup = await desk.find(replace(RULE, key_change=change))

    assert (result, conflict, pinned) == (lookup.result, lookup.conflict, desk.pinned)
    event = {KeyChange.ACCEPT: "key_changed", KeyChange.HOLD: "key_change_held"}.get(
        change, "key_change_refused"
    )
    assert ["key_pinned", event] == desk.journal.names()
    assert ("B" * 40, "A" * 40) == tuple(
        desk.journal.events[-1][1][name] for name in ("certificate", "before")
    )


async def test_weigh_another_key_that_the_old_one_certified_is_accepted(desk: Desk) -> None:
    """RFC 7929 §5.2: the old key vouches for the new one."""
    desk.judge.certified = {(OLD.data, NEW.data)}
    desk.web.certificates = [NEW]

    lookup = await desk.find(replace(RULE, key_change=KeyChange.REFUSE))

    assert (["B"], "B") == (_letters(lookup), desk.pinned)


async def test_weigh_another_key_from_a_better_source_is_accepted(desk: Desk) -> None:
    """A signed zone knows better than a web server."""
    desk.dns.certificates = [_cert("C", "dns")]

    lookup = await desk.find(replace(RULE, key_change=KeyChange.REFUSE))

    assert (["C"], "C", Trust.DNSSEC) == (_letters(lookup), desk.pinned, desk.book.pins[BOB.key].trust)


async def test_weigh_another_key_from_a_lesser_source_is_held(desk: Desk) -> None:
    """Who controls the web server alone cannot replace what the signed zone said."""
    desk.dns.certificates = [_cert("C", "dns")]
    await desk.find()
    desk.dns.certificates = []
    desk.web.certificates = [NEW]

    assert PinConflict.HELD is (await desk.find()).conflict


async def test_weigh_old_and_new_key_side_by_side_stays_with_the_old(desk: Desk) -> None:
    """While the pinned key is still offered there is nothing to hold mail for."""
    desk.web.certificates = [OLD, NEW]

    for change in KeyChange:
        assert ["A"] == _letters(await desk.find(replace(RULE, key_change=change)))


async def test_weigh_new_key_beside_the_expired_old_one_is_held(desk: Desk) -> None:
    """Expiry is no reason to take any other key."""
    desk.judge.expired.add(OLD.fingerprint)
    desk.web.certificates = [OLD, NEW]

    lookup = await desk.find()

    assert (PinConflict.HELD, "B" * 40) == (lookup.conflict, lookup.contender)


async def test_weigh_change_while_another_process_changes_it_obeys_that(desk: Desk) -> None:
    """Between reading and replacing the pin somebody else put a third key there: ours waits."""
    theirs = replace(desk.book.pins[BOB.key], fingerprint="C" * 40, certificate=b"C")

    async def too_late(old_fingerprint: str, pin: Pin) -> Pin:
        return theirs

    desk.book.replace_pin = too_late  # type: ignore[method-assign]
    desk.web.certificates = [NEW]

    lookup = await desk.find(replace(RULE, key_change=KeyChange.ACCEPT))

    assert (PinConflict.HELD, (), theirs) == (lookup.conflict, lookup.chosen, lookup.pin)


async def test_weigh_waiting_key_that_the_old_one_certifies_later_is_accepted(desk: Desk) -> None:
    """The administrator has not said no; then the owner has the word."""
    desk.web.certificates = [NEW]
    await desk.find()
    desk.judge.certified = {(OLD.data, NEW.data)}

    assert ["B"] == _letters(await desk.find())


async def test_weigh_while_explaining_writes_no_revocation_and_no_copy(desk: Desk) -> None:
    """Who asks what would happen does not change what will."""
    before = desk.book.pins[BOB.key]
    for answer in (_cert("A", data=b"A, newer"), REVOKED):
        desk.web.certificates = [answer]
        await desk.find(explaining=True)

    assert before == desk.book.pins[BOB.key]


async def test_weigh_of_keys_chosen_by_hand_asks_no_pin(desk: Desk) -> None:
    """`certificates:` replaces pins for its addresses."""
    desk.web.certificates = [NEW]

    lookup = await desk.find(replace(RULE, certificates=("B" * 40,)))

    assert (["B"], None, "A") == (_letters(lookup), lookup.pin, desk.pinned)


async def test_weigh_held_key_still_knows_the_pinned_one(desk: Desk) -> None:
    """What a client encrypted to the pinned key itself may pass, although its source gives another one."""
    desk.web.certificates = [NEW]

    lookup = await desk.find()

    assert {"A" * 40: True, "B" * 40: True} == {
        verdict.certificate.fingerprint: verdict.usable for verdict in lookup.verdicts
    }
    assert (PinConflict.HELD, ()) == (lookup.conflict, lookup.chosen)


async def test_weigh_while_explaining_a_change_writes_nothing(desk: Desk) -> None:
    """Neither a pending key nor a new pin comes from a question."""
    desk.web.certificates = [NEW]
    for change in KeyChange:
        await desk.find(replace(RULE, key_change=change), explaining=True)

    assert ("A", {}) == (desk.pinned, desk.book.keys)


# --------------------------------------------------------------------------- the administrator


@pytest.mark.parametrize(
    ("state", "rule", "conflict"),
    [
        (PendingState.WAITING, RULE, PinConflict.HELD),
        (PendingState.APPROVED, RULE, None),
        (PendingState.APPROVED, replace(RULE, key_change=KeyChange.REFUSE), None),
        (PendingState.REJECTED, RULE, PinConflict.REFUSED),
        (PendingState.REJECTED, replace(RULE, key_change=KeyChange.ACCEPT), PinConflict.REFUSED),
    ],
)
async def test_weigh_after_a_decision_obeys_it(
    desk: Desk, state: PendingState, rule: Rule, conflict: PinConflict | None
) -> None:
    """What the administrator decided about this very key counts more than the rule."""
    desk.web.certificates = [NEW]
    await desk.find()
    await desk.book.decide(BOB.key, NEW.fingerprint, state)

    lookup = await desk.find(rule)

    assert conflict is lookup.conflict
    assert ("B" if conflict is None else "A") == desk.pinned


async def test_weigh_approval_of_one_key_says_nothing_about_another(desk: Desk) -> None:
    """An attacker who is quick gets nothing from an approval of the honest key."""
    desk.web.certificates = [NEW]
    await desk.find()
    await desk.book.decide(BOB.key, NEW.fingerprint, PendingState.APPROVED)
    desk.web.certificates = [_cert("C")]

    assert PinConflict.HELD is (await desk.find()).conflict


async def test_changed_makes_the_next_lookup_read_the_database(desk: Desk) -> None:
    """What a command of the administrator wrote is seen."""
    await desk.book.forget_pin(BOB.key)
    desk.pins.changed([BOB.key])
    desk.web.certificates = [NEW]

    lookup = await desk.find()

    assert (["B"], "B") == (_letters(lookup), desk.pinned)


# --------------------------------------------------------------------------- what was revoked


@pytest.mark.parametrize("between", [[], [NEW], [_cert("A", data=b"A, newer")]])
async def test_weigh_revoked_key_stays_revoked_whatever_comes_later(
    desk: Desk, between: list[Certificate]
) -> None:
    """A source that gives the old copy again, for an attacker or from a backup, does not heal it."""
    for answer in ([REVOKED], between, [OLD]):
        desk.web.certificates = answer
        lookup = await desk.find()

    assert (LookupResult.UNUSABLE, "revoked") == (lookup.result, lookup.sentence)


async def test_weigh_revoked_key_that_is_gone_is_not_used_from_its_pin(desk: Desk) -> None:
    """`use-pin` is for a key that its source lost, not for one that its owner took back."""
    desk.web.certificates = [REVOKED]
    await desk.find()
    desk.web.certificates = []

    lookup = await desk.find(replace(RULE, use_missing_pin=True))

    assert (LookupResult.UNUSABLE, PinConflict.MISSING) == (lookup.result, lookup.conflict)


@pytest.mark.parametrize("beside", [[], [OLD]])
async def test_weigh_revoked_key_vouches_for_nobody(desk: Desk, beside: list[Certificate]) -> None:
    """Who stole it, and so made its owner revoke it, could certify his own."""
    desk.judge.certified.add((b"A", b"B"))
    desk.web.certificates = [REVOKED]
    await desk.find()
    desk.web.certificates = [*beside, NEW]

    lookup = await desk.find()

    assert (PinConflict.HELD, "A") == (lookup.conflict, desk.pinned)


async def test_weigh_two_copies_in_turn_writes_once_an_hour(desk: Desk) -> None:
    """Two rules whose sources have different copies of one key do not make each message write."""
    writes = 0
    replace_pin = desk.book.replace_pin

    async def counted(old_fingerprint: str, pin: Pin) -> Pin:
        nonlocal writes
        writes += 1
        return await replace_pin(old_fingerprint, pin)

    desk.book.replace_pin = counted  # type: ignore[method-assign]
    for number in range(20):
        desk.web.certificates = [_cert("A", data=b"A" if number % 2 else b"A, with something new")]
        await desk.find()
        desk.clock.advance(300)

    assert 2 == writes


async def test_remembered_pins_are_bounded_in_octets(desk: Desk) -> None:
    """Whoever answers with large certificates fills no memory; what is dropped is read again."""
    large = Verdict(
        _cert("B", data=b"x" * 40_000), True, "usable", reduced=b"y" * (MAX_REMEMBERED_OCTETS // 4)
    )
    lookup = Lookup(LookupResult.USABLE, (large,), (large,), trusts={"B" * 40: Trust.WKD})
    for number in range(8):
        address = Address(f"{number}@example.com", str(number), "example.com")
        await desk.pins.weigh(address, RULE, lookup, [large.certificate], False)

    kept = [len(pin.certificate) for pin in desk.pins._remembered.values()]
    assert [MAX_REMEMBERED_OCTETS // 4] * 3 == kept[-3:]
    assert sum(kept) <= MAX_REMEMBERED_OCTETS
