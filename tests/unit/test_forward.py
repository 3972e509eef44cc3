"""Tests of `relay/forward.py`."""

from __future__ import annotations

import asyncio

import pytest

from relay.address import parse_mailbox
from relay.errors import NeedsEightBit, NextHopRefused, NextHopUnavailable, OutcomeUnknown
from relay.forward import Forwarder
from relay.message import Address, Outgoing, Released
from tests.fakes import FixedClock, ListJournal, ScriptedSession, ScriptedTransaction

SENDER, ALICE, BOB, CAROL = (
    parse_mailbox(f"{name}@example.com") for name in ("sender", "alice", "bob", "carol")
)
FULL = NextHopRefused(452, "4.2.2", "the recipient")
UNKNOWN = NextHopRefused(550, "5.1.1", "the recipient")


def _copy(*recipients: Address) -> Outgoing:
    return Released(b"Subject: x\r\n", b"x\r\n", recipients, rule="policy.default")


def _forwarder(session: ScriptedSession, at_once: int = 1) -> Forwarder:
    return Forwarder(
        session, ScriptedTransaction(session), FixedClock(), ListJournal(), id="id", at_once=at_once
    )


async def test_forward_one_copy_for_all_uses_the_front_transaction() -> None:
    """The transaction of the client's own MAIL and RCPT serves the message: no command is sent twice."""
    session = ScriptedSession()
    copy = _copy(ALICE, BOB)

    forwarded = await _forwarder(session).forward(SENDER, (copy,), frozenset({ALICE, BOB}))

    assert (ALICE, BOB) == forwarded.delivered
    assert ["data"] == session.dialogue
    assert [copy] == session.taken


async def test_forward_one_copy_for_some_never_uses_the_front_transaction() -> None:
    """A copy must not reach a recipient of the front transaction that it is not meant for."""
    session = ScriptedSession()

    await _forwarder(session).forward(SENDER, (_copy(ALICE),), frozenset({ALICE, BOB}))

    assert ["rset", "mail", "rcpt:alice@example.com", "data", "rset"] == session.dialogue


async def test_forward_several_copies_accepts_all_recipients_before_content() -> None:
    """Each copy has its own transaction with its recipients accepted first."""
    session = ScriptedSession()
    copies = (_copy(ALICE, BOB), _copy(CAROL))

    forwarded = await _forwarder(session).forward(SENDER, copies, frozenset({ALICE, BOB, CAROL}))

    assert (ALICE, BOB, CAROL) == forwarded.delivered
    assert ["mail", "rcpt:alice@example.com", "rcpt:bob@example.com", "data"] == session.dialogue[1:5]


async def test_forward_a_later_copy_that_the_hop_cannot_take_refuses_the_message() -> None:
    """What can be known before any content leaves is never a DSN afterwards."""
    session = ScriptedSession()
    session.unfit = {(CAROL,): NeedsEightBit()}

    with pytest.raises(NeedsEightBit):
        await _forwarder(session).forward(SENDER, (_copy(ALICE), _copy(CAROL)), frozenset({ALICE, CAROL}))

    assert not session.dialogue


@pytest.mark.parametrize("step", ["mail", "rcpt:alice@example.com", "data"])
@pytest.mark.parametrize("error", [FULL, UNKNOWN, NextHopUnavailable(), OutcomeUnknown()])
async def test_forward_a_failure_of_the_first_copy_refuses_the_message(step: str, error: Exception) -> None:
    """Before anything was taken, a refusal is the client's, and nothing is retried behind its back."""
    session = ScriptedSession({step: [error]})

    with pytest.raises(type(error)) as caught:
        await _forwarder(session).forward(SENDER, (_copy(ALICE), _copy(BOB)), frozenset({ALICE, BOB}))

    assert error is caught.value
    assert [] == session.taken


async def test_forward_retries_a_later_copy_that_failed_for_now() -> None:
    """After the first copy was taken, 4xx is tried again within the time budget."""
    session = ScriptedSession({"rcpt:bob@example.com": [FULL, NextHopUnavailable()]})
    copies = (_copy(ALICE), _copy(BOB))

    forwarded = await _forwarder(session).forward(SENDER, copies, frozenset({ALICE, BOB}))

    assert ((ALICE, BOB), ()) == (forwarded.delivered, forwarded.failures)
    assert list(copies) == session.taken


async def test_forward_reports_a_later_copy_that_keeps_failing() -> None:
    """The delivered part stays delivered; the rest is reported, and the copies behind it still go out."""
    session = ScriptedSession({"rcpt:bob@example.com": [FULL] * 99})
    copies = (_copy(ALICE), _copy(BOB), _copy(CAROL))

    forwarded = await _forwarder(session).forward(SENDER, copies, frozenset({ALICE, BOB, CAROL}))

    assert (ALICE, CAROL) == forwarded.delivered
    assert [(copies[1], FULL)] == [(failure.copy, failure.error) for failure in forwarded.failures]
    assert [(BOB, 452, "4.2.2")] == forwarded.failures[0].entries


async def test_forward_does_not_retry_what_may_have_been_delivered() -> None:
    """The final dot went out and no reply came: another try could be another delivery (RFC 1047)."""
    session = ScriptedSession({"data": [None, OutcomeUnknown()]})

    forwarded = await _forwarder(session).forward(SENDER, (_copy(ALICE), _copy(BOB)), frozenset({ALICE, BOB}))

    assert 2 == session.dialogue.count("data")
    assert [OutcomeUnknown] == [type(failure.error) for failure in forwarded.failures]


async def test_forward_does_not_retry_a_permanent_refusal() -> None:
    """5xx to a later copy is final at once."""
    session = ScriptedSession({"rcpt:bob@example.com": [UNKNOWN]})

    forwarded = await _forwarder(session).forward(SENDER, (_copy(ALICE), _copy(BOB)), frozenset())

    assert 1 == session.dialogue.count("rcpt:bob@example.com")
    assert [UNKNOWN] == [failure.error for failure in forwarded.failures]


async def test_forward_one_refused_recipient_of_a_copy_stops_that_copy() -> None:
    """Content never leaves before every recipient of its copy was accepted."""
    session = ScriptedSession({"rcpt:bob@example.com": [UNKNOWN]})

    with pytest.raises(NextHopRefused):
        await _forwarder(session).forward(SENDER, (_copy(ALICE, BOB), _copy(CAROL)), frozenset())

    assert [] == session.taken


@pytest.mark.parametrize(("at_once", "expected"), [(1, 1), (2, 2), (9, 3)])
async def test_forward_sends_later_copies_side_by_side_up_to_the_limit(at_once: int, expected: int) -> None:
    """The first copy goes alone; behind it only as many at a time as the next hop is meant to see."""
    session = ScriptedSession()
    copies = tuple(_copy(address) for address in (SENDER, ALICE, BOB, CAROL))
    release, open_now, most = asyncio.Event(), 0, 0

    class Slow(ScriptedTransaction):
        async def send(self, content: Outgoing) -> str:
            nonlocal open_now, most
            if content is not copies[0]:
                open_now += 1
                most = max(most, open_now)
                await release.wait()
                open_now -= 1
            return await super().send(content)

    session.transaction = Slow
    running = asyncio.create_task(_forwarder(session, at_once).forward(SENDER, copies, frozenset()))
    for _ in range(50):
        await asyncio.sleep(0)
    release.set()
    forwarded = await running

    assert expected == most
    assert copies[0] is session.taken[0]
    assert (SENDER, ALICE, BOB, CAROL) == forwarded.delivered


async def test_forward_copies_that_fail_wait_together() -> None:
    """Nine copies that fail for now cost the client the pauses of one (RFC 6409 §5.3)."""
    session = ScriptedSession({f"rcpt:{address}": [FULL] * 99 for address in (ALICE, BOB, CAROL)})
    clock = FixedClock()
    forwarder = Forwarder(session, ScriptedTransaction(session), clock, ListJournal(), id="id")
    before = clock.monotonic()

    async def advance_once(seconds: float) -> None:
        await asyncio.sleep(0)
        clock.advance(seconds / 3)  # three sleepers share the time that passes

    clock.sleep = advance_once  # type: ignore[method-assign]  # sleepers of this test sleep side by side
    copies = tuple(_copy(address) for address in (SENDER, ALICE, BOB, CAROL))
    forwarded = await forwarder.forward(SENDER, copies, frozenset())

    assert 3 == len(forwarded.failures)
    assert clock.monotonic() - before < 60


async def test_forward_records_each_copy_with_sender_and_the_answer_of_the_next_hop() -> None:
    """An admin can follow a message into the next hop's log by its queue id."""
    session, journal = ScriptedSession(), ListJournal()
    forwarder = Forwarder(session, ScriptedTransaction(session), FixedClock(), journal, id="id")

    await forwarder.forward(SENDER, (_copy(ALICE),), frozenset({ALICE}))

    ((event, facts),) = journal.events
    assert ("copy_delivered", str(SENDER), str(ALICE), "2.0.0 queued as 1") == (
        event,
        facts["sender"],
        facts["recipients"],
        facts["next_hop"],
    )
