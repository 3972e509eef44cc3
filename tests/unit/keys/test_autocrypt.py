"""Tests of `relay.keys.autocrypt`."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from relay.errors import KeySourceUnavailable, StoreUnavailable
from relay.keys.autocrypt import LearnedSource, Learner, certificates_of
from relay.message import Address, Certificate, Verdict
from relay.mime.autocrypt import Header
from relay.openpgp.judge import Judge
from relay.remembered import LearnedKey, PendingKey, PendingState, Trust
from relay.rule import KeyChange
from tests.keys import certificate, fixture
from tests.mail import packet
from tests.unit.keys.learned import COPY, EARLIER, FETCHED, FIRST, LATER, NOW, OTHER, WHO, Place, header


@pytest.fixture
def place() -> Place:
    return Place()


# --------------------------------------------------------------------------- the source


async def test_find_of_a_learned_address_is_its_certificate(place: Place) -> None:
    """Every way to ask gives the key that the owner of the address handed out."""
    place.known()
    source = LearnedSource("learned", place.keys)
    expected = [replace(certificate("several-1", "learned"), fetched=FETCHED)]

    for ask in (source.find, source.recall, source.refresh):
        assert expected == await ask(WHO)
    assert [FETCHED] == [found.fetched for found in await source.find(WHO)]
    assert FETCHED == await source.asked_at(WHO)


async def test_find_of_another_address_is_nothing(place: Place) -> None:
    """What was not learned is none, and a key is never given by its fingerprint alone."""
    place.known()
    source = LearnedSource("learned", place.keys)

    for ask in (source.find, source.recall, source.refresh):
        assert [] == await ask(fixture("rsa3072").address)
    assert None is await source.asked_at(fixture("rsa3072").address)
    assert [] == await source.find_fingerprint(FIRST.fingerprint)


async def test_find_while_the_store_is_down_is_unavailable(place: Place) -> None:
    """A store that cannot be read is not an absence of keys."""
    place.keys.failure = StoreUnavailable("locked")
    source = LearnedSource("learned", place.keys)

    for ask in (source.find, source.recall, source.refresh, source.asked_at):
        with pytest.raises(StoreUnavailable, match="locked"):
            await ask(WHO)


@pytest.mark.parametrize(
    "data", [b"", b"garbage", OTHER.certificate, FIRST.certificate + OTHER.certificate], ids=range(4)
)
async def test_find_of_a_damaged_key_is_unavailable(place: Place, data: bytes) -> None:
    """A row that is not what was learned is neither a key nor the absence of one."""
    place.keys.rows[WHO.key] = replace(place.known(), certificate=data)

    with pytest.raises(KeySourceUnavailable, match="damaged"):
        await LearnedSource("learned", place.keys).find(WHO)


# --------------------------------------------------------------------------- the first key, and again


async def test_learn_first_key_is_kept(place: Place) -> None:
    """The first key of an address is learned, with the date of its message, and journaled."""
    assert "learned" == await place.learn(FIRST)

    assert LearnedKey(WHO.key, FIRST.fingerprint, FIRST.certificate, LATER, NOW) == place.stored
    fields = {
        "id": "T1",
        "source": "learned",
        "address": str(WHO),
        "fingerprint": FIRST.fingerprint,
        "known": "",
        "reason": "",
    }
    assert [("key_learned", fields)] == place.journal.events


@pytest.mark.parametrize("sent_at", [None, NOW + timedelta(days=900)])
async def test_learn_without_a_believable_date_counts_as_now(place: Place, sent_at: datetime | None) -> None:
    """No date, or one in the future, is the time of receipt: nobody can lock a key in for years."""
    await place.learn(FIRST, sent_at)

    assert NOW == place.stored.effective_at


@pytest.mark.parametrize("sent_at", [EARLIER, LATER])
async def test_learn_newer_copy_of_the_known_key_replaces_it(place: Place, sent_at: datetime) -> None:
    """The same key in a message as old as the known one or younger is refreshed, whole."""
    place.known(FIRST, EARLIER)

    assert "same" == await place.learn(COPY, sent_at, KeyChange.REFUSE)

    assert LearnedKey(WHO.key, FIRST.fingerprint, COPY.certificate, sent_at, NOW) == place.stored
    assert ["key_learned_same"] == place.journal.names()


@pytest.mark.parametrize("brought", [COPY, OTHER], ids=["same", "other"])
async def test_learn_older_message_changes_nothing(place: Place, brought: Header) -> None:
    """Time never goes back: an old message that arrives late, or again, teaches nothing."""
    known = place.known(FIRST, LATER)
    place.pending(brought, PendingState.APPROVED)

    assert "ignored" == await place.learn(brought, LATER - timedelta(seconds=1), KeyChange.ACCEPT)

    assert known == place.stored
    assert ["key_learned_ignored"] == place.journal.names()


@pytest.mark.parametrize(
    "name", ["expired-primary", "revoked-primary", "wrong-user-id", "sign-only", "rsa1024"]
)
async def test_learn_unusable_key_is_ignored(place: Place, name: str) -> None:
    """A key that the judge would not use for the address now is not learned, and the journal says why."""
    brought = header(name)

    assert "ignored" == await place.learn(brought, change=KeyChange.ACCEPT)

    assert {} == place.keys.rows
    assert [fixture(name).verdict in str(fields["reason"]) for _, fields in place.journal.events] == [True]


async def test_learn_revoked_copy_of_the_known_key_is_kept(place: Place) -> None:
    """The owner's revocation is the last word about the key, and the judge obeys it."""
    known = place.known(header("revoked-primary-before"))
    revoked = header("revoked-primary")
    assert known.fingerprint == revoked.fingerprint

    assert "same" == await place.learn(revoked)

    assert revoked.certificate == place.keys.rows[revoked.addr.key].certificate


BEFORE, REVOKED = header("revoked-primary-before"), header("revoked-primary")


@pytest.mark.parametrize("sent_at", [EARLIER, LATER])
async def test_learn_newer_copy_without_a_revocation_keeps_it(place: Place, sent_at: datetime) -> None:
    """A second device that does not know of the revocation does not take it back."""
    place.known(REVOKED, EARLIER)

    assert "same" == await place.learn(BEFORE, sent_at)
    assert "same" == await place.learn(BEFORE, LATER)

    assert BEFORE.certificate + REVOKED.certificate == place.keys.rows[BEFORE.addr.key].certificate
    assert ["revoked on 2025-01-02"] == await _sentences(place)


async def test_learn_older_copy_with_a_revocation_keeps_it_beside(place: Place) -> None:
    """A revocation counts whenever it comes, and changes nothing else of what is known."""
    known = place.known(BEFORE, LATER)

    assert "same" == await place.learn(REVOKED, EARLIER)

    assert (
        replace(known, certificate=BEFORE.certificate + REVOKED.certificate)
        == (place.keys.rows[BEFORE.addr.key])
    )
    assert ["revoked on 2025-01-02"] == await _sentences(place)


async def test_learn_keeps_few_copies_with_revocations(place: Place) -> None:
    """Whoever revokes something in each message does not fill the database."""
    for number in range(9):
        place.clock.advance(60)
        data = REVOKED.certificate + packet(13, b"another name") + _revocation(number)
        await place.learn(replace(REVOKED, certificate=data) if place.keys.rows else BEFORE, None)

    assert 4 == len(certificates_of(place.keys.rows[REVOKED.addr.key], ""))


async def test_learn_copy_of_a_damaged_key_changes_nothing(place: Place) -> None:
    """What cannot be read may have been a revocation; `keys forget` is the way out."""
    place.keys.rows[WHO.key] = known = replace(place.known(), certificate=b"garbage")

    with pytest.raises(KeySourceUnavailable, match="damaged"):
        await place.learn(COPY)

    assert known == place.stored


class _JudgeThatTells(Judge):
    """Knows in which threads it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def judge(self, certificates: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        self.threads.append(threading.get_ident())
        return super().judge(certificates, address, now)


async def test_learn_judges_in_a_thread(place: Place) -> None:
    """Whoever sends a certificate that takes long holds nobody else up."""
    judge = _JudgeThatTells()
    learner = Learner("learned", place.keys, place.pins, judge, clock=place.clock, journal=place.journal)

    outcome = await learner.learn(FIRST, LATER, KeyChange.HOLD)

    assert ("learned", 1, False) == (outcome, len(judge.threads), threading.get_ident() in judge.threads)


async def _sentences(place: Place) -> list[str]:
    """What the judge says of what the source gives now."""
    found = await LearnedSource("learned", place.keys).find(REVOKED.addr)
    return [verdict.sentence for verdict in Judge().judge(found, REVOKED.addr, NOW)]


def _revocation(number: int) -> bytes:
    """A signature packet of that type, as far as one can see without a look at it."""
    return packet(2, bytes([4, 0x30, 22, 8, 0, 0, 0, 0, 0, number]))


# --------------------------------------------------------------------------- another key


CONFLICTS = ["known", "pinned", "both"]


def _conflict(place: Place, kind: str) -> dict[str, LearnedKey]:
    """Makes the first key the known or the pinned one; the keys as they are then."""
    if kind != "pinned":
        place.known(FIRST)
    if kind != "known":
        place.pinned(FIRST)
    return dict(place.keys.rows)


@pytest.mark.parametrize("kind", CONFLICTS)
async def test_learn_other_key_under_hold_waits(place: Place, kind: str) -> None:
    """Another key than the known or pinned one waits for the administrator, once (K-29)."""
    before = _conflict(place, kind)

    assert ["held", "ignored"] == [await place.learn(OTHER), await place.learn(OTHER)]

    waiting = PendingKey(WHO.key, OTHER.fingerprint, "learned", Trust.LEARNED, OTHER.certificate, NOW)
    assert (before, [waiting]) == (place.keys.rows, place.pins.waiting)
    assert ["key_learned_held", "key_learned_ignored"] == place.journal.names()


@pytest.mark.parametrize("kind", CONFLICTS)
async def test_learn_other_key_under_refuse_is_ignored(place: Place, kind: str) -> None:
    """The rule refuses another key: nothing is kept and nothing waits."""
    before = _conflict(place, kind)

    assert "ignored" == await place.learn(OTHER, change=KeyChange.REFUSE)

    assert (before, []) == (place.keys.rows, place.pins.waiting)
    assert ["key_change is refuse"] == [fields["reason"] for _, fields in place.journal.events]


@pytest.mark.parametrize("kind", CONFLICTS)
async def test_learn_other_key_under_accept_replaces(place: Place, kind: str) -> None:
    """The rule accepts another key, and the journal has its own event for it."""
    _conflict(place, kind)

    assert "replaced" == await place.learn(OTHER, change=KeyChange.ACCEPT)

    assert OTHER.fingerprint == place.stored.fingerprint
    assert ["key_learned_replaced"] == place.journal.names()


@pytest.mark.parametrize("change", list(KeyChange))
@pytest.mark.parametrize("kind", CONFLICTS)
async def test_learn_approved_key_replaces(place: Place, kind: str, change: KeyChange) -> None:
    """What the administrator approved counts, whatever the rule says."""
    _conflict(place, kind)
    place.pending(OTHER, PendingState.APPROVED)

    assert "replaced" == await place.learn(OTHER, change=change)

    assert OTHER.fingerprint == place.stored.fingerprint


@pytest.mark.parametrize("change", list(KeyChange))
@pytest.mark.parametrize("kind", CONFLICTS)
async def test_learn_rejected_key_is_ignored(place: Place, kind: str, change: KeyChange) -> None:
    """What the administrator rejected stays out, whatever the rule says."""
    before = _conflict(place, kind)
    place.pending(OTHER, PendingState.REJECTED)

    assert "ignored" == await place.learn(OTHER, change=change)

    assert before == place.keys.rows


async def test_learn_approval_of_another_key_does_not_count(place: Place) -> None:
    """An approval is for one fingerprint."""
    before = _conflict(place, "known")
    place.pending(header("rsa3072"), PendingState.APPROVED)

    assert "held" == await place.learn(OTHER)

    assert before == place.keys.rows


async def test_learn_pinned_key_replaces_an_older_one(place: Place) -> None:
    """A key that is pinned was decided on already: the learned one follows it."""
    place.known(FIRST)
    place.pinned(OTHER)

    assert "replaced" == await place.learn(OTHER, change=KeyChange.REFUSE)

    assert OTHER.fingerprint == place.stored.fingerprint


async def test_learn_pinned_key_first_is_learned(place: Place) -> None:
    """A pin of the same key does not stand in the way of the first lesson."""
    place.pinned(FIRST)

    assert "learned" == await place.learn(FIRST, change=KeyChange.REFUSE)


async def test_learn_past_the_limit_of_pending_keys_is_ignored(place: Place) -> None:
    """Ten keys of one address may wait: mail does not fill the database."""
    place.known(FIRST)
    for number in range(9):
        place.pending(replace(FIRST, fingerprint=f"{number:040X}"), PendingState.REJECTED)

    assert "held" == await place.learn(OTHER)
    place.pins.waiting[-1] = replace(place.pins.waiting[-1], fingerprint="F" * 40)

    assert "ignored" == await place.learn(OTHER)
    assert 10 == len(place.pins.waiting)


async def test_learn_waiting_key_at_the_limit_still_waits(place: Place) -> None:
    """A key that waits already takes no further place."""
    place.known(FIRST)
    for number in range(9):
        place.pending(replace(FIRST, fingerprint=f"{number:040X}"), PendingState.WAITING)
    place.pending(OTHER, PendingState.WAITING)

    assert "ignored" == await place.learn(OTHER)
    assert 10 == len(place.pins.waiting)


async def test_learn_two_first_keys_at_once_keeps_one(place: Place) -> None:
    """Of two messages at the same moment one brings the first key, and the other cannot replace it."""
    outcomes = await asyncio.gather(place.learn(FIRST), place.learn(OTHER))

    assert ["learned", "held"] == list(outcomes)
    assert FIRST.fingerprint == place.stored.fingerprint


async def test_learn_addresses_in_another_spelling_are_one(place: Place) -> None:
    """The letter case of an address makes no second place for a key."""
    place.known(FIRST)
    shouted = replace(OTHER, addr=replace(WHO, text="SEVERAL@example.com", local="SEVERAL"))

    assert "held" == await place.learn(shouted)
    assert 1 == len(place.keys.rows)


@pytest.mark.parametrize("part", ["keys", "pins"])
async def test_learn_while_the_store_is_down_raises(place: Place, part: str) -> None:
    """What cannot be compared is not learned."""
    if part == "keys":
        place.keys.failure = StoreUnavailable("locked")
    place.pins.is_down = True

    with pytest.raises(StoreUnavailable):
        await place.learn(FIRST)

    assert {} == place.keys.rows


async def test_learn_journals_no_key_material(place: Place) -> None:
    """Addresses and fingerprints are all that the log sees."""
    await place.learn(FIRST)
    await place.learn(OTHER)

    values = [value for _, fields in place.journal.events for value in fields.values()]

    assert all(isinstance(value, str) and len(value) < 100 for value in values)


# --------------------------------------------------------------------------- after a message was sent


async def _hear(place: Place) -> None:
    await place.learner.hear(FIRST, LATER, KeyChange.HOLD, id="T1")


async def test_hear_learns(place: Place) -> None:
    """What an accepted message brings is learned before its reply."""
    await _hear(place)

    assert FIRST.fingerprint == place.stored.fingerprint
    assert ["key_learned"] == place.journal.names()


@pytest.mark.parametrize("detail", ["locked", ""])
async def test_hear_while_the_store_is_down_is_only_journaled(place: Place, detail: str) -> None:
    """The reply to a message that was sent does not change."""
    place.keys.failure = StoreUnavailable(detail)

    await _hear(place)

    fields = {
        "id": "T1",
        "source": "learned",
        "address": str(WHO),
        "fingerprint": FIRST.fingerprint,
        "detail": str(place.keys.failure) or "the store is unavailable",
    }
    assert [("key_learning_failed", fields)] == place.journal.events


async def test_hear_with_a_store_that_hangs_gives_up(place: Place) -> None:
    """The reply waits a bounded time, nothing goes on behind it, and the next message can teach again."""
    place.keys.hold = asyncio.Event()

    await _hear(place)

    assert ["key_learning_failed"] == place.journal.names()
    assert 1 == len(asyncio.all_tasks())
    place.keys.hold = None
    await _hear(place)
    assert ["key_learning_failed", "key_learned"] == place.journal.names()


async def test_hear_bug_is_logged_and_raises_nothing(place: Place) -> None:
    """A bug must not make the client send a message again that the next hop has taken; it is not hidden."""
    seen: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
    place.keys.failure = bug = ZeroDivisionError("some text")

    await _hear(place)

    assert [bug] == [context["exception"] for context in seen]
    assert ["ZeroDivisionError"] == [fields["detail"] for _, fields in place.journal.events]


async def test_hear_cancelled_ends_what_it_began(place: Place) -> None:
    """A cancellation passes through, and nothing is learned afterwards."""
    place.keys.hold = asyncio.Event()
    hearing = asyncio.create_task(place.learner.hear(FIRST, LATER, KeyChange.HOLD))
    await asyncio.sleep(0)
    hearing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await hearing
    await asyncio.wait(
        [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] or [hearing]
    )

    assert ({}, []) == (place.keys.rows, place.journal.names())
