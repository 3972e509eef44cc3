"""The key fixtures of `tests/data/keys` by name, with the verdict that each must get on FixedClock's date."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from relay.address import parse_mailbox
from relay.message import Address, Certificate
from relay.mime.packets import fingerprint, walk

FOLDER = Path(__file__).parent / "data" / "keys"


@dataclass(frozen=True)
class Fixture:
    """One certificate and what is to be said of it."""

    name: str
    verdict: str = "usable"
    subkeys: int = 1
    """How many the judge must choose; 0 unless usable."""
    mailbox: str = ""
    """Empty: `NAME@example.com`."""
    gnupg_reads: bool = True
    """Whether GnuPG 2.2 knows the key's version and algorithms, and what is written to it."""

    @property
    def usable(self) -> bool:
        return self.verdict == "usable"

    @property
    def address(self) -> Address:
        return parse_mailbox(self.mailbox or f"{self.name}@example.com")

    @property
    def certificate(self) -> Certificate:
        return certificate(self.name)


def _unusable(name: str, verdict: str, mailbox: str = "", gnupg_reads: bool = True) -> Fixture:
    return Fixture(name, verdict, 0, mailbox, gnupg_reads)


_UNBOUND = "the encryption subkey has no valid self-signature"
_STORAGE = "the encryption subkey is for storage, not for mail"
_NO_SUBKEY = "has no subkey for encrypting mail"

FIXTURES = (
    Fixture("rsa3072"),
    Fixture("rsa2048"),
    Fixture("curve25519"),
    Fixture("p256"),
    Fixture("v6", gnupg_reads=False),
    Fixture("pqc", gnupg_reads=False),
    Fixture("primary-for-mail"),
    Fixture("bare-address"),
    Fixture("extended"),
    Fixture("several-1", mailbox="several@example.com"),
    Fixture("several-2", mailbox="several@example.com"),
    Fixture("revoked-primary-before", mailbox="revoked-primary@example.com"),
    Fixture("two-subkeys", subkeys=2),
    Fixture("two-subkeys-one-expired"),
    Fixture("storage-beside-mail"),
    Fixture("long-key-flags"),
    Fixture("no-features"),
    Fixture("features-7"),
    Fixture("features-9", gnupg_reads=False),
    Fixture("features-unhashed"),
    Fixture("aes128-only"),
    Fixture("v6-no-features", gnupg_reads=False),
    Fixture("forged-features"),
    Fixture("grafted-subkey"),
    _unusable("rsa1024", "RSA 1024 is too weak"),
    _unusable("dsa-elgamal", "DSA is not secure"),
    _unusable("weak-subkey", "RSA 1024 is too weak"),
    _unusable("elgamal-subkey", "Elgamal is not secure"),
    _unusable("sha1", "its User ID <sha1@example.com> is bound with SHA-1, which is not secure"),
    _unusable("expired-primary", "expired on 2025-03-01"),
    _unusable("expired-subkey", "the encryption subkey expired on 2024-03-31"),
    _unusable("revoked-primary", "revoked on 2025-01-02"),
    _unusable("revoked-subkey", "the encryption subkey was revoked on 2025-01-02"),
    _unusable("revoked-user-id", "its User ID <revoked-user-id@example.com> was revoked on 2025-01-02"),
    _unusable("wrong-user-id", "has no User ID <wrong-user-id@example.com>"),
    _unusable("future", "was created on 2040-01-01, which is in the future"),
    _unusable("sign-only", _NO_SUBKEY),
    _unusable("no-key-flags", _NO_SUBKEY),
    _unusable("storage-only", _STORAGE),
    _unusable("forged-newer-binding", "the encryption subkey expired on 2025-01-31"),
    _unusable("forged-key-flags", _STORAGE),
    _unusable("only-grafted-subkey", _UNBOUND),
    _unusable("forged-user-id", "its User ID <forged-user-id@example.com> has no valid self-signature"),
    _unusable("v6-without-direct-key", "has no valid direct-key signature", "v6@example.com", False),
    _unusable(
        "old-version", "is an OpenPGP version 3 certificate, which is not supported", gnupg_reads=False
    ),
    _unusable("librepgp", "is an OpenPGP version 5 certificate, which is not supported", gnupg_reads=False),
)

NAMES = tuple(fixture.name for fixture in FIXTURES)
USABLE = tuple(fixture for fixture in FIXTURES if fixture.usable)
UNUSABLE = tuple(fixture for fixture in FIXTURES if not fixture.usable)


def fixture(name: str) -> Fixture:
    """What is to be said of the fixture `name`."""
    return next(found for found in FIXTURES if found.name == name)


def certificate(name: str, source: str = "test") -> Certificate:
    """The certificate as a key source would give it."""
    data = (FOLDER / f"{name}.pgp").read_bytes()
    found = list(walk(data))
    user_ids = tuple(packet.head.decode("utf-8", "replace") for packet in found if packet.tag == 13)
    return Certificate(data, fingerprint(found[0]), user_ids, source)


def secret(name: str) -> bytes:
    """The unprotected secret keys of a usable fixture, binary."""
    return (FOLDER / f"{name}.secret.pgp").read_bytes()
