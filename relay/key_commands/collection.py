"""What is known without asking anybody: the certificates of local sources, those cached, and those learned.

A list never hides that a source could not be read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay.build import LoadedSource
    from relay.message import Certificate, Verdict
    from relay.remembered import CacheEntry
    from relay.seams import KeyJudge
    from relay.sources import Sources

NO_ADDRESS = "-"
"""Stands for the address of a certificate that names none."""

_MAX_ENTRIES = 100_000
"""Of one source; a relay that writes to more people has other tools."""

FAR_PAST = datetime(1970, 1, 1, tzinfo=UTC)
FAR_FUTURE = datetime(9000, 1, 1, tzinfo=UTC)


async def ask_all(
    sources: Iterable[LoadedSource], ask: Callable[[LoadedSource], Awaitable[list[Certificate]]]
) -> tuple[list[Certificate], list[str]]:
    """The certificates from all sources, and a sentence for each source that could not be asked."""
    from relay.errors import KeySourceUnavailable

    found: list[Certificate] = []
    failures: list[str] = []
    for source in sources:
        try:
            found.extend(await ask(source))
        except KeySourceUnavailable as exc:
            failures.append(f"{source.name} cannot be asked: {exc}")
    return found, failures


async def kept_entries(sources: Sources, name: str, used_after: datetime = FAR_PAST) -> list[CacheEntry]:
    """What is kept of one source and was needed after a moment. Raises StoreUnavailable."""
    if sources.cache is None:
        return []
    return await sources.cache.due(name, FAR_FUTURE, used_after, _MAX_ENTRIES)


async def cached(sources: Sources) -> tuple[dict[str, list[Certificate]], list[str]]:
    """The certificates in the store, by the `Address.key` they were found for, and what cannot be read.

    Raises:
        StoreUnavailable: the store could not be read.
    """
    from relay.keys.entries import parse
    from relay.mime.packets import Malformed

    groups: dict[str, list[Certificate]] = {}
    failures = []
    for name, listed in sources.listed.items():
        for entry in await kept_entries(sources, name) if listed.cached else ():
            try:
                groups.setdefault(_address_key(entry), []).extend(parse(entry))
            except Malformed as exc:
                failures.append(f"what {name} answered about {entry.address} cannot be read: {exc}")
        await _add_learned(sources, name, groups, failures)
    return groups, failures


async def _add_learned(
    sources: Sources, name: str, groups: dict[str, list[Certificate]], failures: list[str]
) -> None:
    """What messages taught, if that is what this source gives."""
    from relay.errors import KeySourceUnavailable
    from relay.keys.autocrypt import LearnedSource, certificates_of

    if sources.learned is None or not isinstance(sources.listed[name].source, LearnedSource):
        return
    for key in await sources.learned.all(_MAX_ENTRIES):
        try:
            groups.setdefault(key.address_key, []).extend(certificates_of(key, name))
        except KeySourceUnavailable as exc:
            failures.append(str(exc))


def _address_key(entry: CacheEntry) -> str:
    """`Address.key` of the address that was asked for; an entry about a fingerprint has none."""
    from relay.address import parse_mailbox

    try:
        return parse_mailbox(entry.address).key
    except ValueError:
        return NO_ADDRESS


def by_address(certificates: Iterable[Certificate]) -> dict[str, list[Certificate]]:
    """The certificates of local sources by each `Address.key` that they name."""
    from relay.keys.index import address_keys

    groups: dict[str, list[Certificate]] = {}
    for certificate in certificates:
        for key in address_keys(certificate) or {NO_ADDRESS}:
            groups.setdefault(key, []).append(certificate)
    return groups


def merged(*parts: dict[str, list[Certificate]]) -> dict[str, list[Certificate]]:
    """One mapping of several; certificates of the first stand first."""
    groups: dict[str, list[Certificate]] = {}
    for part in parts:
        for key, certificates in part.items():
            groups.setdefault(key, []).extend(certificates)
    return groups


@dataclass(frozen=True, slots=True)
class Judged:
    """A certificate under one of its addresses."""

    address_key: str
    verdict: Verdict
    sources: tuple[str, ...]
    """Names of all sources that have a copy of it."""


def judged(groups: dict[str, list[Certificate]], judge: KeyJudge, now: datetime) -> list[Judged]:
    """One for each certificate of each address, sorted by address; copies of one certificate are merged.

    It blocks for as long as judging takes: not for an event loop.
    """
    from relay.address import parse_mailbox

    return [
        Judged(key, verdict, _sources_of(verdict, groups[key]))
        for key in sorted(groups)
        for verdict in judge.judge(groups[key], None if key == NO_ADDRESS else parse_mailbox(key), now)
    ]


def _sources_of(verdict: Verdict, copies: list[Certificate]) -> tuple[str, ...]:
    fingerprint = verdict.certificate.fingerprint
    if not fingerprint:
        return (verdict.certificate.source,)
    return tuple(dict.fromkeys(copy.source for copy in copies if copy.fingerprint == fingerprint))
