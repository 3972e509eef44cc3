"""`relay keys import`: puts certificates into a source of this machine.

It never touches a certificate that is already there other than by adding to it: a copy without a revocation
must not replace one with it.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from relay.key_commands.opening import judge_of
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from relay.config import Config, DirectorySource, GnupgSource
    from relay.message import Certificate, Verdict

_MAX_IMPORT_BYTES = 64 << 20


@click.command("import")
@config_option
@click.option("--into", "name", metavar="NAME", help="The key source, as the configuration names it.")
@click.argument("files", type=click.File("rb"), nargs=-1, required=True, metavar="FILE...")
def import_(config_file: Path, name: str | None, files: tuple[BinaryIO, ...]) -> None:
    """Add the certificates in FILE to a local key source; `-` is standard input.

    Every file is read before anything is added; a secret key, or anything else that is no certificate, is
    refused. The verdict is told, but a certificate that is not usable is added as well: it may carry the
    revocation of one that is there. A running relay sees the change. --into may be left out if there is only
    one local source.
    """
    config = load_config(config_file)
    source, settings = _target(config, name)
    certificates = [certificate for file in files for certificate in _certificates(file, source, settings)]
    for certificate in certificates:
        _add(settings, certificate)
        _tell(_verdict(config, certificate), source)


def _target(config: Config, name: str | None) -> tuple[str, DirectorySource | GnupgSource]:
    from relay.config import DirectorySource, GnupgSource

    local = {
        known: settings
        for known, settings in config.keys.items()
        if isinstance(settings, DirectorySource | GnupgSource)
    }
    names = ", ".join(local) or "none"
    if name is None and len(local) == 1:
        return next(iter(local.items()))
    if name is None:
        raise click.UsageError(f"say with --into which key source; the configuration has: {names}")
    if name in config.keys and name not in local:
        raise click.UsageError(f"{name} lies outside of this machine; the local key sources are: {names}")
    if name not in local:
        raise click.UsageError(f"there is no key source {name}; the configuration has: {names}")
    return name, local[name]


def _certificates(file: BinaryIO, source: str, settings: DirectorySource | GnupgSource) -> list[Certificate]:
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
    if settings.type == "gnupg" and not all(map(_is_version_4, found)):
        raise click.ClickException(
            f"{file.name}: GnuPG does not know version 6 certificates; import it into a source of type"
            " directory. Nothing was added"
        )
    return found


def _is_version_4(certificate: Certificate) -> bool:
    return len(certificate.fingerprint) == 40


def _add(settings: DirectorySource | GnupgSource, certificate: Certificate) -> None:
    from relay.errors import KeySourceUnavailable
    from relay.mime.packets import Malformed

    try:
        if settings.type == "directory":
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


def _verdict(config: Config, certificate: Certificate) -> Verdict:
    from relay.clock import SystemClock

    [verdict] = judge_of(config).judge([certificate], None, SystemClock().now())
    return verdict


def _tell(verdict: Verdict, source: str) -> None:
    from relay.explain import plain, verdict_text

    out = console()
    out.print(plain(f"{verdict.certificate.fingerprint} added to {source}: {verdict_text(verdict)}"))
    for user_id in verdict.certificate.user_ids:
        out.print(plain(f"  {user_id}"))
