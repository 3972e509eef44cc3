"""What all engines share: whom to encrypt to, and turns."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.errors import EncryptionFailed
from relay.message import Certificate, Subkey, Verdict
from relay.openpgp.engine import MAX_WAITING, Turns, intended


def _verdict(*fingerprints: str) -> Verdict:
    subkeys = tuple(Subkey(name, name[-16:], "any") for name in fingerprints)
    return Verdict(Certificate(b"x", "F", (), "test"), True, "good", subkeys, b"reduced")


def test_intended_no_verdict_raises() -> None:
    """A message to nobody is refused, never written in clear or to a password."""
    with pytest.raises(EncryptionFailed):
        intended(())


@pytest.mark.parametrize("change", [{"usable": False}, {"subkeys": ()}, {"reduced": b""}])
def test_intended_one_verdict_not_usable_raises(change: dict[str, object]) -> None:
    """One certificate that may not be used spoils the message; it is not left out silently."""
    bad = replace(_verdict("B"), **change)  # type: ignore[arg-type]  # fields by name

    with pytest.raises(EncryptionFailed):
        intended((_verdict("A"), bad))


def test_intended_same_subkeys_twice_are_taken_once() -> None:
    """Two recipients with one certificate get one session key packet."""
    first, second = _verdict("A"), _verdict("A", "B")

    assert (second,) == intended((first, second, first))


async def test_take_more_than_at_once_wait() -> None:
    """Only `at_once` run at the same time, the others follow."""
    turns = Turns(2, 10, 60)
    running, most = 0, 0

    async def one() -> None:
        nonlocal running, most
        async with turns.take():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    await asyncio.gather(*(one() for _ in range(8)))

    assert (2, 0) == (most, running)


async def test_take_line_full_raises() -> None:
    """Who finds `max_waiting` in line is refused at once."""
    turns = Turns(1, 0, 60)

    async with turns.take():
        with pytest.raises(EncryptionFailed, match="wait"):
            await turns.take().__aenter__()


async def test_take_too_slow_raises_and_frees_the_turn() -> None:
    """The work is cancelled when its time is over, and the next one gets its turn."""
    turns = Turns(1, 0, 0.01)

    with pytest.raises(EncryptionFailed, match="longer"):
        async with turns.take():
            await asyncio.Event().wait()
    async with turns.take():
        pass


def test_line_holds_a_message_of_each_connection() -> None:
    """A burst over all connections of the default is served one after the other, not refused."""
    from relay.config import Limits

    assert Limits().connections <= MAX_WAITING


async def test_take_burst_is_served() -> None:
    """Five hundred at once all have their turn."""
    turns, served = Turns(2, MAX_WAITING, 60), 0

    async def one() -> None:
        nonlocal served
        async with turns.take():
            await asyncio.sleep(0)
            served += 1

    await asyncio.gather(*(one() for _ in range(500)))

    assert 500 == served
