"""`relay keys list`, `show` and `import`: the certificates of the configured key sources.

A list never hides that a source could not be read, and an import never touches a certificate that is already
there other than by adding to it: a copy without a revocation must not replace one with it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from rich.table import Table

    from relay.build import LoadedSource
    from relay.config import Config, KeySourceSettings
    from relay.message import Address, Certificate, Verdict

_MAX_IMPORT_BYTES = 64 << 20


def open_sources(config: Config) -> dict[str, LoadedSource]:
    """The key sources of a configuration; what they report goes to standard error."""
    from relay.build import build_keys
    from relay.clock import SystemClock
    from relay.journal import LogJournal, start_logging

    start_logging(json_lines=False, level="warning")
    return build_keys(config, SystemClock(), LogJournal())


async def unreadable_sources(config: Config) -> list[str]:
    """One sentence for each key source, or file of one, that cannot be read now."""
    from relay.errors import KeySourceUnavailable
    from relay.keys.directory import DirectorySource

    problems = []
    for name, source in open_sources(config).items():
        try:
            await source.load()
            broken = await source.problems() if isinstance(source, DirectorySource) else []
            problems += [f"keys.{name}: {problem}" for problem in broken]
        except KeySourceUnavailable as exc:
            problems.append(f"keys.{name} cannot be read, so mail that needs it is answered 451: {exc}")
    return problems


async def _ask_all(
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


def _judge(certificates: list[Certificate], address: Address | None) -> list[Verdict]:
    from relay.clock import SystemClock
    from relay.openpgp.judge import Judge

    return Judge().judge(certificates, address, SystemClock().now())


def _finish(failures: list[str]) -> None:
    """Says which sources are missing from what was printed; then the exit code is 1."""
    for failure in failures:
        click.echo(failure, err=True)
    if failures:
        sys.exit(1)


# --------------------------------------------------------------------------- list


@click.command("list")
@config_option
def list_(config_file: Path) -> None:
    """List every certificate of every source, one line for each address.

    The verdict is the one that mail to this address would get. Exits with 1 if a source cannot be read.
    """
    config = load_config(config_file)
    found, failures = asyncio.run(_ask_all(open_sources(config).values(), lambda source: source.all()))
    console().print(_listing(found))
    _finish(failures)


def _listing(certificates: list[Certificate]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from relay.explain import plain, verdict_text

    table = Table(box=SIMPLE_HEAD if sys.stdout.isatty() else None, pad_edge=False)
    for name in ("address", "fingerprint", "source", "verdict"):
        table.add_column(name, overflow="fold", no_wrap=name == "fingerprint")
    for address, verdict in _verdicts_by_address(certificates):
        known = verdict.certificate
        cells = (address, known.fingerprint or "-", known.source, verdict_text(verdict))
        table.add_row(*map(plain, cells))
    return table


def _verdicts_by_address(certificates: list[Certificate]) -> list[tuple[str, Verdict]]:
    """Sorted by address; `-` stands for a certificate that names none."""
    from relay.address import parse_mailbox
    from relay.keys.index import address_keys

    groups: dict[str, list[Certificate]] = {}
    for certificate in certificates:
        for key in address_keys(certificate) or {"-"}:
            groups.setdefault(key, []).append(certificate)
    return [
        (key, verdict)
        for key in sorted(groups)
        for verdict in _judge(groups[key], None if key == "-" else parse_mailbox(key))
    ]


# --------------------------------------------------------------------------- show


@click.command()
@config_option
@click.argument("wanted", metavar="FINGERPRINT|ADDRESS")
def show(config_file: Path, wanted: str) -> None:
    """Show the certificates of an address, or the one with a fingerprint, with verdict and subkeys.

    \b
    Examples:
      relay keys show bob@example.com
      relay keys show 'D1A6 6E1A 23B1 82C9 980F  788C FBFC C82A 015E 7330'

    Exits with 1 if there is none, or if a source cannot be read.
    """
    from relay.explain import add_verdict, two_columns

    config = load_config(config_file)
    address, ask = _wanted(wanted)
    found, failures = asyncio.run(_ask_all(open_sources(config).values(), ask))
    for verdict in _judge(found, address):
        table = two_columns()
        add_verdict(table, verdict)
        console().print(table)
    if not found:
        failures.append(f"no source that can be read has a certificate for {wanted}")
    _finish(failures)


def _wanted(text: str) -> tuple[Address | None, Callable[[LoadedSource], Awaitable[list[Certificate]]]]:
    from relay.address import parse_mailbox

    if "@" not in text:
        fingerprint = text.replace(" ", "").removeprefix("0x").upper()
        return None, lambda source: source.find_fingerprint(fingerprint)
    try:
        address = parse_mailbox(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text!r} is not a mail address: {exc}") from exc
    return address, lambda source: source.find(address)


# --------------------------------------------------------------------------- import


@click.command("import")
@config_option
@click.option("--into", "name", metavar="NAME", help="The key source, as the configuration names it.")
@click.argument("files", type=click.File("rb"), nargs=-1, required=True, metavar="FILE...")
def import_(config_file: Path, name: str | None, files: tuple[BinaryIO, ...]) -> None:
    """Add the certificates in FILE to a key source; `-` is standard input.

    Every file is read before anything is added; a secret key, or anything else that is no certificate, is
    refused. The verdict is told, but a certificate that is not usable is added as well: it may carry the
    revocation of one that is there. A running relay sees the change. --into may be left out if there is only
    one source.
    """
    config = load_config(config_file)
    source = _target(config, name)
    certificates = [certificate for file in files for certificate in _certificates(file, source)]
    for certificate in certificates:
        _add(config.keys[source], certificate)
        _tell(certificate, source)


def _target(config: Config, name: str | None) -> str:
    names = ", ".join(config.keys) or "none"
    if name is None and len(config.keys) == 1:
        return next(iter(config.keys))
    if name is None:
        raise click.UsageError(f"say with --into which key source; the configuration has: {names}")
    if name not in config.keys:
        raise click.UsageError(f"there is no key source {name}; the configuration has: {names}")
    return name


def _certificates(file: BinaryIO, source: str) -> list[Certificate]:
    from relay.keys.index import parse
    from relay.mime.packets import Malformed

    data = file.read(_MAX_IMPORT_BYTES + 1)
    if len(data) > _MAX_IMPORT_BYTES:
        raise click.ClickException(
            f"{file.name}: it is larger than {_MAX_IMPORT_BYTES} bytes; nothing was added"
        )
    try:
        found = parse(data, source)
    except Malformed as exc:
        raise click.ClickException(f"{file.name}: {exc}; nothing was added") from exc
    if not all(certificate.fingerprint for certificate in found):
        raise click.ClickException(f"{file.name}: a key of an unknown version; nothing was added")
    return found


def _add(settings: KeySourceSettings, certificate: Certificate) -> None:
    from relay.config import DirectorySource
    from relay.errors import KeySourceUnavailable
    from relay.mime.packets import Malformed

    try:
        if isinstance(settings, DirectorySource):
            _add_to_folder(settings.path, certificate)
        else:
            _add_to_keyring(settings.home, certificate)
    except (OSError, Malformed, KeySourceUnavailable) as exc:
        raise click.ClickException(f"{certificate.fingerprint} was not added: {exc}") from exc


def _add_to_folder(folder: Path, certificate: Certificate) -> None:
    from relay.files import replace_file
    from relay.keys.directory import with_certificate

    path = folder / f"{certificate.fingerprint}.pgp"
    content = path.read_bytes() if path.exists() else b""
    changed = with_certificate(content, certificate)
    if changed != content:
        replace_file(path, changed, mode=0o644)  # public, and the relay may be another user


def _add_to_keyring(home: Path, certificate: Certificate) -> None:
    from relay.keys import gnupg

    owner = home.stat().st_uid
    if owner != os.geteuid():  # gpg would leave a keyring that the relay's user cannot read
        raise click.ClickException(f"{home} belongs to user {owner}; run this command as that user")
    asyncio.run(gnupg.add(gnupg.Gpg(home), certificate))


def _tell(certificate: Certificate, source: str) -> None:
    from relay.explain import plain, verdict_text

    [verdict] = _judge([certificate], None)
    out = console()
    out.print(plain(f"{certificate.fingerprint} added to {source}: {verdict_text(verdict)}"))
    for user_id in certificate.user_ids:
        out.print(plain(f"  {user_id}"))
