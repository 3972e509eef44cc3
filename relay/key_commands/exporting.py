"""`relay keys export`: certificates that are known, as armoured text for other programs."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands.finding import known, wanted_by
from relay.key_commands.opening import finish, run
from relay.terminal import config_option, load_config

if TYPE_CHECKING:
    from relay.message import Certificate

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
    found, failures = run(known(config, *wanted_by(wanted)))
    if not found:
        failures.append(f"no source that can be read has a certificate for {wanted}")
    for certificate in found:
        click.echo(armored(certificate), nl=False)
    finish(failures)


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
