"""What a source can have for an address: keys that may be used, keys that may not, and no key at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pysequoia

from tests.forge import Owner, at, raw
from tests.integration.discovery.people import Person, person

MAX_BODY_BYTES = 1 << 20
"""The relay reads no more of an answer."""

_YEAR_SECONDS = 365 * 86_400


@dataclass(frozen=True, slots=True)
class Offer:
    """The octets that a source gives."""

    octets: bytes
    reader: Person | None = None
    """Who reads what is encrypted; None where nothing may be."""


Offering = Callable[[str], Offer]
"""From an address to what there is for it."""


def own_key(address: str) -> Offer:
    """A good one."""
    made = person(address)
    return Offer(made.certificate, made)


def key_of_somebody_else(address: str) -> Offer:
    """A good one without the User ID of the address."""
    return Offer(person("somebody.else@example.net").certificate)


def expired_key(address: str) -> Offer:
    """Ended on 2025-01-01."""
    return Offer(_made(address, at(2024, 1, 2), lasts=_YEAR_SECONDS)[0])


def revoked_key(address: str) -> Offer:
    """Revoked on 2025-01-02."""
    return Offer(_made(address, at(2024), is_revoked=True)[0])


def revoked_and_new_key(address: str) -> Offer:
    """As a directory has them after a change."""
    new, reader = _made(address, at(2025))
    return Offer(revoked_key(address).octets + new, reader)


def two_keys(address: str) -> Offer:
    """Both could be used; the older one stands first."""
    new, reader = _made(address, at(2025))
    return Offer(_made(address, at(2024))[0] + new, reader)


def oversized(address: str) -> Offer:
    """A good key and more octets than are read."""
    certificate = person(address).certificate
    return Offer(certificate + bytes(MAX_BODY_BYTES + 1 - len(certificate)))


def web_page(address: str) -> Offer:
    """No certificate."""
    return Offer(b"<html>Soon here</html>")


def _made(address: str, created: int, *, lasts: int = 0, is_revoked: bool = False) -> tuple[bytes, Person]:
    """A certificate as old as it has to be, and its owner."""
    owner, user_id = Owner(f"{address} {created}", created), f"<{address}>".encode()
    start = owner.start(owner.sign(0x13, user_id, flags=b"\x01", key_lasts=lasts), user_id=user_id)
    if is_revoked:  # between the primary key and the User ID (RFC 9580 §10.1)
        primary, *rest = raw(start)
        start = b"".join([primary, owner.sign(0x20, on=at(2025, 1, 2)), *rest])
    certificate = start + owner.bind()
    return certificate, Person(address, pysequoia.Tsk.from_bytes(owner.secret(certificate, "mail")))
