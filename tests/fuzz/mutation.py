"""Alters octets at random: single bits, pieces, whole OpenPGP packets. A seed gives the same inputs again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

from relay.mime.packets import Malformed, walk
from relay.openpgp.signatures import encode
from tests.forge import raw

_MAX_CHANGES = 4
_MAX_OCTETS = 1 << 17
"""Larger inputs only make each run slower; what is large on purpose is in `hostile.py`."""
_TELLING = (0, 1, 0x7F, 0x80, 0xC0, 0xDF, 0xE0, 0xFE, 0xFF)
"""Octets that are limits of lengths and tags."""


def inputs(seeds: Sequence[bytes], random: Random) -> Iterator[bytes]:
    """Altered seeds without end, after each seed as it is."""
    yield from seeds
    while True:
        data = random.choice(seeds)
        for _ in range(random.randint(1, _MAX_CHANGES)):
            data = random.choice(_CHANGES)(data, seeds, random)
        yield data[:_MAX_OCTETS]


_Change = Callable[[bytes, Sequence[bytes], Random], bytes]


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data or b"\x00")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(data or b"\x00")
    changed[random.randrange(len(changed))] = random.choice(_TELLING)
    return bytes(changed)


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:start] + data[end:]


def _truncate(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: random.randint(0, len(data))]


def _repeat(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    start, end = _range(data, random)
    return data[:end] + data[start:end] * random.choice((1, 2, 50)) + data[end:]


def _splice(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(seeds)
    start, end = _range(other, random)
    where = random.randint(0, len(data))
    return data[:where] + other[start:end] + data[where:]


def _shuffle_packets(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    """Moves, drops and grafts whole packets, which survives more of the parsing than anything else."""
    try:
        mine, theirs = raw(data), raw(random.choice(seeds))
    except Malformed:
        return data
    packets = mine[:1] + random.sample(mine[1:], random.randint(0, len(mine[1:])))
    for packet in random.sample(theirs, min(len(theirs), random.randint(0, 3))):
        packets.insert(random.randint(1, len(packets)) if packets else 0, packet)
    return b"".join(packets)


def _alter_content(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """Shortens, lengthens or alters the body of one packet and corrects its length, so that it is read."""
    try:
        found = list(walk(data))
    except Malformed:
        return data
    bodies = [packet for packet in found if packet.head]
    if not bodies:
        return data
    packet = random.choice(bodies)
    body = random.choice((_flip, _overwrite, _cut, _truncate, _repeat))(packet.head, (), random)
    return data[: packet.start] + encode(packet.tag, body) + data[packet.end :]


_CHANGES: tuple[_Change, ...] = (
    *(_flip, _overwrite, _cut, _truncate, _repeat, _splice),
    *(_shuffle_packets, _alter_content) * 3,
)


def _range(data: bytes, random: Random) -> tuple[int, int]:
    """A short piece of the data."""
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 2, 8, 100, 1000)))
