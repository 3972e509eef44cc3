"""`relay keys refresh`: asks the sources outside of this machine again and tells what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import arguments
from relay.key_commands.collection import kept_entries
from relay.key_commands.opening import finish, judge_of, opened_sources, run, without_store
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from datetime import datetime

    from relay.config import Config
    from relay.message import Address, Certificate, Verdict
    from relay.policy import Policy
    from relay.seams import CachedSource, Clock, KeyJudge
    from relay.sources import Sources

USED_WITHIN = timedelta(days=14)
"""What no message needed for longer is not asked for: each query tells somebody whom we write to."""

_AT_ONCE = 8
"""Queries side by side: a directory server must not take the relay for an attack."""


@dataclass(frozen=True, slots=True)
class Question:
    """One address at one source."""

    source: CachedSource
    address: Address


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What one query brought."""

    source: str
    address: Address
    changes: tuple[str, ...] = ()
    """For people: `new FINGERPRINT: usable`."""
    failure: str = ""
    """Why it could not be asked; what was known is still kept."""


@click.command()
@config_option
@click.argument("wanted", nargs=-1, callback=arguments.addresses, metavar="[ADDRESS]...")
def refresh(config_file: Path, wanted: tuple[Address, ...]) -> None:
    """Ask for the keys of ADDRESS again now, keep the answers, and print what changed.

    Asked are the sources outside of this machine that have answered about it before, and those of its rule.
    Without an ADDRESS: everything that a message needed within the last 14 days. A running relay sees the new
    answers. Exits with 1 if a source cannot be asked; what was known of it is still kept.

    \b
    Examples:
      relay keys refresh bob@partner.example
      relay keys refresh
    """
    config = load_config(config_file)
    if not config.needs_store:
        without_store()
    results = run(_refresh(config, wanted))
    _show(results)
    finish(
        f"{each.source} cannot be asked about {each.address}: {each.failure}"
        for each in results
        if each.failure
    )


async def _refresh(config: Config, wanted: tuple[Address, ...]) -> list[Refreshed]:
    from relay.clock import SystemClock

    clock = SystemClock()
    async with opened_sources(config) as sources:
        if wanted:
            questions = [each for address in wanted for each in await about(sources, config.policy, address)]
        else:
            questions = await in_use(sources, clock.now())
        return await refresh_all(questions, judge_of(config), clock, float(config.limits.lookup_seconds))


# --------------------------------------------------------------------------- what is asked


async def about(sources: Sources, policy: Policy, address: Address) -> list[Question]:
    """The sources that were asked about the address before, and those of its rule.

    Raises:
        StoreUnavailable: the store could not be read.
    """
    entries = await sources.cache.entries(address.key) if sources.cache else []
    names = {*(entry.source for entry in entries), *policy.rule_for(None, address).keys}
    return [
        Question(listed.cached, address)
        for name, listed in sources.listed.items()
        if listed.cached and name in names
    ]


async def in_use(sources: Sources, now: datetime) -> list[Question]:
    """Every address with a key that a message needed lately. Raises StoreUnavailable.

    An entry about a fingerprint has no address; the relay itself refreshes it.
    """
    from relay.address import parse_mailbox

    questions = []
    for name, listed in sources.listed.items():
        if listed.cached is None:
            continue
        for entry in await kept_entries(sources, name, now - USED_WITHIN):
            if entry.address:
                questions.append(Question(listed.cached, parse_mailbox(entry.address)))
    return questions


# --------------------------------------------------------------------------- asking


async def refresh_all(
    questions: Iterable[Question], judge: KeyJudge, clock: Clock, seconds: float
) -> list[Refreshed]:
    """Asks, a few at a time; each query may take `seconds`."""
    places = asyncio.Semaphore(_AT_ONCE)
    asked = list(questions)
    outcomes = await asyncio.gather(*(_ask(question, places, seconds) for question in asked))
    results = []
    for question, (before, after, failure) in zip(asked, outcomes, strict=True):
        verdicts = await asyncio.to_thread(judge.judge, after, question.address, clock.now())
        changes = () if failure else tuple(changes_between(before, after, verdicts))
        results.append(Refreshed(question.source.name, question.address, changes, failure))
    return results


async def _ask(
    question: Question, places: asyncio.Semaphore, seconds: float
) -> tuple[list[Certificate], list[Certificate], str]:
    """What was known, what the source says now, and why it says nothing."""
    from relay.errors import KeySourceUnavailable

    async with places:
        try:
            async with asyncio.timeout(seconds):
                before = await question.source.recall(question.address)
                return before, await question.source.refresh(question.address), ""
        except TimeoutError:
            return [], [], f"no answer within {seconds:g} seconds"
        except KeySourceUnavailable as exc:
            return [], [], str(exc) or "unavailable"


def changes_between(
    before: list[Certificate], after: list[Certificate], verdicts: list[Verdict]
) -> list[str]:
    """What is new, gone, or has other signatures, with the verdict that it has now."""
    old, new = _copies(before), _copies(after)
    texts = {verdict.certificate.fingerprint: _text(verdict) for verdict in verdicts}
    gone = [f"gone {_name(fingerprint)}" for fingerprint in old if fingerprint not in new]
    other = [
        f"{'changed' if fingerprint in old else 'new'} {_name(fingerprint)}: {texts.get(fingerprint, '')}"
        for fingerprint, copies in new.items()
        if copies != old.get(fingerprint)
    ]
    return gone + other


def _text(verdict: Verdict) -> str:
    """With the date of the end: often it is what has changed."""
    from relay.explain import verdict_text

    until = f" until {verdict.expires:%Y-%m-%d}" if verdict.usable and verdict.expires else ""
    return verdict_text(verdict) + until


def _name(fingerprint: str) -> str:
    return fingerprint or "a key of unknown version"


def _copies(certificates: list[Certificate]) -> dict[str, set[bytes]]:
    copies: dict[str, set[bytes]] = {}
    for certificate in certificates:
        copies.setdefault(certificate.fingerprint, set()).add(certificate.data)
    return copies


def _show(results: list[Refreshed]) -> None:
    from relay.explain import plain

    out = console()
    for each in results:
        for change in each.changes:
            out.print(plain(f"{each.address} {each.source}: {change}"))
    changed = sum(bool(each.changes) for each in results)
    failed = sum(bool(each.failure) for each in results)
    out.print(f"queries: {len(results)}; changed: {changed}, failed: {failed}")
