"""Tests of `relay/key_commands/opening.py`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import pytest

from relay.config import Config, load
from relay.errors import StoreUnavailable
from relay.key_commands.opening import (
    finish,
    judge_of,
    local_sources,
    opened_sources,
    run,
    unreadable_sources,
)
from relay.seams import Clock, Journal
from tests import keys
from tests.fakes import FixedClock
from tests.unit.key_commands.desk import Desk


def _config(desk: Desk) -> Config:
    return load(desk.config, {})


def test_local_sources_are_those_of_this_machine(desk: Desk) -> None:
    """No store is needed for them."""
    desk.broken = "must not be opened"

    assert ["folder"] == list(local_sources(_config(desk)))


def test_opened_sources_are_all(desk: Desk) -> None:
    """With the store behind them."""

    config = _config(desk)

    async def work() -> tuple[list[str], object]:
        async with opened_sources(config) as sources:
            return list(sources.listed), sources.book

    assert (["folder", "web", "dns"], desk.book) == run(work())


@pytest.mark.parametrize("fault", [FileNotFoundError(2, "No such file", "ca.pem"), ValueError("no PEM")])
def test_opened_sources_with_a_bad_file_says_so_in_one_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """It was in order when the configuration was read, and is gone now."""
    config = _config(desk)

    @asynccontextmanager
    async def opened(*_parts: object) -> AsyncIterator[None]:
        raise fault
        yield

    monkeypatch.setattr("relay.sources.opened", opened)

    async def work() -> None:
        async with opened_sources(config):
            pass

    with pytest.raises(click.ClickException) as caught:
        run(work())
    assert "the key sources cannot be opened: " in caught.value.message


def test_opened_sources_leave_failed_queries_to_the_command(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It tells them itself; a broken file of keys is still reported."""
    config = _config(desk)

    @asynccontextmanager
    async def opened(_config: Config, _clock: Clock, journal: Journal) -> AsyncIterator[None]:
        journal.record("key_query_failed", source="web")
        journal.record("key_file_broken", source="folder")
        yield

    monkeypatch.setattr("relay.sources.opened", opened)

    async def work() -> None:
        async with opened_sources(config):
            pass

    run(work())

    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("warning key_file_broken source=folder")


def test_run_turns_a_failing_store_into_one_line() -> None:
    """Whatever stands in it."""

    async def work() -> None:
        raise StoreUnavailable("disk \x1b[31mfull")

    with pytest.raises(click.ClickException) as caught:
        run(work())

    assert "the store cannot be used: disk \N{REPLACEMENT CHARACTER}[31mfull" == caught.value.message


@pytest.mark.parametrize(
    ("failures", "found_problems", "code"),
    [([], False, None), ([], True, 1), (["web is down"], False, 1)],
)
def test_finish_says_what_is_missing(
    failures: list[str], found_problems: bool, code: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each failure is a line of standard error; the exit code is 1 if there is one, or a problem."""
    ended = None
    try:
        finish(iter(failures), found_problems=found_problems)
    except SystemExit as exc:
        ended = exc.code

    assert (code, "".join(f"{line}\n" for line in failures)) == (ended, capsys.readouterr().err)


@pytest.mark.parametrize("engine", ["sequoia", "gnupg"])
def test_judge_of_says_the_same_for_every_engine(local: Desk, engine: str) -> None:
    """Keys that GnuPG cannot serve are served without it."""
    local.config.write_text(local.config.read_text() + f"engine: {engine}\n")

    [verdict] = judge_of(_config(local)).judge([keys.certificate("v6")], None, FixedClock().now())

    assert verdict.usable


def test_opened_sources_as_root_makes_no_database_for_another_user(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The relay could not write it; once it is there, root may use it."""
    config = _config(desk)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    owner = os.stat_result((0o40755, 1, 1, 1, 65534, 65534, 0, 0, 0, 0))
    real = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path: owner if path == desk.root else real(path))

    async def work() -> list[str]:
        async with opened_sources(config) as sources:
            return list(sources.listed)

    with pytest.raises(click.ClickException) as caught:
        run(work())
    (desk.root / "relay.db").write_bytes(b"")

    assert "its folder belongs to user 65534" in caught.value.message
    assert ["folder", "web", "dns"] == run(work())


# --------------------------------------------------------------------------- relay check


def test_unreadable_sources_names_files_and_the_store(desk: Desk) -> None:
    """What would make mail wait: each file that is broken, and the database."""
    desk.put("bob.asc", b"garbage")
    desk.broken = "malformed"
    (desk.root / "relay.db").write_bytes(b"")

    found = run(unreadable_sources(_config(desk)))

    broken, store = found
    assert broken.startswith(f"keys.folder: {desk.folder / 'bob.asc'}: ")
    assert "store cannot be used, so mail that needs keys from outside is answered 451: malformed" == store


def test_unreadable_sources_leaves_a_database_that_is_not_there_to_the_relay(desk: Desk) -> None:
    """`relay check` makes no file."""
    desk.broken = "must not be opened"

    assert [] == run(unreadable_sources(_config(desk)))
    assert not (desk.root / "relay.db").exists()


def test_unreadable_sources_without_outside_sources_opens_no_store(local: Desk) -> None:
    """There is none."""
    local.broken = "must not be opened"
    (local.root / "relay.db").write_bytes(b"")

    assert [] == run(unreadable_sources(_config(local)))
