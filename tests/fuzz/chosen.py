"""What the judge may choose in an altered certificate: nothing that its owner did not bind in a seed."""

from __future__ import annotations

from functools import cache

from relay.message import Verdict
from relay.mime import packets
from relay.mime.packets import Malformed, Packet
from tests import keys
from tests.fuzz.hostile import ORDINARY, OWNER6, STRANGER, small
from tests.opinions import NOW, judge

_GRAFTED = frozenset({"grafted-subkey", "only-grafted-subkey"})
"""Fixtures in which a subkey stands that is not the owner's."""
_MAX_SENTENCE_CHARS = 200


def certificates() -> list[bytes]:
    """All certificates that are altered: fixtures, and the hostile ones that are not large."""
    whole = [ORDINARY, OWNER6.certificate(), STRANGER.start() + STRANGER.bind(), *small()]
    return [fixture.certificate.data for fixture in keys.FIXTURES] + whole


def key_packets(data: bytes) -> list[Packet]:
    """The keys in the octets, as far as these can be read."""
    found = []
    try:
        for packet in packets.walk(data):
            if packet.tag in {packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY}:
                found.append(packet)
    except Malformed:
        pass
    return found


def _fingerprints(data: bytes) -> list[str]:
    return [packets.fingerprint(packet) for packet in key_packets(data)]


@cache
def _honest_pairs() -> frozenset[tuple[str, str]]:
    """Primary key and (sub)key, as their owners bound them in the seeds; nobody can forge a further one."""
    pairs: set[tuple[str, str]] = set()
    for data in certificates():
        primary, *others = [*_fingerprints(data), ""]
        pairs |= {(primary, other) for other in [primary, *others]}
    for name in _GRAFTED:
        data = keys.certificate(name).data
        primary, *others = _fingerprints(data)
        chosen = {subkey.fingerprint for subkey in judge(data, address=None).subkeys}
        pairs -= {(primary, other) for other in others if other not in chosen}
    return frozenset(pairs)


def check_verdict(verdict: Verdict, data: bytes) -> None:
    """What is chosen stands in the data and was bound by its owner; sentence and output are bounded."""
    assert verdict.usable == bool(verdict.subkeys) == bool(verdict.reduced)
    assert verdict.sentence.isascii() and verdict.sentence.isprintable()
    assert 0 < len(verdict.sentence) <= _MAX_SENTENCE_CHARS
    if not verdict.usable:
        assert verdict.expires is None
        return
    assert verdict.expires is None or verdict.expires > NOW
    assert len(verdict.reduced) <= 2 * len(data)
    primary, *others = _fingerprints(data)
    for subkey in verdict.subkeys:
        assert subkey.fingerprint in {primary, *others}
        assert (primary, subkey.fingerprint) in _honest_pairs()
