"""`relay keys list` and `show`: certificates that are known, with their verdicts. Nobody is asked."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import collection
from relay.key_commands.arguments import squeezed
from relay.key_commands.opening import finish, judge_of, local_sources, opened_sources, run
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from rich.table import Table

    from relay.build import LoadedSource
    from relay.config import Config
    from relay.message import Address, Certificate

# --------------------------------------------------------------------------- list


@click.command("list")
@config_option
@click.option("--cached", "with_cached", is_flag=True, help="Also what sources outside of this machine gave.")
def list_(config_file: Path, with_cached: bool) -> None:
    """List every certificate of every local source, one line for each address.

    The verdict is the one that mail to this address would get. Exits with 1 if a source cannot be read.
    """
    from relay.clock import SystemClock

    config = load_config(config_file)
    groups, failures = run(everything(config, with_cached=with_cached))
    console().print(_listing(collection.judged(groups, judge_of(config), SystemClock().now())))
    finish(failures)


async def everything(config: Config, *, with_cached: bool) -> tuple[dict[str, list[Certificate]], list[str]]:
    """The certificates by address, and what could not be read. Raises StoreUnavailable."""
    found, failures = await collection.ask_all(local_sources(config).values(), lambda source: source.all())
    groups = collection.by_address(found)
    if with_cached and config.needs_store:
        async with opened_sources(config) as sources:
            cached, unreadable = await collection.cached(sources)
        return collection.merged(groups, cached), failures + unreadable
    return groups, failures


def _listing(entries: list[collection.Judged]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from relay.explain import plain, verdict_text

    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for name in ("address", "fingerprint", "source", "verdict"):
        table.add_column(name, overflow="fold", no_wrap=name == "fingerprint")
    for entry in entries:
        fingerprint = entry.verdict.certificate.fingerprint or "-"
        cells = (entry.address_key, fingerprint, ",".join(entry.sources), verdict_text(entry.verdict))
        table.add_row(*map(plain, cells))
    return table


# --------------------------------------------------------------------------- show


@click.command()
@config_option
@click.argument("wanted", metavar="FINGERPRINT|ADDRESS")
def show(config_file: Path, wanted: str) -> None:
    """Show the certificates of an address, or the one with a fingerprint, with verdict and subkeys.

    Local sources are read; of sources outside of this machine, what is kept about an address is shown.
    `relay keys lookup` asks them.

    \b
    Examples:
      relay keys show bob@example.com
      relay keys show 'D1A6 6E1A 23B1 82C9 980F  788C FBFC C82A 015E 7330'

    Exits with 1 if there is none, or if a source cannot be read.
    """
    from relay.clock import SystemClock
    from relay.explain import add_verdict, two_columns

    config = load_config(config_file)
    address, ask = wanted_by(wanted)
    found, failures = run(_known(config, address, ask))
    for verdict in judge_of(config).judge(found, address, SystemClock().now()):
        table = two_columns()
        add_verdict(table, verdict)
        console().print(table)
    if not found:
        failures.append(f"no source that can be read has a certificate for {wanted}")
    finish(failures)


def wanted_by(
    text: str,
) -> tuple[Address | None, Callable[[LoadedSource], Awaitable[list[Certificate]]]]:
    """The address, None for a fingerprint, and how a local source is asked for it."""
    from relay.address import parse_mailbox

    if "@" not in text:
        fingerprint = squeezed(text)
        return None, lambda source: source.find_fingerprint(fingerprint)
    try:
        address = parse_mailbox(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not a mail address: {exc}") from exc
    return address, lambda source: source.find(address)


async def _known(
    config: Config,
    address: Address | None,
    ask: Callable[[LoadedSource], Awaitable[list[Certificate]]],
) -> tuple[list[Certificate], list[str]]:
    from relay.errors import KeySourceUnavailable

    found, failures = await collection.ask_all(local_sources(config).values(), ask)
    if address is None or not config.needs_store:
        return found, failures
    async with opened_sources(config) as sources:
        for name, listed in sources.listed.items():
            try:
                found += await listed.cached.recall(address) if listed.cached else []
            except KeySourceUnavailable as exc:
                failures.append(f"what {name} answered before cannot be read: {exc}")
    return found, failures
