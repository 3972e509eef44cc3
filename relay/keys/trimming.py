"""Cuts a certificate down to one mailbox: its other User IDs go (draft-koch-openpgp-webkey-service-22 §5).

Packets are sliced, never written anew. Nothing is verified; the judge does that with what is left. The price
of the rule: what only the self-signature of another User ID says, an expiry for example, is gone with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.address import user_id_key
from relay.mime import packets
from relay.mime.packets import Malformed, Packet

_DIRECT_KEY, _KEY_REVOCATION, _SUBKEY_REVOCATION = 0x1F, 0x20, 0x28
_ABOUT_KEYS = frozenset({_DIRECT_KEY, _KEY_REVOCATION, _SUBKEY_REVOCATION})
"""Signature types (RFC 9580 §5.2.1) that never speak of a User ID: behind one they stand in the wrong place,
as old key servers left them, and a revocation must not be lost for that."""


def only_user_id(certificate: bytes, address_key: str) -> bytes | None:
    """The certificate with the User IDs of one mailbox alone; None where none of them names it.

    Kept are the primary key, the User IDs that name the mailbox, the subkeys, and all signatures on these:
    those of others too, because one by an older key can vouch for this one. User attributes (pictures) and
    packets of unknown types go, with what is signed on them.

    Args:
        certificate: binary packets of one certificate, as `packets.certificates` gives them.
        address_key: `Address.key`.

    Raises:
        Malformed: it is no certificate, or more than one.
    """
    found = list(packets.walk(certificate))
    if not found or found[0].tag != packets.PUBLIC_KEY:
        raise Malformed("it does not begin with a public key")
    if any(packet.tag == packets.PUBLIC_KEY for packet in found[1:]):
        raise Malformed("it holds another key")
    trimmer = _Trimmer(address_key)
    kept = [packet for packet in found if trimmer.keeps(packet)]
    return b"".join(certificate[packet.start : packet.end] for packet in kept) if trimmer.is_theirs else None


@dataclass(slots=True)
class _Trimmer:
    """Walks along the packets and knows on what a signature stands."""

    address_key: str
    is_theirs: bool = False
    """A User ID that names the mailbox was seen."""
    _keeps_component: bool = True

    def keeps(self, packet: Packet) -> bool:
        if packet.tag == packets.SIGNATURE:
            return self._keeps_component or _signature_type(packet) in _ABOUT_KEYS
        self._keeps_component = packet.tag in {packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY}
        if packet.tag == packets.USER_ID and _names(packet, self.address_key):
            self.is_theirs = self._keeps_component = True
        return self._keeps_component


def _names(user_id: Packet, address_key: str) -> bool:
    """Whether a User ID packet names the mailbox."""
    return user_id_key(user_id.head.decode("utf-8", "replace")) == address_key


def _signature_type(packet: Packet) -> int | None:
    """RFC 9580 §5.2.2 and §5.2.3; None where the packet is too short for one."""
    place = 2 if packet.head[:1] == b"\x03" else 1
    return packet.head[place] if len(packet.head) > place else None
