"""Cuts the certificate that messages hand out (Autocrypt 1.1): one User ID, one subkey to encrypt to.

Only what the judge accepts is handed out, so that nobody learns a key that cannot be used. The specification
wants exactly five packets: primary key, User ID, its self-signature, encryption subkey, its binding. A
version 6 key needs its direct-key signature besides. A signing subkey is not part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from relay.address import user_id_key
from relay.message import Address, Certificate, Subkey
from relay.mime import packets
from relay.openpgp.judge import Judge
from relay.openpgp.parts import Unusable


def minimal(public: bytes, address: Address, judge: Judge, now: datetime) -> bytes:
    """The certificate for a field about this address.

    Raises:
        Unusable: the certificate cannot be used to write to the address; its text is the sentence for people.
    """
    certificates = [Certificate(public, packets.certificates(public, "")[0].fingerprint, (), "secret_keys")]
    [verdict] = judge.judge(certificates, address, now)
    if not verdict.usable:
        raise Unusable(verdict.sentence)
    return _cut(verdict.reduced, address, _newest(verdict.reduced, verdict.subkeys))


def _newest(reduced: bytes, subkeys: Sequence[Subkey]) -> str:
    """The fingerprint of the youngest key to encrypt to."""
    names = {subkey.fingerprint for subkey in subkeys}
    keys = [packet for packet in packets.walk(reduced) if packet.tag in _KEYS]
    chosen = [(packet.head[1:5], packets.fingerprint(packet)) for packet in keys]
    return max((created, name) for created, name in chosen if name in names)[1]


_KEYS = frozenset({packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY})


def _cut(reduced: bytes, address: Address, subkey: str) -> bytes:
    """Without other User IDs and other subkeys, and what is signed on them."""
    kept, keeps = b"", True
    for packet in packets.walk(reduced):
        if packet.tag == packets.USER_ID:
            keeps = _names(packet.head, address)
        elif packet.tag == packets.PUBLIC_SUBKEY:
            keeps = packets.fingerprint(packet) == subkey
        if keeps:
            kept += reduced[packet.start : packet.end]
    return kept


def _names(user_id: bytes, address: Address) -> bool:
    return user_id_key(user_id.decode("utf-8", "replace")) == address.key
