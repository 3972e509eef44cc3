"""ASCII armour as every engine sends it."""

from __future__ import annotations

import pysequoia
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.mime import armor
from relay.mime.packets import Malformed
from relay.openpgp.armoring import Armour


def _message(session_key_version: int, size: int = 100) -> bytes:
    """Packets with the outside of a message: a PKESK of this version and `size` octets of SEIPD."""
    return b"\xc1\x02" + bytes([session_key_version, 0]) + b"\xd2\xff" + size.to_bytes(4) + b"\x01" * size


def _armoured(octets: bytes) -> bytes:
    return pysequoia.armor(octets, pysequoia.ArmorKind.Message).encode()


@given(size=st.integers(0, 300), version=st.sampled_from([3, 6]))
@example(size=49_152, version=3)
@example(size=70_000, version=6)
@settings(max_examples=60, deadline=None)
def test_armour_any_message_comes_back(size: int, version: int) -> None:
    """The same octets, CRLF alone, one block over everything, and the announced length is exact."""
    octets = _message(version, size)
    armour = Armour(_armoured(octets))

    sent = bytes(armour)

    [block] = armor.blocks(sent)
    assert (octets, (), 0, len(sent)) == (block.data, block.headers, block.start, block.end)
    assert sent.count(b"\n") == sent.count(b"\r\n") == sent.count(b"\r")
    assert len(armour) == len(sent) == sum(map(len, armour.chunks()))


@pytest.mark.parametrize(("version", "has_checksum"), [(3, True), (6, False)])
@pytest.mark.parametrize("size", [100, 101, 102])
def test_armour_checksum_depends_on_the_version(size: int, version: int, has_checksum: bool) -> None:
    """P-13: none with v2 SEIPD; with v1 it stays, or gpg 2.2 stumbles over a message without padding."""
    armour = Armour(_armoured(_message(version, size)))

    [block] = armor.blocks(bytes(armour))
    assert (has_checksum, not has_checksum) == (block.has_checksum, armour.is_v2)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"plaintext",
        b"-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n",
        _armoured(_message(3)).replace(b"\n\n", b"\nVersion: 1\n\n", 1),
        b"text\n" + _armoured(_message(3)),
        _armoured(_message(3)) + b"text\n",
        _armoured(b"\xcb\x06b\x00\x00\x00\x00\x00"),
    ],
    ids=["empty", "plaintext", "no data", "header", "before", "behind", "literal"],
)
def test_armour_something_else_raises(text: bytes) -> None:
    """Whatever is not exactly one encrypted message is refused."""
    with pytest.raises(Malformed):
        Armour(text)
