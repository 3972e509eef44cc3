"""Tests of `relay.mime.autocrypt` with the messages of the specification (`tests/data/autocrypt`)."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pysequoia

from relay.address import parse_mailbox
from relay.message import Login
from relay.mime.autocrypt import find, sent_at, taught
from relay.mime.headers import Message, parse

FOLDER = Path(__file__).parents[2] / "data" / "autocrypt"
ALICE = parse_mailbox("alice@autocrypt.example")


def _message(name: str, old: bytes = b"", new: bytes = b"") -> Message:
    """A message of the specification with CRLF line ends, and with one thing changed."""
    content = (FOLDER / f"{name}.eml").read_bytes()
    assert not old or content.count(old) == 1

    return parse((content.replace(old, new) if old else content).replace(b"\n", b"\r\n"))


def test_find_in_the_example_is_the_key_that_its_text_names() -> None:
    """The example of Level 1 is read: the address, the preference, and the key with the ID in its text."""
    message = _message("example-simple-autocrypt")

    found = find(message, ALICE)

    assert found is not None
    assert b"71DBC5657FDE65A7" in message.body
    assert (ALICE, "71DBC5657FDE65A7", True) == (found.addr, found.fingerprint[-16:], found.prefers_encrypt)
    assert datetime(2017, 11, 7, 13, 53, 50, tzinfo=UTC) == sent_at(message)


def test_find_in_the_example_gives_what_sequoia_reads() -> None:
    """Another implementation finds the same certificate in the same octets."""
    found = find(_message("example-simple-autocrypt"), ALICE)

    assert found is not None
    cert = pysequoia.Cert.from_bytes(found.certificate)
    assert cert.fingerprint.upper() == found.fingerprint
    assert ["a1ebd68d-8c77-45b8-b033-8cac3f7d206d@autocrypt.org"] == [str(name) for name in cert.user_ids]


def test_find_in_the_example_for_somebody_else_is_nothing() -> None:
    """The field of the example is about Alice, and only her login teaches it."""
    message = _message("example-simple-autocrypt")

    assert None is find(message, parse_mailbox("bob@autocrypt.example"))
    assert None is taught(message, Login("bob", ("bob@autocrypt.example", "*@autocrypt.example")))


def test_find_in_the_example_with_a_cut_key_is_nothing() -> None:
    """The older example is base64 without fault, of a certificate that ends in the middle of a packet."""
    assert None is find(_message("example-cleartext-autocrypt"), ALICE)


def test_find_in_the_example_with_an_unknown_attribute_knows_critical_ones() -> None:
    """`_monkey=ignore` does no harm, `danger=do-not-use` does: the attributes of the first test suite."""
    name, place = "example-simple-autocrypt", b" keydata="

    assert find(_message(name, place, b" _monkey=ignore;" + place), ALICE)
    assert None is find(_message(name, place, b" danger=do-not-use;" + place), ALICE)


def test_find_in_the_example_as_gossip_is_nothing() -> None:
    """The same field under the name for gossip is never read."""
    assert None is find(_message("example-simple-autocrypt", b"Autocrypt:", b"Autocrypt-Gossip:"), ALICE)
