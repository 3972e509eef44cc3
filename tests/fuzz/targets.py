"""The fuzz targets by name; whoever reads something from strangers adds one to the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from relay.address import user_id_key
from relay.message import Certificate, Verdict
from relay.mime import packets
from relay.mime.packets import Malformed, Packet
from relay.openpgp.certification import certifies
from relay.openpgp.judge import Judge
from tests import keys
from tests.forge import Owner, Owner6
from tests.fuzz.hostile import HOSTILE
from tests.opinions import MAILBOX, NOW


@dataclass(frozen=True)
class Target:
    """Something that takes octets from strangers."""

    name: str
    run: Callable[[bytes], None]
    """Raises when something is wrong, AssertionError or whatever else."""
    seeds: Callable[[], Sequence[bytes]]
    """Inputs that get far, to be altered."""


# --------------------------------------------------------------------------- judge: any certificate

_MAX_SEED_OCTETS = 20_000
_GRAFTED = frozenset({"grafted-subkey", "only-grafted-subkey"})
"""Fixtures in which a subkey stands that is not the owner's."""
_MAX_SENTENCE_CHARS = 200


def _judge_seeds() -> list[bytes]:
    made = [hostile.make() for hostile in HOSTILE if not hostile.name.startswith("ten")]
    return [fixture.certificate.data for fixture in keys.FIXTURES] + [
        data for data in made if len(data) <= _MAX_SEED_OCTETS
    ]


def _key_packets(data: bytes) -> list[Packet]:
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
    return [packets.fingerprint(packet) for packet in _key_packets(data)]


@cache
def _honest_pairs() -> frozenset[tuple[str, str]]:
    """Primary key and (sub)key, as their owners bound them in the seeds; nobody can forge a further one."""
    pairs: set[tuple[str, str]] = set()
    for data in _judge_seeds():
        primary, *others = [*_fingerprints(data), ""]
        pairs |= {(primary, other) for other in [primary, *others]}
    for name in _GRAFTED:
        data = keys.certificate(name).data
        primary, *others = _fingerprints(data)
        chosen = {subkey.fingerprint for subkey in _verdicts(data)[0].subkeys}
        pairs -= {(primary, other) for other in others if other not in chosen}
    return frozenset(pairs)


def _verdicts(data: bytes) -> list[Verdict]:
    certificate = Certificate(data, "", (), "fuzz")
    return [Judge().judge([certificate], address, NOW)[0] for address in (None, MAILBOX)]


def judge_any_bytes(data: bytes) -> None:
    """Nothing is raised; what is chosen stands in the input and was bound by its owner; output is bounded."""
    for verdict in _verdicts(data):
        _check_verdict(verdict, data)


def _check_verdict(verdict: Verdict, data: bytes) -> None:
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


# --------------------------------------------------------------------------- certification: two certificates

SEPARATOR = b"--and then the new one--"
_OLD, _NEW = Owner("old"), Owner("owner")
_OLD6, _NEW6 = Owner6("old"), Owner6("owner")
_HONEST_CHANGES = {(_OLD.primary, _NEW.primary), (_OLD6.primary, _NEW6.primary)}


def _certification_seeds() -> list[bytes]:
    changed = _NEW.start(_NEW.sign(0x13, _NEW.user_id), _OLD.sign(0x10, _NEW.user_id, subject=_NEW.primary))
    changed6 = _NEW6.certificate(_OLD6.sign(0x10, _NEW6.user_id, subject=_NEW6.primary))
    return [_OLD.start() + SEPARATOR + changed + _NEW.bind(), _OLD6.certificate() + SEPARATOR + changed6]


def certify_any_bytes(data: bytes) -> None:
    """Nothing is raised; a change of keys is believed only between the two keys that really signed."""
    old, _, new = data.partition(SEPARATOR)
    if certifies(old, new, MAILBOX, NOW):
        first = [_key_packets(half)[0].head for half in (old, new)]
        assert tuple(first) in _HONEST_CHANGES


# --------------------------------------------------------------------------- addresses in User IDs


_MAX_MAILBOX_CHARS = 400
"""A local part and a domain at their limits."""


def find_any_user_id(data: bytes) -> None:
    """A User ID names one mailbox of bounded length, or none."""
    key = user_id_key(data.decode("utf-8", "replace"))
    assert key is None or ("@" in key and len(key) <= _MAX_MAILBOX_CHARS)


def _user_id_seeds() -> list[bytes]:
    return [
        b"Bob <bob@example.com>",
        "B <b\u00fc@b\u00fccher.example>".encode(),
        b'<"a b"@[192.0.2.1]>',
        b"x@y.z",
    ]


TARGETS = {
    target.name: target
    for target in (
        Target("judge", judge_any_bytes, _judge_seeds),
        Target("certification", certify_any_bytes, _certification_seeds),
        Target("user-id", find_any_user_id, _user_id_seeds),
    )
}
"""A line here is all that a new target needs: the tests and `python -m tests.fuzz` run what stands in it."""
