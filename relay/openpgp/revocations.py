"""Cuts certificates down to their revocations, so that one that was seen can be kept for good in few octets.

What comes out is a certificate that can be merged with any other copy of the same one, and then takes back
what was revoked; by itself it is good for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.mime import packets
from relay.openpgp.parts import SKIPPED, Component, Parts, Unusable, merge
from relay.openpgp.signatures import parse_signature


def revocations(copies: Sequence[bytes]) -> bytes:
    """The primary key, and one revocation of each component that the owner revoked.

    It is empty where nothing was. One is enough: whichever it is, the component may not be used. If the
    primary key is revoked, nothing else matters. The result is the same for the same revocations, in whatever
    copies and order they stand.

    Args:
        copies: of one certificate, binary. Nothing is raised for any octets; what cannot be merged revokes
            nothing here, and is unusable for the judge.
    """
    try:
        parts = merge(copies)
    except (Unusable, ValueError):  # no copies at all
        return b""
    wanted = _wanted(parts)
    raw = _raw(copies, set(wanted.values())) if wanted else {}
    # The primary key stands first; the others in any order that is always the same.
    bodies = sorted(wanted, key=lambda body: (body != parts.key.body, body in parts.subkeys, body))
    kept = b"".join(raw[body] + raw[wanted[body]] for body in bodies)
    return kept if not wanted or parts.key.body in wanted else raw[parts.key.body] + kept


def _wanted(parts: Parts) -> dict[bytes, bytes]:
    """By the body of each revoked component the identity of its earliest revocation."""
    if parts.primary.revocations:
        return {parts.key.body: _earliest(parts.primary)}
    components = [*parts.user_ids.values(), *parts.subkeys.values()]
    return {component.body: _earliest(component) for component in components if component.revocations}


def _earliest(component: Component) -> bytes:
    return min(component.revocations, key=lambda name: (component.revocations[name].created, name))


def _raw(copies: Sequence[bytes], names: set[bytes]) -> dict[bytes, bytes]:
    """The packets of keys and User IDs by their bodies, and those of these signatures by their identities."""
    found: dict[bytes, bytes] = {}
    for data in copies:
        for packet in packets.walk(data):
            octets = data[packet.start : packet.end]
            if packet.tag != packets.SIGNATURE and packet.tag not in SKIPPED:
                found.setdefault(packet.head, octets)
            elif packet.tag == packets.SIGNATURE:
                signature = parse_signature(packet.head)
                if signature and signature.identity in names:
                    found[signature.identity] = min(octets, found.get(signature.identity, octets))
    return found
