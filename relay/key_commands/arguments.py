"""Addresses, fingerprints and domains of the command line: parsed, or a usage error (exit code 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from relay.message import Address

FINGERPRINT_DIGITS = (40, 64)
"""Of version 4 and version 6 keys (RFC 9580 §5.5.4)."""

as_json = click.option(
    "--json", "as_json", is_flag=True, help="For programs: one JSON object with stable keys."
)


def address(_context: click.Context, _parameter: click.Parameter, value: str) -> Address:
    """An address."""
    from relay.address import parse_mailbox

    try:
        return parse_mailbox(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is not a mail address: {exc}") from exc


def addresses(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[Address, ...]:
    """Any number of addresses."""
    return tuple(address(context, parameter, value) for value in values)


def fingerprint(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A full fingerprint as `Certificate.fingerprint` has it; a key ID can be made to fit by anybody."""
    digits = squeezed(value)
    if not is_fingerprint(digits):
        raise click.BadParameter(f"{value!r} is not a full fingerprint, which has 40 or 64 hex digits")
    return digits


def is_fingerprint(digits: str) -> bool:
    """Whether it is a full one, as `Certificate.fingerprint` has it."""
    return len(digits) in FINGERPRINT_DIGITS and set(digits) <= set("0123456789ABCDEF")


def squeezed(value: str) -> str:
    """A fingerprint as people write it, without spaces and `0x`, in upper case."""
    return "".join(value.split()).upper().removeprefix("0X")


def domains(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Domains as `Address.domain` has them."""
    from relay.address import parse_domain

    found = []
    for value in values:
        try:
            found.append(parse_domain(value))
        except ValueError as exc:
            raise click.BadParameter(f"{value!r} is not a domain: {exc}") from exc
    return tuple(dict.fromkeys(found))
