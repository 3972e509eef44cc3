"""Takes certificates apart and merges their copies: primary key, User IDs, subkeys, signatures on each.

Merging is done on packets and not by a library, so that nothing is dropped in silence: a revocation in any
copy is in the result. Certifications by others are dropped here, unread. Nothing is verified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from relay.mime import packets
from relay.mime.packets import Malformed, Packet
from relay.openpgp import signatures
from relay.openpgp.algorithms import Key, parse_key
from relay.openpgp.signatures import Signature, parse_signature

MAX_BYTES = 1 << 20
"""One copy. Real ones with photos and many certifications have some hundred thousand (RFC 9580 §14)."""
MAX_ALL_BYTES = 4 * MAX_BYTES
"""All distinct copies of one certificate together."""
MAX_PACKETS = 10_000
"""Over all copies; well-known developers' certificates have about half of it."""
_TOO_MANY_PACKETS = f"has more than {MAX_PACKETS} packets"
MAX_USER_IDS = 100
MAX_SUBKEYS = 100
MAX_SELF_SIGNATURES = 100
"""On one User ID or key, after identical ones were counted once."""
MAX_USER_ID_OCTETS = 2048
"""As GnuPG: a longer one is skipped with its signatures."""

SKIPPED = frozenset({packets.MARKER, packets.TRUST, packets.PADDING})
"""Packets that say nothing, wherever they stand."""
_NOT_PUBLIC = frozenset({packets.PUBLIC_KEY, packets.SECRET_KEY, packets.SECRET_SUBKEY})
_CERTIFICATE = frozenset(
    {packets.SIGNATURE, packets.PUBLIC_KEY, packets.USER_ID, packets.PUBLIC_SUBKEY, packets.USER_ATTRIBUTE}
)
_FIRST_NONCRITICAL = 40
"""Unknown packets below it must not be ignored (RFC 9580 §4.3)."""
_ON_PRIMARY = frozenset({signatures.DIRECT_KEY, signatures.KEY_REVOCATION})
_ON_USER_ID = signatures.CERTIFICATIONS | {signatures.CERTIFICATION_REVOCATION}
_ON_SUBKEY = frozenset({signatures.SUBKEY_BINDING, signatures.SUBKEY_REVOCATION})
_REVOCATIONS = frozenset(
    {signatures.KEY_REVOCATION, signatures.SUBKEY_REVOCATION, signatures.CERTIFICATION_REVOCATION}
)


class Unusable(Exception):
    """The certificate may not be used; the text is the sentence for people."""


@dataclass(slots=True, eq=False)
class Component:
    """The primary key, a User ID or a subkey, with the signatures that claim to be the owner's."""

    body: bytes
    key: Key | None = None
    """None for a User ID."""
    signatures: dict[bytes, Signature] = field(default_factory=dict)
    """By what is signed and the signature itself, so that copies that differ only where anybody can change
    them are one."""
    revocations: dict[bytes, Signature] = field(default_factory=dict)
    """Not verified: one that cannot be verified counts as well."""

    def add(self, signature: Signature) -> None:
        """Files a signature that stands on this component."""
        kept = self.revocations if signature.type in _REVOCATIONS else self.signatures
        kept.setdefault(signature.identity, signature)

    @property
    def revoked_at(self) -> int | None:
        """When it was first revoked (Unix time); None where it was not."""
        return min((signature.created for signature in self.revocations.values()), default=None)


@dataclass(slots=True)
class Parts:
    """One certificate, all its copies merged."""

    key: Key
    """The primary key."""
    primary: Component
    user_ids: dict[bytes, Component] = field(default_factory=dict)
    subkeys: dict[bytes, Component] = field(default_factory=dict)


def identity(data: bytes) -> bytes:
    """What copies of one certificate share: the body of the primary key; the data where there is none."""
    try:
        found = islice(packets.walk(data), MAX_PACKETS)
        first = next(packet for packet in found if packet.tag not in SKIPPED)
    except (Malformed, StopIteration):
        return data
    return first.head if first.tag == packets.PUBLIC_KEY else data


def merge(copies: Iterable[bytes]) -> Parts:
    """The parts of all copies of one certificate.

    A copy that cannot be read or is over a limit spoils the whole: what it hides could be a revocation.

    Raises:
        Unusable: not a certificate of a known version, damaged, or over a limit.
    """
    distinct = list(dict.fromkeys(copies))
    if max(map(len, distinct)) > MAX_BYTES:
        raise Unusable(f"is larger than {MAX_BYTES} octets")
    if sum(map(len, distinct)) > MAX_ALL_BYTES:
        raise Unusable(f"has copies that are together larger than {MAX_ALL_BYTES} octets")
    walked = [_walk(data) for data in distinct]
    if sum(map(len, walked)) > MAX_PACKETS:
        raise Unusable(_TOO_MANY_PACKETS)
    key = _primary(walked[0])
    parts = Parts(key, Component(key.body, key))
    found = [claim for copy in walked for claim in _sort(parts, copy[1:])]
    _check_limits(parts)
    own = [claim for claim in found if not claim[1].issuers or claim[1].issuers & _names(key.fingerprint)]
    revokers = frozenset(name for _, signature in own for fpr in signature.revokers for name in _names(fpr))
    # A designated revoker's word counts although it cannot be verified without that key (RFC 9580 §5.2.3.23).
    theirs = [claim for claim in found if _is_key_revocation(claim) and claim[1].issuers & revokers]
    for component, signature in own + theirs:
        _attach(parts, component, signature)
    _check_limits(parts)
    return parts


_Claim = tuple[Component | None, Signature]


def _walk(data: bytes) -> list[Packet]:
    """The packets of one copy, without those that say nothing."""
    walked: list[Packet] = []
    try:
        for packet in packets.walk(data):
            if packet.partial or data[packet.start] & _OLD_FORMAT_LENGTH == _INDETERMINATE:
                # Only packets of data may have such lengths (RFC 9580 §4.2.1.4), and none belongs here.
                raise Malformed("a length that no certificate has")
            if len(walked) == MAX_PACKETS:
                raise Unusable(_TOO_MANY_PACKETS)  # never cut short: a revocation may follow
            walked.append(packet)
    except Malformed as exc:
        raise Unusable("is damaged: it cannot be read to its end") from exc
    return [packet for packet in walked if packet.tag not in SKIPPED]


_OLD_FORMAT_LENGTH, _INDETERMINATE = 0b1100_0011, 0b1000_0011
"""Format bits and length type of a header octet, and those of a body without a length (RFC 9580 §4.2.2)."""


def _primary(walked: list[Packet]) -> Key:
    if not walked or walked[0].tag != packets.PUBLIC_KEY:
        raise Unusable("is not an OpenPGP certificate")
    key = parse_key(walked[0])
    if key is None:
        version = walked[0].head[0] if walked[0].head else 0
        if version in {4, 6}:
            raise Unusable("is damaged: its primary key cannot be read")
        raise Unusable(f"is an OpenPGP version {version} certificate, which is not supported")
    return key


def _names(fingerprint: str) -> frozenset[str]:
    """How signatures may name a key: by fingerprint or key ID (RFC 9580 §5.5.4)."""
    return frozenset({fingerprint, fingerprint[-16:] if len(fingerprint) == 40 else fingerprint[:16]})


def _sort(parts: Parts, walked: list[Packet]) -> Iterator[_Claim]:
    """Files User IDs and subkeys, and gives each signature with the component it stands on.

    Packets and versions that we do not know are skipped with their signatures (RFC 9580 §4.3, §10).
    """
    component: Component | None = parts.primary
    mark = bytes.fromhex(parts.key.key_id)
    for packet in walked:
        if packet.tag != packets.SIGNATURE:
            component = _component(parts, packet)
        elif not _is_others_certification(packet.head, mark):
            signature = parse_signature(packet.head)
            if signature and signature.version in {3, parts.key.version}:
                yield component, signature


_CERTIFYING = frozenset(bytes([version, kind]) for version in (4, 6) for kind in signatures.CERTIFICATIONS)
"""How the bodies of certifications begin: version and type (RFC 9580 §5.2.3)."""


def _is_others_certification(body: bytes, mark: bytes) -> bool:
    """Whether it certifies and the octets of the owner's key ID occur nowhere: so thousands cost nothing.

    One that names nobody falls too, and no program makes those. A revocation is never judged so.
    """
    return body[:2] in _CERTIFYING and mark not in body


def _component(parts: Parts, packet: Packet) -> Component | None:
    """What the signatures behind this packet stand on; None where they are to be skipped."""
    if packet.tag in _NOT_PUBLIC:
        raise Unusable("is damaged: it holds another key")
    if packet.tag < _FIRST_NONCRITICAL and packet.tag not in _CERTIFICATE:
        raise Unusable(f"is damaged: it holds a packet of type {packet.tag}")
    if packet.tag == packets.USER_ID and len(packet.head) <= MAX_USER_ID_OCTETS:
        return parts.user_ids.setdefault(packet.head, Component(packet.head))
    return _subkey(parts, packet) if packet.tag == packets.PUBLIC_SUBKEY else None


def _subkey(parts: Parts, packet: Packet) -> Component | None:
    """A subkey of the primary's own version (RFC 9580 §10.1.1) that is not the primary again."""
    key = parse_key(packet)
    if key is None or key.version != parts.key.version or key.fingerprint == parts.key.fingerprint:
        return None
    return parts.subkeys.setdefault(packet.head, Component(packet.head, key))


def _is_key_revocation(claim: _Claim) -> bool:
    return claim[1].type == signatures.KEY_REVOCATION


def _attach(parts: Parts, component: Component | None, signature: Signature) -> None:
    """Files a signature; a revocation in a place where its type cannot stand counts for all it could mean."""
    if signature.type in _ON_PRIMARY:
        targets = [parts.primary]
    elif component is None:
        return
    elif signature.type in _ON_USER_ID:
        targets = _targets(component, parts.user_ids, signature)
    elif signature.type in _ON_SUBKEY:
        targets = _targets(component, parts.subkeys, signature)
    else:
        return
    for target in targets:
        target.add(signature)


def _targets(component: Component, kind: dict[bytes, Component], signature: Signature) -> list[Component]:
    if kind.get(component.body) is component:
        return [component]
    return list(kind.values()) if signature.type in _REVOCATIONS else []


def _check_limits(parts: Parts) -> None:
    components = [parts.primary, *parts.user_ids.values(), *parts.subkeys.values()]
    if len(parts.user_ids) > MAX_USER_IDS:
        raise Unusable(f"has more than {MAX_USER_IDS} User IDs")
    if len(parts.subkeys) > MAX_SUBKEYS:
        raise Unusable(f"has more than {MAX_SUBKEYS} subkeys")
    if any(
        len(component.signatures) + len(component.revocations) > MAX_SELF_SIGNATURES
        for component in components
    ):
        raise Unusable(f"has more than {MAX_SELF_SIGNATURES} self-signatures on one part")
