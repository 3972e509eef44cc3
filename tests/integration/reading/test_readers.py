"""What the relay encrypts is read by the implementations that people have, byte for byte."""

from __future__ import annotations

import email
import email.policy

import pytest

from tests import keys
from tests.integration.conftest import entity
from tests.integration.reading.letters import (
    HEADER_KEPT,
    SIGNED_WITH_HEADER,
    SMALL,
    SUBJECT,
    Letter,
    letters,
)
from tests.readers import READERS, Reader, Unreadable, reader

pytestmark = pytest.mark.system

EVERY_KIND = (
    *("rsa3072", "rsa2048", "curve25519", "p256", "v6", "pqc"),
    *("two-subkeys", "several-2", "no-features"),
)
"""Keys to which messages of every kind are read: all algorithms, and what changes the message itself."""

SMALL_ALONE = tuple(
    fixture.name
    for fixture in keys.USABLE
    if fixture.name not in {*EVERY_KIND, "revoked-primary-before", "several-1"}
)
"""All other keys, to which a small message is enough; two have a newer certificate, which is used instead."""

KEYS = (*EVERY_KIND, *SMALL_ALONE)

SEVERAL = (
    ("rsa3072", "curve25519"),
    ("p256", "two-subkeys", "rsa2048"),
    ("v6", "pqc"),
    ("curve25519", "v6", "pqc"),
)
"""Recipients of one message; some have keys whose version an older program does not even know."""

READ_BY = {"pqc": "pysequoia"}
"""By whom the expected plaintext is read where not by rpgp, which no engine of the relay is made of."""


class Post:
    """Letters by their recipients, each with the plaintext that one reader finds in it."""

    def __init__(self, sent: dict[tuple[str, ...], list[Letter]]) -> None:
        self._sent = sent
        self._plaintexts: dict[tuple[tuple[str, ...], str], list[bytes]] = {}

    def letters(self, group: tuple[str, ...], key: str) -> list[Letter]:
        """The copies of messages to several recipients, or to one, that one of them can read."""
        return [letter for letter in self._sent[group] if key in letter.owners]

    def plaintexts(self, group: tuple[str, ...], key: str) -> list[bytes]:
        """In the order of these letters."""
        if (group, key) not in self._plaintexts:
            armored = [letter.armored for letter in self.letters(group, key)]
            by = reader(READ_BY.get(key, "rpgp"))
            self._plaintexts[group, key] = by.decrypt_all(armored, keys.secret(key))
        return self._plaintexts[group, key]


@pytest.fixture(scope="module")
def post() -> Post:
    every = letters((name,) for name in EVERY_KIND)
    return Post(every | letters([*((name,) for name in SMALL_ALONE), *SEVERAL], (SMALL,)))


@pytest.mark.parametrize("key", KEYS)
def test_payload_holds_what_was_submitted(key: str, post: Post) -> None:
    """The submitted MIME entity is in the plaintext byte for byte; alone where the header is kept outside."""
    for letter, plaintext in zip(post.letters((key,), key), post.plaintexts((key,), key), strict=True):
        assert entity(letter.submitted) in plaintext, str(letter)
        if letter.kind == HEADER_KEPT:
            assert entity(letter.submitted) == plaintext


def test_payload_shows_the_subject_that_is_not_seen_outside(post: Post) -> None:
    """A MIME parser finds it in what was decrypted, declared (RFC 9788 §2.1.1), and `[...]` before."""
    group = ("curve25519",)
    for letter, plaintext in zip(post.letters(group, *group), post.plaintexts(group, *group), strict=True):
        outside, inside = (
            email.message_from_bytes(content, policy=email.policy.default)
            for content in (letter.sealed.header + b"\r\n", plaintext)
        )
        if letter.kind == SIGNED_WITH_HEADER:
            inside = inside.get_payload(0)
        if letter.kind != HEADER_KEPT:
            declared = "clear" if letter.kind == SIGNED_WITH_HEADER else "cipher"
            assert ("[...]", SUBJECT) == (outside["Subject"], inside["Subject"]), str(letter)
            assert declared == inside["Content-Type"].params["hp"], str(letter)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("who", READERS, ids=str)
def test_reader_reads_every_kind_of_message(who: Reader, key: str, post: Post) -> None:
    """Every reader finds the same octets in every message to a key that it can read."""
    sent = post.letters((key,), key)
    if not who.can(key):
        return _refuses(who, sent, key)

    plaintexts = who.decrypt_all([letter.armored for letter in sent], keys.secret(key))

    for letter, expected, actual in zip(sent, post.plaintexts((key,), key), plaintexts, strict=True):
        assert who.as_printed(expected) == actual, str(letter)
    return None


@pytest.mark.parametrize(
    ("who", "group"),
    [
        pytest.param(who, group, id=f"{who}-{' '.join(group)}")
        for who in READERS
        for group in SEVERAL
        if any(map(who.can, group))
    ],
)
def test_owners_of_one_message_read_the_same(who: Reader, group: tuple[str, ...], post: Post) -> None:
    """Each owner finds the octets that the first owner of the same copies finds, whatever keys there are."""
    for key in filter(who.can, group):
        sent = post.letters(group, key)
        expected = post.plaintexts(group, sent[0].owners[0])

        plaintexts = who.decrypt_all([letter.armored for letter in sent], keys.secret(key))

        assert [who.as_printed(plaintext) for plaintext in expected] == plaintexts, key


def _refuses(who: Reader, sent: list[Letter], key: str) -> None:
    """What a reader is said not to read it does not read: else the table of readers is out of date."""
    for letter in sent:
        if letter.kind == SMALL:
            with pytest.raises(Unreadable):
                who.decrypt(letter.armored, keys.secret(key))
