"""`relay keys export`: certificates that are known, as armoured text for other programs."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import collection
from relay.key_commands.listing import wanted_by
from relay.key_commands.opening import finish, local_sources, opened_sources, run
from relay.terminal import config_option, load_config

if TYPE_CHECKING:
    from relay.config import Config
    from relay.message import (
        Address,
        Certificate,
    )
    from relay.remembered import PendingKey, Pin
    from relay.sources import Sources

_LINE_CHARS = 64
_CRC24_INIT, _CRC24_GENERATOR = 0xB704CE, 0x864CFB
"""RFC 9580 §6.1.1."""
_V4_FINGERPRINT_CHARS = 40


@click.command()
@config_option
@click.argument("wanted", metavar="ADDRESS|FINGERPRINT")
def export(config_file: Path, wanted: str) -> None:
    """Write the certificates of an address, or the one with a fingerprint, to standard output.

    Found are those of local sources, those that are kept of others, pinned keys and keys that wait for your
    approval, usable or not. Different copies of one certificate are all written: one may have a revocation
    that another lacks. The text is armoured and can be given to `relay keys import` and `gpg --import`.

    \b
    Examples:
      relay keys export bob@partner.example > bob.asc
      relay keys export bob@partner.example | relay keys import --into team -

    Exits with 1 if there is none, or if a source cannot be read.
    """
    config = load_config(config_file)
    found, failures = run(_known(config, wanted))
    if not found:
        failures.append(f"no source that can be read has a certificate for {wanted}")
    for certificate in found:
        click.echo(armored(certificate), nl=False)
    finish(failures)


async def _known(config: Config, wanted: str) -> tuple[list[Certificate], list[str]]:
    address, ask = wanted_by(wanted)
    found, failures = await collection.ask_all(local_sources(config).values(), ask)
    if config.needs_store:
        async with opened_sources(config) as sources:
            more, problems = await remembered(sources, address, wanted)
        found, failures = found + more, failures + problems
    return _distinct(found), failures


async def remembered(
    sources: Sources, address: Address | None, wanted: str
) -> tuple[list[Certificate], list[str]]:
    """What the store has: cached, pinned and pending. Raises StoreUnavailable.

    A pin is found by its address: for a fingerprint, those of all cached and pending addresses are looked at.
    """
    from relay.key_commands.arguments import squeezed

    if address:
        found, failures = await _recalled(sources, address)
        return found + await _from_book(sources, {address.key}, address.key), failures
    groups, failures = await collection.cached(sources)
    found = [certificate for group in groups.values() for certificate in group]
    found += await _from_book(sources, set(groups), "")
    return [certificate for certificate in found if certificate.fingerprint == squeezed(wanted)], failures


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
    from relay.message import Certificate

    if sources.book is None:
        return []
    pending = await sources.book.pending(pending_of)
    keys = address_keys | {key.address_key for key in pending}
    pins = [pin for key in sorted(keys) if (pin := await sources.book.pin_of(key))]
    remembered: list[Pin | PendingKey] = [*pins, *pending]
    return [Certificate(known.certificate, known.fingerprint, (), known.source) for known in remembered]


def _distinct(certificates: Iterable[Certificate]) -> list[Certificate]:
    return list({certificate.data: certificate for certificate in certificates}.values())


def armored(certificate: Certificate) -> str:
    """The certificate as ASCII armour (RFC 9580 §6.2).

    The checksum MUST NOT be written for version 6 (§6.1). For version 4 it may be, and GnuPG 2.2 stumbles
    over the END line without it.
    """
    text = base64.b64encode(certificate.data).decode("ascii")
    lines = [text[start : start + _LINE_CHARS] for start in range(0, len(text), _LINE_CHARS)]
    if len(certificate.fingerprint) == _V4_FINGERPRINT_CHARS:
        lines.append(f"={base64.b64encode(_crc24(certificate.data).to_bytes(3)).decode('ascii')}")
    return "\n".join(
        ["-----BEGIN PGP PUBLIC KEY BLOCK-----", "", *lines, "-----END PGP PUBLIC KEY BLOCK-----", ""]
    )


def _crc24(data: bytes) -> int:
    crc = _CRC24_INIT
    for octet in data:
        crc ^= octet << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1000000 | _CRC24_GENERATOR
    return crc
