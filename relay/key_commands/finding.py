"""What is known about one address, or of one fingerprint, without asking anybody outside of this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from relay.key_commands import arguments, collection
from relay.key_commands.opening import local_sources, opened_sources

if TYPE_CHECKING:
    from relay.build import LoadedSource
    from relay.config import Config
    from relay.message import Address, Certificate
    from relay.remembered import PendingKey, Pin
    from relay.sources import Sources


def wanted_by(text: str) -> tuple[Address | None, str]:
    """An address and no fingerprint, or no address and a full fingerprint; or a usage error."""
    from relay.address import parse_mailbox

    if "@" not in text:
        digits = arguments.squeezed(text)
        if not arguments.is_fingerprint(digits):
            raise click.BadParameter(
                f"{text!r} is neither a mail address nor a full fingerprint, which has 40 or 64 hex digits"
            )
        return None, digits
    try:
        return parse_mailbox(text), ""
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not a mail address: {exc}") from exc


async def known(
    config: Config, address: Address | None, fingerprint: str
) -> tuple[list[Certificate], list[str]]:
    """Local, cached, pinned and pending certificates, each copy once, and what could not be read."""
    from relay.errors import StoreUnavailable

    found, failures = await collection.ask_all(
        local_sources(config).values(), _question(address, fingerprint)
    )
    if config.needs_store:
        try:
            async with opened_sources(config) as sources:
                more, problems = await _remembered(sources, address, fingerprint)
        except StoreUnavailable as exc:
            more, problems = [], [f"the store cannot be used: {exc}"]
        found, failures = found + more, failures + problems
    return _distinct(found), failures


def _question(
    address: Address | None, fingerprint: str
) -> Callable[[LoadedSource], Awaitable[list[Certificate]]]:
    if address:
        return lambda source: source.find(address)
    return lambda source: source.find_fingerprint(fingerprint)


async def _remembered(
    sources: Sources, address: Address | None, fingerprint: str
) -> tuple[list[Certificate], list[str]]:
    """What the store has: cached, pinned and pending. Raises StoreUnavailable.

    A pin is found by its address: for a fingerprint, those of all cached and pending addresses are looked at.
    """
    if address:
        found, failures = await _recalled(sources, address)
        return found + await _from_book(sources, {address.key}, address.key), failures
    groups, failures = await collection.cached(sources)
    found = [certificate for group in groups.values() for certificate in group]
    found += await _from_book(sources, set(groups), "")
    return [certificate for certificate in found if certificate.fingerprint == fingerprint], failures


async def _recalled(sources: Sources, address: Address) -> tuple[list[Certificate], list[str]]:
    from relay.errors import KeySourceUnavailable

    found: list[Certificate] = []
    failures = []
    for name, listed in sources.listed.items():
        try:
            found += await listed.cached.recall(address) if listed.cached else []
        except KeySourceUnavailable as exc:
            failures.append(f"what {name} answered before cannot be read: {exc}")
    return found, failures


async def _from_book(sources: Sources, address_keys: set[str], pending_of: str) -> list[Certificate]:
    if sources.book is None:
        return []
    pending = await sources.book.pending(pending_of)
    keys = address_keys | {key.address_key for key in pending}
    pins = [pin for key in sorted(keys) if (pin := await sources.book.pin_of(key))]
    return [
        *(_certificate(pin, "pinned") for pin in pins),
        *(_certificate(key, key.state.value) for key in pending),
    ]


def _certificate(remembered: Pin | PendingKey, state: str) -> Certificate:
    """With its User IDs, and with the state beside the name of the source."""
    from relay.message import Certificate
    from relay.mime.packets import Malformed, certificates

    source = f"{remembered.source} ({state})"
    try:
        [read] = certificates(remembered.certificate, source)
    except (Malformed, ValueError):  # damaged: the judge says so
        return Certificate(remembered.certificate, remembered.fingerprint, (), source)
    return replace(read, fingerprint=remembered.fingerprint)


def _distinct(certificates: Iterable[Certificate]) -> list[Certificate]:
    """The first of equal copies: a pin that its source still gives is shown with the source."""
    kept: dict[bytes, Certificate] = {}
    for certificate in certificates:
        kept.setdefault(certificate.data, certificate)
    return list(kept.values())
