"""`relay keys list` and `show`: certificates that are known, with their verdicts. Nobody is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import collection, rows
from relay.key_commands.finding import known, wanted_by
from relay.key_commands.opening import finish, judge_of, local_sources, opened_sources, run
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from relay.config import Config
    from relay.message import Certificate

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
    entries = collection.judged(groups, judge_of(config), SystemClock().now())
    rows.show(console(), ("address", "fingerprint", "source", "verdict"), [_row(entry) for entry in entries])
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


def _row(entry: collection.Judged) -> tuple[str, ...]:
    from relay.explain import verdict_text

    fingerprint = entry.verdict.certificate.fingerprint or "-"
    return entry.address_key, fingerprint, ",".join(entry.sources), verdict_text(entry.verdict)


# --------------------------------------------------------------------------- show


@click.command()
@config_option
@click.argument("wanted", metavar="FINGERPRINT|ADDRESS")
def show(config_file: Path, wanted: str) -> None:
    """Show the certificates of an address, or the one with a fingerprint, with verdict and subkeys.

    Local sources are read. Of sources outside of this machine, what is kept is shown, and so are pinned keys
    and keys that wait for your approval. `relay keys lookup` asks them.

    \b
    Examples:
      relay keys show bob@example.com
      relay keys show 'D1A6 6E1A 23B1 82C9 980F  788C FBFC C82A 015E 7330'

    Exits with 1 if there is none, or if a source cannot be read.
    """
    from relay.clock import SystemClock
    from relay.explain import add_verdict, two_columns

    config = load_config(config_file)
    address, fingerprint = wanted_by(wanted)
    found, failures = run(known(config, address, fingerprint))
    for verdict in judge_of(config).judge(found, address, SystemClock().now()):
        table = two_columns()
        add_verdict(table, verdict)
        console().print(table)
    if not found:
        failures.append(f"no source that can be read has a certificate for {wanted}")
    finish(failures)
