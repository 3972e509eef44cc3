"""Tests of how `relay/pipeline.py` looks keys up: side by side, within one time, and with pins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.errors import (
    KeyChangeHeld,
    KeyLookupFailed,
    NotEncryptedForRecipient,
    PinnedKeyMissing,
    RelayError,
)
from relay.lookup import KeyFinder, Listed
from relay.message import Address, Certificate, Lookup, LookupResult, PinConflict, Sealed, Verdict
from relay.openpgp.judge import Judge
from relay.openpgp.sequoia import SequoiaEngine
from relay.parts import Parts
from relay.pins import Pins
from relay.pipeline import Transaction, _acceptable
from relay.remembered import Pin, Trust
from relay.rule import Encrypt, KeyChange
from tests import keys
from tests.fakes import ListJournal, PinsInMemory
from tests.line import ALICE, BOB, FixtureSource, Line, NextHopInMemory, OnePassword, policy

CONTENT = b"From: sender@example.com\r\nTo: %s\r\nSubject: hello\r\n\r\nhello\r\n" % ALICE.encode()


class SlowSource(FixtureSource):
    """A source outside of this machine that answers when the test lets it, or is down."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.go = asyncio.Event()
        self.go.set()
        self.everybody_asks = asyncio.Event()
        self.expected = 2
        self.empty = False

    async def find(self, address: Address) -> list[Certificate]:
        self.asked.append(str(address))
        if len(self.asked) >= self.expected:
            self.everybody_asks.set()
        await self.go.wait()
        return [] if self.empty else await super().find(address)

    async def recall(self, address: Address) -> list[Certificate]:
        return []

    async def asked_at(self, address: Address) -> datetime | None:
        return None

    async def refresh(self, address: Address) -> list[Certificate]:
        return await self.find(address)


class DiscoveringLine(Line):
    """A line whose one source lies outside of this machine."""

    book: PinsInMemory
    lookup_seconds = 8.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.book = PinsInMemory()

    @property
    def parts(self) -> Parts:
        judge = Judge()
        pins = Pins(self.book, judge, self.clock, ListJournal())
        listed = {"folder": Listed(self.source, Trust.WKD, self.source)}
        finder = KeyFinder(listed, judge, self.clock, pins=pins)
        hop = NextHopInMemory(self.session)
        return Parts(
            "relay.example",
            self.policy,
            finder,
            self.engine,
            hop,
            OnePassword(),
            lookup_seconds=self.lookup_seconds,
        )


@pytest.fixture
async def line() -> AsyncIterator[DiscoveringLine]:
    engine = SequoiaEngine(workers=1)
    yield DiscoveringLine(engine, source=SlowSource())
    await engine.close()


def _pin(address: str, name: str) -> Pin:
    certificate = keys.certificate(name)
    return Pin(
        parse_mailbox(address).key,
        certificate.fingerprint,
        "folder",
        Trust.WKD,
        certificate.data,
        datetime(2026, 1, 1, tzinfo=UTC),
    )


async def _reply(transaction: Transaction, recipient: str) -> type[RelayError] | None:
    try:
        await transaction.admit(parse_mailbox(recipient))
    except RelayError as exc:
        return type(exc)
    return None


# --------------------------------------------------------------------------- side by side, in time


async def test_foresee_asks_for_all_at_once(line: DiscoveringLine) -> None:
    """The second lookup begins while the first waits, and each is made once."""
    line.source.go.clear()
    transaction = await line.begin()
    transaction.foresee([parse_mailbox(BOB)])
    admitting = asyncio.create_task(transaction.admit(parse_mailbox(ALICE)))
    await asyncio.wait_for(line.source.everybody_asks.wait(), 10)
    line.source.go.set()
    await admitting
    await transaction.admit(parse_mailbox(BOB))

    assert sorted([ALICE, BOB]) == sorted(line.source.asked)
    assert [ALICE, BOB] == [str(entry.recipient) for entry in transaction.admissions]


async def test_foresee_of_recipients_that_never_come_leaves_nothing_running(line: DiscoveringLine) -> None:
    """A client that goes away after a pipelined group ends its lookups."""
    line.source.go.clear()
    line.source.expected = 1
    transaction = await line.begin()
    transaction.foresee([parse_mailbox(BOB)])
    await asyncio.wait_for(line.source.everybody_asks.wait(), 10)
    (lookup,) = transaction.lookups._begun.values()

    await transaction.end()

    assert lookup.cancelled()


@pytest.mark.parametrize("recipient", ["a@clear.example", "a%b@example.com"])
async def test_foresee_asks_for_nobody_who_needs_no_key(line: DiscoveringLine, recipient: str) -> None:
    """Where the rule sends in clear, or refuses the address, no source learns of the recipient."""
    transaction = await line.begin()

    transaction.foresee([parse_mailbox(recipient)])

    assert {} == transaction.lookups._begun


async def test_admit_shares_one_time_among_all_recipients(line: DiscoveringLine) -> None:
    """What the first recipients waited is not there for the others (RFC 6409 §5.3)."""
    transaction = await line.begin()
    transaction.lookups.waited_seconds = 8.0
    line.source.go.clear()

    assert KeyLookupFailed is await asyncio.wait_for(_reply(transaction, ALICE), 4)


async def test_admit_counts_the_time_that_the_client_waited(line: DiscoveringLine) -> None:
    """The budget runs while a lookup runs."""
    transaction = await line.begin()
    line.source.go.clear()
    admitting = asyncio.create_task(transaction.admit(parse_mailbox(ALICE)))
    line.source.expected = 1
    await asyncio.wait_for(line.source.everybody_asks.wait(), 10)
    line.clock.advance(3.0)
    line.source.go.set()
    await admitting

    assert 3.0 == transaction.lookups.waited_seconds


async def test_relay_after_a_long_upload_looks_all_up_again_side_by_side(line: DiscoveringLine) -> None:
    """Nobody waits for ten lookups in turn after the final dot."""
    transaction = await line.begin()
    for recipient in (ALICE, BOB):
        await transaction.admit(parse_mailbox(recipient))
    line.clock.advance(301)
    transaction.lookups.waited_seconds = 8.0  # for the RCPT commands; after DATA the client waits anew
    line.source.asked.clear()
    line.source.everybody_asks.clear()
    line.source.go.clear()
    relaying = asyncio.create_task(transaction.relay(CONTENT))
    await asyncio.wait_for(line.source.everybody_asks.wait(), 10)
    line.source.go.set()
    await relaying

    assert all(isinstance(copy, Sealed) for copy in line.session.taken)


# --------------------------------------------------------------------------- pins


@pytest.mark.parametrize("encrypt", [Encrypt.ALWAYS, Encrypt.WHEN_POSSIBLE])
async def test_admit_with_a_pinned_key_that_is_gone_refuses(line: DiscoveringLine, encrypt: Encrypt) -> None:
    """`when-possible` does not release to an address that had a key before."""
    line.policy = policy(encrypt=encrypt, release_unusable=True)
    line.book.pins[ALICE] = _pin(ALICE, "curve25519")
    line.source.empty = True

    assert PinnedKeyMissing is await _reply(await line.begin(), ALICE)


async def test_admit_with_a_changed_key_defers(line: DiscoveringLine) -> None:
    """The client keeps the message until somebody has looked at the new key."""
    line.policy = policy(encrypt=Encrypt.WHEN_POSSIBLE, release_unusable=True)
    line.book.pins[ALICE] = _pin(ALICE, "rsa3072")

    assert KeyChangeHeld is await _reply(await line.begin(), ALICE)


async def test_admit_with_a_pinned_key_that_expired_refuses(line: DiscoveringLine) -> None:
    """`unusable_key: release` ends where a key was used before: garbage in its place would lead there."""
    line.policy = policy(encrypt=Encrypt.WHEN_POSSIBLE, release_unusable=True)
    address = next(entry.address for entry in keys.FIXTURES if entry.name == "expired-primary")
    first = await _reply(await line.begin(), str(address))
    line.book.pins[address.key] = _pin(str(address), "expired-primary")

    assert first is None
    assert await _reply(await line.begin(), str(address)) is not None


async def test_admit_with_the_store_down_defers(line: DiscoveringLine) -> None:
    """Nobody can tell whether there was a key before."""
    line.policy = policy(encrypt=Encrypt.WHEN_POSSIBLE)
    line.source.empty = True
    line.book.down = True

    assert KeyLookupFailed is await _reply(await line.begin(), ALICE)


async def test_relay_with_a_pin_that_changes_during_the_upload_sends_nothing(line: DiscoveringLine) -> None:
    """The lookup after a long upload weighs the pin again."""
    transaction = await line.begin()
    await transaction.admit(parse_mailbox(ALICE))
    line.book.pins[ALICE] = replace(_pin(ALICE, "rsa3072"))
    line.clock.advance(301)
    transaction = replace(transaction, parts=line.parts)

    with pytest.raises(KeyChangeHeld):
        await transaction.relay(CONTENT)

    assert [] == line.session.taken


# --------------------------------------------------------------------------- encrypted by the client


def _encrypted_to(name: str) -> bytes:
    cert = pysequoia.Cert.from_bytes(keys.certificate(name).data)
    armored = bytes(pysequoia.encrypt(recipients=[cert], bytes=b"secret")).replace(b"\n", b"\r\n")
    return b"From: sender@example.com\r\n\r\n" + armored


@pytest.mark.parametrize("change", [KeyChange.HOLD, KeyChange.REFUSE])
async def test_relay_of_what_was_encrypted_to_a_key_in_doubt_refuses(
    line: DiscoveringLine, change: KeyChange
) -> None:
    """`accept_encrypted` does not let a message pass to the key that nobody has approved."""
    line.policy = policy(accept_encrypted=True, key_change=change)
    line.book.pins[ALICE] = _pin(ALICE, "rsa3072")

    with pytest.raises(NotEncryptedForRecipient):
        await line.send(_encrypted_to("curve25519"), ALICE)

    assert [] == line.session.taken


@pytest.mark.parametrize(("name", "count"), [("curve25519", 1), ("rsa3072", 0)])
async def test_relay_of_what_was_encrypted_while_the_pinned_key_is_missing(
    line: DiscoveringLine, name: str, count: int
) -> None:
    """What the client encrypted to the pinned key passes, and to no other."""
    line.policy = policy(accept_encrypted=True)
    line.book.pins[ALICE] = _pin(ALICE, "curve25519")
    line.source.empty = True

    with contextlib.suppress(NotEncryptedForRecipient):
        await line.send(_encrypted_to(name), ALICE)

    assert count == len(line.session.taken)


def test_acceptable_of_a_conflict_is_the_pinned_key() -> None:
    """The other key, and those that nobody has chosen, are in doubt with it."""
    pinned, other = (Verdict(keys.certificate(name), True, "") for name in ("rsa3072", "curve25519"))
    calm = Lookup(LookupResult.UNUSABLE, verdicts=(other, pinned), pin=_pin(ALICE, "rsa3072"))

    assert (other, pinned) == _acceptable(calm)
    assert (pinned,) == _acceptable(replace(calm, conflict=PinConflict.HELD))
