"""Alters octets at random: bits, pieces, packets, lines of mail. A seed gives the same inputs again."""

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
_WORDS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\r\n ",
        b" \r\n",
        b"\t",
        b" ",
        b"--",
        b"=",
        b"=\r\n",
        b"=20",
        b"=46",
        b"(",
        b"\\",
        b'"',
    ),
    *(
        b";",
        b":",
        b"<",
        b">",
        b"From ",
        b"\xc3\xbc",
        b"\xfc",
        b"\x0b",
        b"\x0c",
        b"\x1c",
        b"\x7f",
        b"\xc2\x85",
        b"YQ==",
    ),
    *(
        b"=?utf-8?q?",
        b"=?utf-8?b?",
        b"=?utf-16?b?",
        b"=?iso-2022-jp?b?",
        b"?=",
        b"=5B",
        b"Re: ",
        b"[...]",
        b"...",
    ),
    *(b"[encrypt]", b"[clear]", b"[en", b"crypt]", b"secret", b"always", b"never", b"X-Encrypt: always\r\n"),
    *(
        b"MIME-Version: 1.0\r\n",
        b"Subject: ",
        b"Thread-Topic: ",
        b"X-Note: ",
        b"Comments: ",
        b"Content-Description: ",
    ),
    *(
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n",
        b"Content-Type: a/b\r\n",
    ),
    *(
        b'Content-Type: multipart/mixed; boundary="b"\r\n',
        b"--b\r\n",
        b"--b--\r\n",
        b'; boundary="b"',
        b"*0*=utf-8''",
    ),
    *(
        b"Content-Transfer-Encoding: quoted-printable\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"8bit",
        b"binary",
    ),
    *(b"Content-Disposition: attachment; filename=a\r\n", b"<style>", b"</style>", b"<!--", b"-->", b"\\n"),
    *(
        b"-----BEGIN PGP MESSAGE-----\r\n\r\n",
        b"-----END PGP MESSAGE-----\r\n",
        b"From: a@b.example\r\n",
        b"begin 644 a\r\n",
    ),
)
"""What means something in a message."""


Change = Callable[[bytes, Sequence[bytes], Random], bytes]
"""What makes other octets of some, given all seeds."""


def inputs(
    seeds: Sequence[bytes], random: Random, changes: Sequence[Change] | None = None
) -> Iterator[bytes]:
    """Altered seeds without end, after each seed as it is; the changes are those of packets by default."""
    yield from seeds
    while True:
        data = random.choice(seeds)
        for _ in range(random.randint(1, _MAX_CHANGES)):
            data = random.choice(changes or PACKETS)(data, seeds, random)
        yield data[:_MAX_OCTETS]


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


def _insert_word(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    where = random.randint(0, len(data))
    return data[:where] + random.choice(_WORDS) + data[where:]


def _begin_line(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    lines = data.split(b"\n")
    where = random.randrange(len(lines))
    lines[where] = random.choice(_WORDS) + lines[where]
    return b"\n".join(lines)


def _move_lines(data: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    """Takes some lines, of the same or another seed, to another place; perhaps they stay where they were."""
    mine = data.split(b"\n")
    theirs = random.choice((mine, mine, random.choice(seeds).split(b"\n")))
    start, count = random.randrange(len(theirs)), random.choice((1, 1, 2, 3, 8))
    taken = theirs[start : start + count]
    if theirs is mine and random.randint(0, 2):
        del mine[start : start + count]
    where = random.randint(0, len(mine))
    return b"\n".join(mine[:where] + taken + mine[where:])


def _drop_line(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    lines = data.split(b"\n")
    del lines[random.randrange(len(lines))]
    return b"\n".join(lines)


PACKETS: tuple[Change, ...] = (
    *(_flip, _overwrite, _cut, _truncate, _repeat, _splice),
    *(_shuffle_packets, _alter_content) * 3,
)
MAIL: tuple[Change, ...] = (
    *(_flip, _overwrite, _cut, _cut, _truncate, _repeat, _splice, _drop_line),
    *(_insert_word, _begin_line, _move_lines) * 3,
)


def _range(data: bytes, random: Random) -> tuple[int, int]:
    """A short piece of the data."""
    start = random.randint(0, len(data))
    return start, min(len(data), start + random.choice((1, 2, 8, 100, 1000)))
