"""Recipients with a key of their own: what a source gives for them, and what they can read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pysequoia

from relay.address import parse_mailbox
from relay.keys import wkd
from relay.message import Address
from tests.integration.conftest import SENDER, ciphertext, only_part

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Person:
    """An address and a secret key for it."""

    address: str
    secret: pysequoia.Tsk

    @property
    def certificate(self) -> bytes:
        """Binary."""
        return bytes(self.secret.extract_certificate())

    @property
    def fingerprint(self) -> str:
        return self.secret.extract_certificate().fingerprint.upper()

    @property
    def key_id(self) -> str:
        """Of the only encryption subkey, as a ciphertext names it."""
        keys = self.secret.extract_certificate().keys()
        [subkey] = (key for key in keys if key.for_transport_encryption)
        return subkey.fingerprint.upper()[-16:]

    def with_new_key(self) -> Person:
        """The same address with another key."""
        return person(self.address)

    def reads(self, message: bytes) -> bytes:
        """The entity that was encrypted, without the protected header; raises if it is for somebody else."""
        found = pysequoia.decrypt(ciphertext(message), decryptor=self.secret.decryptor()).bytes
        assert found is not None
        return only_part(found)


def person(address: str) -> Person:
    """A new key for an address."""
    made = pysequoia.Tsk.generate(user_ids=[f"<{address}>"], profile=pysequoia.Profile.RFC4880)
    return Person(address, made)


def stranger(domain: str) -> Person:
    """Somebody whom no other test writes to."""
    return person(f"stranger{next(_numbers)}@{domain}")


def mailbox(address: str) -> Address:
    return parse_mailbox(address)


def path_of(address: str) -> str:
    """Where a key directory has the key of an address."""
    return wkd.advanced_path(mailbox(address))


def letter(*recipients: str, text: str = "Hello.", sender: str = SENDER, more: str = "") -> bytes:
    """A message.

    Args:
        more: further header lines, each ended by CRLF.
    """
    return (
        f"From: <{sender}>\r\nTo: {', '.join(recipients)}\r\nSubject: x\r\n{more}"
        f"Message-ID: <{next(_numbers)}@example.com>\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\n"
        f"Content-Type: text/plain\r\n\r\n{text}\r\n"
    ).encode()
