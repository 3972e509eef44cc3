"""Tests of `relay.mime.armor`."""

from __future__ import annotations

import time

import pysequoia
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.mime.armor import Block, blocks
from relay.mime.packets import Malformed
from tests.mail import armor

_DATA = bytes(range(200))


def _only(text: bytes) -> Block:
    [block] = blocks(text)
    return block


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=500), eol=st.sampled_from(["\n", "\r\n"]))
def test_blocks_armour_comes_off(data: bytes, eol: str) -> None:
    """What was armoured is found again with its place, with either line end."""
    text = armor(data, eol=eol)

    assert Block("MESSAGE", data, 0, len(text), (), False) == _only(text)


@pytest.mark.parametrize(
    ("text", "headers", "has_checksum"),
    [
        (armor(_DATA, headers="Version: ProtonMail\nComment: https://protonmail.com"),
         (b"Version: ProtonMail", b"Comment: https://protonmail.com"), False),
        (armor(_DATA, headers="Version:"), (b"Version:",), False),
        (armor(_DATA).replace(b"-----\n\n", b"-----\n \t\n"), (), False),
        (armor(_DATA).replace(b"-----BEGIN PGP MESSAGE-----", b"-----BEGIN PGP MESSAGE-----  "), (), False),
        (armor(_DATA).replace(b"\n-----END", b"\n=AbC/\n-----END"), (), True),
        (armor(_DATA, eol="\r\n").replace(b"\r\n-----END", b"\r\n=AbC/\r\n-----END"), (), True),
        (armor(_DATA).rstrip(b"\n"), (), False),
    ],
)  # fmt: skip
def test_blocks_liberal_in_headers_and_checksum(
    text: bytes, headers: tuple[bytes, ...], has_checksum: bool
) -> None:
    """Armour headers, blanks and a checksum of any value are accepted (RFC 9580 §6.1)."""
    block = _only(text)

    assert (_DATA, headers, has_checksum) == (block.data, block.headers, block.has_checksum)


def test_blocks_words_between_are_skipped() -> None:
    """Several blocks are found with their labels and offsets."""
    first, second = armor(b"one", label="PUBLIC KEY BLOCK"), armor(b"two")
    text = b"words\n" + first + b"more words\n" + second + b"end\n"

    assert [
        ("PUBLIC KEY BLOCK", b"one", 6, 6 + len(first)),
        ("MESSAGE", b"two", 17 + len(first), len(text) - 4),
    ] == [(block.label, block.data, block.start, block.end) for block in blocks(text)]


@pytest.mark.parametrize(
    "text",
    [
        armor(_DATA)[:-10],
        armor(_DATA).replace(b"END PGP MESSAGE", b"END PGP SIGNATURE"),
        armor(_DATA).replace(b"\n-----END", b"\nplain words!\n-----END"),
        armor(_DATA).rstrip(b"\n") + b" words\n",
        armor(_DATA).replace(b"\n-----END", b"A\n-----END"),
        armor(b"a").replace(b"YQ==", b"YQ==YQ=="),
        armor(bytes(1_600_000)).replace(b"\n-----END", b"\n=\n-----END"),
        armor(_DATA, headers="\n".join(["Comment: x"] * 101)),
        armor(_DATA).replace(b"\n\n", b"\n\n\xff\n"),
    ],
)
def test_blocks_broken_armour_is_refused(text: bytes) -> None:
    """A block without END, with words in it, or with base64 that does not come out even raises."""
    with pytest.raises(Malformed):
        list(blocks(text))


def test_blocks_without_armour_are_none() -> None:
    """Text without armour has no blocks."""
    assert [] == list(blocks(b"-----BEGIN PGP MESSAGE----- and words\n"))


def test_blocks_of_a_large_real_message() -> None:
    """Several pieces of base64 are put together as Sequoia took them apart."""
    cert = pysequoia.Tsk.generate("<a@b.example>").extract_certificate()
    binary = pysequoia.encrypt(bytes(2_500_000), recipients=[cert], armor=False)
    text = pysequoia.armor(binary, pysequoia.ArmorKind.Message)

    assert binary == _only(text.encode()).data


def test_blocks_hostile_text_is_fast() -> None:
    """Many beginnings without an end cost no more than reading the text."""
    start = time.process_time()
    with pytest.raises(Malformed):
        list(blocks(b"-----BEGIN PGP MESSAGE-----\n" * 100_000))

    assert time.process_time() - start < 1
