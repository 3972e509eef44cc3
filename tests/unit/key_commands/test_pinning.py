"""Tests of `relay/key_commands/pinning.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import click
import pytest

from relay.clock import SystemClock
from relay.config import load
from relay.key_commands.pinning import approve, forget, pending, reject
from relay.lookup import KeyFinder, Listed
from relay.message import Address, Lookup, PinConflict
from relay.openpgp.judge import Judge
from relay.pins import Pins
from relay.remembered import PendingState, Trust
from relay.rule import Rule
from relay.sources import opened
from tests import keys
from tests.fakes import ListJournal
from tests.unit.key_commands.desk import BOB, Desk
from tests.unit.keys.certs import cert, fingerprint

OLD, NEW = cert("bob@example.com"), cert("bob@example.com")


def test_pending_shows_both_fingerprints_and_where_the_new_one_is_from(desk: Desk) -> None:
    """One line for each key, whatever became of it."""
    desk.pin(OLD)
    desk.wait(NEW)

    result = desk.run(pending)

    assert 0 == result.exit_code, result.output
    assert [
        ["address", "pinned", "new", "source", "trust", "since", "state"],
        [
            *("bob@example.com", fingerprint(OLD), fingerprint(NEW)),
            *("dns", "dnssec", "2026-05-02T00:00Z", "waiting"),
        ],
    ] == [line.split() for line in result.output.splitlines()]


def test_pending_as_json_has_every_key_of_its_contract(desk: Desk) -> None:
    """Full fingerprints, and the moment with its offset."""
    desk.pin(OLD)
    desk.wait(NEW)

    assert {
        "pending": [
            {
                "address": "bob@example.com",
                "pinned": fingerprint(OLD),
                "fingerprint": fingerprint(NEW),
                "source": "dns",
                "trust": "dnssec",
                "since": "2026-05-02T00:00:00+00:00",
                "state": "waiting",
            }
        ]
    } == json.loads(desk.run(pending, "--json").stdout)


@pytest.mark.parametrize("name", ["desk", "local"])
def test_pending_of_nothing_is_silent(name: str, request: pytest.FixtureRequest) -> None:
    """With a store, and without one; so that cron sends a mail only if there is something to decide."""
    result = request.getfixturevalue(name).run(pending)

    assert (0, "") == (result.exit_code, result.output)


@pytest.mark.parametrize(
    ("command", "state"), [(approve, PendingState.APPROVED), (reject, PendingState.REJECTED)]
)
def test_decision_is_written_to_the_store(desk: Desk, command: click.Command, state: PendingState) -> None:
    """Where a running relay finds it; both keys are shown. Fingerprints may be typed as people write them."""
    desk.pin(OLD)
    name = desk.wait(NEW)
    spaced = " ".join(name[at : at + 4] for at in range(0, 40, 4)).lower()

    result = desk.run(command, "BOB@example.com", spaced)

    assert 0 == result.exit_code, result.output
    assert [state] == desk.states()
    lines = dict(line.strip().split(maxsplit=1) for line in result.output.splitlines())
    assert f"{fingerprint(OLD)}, since 2026-05-01, from web (trust wkd)" == lines["pinned"]
    assert f"{name}, from dns (trust dnssec)" == lines[state.value]
    assert "usable" == lines["verdict"]


def test_approve_of_an_unusable_key_says_that_it_will_not_help(desk: Desk) -> None:
    """The decision stands: its owner may extend the key."""
    expired = keys.fixture("expired-primary")
    name = desk.wait(expired.certificate.data, expired.address)

    result = desk.run(approve, str(expired.address), name)

    assert (0, [PendingState.APPROVED]) == (result.exit_code, desk.states())
    assert "not usable: expired on 2025-03-01" in result.output


@pytest.mark.parametrize("command", [approve, reject])
def test_decision_about_a_key_that_does_not_wait_exits_with_1(desk: Desk, command: click.Command) -> None:
    """Another address's key, or one that was never seen: nothing is written."""
    name = desk.wait(NEW)

    results = [
        desk.run(command, "carol@example.com", name),
        desk.run(command, "bob@example.com", fingerprint(OLD)),
    ]

    assert [1, 1] == [result.exit_code for result in results]
    assert [PendingState.WAITING] == desk.states()
    assert all("is no key that waits for" in result.stderr for result in results)


@pytest.mark.parametrize("name", ["ABCD1234ABCD1234", "X" * 40, "", "A" * 41])
def test_decision_by_a_short_key_id_is_refused(desk: Desk, name: str) -> None:
    """A key with a given key ID can be made by anybody."""
    result = desk.run(approve, "bob@example.com", name)

    assert 2 == result.exit_code
    assert "is not a full fingerprint" in result.stderr


def test_forget_drops_everything_and_tells_what(desk: Desk) -> None:
    """Cached answers of all sources, the pin, and pending keys; other addresses stay."""
    desk.pin(OLD)
    desk.pin(OLD, keys.fixture("curve25519").address)
    name = desk.wait(NEW)
    desk.web.keep(BOB, OLD)
    desk.dns.keep(BOB, NEW)
    desk.learn(NEW)

    result = desk.run(forget, "bob@example.com")

    assert 0 == result.exit_code, result.output
    assert ({}, {}, ["curve25519@example.com"]) == (desk.cache.kept, desk.book.keys, list(desk.book.pins))
    assert {} == desk.learned.rows
    assert [
        f"forgot the pinned key {fingerprint(OLD)}, since 2026-05-01, from web (trust wkd)",
        f"forgot the waiting key {name} from dns",
        "forgot the key that was learned from a message",
        "forgot 2 cached answers",
        "The next key that is found for bob@example.com is trusted anew; see it first with:"
        " relay keys lookup bob@example.com",
    ] == result.stdout.splitlines()


def test_forget_of_an_unknown_address_exits_with_1(desk: Desk) -> None:
    """It is probably mistyped."""
    result = desk.run(forget, "bob@example.com")

    assert (1, "Error: nothing is remembered about bob@example.com\n") == (result.exit_code, result.stderr)


def test_forget_keeps_the_pin_if_the_cache_cannot_be_dropped(desk: Desk) -> None:
    """Half of it would let an old answer be trusted as a first key."""
    desk.pin(OLD)
    desk.cache.down = True

    result = desk.run(forget, "bob@example.com")

    assert 1 == result.exit_code
    assert "Error: the store cannot be used: the store is down\n" == result.stderr
    assert ["bob@example.com"] == list(desk.book.pins)


@pytest.mark.parametrize("command", [approve, reject])
def test_decision_with_the_store_down_says_so_in_one_line(desk: Desk, command: click.Command) -> None:
    """Exit code 1, and nothing that looks like success."""
    desk.broken = "server closed\nthe connection"

    result = desk.run(command, "bob@example.com", fingerprint(NEW))

    assert (1, "") == (result.exit_code, result.stdout)
    assert "Error: the store cannot be used: server closed\N{REPLACEMENT CHARACTER}the connection\n" == (
        result.stderr
    )


@pytest.mark.parametrize("command", [approve, reject, forget])
def test_commands_of_the_store_need_one(local: Desk, command: click.Command) -> None:
    """With local sources alone nothing is remembered."""
    extra = [] if command is forget else [fingerprint(NEW)]

    result = local.run(command, "bob@example.com", *extra)

    assert 1 == result.exit_code
    assert "nothing is remembered in a store" in result.stderr


# --------------------------------------------------------------------------- beside a running relay


class Unforgiving(Judge):
    """No key vouches for another one."""

    def certifies(
        self, old: bytes, new: bytes, address: Address, now: datetime, copies: Sequence[bytes] = ()
    ) -> bool:
        return False


@asynccontextmanager
async def _relay(desk: Desk) -> AsyncIterator[Callable[[bytes], Awaitable[Lookup]]]:
    """A lookup of Bob as a relay makes it on the real store, where the web has this key."""
    config, clock, journal = await asyncio.to_thread(load, desk.config, {}), SystemClock(), ListJournal()
    async with opened(config, clock, journal) as sources:
        judge = Unforgiving()
        pins = Pins(sources.store.pins, judge, clock, journal)
        finder = KeyFinder({"web": Listed(desk.web, Trust.WKD, desk.web)}, judge, clock, pins=pins)

        async def find(data: bytes) -> Lookup:
            desk.web.keep(BOB, data)
            pins.changed(await sources.store.changes.poll())
            return await finder.find(BOB, Rule("policy.default", keys=("web",)))

        yield find


def _names(lookup: Lookup) -> list[str]:
    return [verdict.certificate.fingerprint for verdict in lookup.chosen]


async def test_approve_takes_effect_on_a_running_relay(tmp_path: Path) -> None:
    """The store is all that they share; the next message is encrypted to the new key, and it is pinned."""
    desk = Desk(tmp_path)
    async with _relay(desk) as find:
        await find(OLD)
        held = await find(NEW)
        listed = await asyncio.to_thread(desk.run, pending)
        approved = await asyncio.to_thread(desk.run, approve, "bob@example.com", fingerprint(NEW))
        after = await find(NEW)

    assert PinConflict.HELD is held.conflict
    assert [0, 0] == [listed.exit_code, approved.exit_code], approved.output
    assert [fingerprint(OLD), fingerprint(NEW), "waiting"] == [
        listed.stdout.splitlines()[1].split()[at] for at in (1, 2, -1)
    ]
    assert ([fingerprint(NEW)], fingerprint(NEW)) == (_names(after), after.pin and after.pin.fingerprint)


async def test_reject_takes_effect_on_a_running_relay(tmp_path: Path) -> None:
    """What was held is refused from now on; the old key is used again when it comes back."""
    desk = Desk(tmp_path)
    async with _relay(desk) as find:
        await find(OLD)
        await find(NEW)
        rejected = await asyncio.to_thread(desk.run, reject, "bob@example.com", fingerprint(NEW))
        refused, back = await find(NEW), await find(OLD)

    assert 0 == rejected.exit_code, rejected.output
    assert PinConflict.REFUSED is refused.conflict
    assert [fingerprint(OLD)] == _names(back)


async def test_forget_takes_effect_on_a_running_relay(tmp_path: Path) -> None:
    """The next key that is found is the first one again."""
    desk = Desk(tmp_path)
    async with _relay(desk) as find:
        await find(OLD)
        await find(NEW)
        forgotten = await asyncio.to_thread(desk.run, forget, "bob@example.com")
        after = await find(NEW)

    assert 0 == forgotten.exit_code, forgotten.output
    assert ([fingerprint(NEW)], fingerprint(NEW)) == (_names(after), after.pin and after.pin.fingerprint)
