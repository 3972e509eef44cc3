"""Tests of `relay/outcomes.py`."""

from __future__ import annotations

import asyncio

from relay.outcomes import Outcomes
from tests.fakes import FixedClock

KEY_PARTS = ("alice", "alice@example.com", b"content")


async def test_delivered_of_an_unknown_message_is_empty() -> None:
    """What was never remembered is sent to everybody."""
    outcomes = Outcomes(FixedClock())

    assert frozenset() == await outcomes.delivered(outcomes.key(*KEY_PARTS))


async def test_delivered_after_remember_names_the_recipients_of_both_tries() -> None:
    """Copies delivered in several tries add up."""
    outcomes = Outcomes(FixedClock())
    key = outcomes.key(*KEY_PARTS)

    outcomes.remember(key, ["a@example.com"])
    outcomes.remember(key, ["b@example.com"])

    assert frozenset({"a@example.com", "b@example.com"}) == await outcomes.delivered(key)


async def test_delivered_after_an_hour_is_empty() -> None:
    """An identical mail an hour later is a new one."""
    clock = FixedClock()
    outcomes = Outcomes(clock)
    key = outcomes.key(*KEY_PARTS)
    outcomes.remember(key, ["a@example.com"])

    clock.advance(3601)

    assert frozenset() == await outcomes.delivered(key)


async def test_delivered_waits_for_an_orphaned_delivery() -> None:
    """A retry that comes while the first try still runs gets its outcome."""
    outcomes = Outcomes(FixedClock())
    key = outcomes.key(*KEY_PARTS)
    ended = outcomes.begin_orphaned(key)
    retry = asyncio.create_task(outcomes.delivered(key))
    await asyncio.sleep(0)
    assert not retry.done()

    outcomes.remember(key, ["a@example.com"])
    ended.set()

    assert frozenset({"a@example.com"}) == await retry


def test_key_depends_on_login_sender_content_and_process() -> None:
    """Nobody else's message is taken for this one, and a hash of guessed content confirms nothing."""
    outcomes = Outcomes(FixedClock())
    keys = {
        outcomes.key(*KEY_PARTS),
        outcomes.key("bob", *KEY_PARTS[1:]),
        outcomes.key("alice", "", b"content"),
        outcomes.key("alice", "alice@example.com", b"other"),
        Outcomes(FixedClock()).key(*KEY_PARTS),
    }

    assert 5 == len(keys)


async def test_forget_makes_the_same_message_new() -> None:
    """Once the client knows, the same mail sent on purpose goes out again."""
    outcomes = Outcomes(FixedClock())
    key = outcomes.key(*KEY_PARTS)
    outcomes.remember(key, ["a@example.com"])

    outcomes.forget(key)

    assert frozenset() == await outcomes.delivered(key)


def test_key_keeps_its_parts_apart() -> None:
    """No login can name a message of another by moving a boundary."""
    outcomes = Outcomes(FixedClock())

    assert outcomes.key("ab", "c", b"d") != outcomes.key("a", "bc", b"d")


async def test_remember_while_a_delivery_runs_keeps_later_tries_waiting() -> None:
    """A partial outcome does not end the delivery that everybody waits for."""
    outcomes = Outcomes(FixedClock())
    key = outcomes.key(*KEY_PARTS)
    ended = outcomes.begin_orphaned(key)
    outcomes.remember(key, ["a@example.com"])

    retry = asyncio.create_task(outcomes.delivered(key))
    await asyncio.sleep(0)
    assert not retry.done()

    ended.set()
    await retry


async def test_remember_past_the_limit_forgets_the_oldest() -> None:
    """The table is bounded, and what was remembered last is what retries ask for."""
    outcomes = Outcomes(FixedClock())
    keys = [number.to_bytes(4) for number in range(10_001)]
    for key in keys:
        outcomes.remember(key, ["a@example.com"])

    assert [0, 1, 1] == [len(await outcomes.delivered(key)) for key in (keys[0], keys[1], keys[-1])]
