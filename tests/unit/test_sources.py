"""Tests of `relay/sources.py`: the sources as one thing that is opened, follows the store, and is closed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay import config, sources
from relay.address import parse_mailbox
from relay.clock import SystemClock
from relay.errors import StoreUnavailable
from relay.lookup import KeyFinder
from relay.message import LookupResult, PinConflict
from relay.remembered import Pin, Trust
from relay.store.changes import EVERYTHING
from tests.fakes import FixedClock, ListJournal

LOCAL = """\
hostname: relay.example.com
listen: [{address: "127.0.0.1:0", tls: none}]
auth: {type: none}
next_hop: {address: "127.0.0.1:25", tls: none}
keys: {folder: {type: directory, path: keys}}
policy: {default: {keys: [folder]}}
"""
REMOTE = LOCAL.replace("path: keys}}", "path: keys}, web: {type: wkd, unreachable_means: none}}") + (
    'store: {url: "sqlite:///relay.db"}\n'
)
BOB = parse_mailbox("bob@example.com")


def _load(tmp_path: Path, text: str) -> config.Config:
    (tmp_path / "keys").mkdir(exist_ok=True)
    (tmp_path / "relay.yaml").write_text(text)
    return config.load(tmp_path / "relay.yaml", os.environ)


@pytest.fixture
def local(tmp_path: Path) -> config.Config:
    """One folder."""
    return _load(tmp_path, LOCAL)


@pytest.fixture
def remote(tmp_path: Path) -> config.Config:
    """A folder, a web source, and a store."""
    return _load(tmp_path, REMOTE)


@pytest.fixture
def damaged(remote: config.Config, tmp_path: Path) -> config.Config:
    """The same, with a file that is no database."""
    (tmp_path / "relay.db").write_bytes(b"this is no database, and long enough to be read as one" * 40)
    return remote


class TickingClock(FixedClock):
    """Sleeps until the test ticks."""

    def __init__(self) -> None:
        super().__init__()
        self.ticks: asyncio.Queue[None] = asyncio.Queue()
        self.sleeping = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        if seconds > 1:  # the refresh of keys, which is not meant here
            await asyncio.Event().wait()
        self.sleeping.set()
        await self.ticks.get()
        self.advance(seconds)

    async def tick(self) -> None:
        """Lets one second pass, and what is done then."""
        await self.sleeping.wait()
        self.sleeping.clear()
        self.ticks.put_nowait(None)
        await self.sleeping.wait()


def _pin(fingerprint: str) -> Pin:
    return Pin(BOB.key, fingerprint, "web", Trust.WKD, b"certificate", FixedClock().now())


async def test_make_with_local_sources_opens_no_store(local: config.Config) -> None:
    """A relay with keys of its own needs no database, and loads none of its libraries."""
    made = await sources.make(local, FixedClock(), ListJournal())

    assert (None, None, None, ["folder"]) == (made.store, made.pins, made.learner, list(made.listed))


def test_make_with_local_sources_loads_no_library_for_others(tmp_path: Path) -> None:
    """Half a second and forty megabytes are for those who need them."""
    _load(tmp_path, LOCAL)
    program = (
        "import asyncio, os, sys; from pathlib import Path; from relay import app, config, sources;"
        "from relay.clock import SystemClock; from relay.journal import LogJournal;"
        f"loaded = config.load(Path({str(tmp_path / 'relay.yaml')!r}), os.environ);"
        "asyncio.run(sources.make(loaded, SystemClock(), LogJournal()));"
        "libraries = ('aiohttp', 'sqlalchemy', 'ldap3', 'dns', 'cryptography');"
        "print([name for name in libraries if name in sys.modules])"
    )

    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "[]" == printed.stdout.strip()


async def test_make_lists_each_source_with_what_the_configuration_says(remote: config.Config) -> None:
    """Trust, and what an outage means, stand beside the source."""
    async with sources.opened(remote, FixedClock(), ListJournal()) as made:
        folder, web = made.listed["folder"], made.listed["web"]

    assert (Trust.MANUAL, None, False) == (folder.trust, folder.cached, folder.failure_is_none)
    assert (Trust.WKD, web.source, True) == (web.trust, web.cached, web.failure_is_none)


async def test_opened_with_a_store_that_cannot_be_opened_raises(damaged: config.Config) -> None:
    """A command of the administrator says so instead of telling half of the truth."""

    with pytest.raises(StoreUnavailable):
        async with sources.opened(damaged, FixedClock(), ListJournal()):
            pytest.fail("it was opened")


async def test_load_with_a_store_that_cannot_be_opened_goes_on(damaged: config.Config) -> None:
    """A relay serves those whose keys lie in its folder, and says what is wrong."""
    journal = ListJournal()
    made = await sources.make(damaged, FixedClock(), journal)

    await made.load(journal)
    found = await made.listed["folder"].source.find(BOB)
    await made.close()

    assert ([], 1) == (found, journal.names().count("store_failed"))


async def test_keep_follows_what_another_process_writes(remote: config.Config) -> None:
    """A pin that a command replaced is seen a second later, without a restart."""
    loaded, clock = remote, TickingClock()
    async with (
        sources.opened(loaded, clock, ListJournal()) as made,
        sources.opened(loaded, SystemClock(), ListJournal()) as other,
    ):
        assert made.pins is not None and made.book is not None and other.book is not None
        made.pins._remember(await made.book.pin_first(_pin("A" * 40)))
        keeping = asyncio.create_task(made.keep(clock, ListJournal()))
        await clock.tick()
        made.pins._remember(await made.book.pin_of(BOB.key))
        await other.book.replace_pin("A" * 40, _pin("B" * 40))
        await clock.tick()
        remembered = dict(made.pins._remembered)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    assert {} == remembered


async def test_keep_reports_a_store_that_is_away_once(remote: config.Config) -> None:
    """An outage is one line when it begins and one when it ends, not one a second."""
    clock, journal = TickingClock(), ListJournal()
    async with sources.opened(remote, clock, ListJournal()) as made:
        assert made.store is not None
        poll, down = made.store.changes.poll, [True, True, False]

        async def unreliable() -> list[str]:
            if down and down.pop(0):
                raise StoreUnavailable("away")
            return await poll()

        made.store.changes.poll = unreliable  # type: ignore[method-assign]
        keeping = asyncio.create_task(made.keep(clock, journal))
        for _ in range(3):
            await clock.tick()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    assert ["store_failed", "store_back"] == journal.names()


async def test_keep_after_a_bug_forgets_everything_and_goes_on(remote: config.Config) -> None:
    """A relay that no longer followed would serve for days what an administrator has forgotten."""
    clock, journal = TickingClock(), ListJournal()
    async with sources.opened(remote, clock, ListJournal()) as made:
        assert made.store is not None and made.pins is not None and made.book is not None
        made.pins._remember(await made.book.pin_first(_pin("A" * 40)))
        poll, bugs = made.store.changes.poll, [RuntimeError("no thread"), RuntimeError("no thread")]

        async def buggy() -> list[str]:
            if bugs:
                raise bugs.pop()
            return await poll()

        made.store.changes.poll = buggy  # type: ignore[method-assign]
        keeping = asyncio.create_task(made.keep(clock, journal))
        await clock.tick()
        remembered, is_over = dict(made.pins._remembered), keeping.done()
        await clock.tick()
        await clock.tick()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    assert ({}, False, []) == (remembered, is_over, bugs)
    assert [("unexpected", {"id": "", "exception": "RuntimeError"})] == journal.events


# --------------------------------------------------------------------------- without the last remote source


RELEASING = LOCAL.replace("keys: [folder]", "keys: [folder], encrypt: when-possible") + (
    'store: {url: "sqlite:///relay.db"}\n'
)


async def test_make_without_its_last_remote_source_still_weighs_pins(
    remote: config.Config, tmp_path: Path
) -> None:
    """To an address that had a key nothing leaves in clear, whichever source is removed from `keys:`."""
    clock, journal = FixedClock(), ListJournal()
    async with sources.opened(remote, clock, journal) as before:
        assert before.book is not None
        await before.book.pin_first(_pin("A" * 40))
    local = await asyncio.to_thread(_load, tmp_path, RELEASING)
    async with sources.opened(local, clock, journal) as made:
        await made.load(journal)
        finder = KeyFinder(made.listed, made.judge, clock, pins=made.pins)
        lookup = await finder.find(BOB, local.policy.rule_for(None, BOB))

    assert (LookupResult.UNUSABLE, PinConflict.MISSING) == (lookup.result, lookup.conflict)


async def test_changed_everything_forgets_everything(remote: config.Config) -> None:
    """Where it cannot be told what changed, nothing in memory is believed."""
    async with sources.opened(remote, FixedClock(), ListJournal()) as made:
        assert made.pins is not None and made.book is not None
        made.pins._remember(await made.book.pin_first(_pin("A" * 40)))
        made.changed(["somebody@else.example"])
        kept = len(made.pins._remembered)
        made.changed([EVERYTHING])

        assert (1, 0) == (kept, len(made.pins._remembered))
