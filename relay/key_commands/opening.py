"""Opens what the key commands work on: the local sources, and everything with the store behind it.

Both may be done while a relay runs. Where the store cannot be used, a command ends with one line and exit
code 1, before it has told anything that would not be the whole truth.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from relay.build import LoadedSource
    from relay.config import Config
    from relay.openpgp.judge import Judge
    from relay.seams import Journal
    from relay.sources import Sources

_T = TypeVar("_T")


def local_sources(config: Config) -> dict[str, LoadedSource]:
    """The key sources of this machine; what they report goes to standard error. No store is opened."""
    from relay.build import build_keys
    from relay.clock import SystemClock

    return build_keys(config, SystemClock(), _journal())


@asynccontextmanager
async def opened_sources(config: Config) -> AsyncIterator[Sources]:
    """Every source and what is remembered. Raises StoreUnavailable, or click.ClickException for files."""
    from relay import sources
    from relay.clock import SystemClock

    await asyncio.to_thread(_refuse_to_make_store_as_root, config)
    async with AsyncExitStack() as stack:
        try:
            everything = await stack.enter_async_context(sources.opened(config, SystemClock(), _journal()))
        except (OSError, ValueError) as exc:  # a CA file that was in order when the configuration was checked
            raise click.ClickException(clean(f"the key sources cannot be opened: {exc}")) from exc
        yield everything


def _journal() -> Journal:
    from relay.journal import LogJournal, start_logging

    start_logging(json_lines=False, level="warning")
    return _WithoutQueries(LogJournal())


@dataclass(frozen=True, slots=True)
class _WithoutQueries:
    """A journal that leaves out which queries failed: the command itself tells it, in a line for people."""

    journal: Journal

    def record(self, event: str, *, id: str = "", **fields: str | int | float | bool) -> None:
        """One event."""
        if event != "key_query_failed":
            self.journal.record(event, id=id, **fields)


def _refuse_to_make_store_as_root(config: Config) -> None:
    """Root would leave a database that the relay's user cannot write."""
    path = config.store.path
    if (
        path is None
        or not config.needs_store
        or os.geteuid() != 0
        or path.exists()
        or not path.parent.exists()
    ):
        return
    owner = path.parent.stat().st_uid
    if owner != 0:
        raise click.ClickException(
            f"{path} does not exist yet, and its folder belongs to user {owner};"
            " run this command as that user, or start the relay first"
        )


def judge_of(config: Config) -> Judge:
    """The judge whose verdicts are those that mail would get."""
    from relay.openpgp.judge import Judge

    return Judge()


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """What the coroutine returns; where the store fails, the command ends with one line."""
    import relay.explain
    import relay.sources  # noqa: F401 - loading modules reads the disk, which is not for an event loop
    from relay.errors import StoreUnavailable

    try:
        return asyncio.run(work)
    except StoreUnavailable as exc:
        raise click.ClickException(clean(f"the store cannot be used: {exc}")) from exc


def finish(failures: Iterable[str], *, found_problems: bool = False) -> None:
    """Says what is missing from what was printed; then, or if problems were found, the exit code is 1."""
    told = False
    for failure in failures:
        click.echo(clean(failure), err=True)
        told = True
    if told or found_problems:
        sys.exit(1)


def remark(text: str) -> None:
    """A line for somebody at a terminal. Cron would send it by mail, although nothing is to be done."""
    if sys.stderr.isatty():
        click.echo(text, err=True)


def without_store() -> NoReturn:
    """Ends a command that has nothing to work on."""
    raise click.ClickException(
        "every key source of the configuration is on this machine, so nothing is remembered in a store"
    )


def clean(text: str) -> str:
    """Text of strangers in one line without control characters."""
    from relay.explain import plain

    return plain(text).plain


# --------------------------------------------------------------------------- for `relay check`


async def unreadable_sources(config: Config) -> list[str]:
    """One sentence for each local key source, or file of one, that cannot be read now, and for the store."""
    from relay.errors import KeySourceUnavailable
    from relay.keys.directory import DirectorySource

    problems = []
    for name, source in local_sources(config).items():
        try:
            await source.load()
            broken = await source.problems() if isinstance(source, DirectorySource) else []
            problems += [f"keys.{name}: {problem}" for problem in broken]
        except KeySourceUnavailable as exc:
            problems.append(f"keys.{name} cannot be read, so mail that needs it is answered 451: {exc}")
    return problems + await _store_problems(config)


async def _store_problems(config: Config) -> list[str]:
    """Whether the store opens. An SQLite file that is not there yet is left to the relay to make."""
    from relay.errors import StoreUnavailable

    path = config.store.path
    if not config.needs_store or (path is not None and not await asyncio.to_thread(path.exists)):
        return []
    try:
        async with opened_sources(config):
            return []
    except StoreUnavailable as exc:
        return [f"store cannot be used, so mail that needs keys from outside is answered 451: {exc}"]
