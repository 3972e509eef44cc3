"""`relay keys wkd-hash` and `publish`: the other side of the key source `wkd`, for one's own domains."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import arguments, collection
from relay.key_commands.opening import clean, finish, local_sources
from relay.terminal import config_option, load_config

if TYPE_CHECKING:
    from datetime import datetime

    from relay.config import Config
    from relay.key_commands.wkdtree import Page
    from relay.message import Address, Certificate
    from relay.seams import KeyJudge

# --------------------------------------------------------------------------- wkd-hash


def _addresses(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Address, ...]:
    """Addresses at domains; `[192.0.2.1]` has no key directory."""
    found = arguments.addresses(context, parameter, values)
    for address in found:
        if address.domain.startswith("["):
            raise click.BadParameter(f"{address} has no domain, and so no key directory")
    return found


@click.command("wkd-hash")
@click.argument("addresses", callback=_addresses, nargs=-1, required=True, metavar="ADDRESS...")
def wkd_hash(addresses: tuple[Address, ...]) -> None:
    """Print the WKD hash of each ADDRESS, and the URLs where its key is looked for. Nobody is asked.

    The second URL counts only where the host of the first one does not exist.
    """
    from relay.keys import wkd

    for address in addresses:
        click.echo(clean(f"{address} {wkd.wkd_hash(address.local)}"))
        click.echo(clean(f"  {wkd.advanced_url(address)}"))
        click.echo(clean(f"  {wkd.direct_url(address)}"))


# --------------------------------------------------------------------------- publish


@dataclass(frozen=True, slots=True)
class Domain:
    """What is to be published for one domain."""

    name: str
    pages: dict[str, Page]


@click.command()
@config_option
@click.option(
    "--wkd",
    "root",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Root of the web server for openpgpkey.DOMAIN; .well-known is made in it.",
)
@click.option(
    "--domain",
    "domains",
    multiple=True,
    callback=arguments.domains,
    metavar="DOMAIN",
    help="Publish addresses of this domain only. Repeat for more. Without it: all that have a certificate.",
)
def publish(config_file: Path, root: Path, domains: tuple[str, ...]) -> None:
    """Write the certificates of the local sources as a Web Key Directory, for any web server.

    DIR/.well-known/openpgpkey/DOMAIN/hu/ gets a file for each address, with the usable certificates of that
    address, cut to its User ID, and with those that were published before and have expired or been revoked
    since: whoever fetched them must learn that. Files of addresses that are gone are removed there. Name your
    own domains with --domain, lest the keys of other people are published with yours; and name a domain whose
    last certificate is gone, or its files stay.

    If a local source, or a file of it, cannot be read, nothing is changed and the exit code is 1.

    \b
    Example:
      relay keys publish --wkd /var/www/openpgpkey --domain example.com
    """
    config = load_config(config_file)
    groups = _groups(config)
    failures = []
    for name in domains or sorted({_domain(key) for key in groups}):
        domain = _domain_of(root, name, groups)
        if not domain.pages and not (root / ".well-known" / "openpgpkey" / name).is_dir():
            failures.append(f"{name}: no local source has a certificate for an address there")
        else:
            _write(root, domain)
    finish(failures)


def _groups(config: Config) -> dict[str, list[Certificate]]:
    """The certificates by address; ends the command where they are not known for certain."""
    found, failures = asyncio.run(_read_all(config))
    for failure in failures:
        click.echo(clean(failure), err=True)
    if failures:
        raise click.ClickException("nothing was published, because not every key source can be read")
    groups = collection.by_address(found)
    groups = {key: copies for key, copies in groups.items() if not _domain(key).startswith(("[", "-"))}
    if not groups:
        raise click.ClickException("nothing was published: the local key sources have no certificate at all")
    return groups


async def _read_all(config: Config) -> tuple[list[Certificate], list[str]]:
    """Everything from all local sources. A broken file counts: its addresses would be taken off the web."""
    from relay.errors import KeySourceUnavailable
    from relay.keys.directory import DirectorySource

    sources = local_sources(config)
    found, failures = await collection.ask_all(sources.values(), lambda source: source.all())
    for source in sources.values():
        try:
            broken = await source.problems() if isinstance(source, DirectorySource) else []
            failures += [f"{source.name}: {problem}" for problem in broken]
        except KeySourceUnavailable as exc:
            failures.append(f"{source.name} cannot be asked: {exc}")
    return found, list(dict.fromkeys(failures))


def _domain(address_key: str) -> str:
    return address_key.rpartition("@")[2]


def _domain_of(root: Path, name: str, groups: dict[str, list[Certificate]]) -> Domain:
    from relay.clock import SystemClock
    from relay.openpgp.judge import Judge

    mine = {key: copies for key, copies in groups.items() if _domain(key) == name}
    # Not the judge of our own engine: others may read version 6 keys, even if we encrypt with GnuPG.
    return domain_pages(root, name, mine, Judge(), SystemClock().now())


def domain_pages(
    root: Path, name: str, groups: dict[str, list[Certificate]], judge: KeyJudge, now: datetime
) -> Domain:
    """What the files of a domain are to hold, by what they hold now. Raises click.ClickException."""
    from relay.key_commands import wkdtree

    try:
        return Domain(
            name,
            {
                key: wkdtree.page(key, copies, wkdtree.read(wkdtree.path_of(root, key)), judge, now)
                for key, copies in sorted(groups.items())
            },
        )
    except OSError as exc:
        raise click.ClickException(clean(f"{exc.filename or root}: {exc.strerror or exc}")) from exc


def _write(root: Path, domain: Domain) -> None:
    from relay.key_commands import wkdtree

    try:
        changes = wkdtree.write(root, domain.name, domain.pages)
    except OSError as exc:
        raise click.ClickException(clean(f"{exc.filename or root}: {exc.strerror or exc}")) from exc
    for key, page in domain.pages.items():
        for verdict in page.left_out:
            name = verdict.certificate.fingerprint
            click.echo(clean(f"{key}: {name} is not published: {verdict.sentence}"))
    addresses = sum(bool(page.data) for page in domain.pages.values())
    click.echo(
        f"{domain.name}: addresses published: {addresses}; files written: {changes.written},"
        f" removed: {changes.removed}"
    )
