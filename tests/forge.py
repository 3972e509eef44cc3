"""Writes OpenPGP certificates by hand: odd but honest ones, and forged ones, with keys made from a name.

Ed25519 signs, Curve25519 encrypts: `Owner` has version 4 with the legacy forms that GnuPG 2.2 reads, `Owner6`
version 6. Nothing here is secret.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from relay.mime import packets
from relay.openpgp.signatures import encode

_HASHES = {1: "md5", 2: "sha1", 8: "sha256", 10: "sha512"}
_ED25519 = bytes.fromhex("092B06010401DA470F01")
_CURVE25519 = bytes.fromhex("0A2B060104019755010501")
_KDF = bytes.fromhex("03010807")


ON_USER_ID = frozenset({0x10, 0x11, 0x12, 0x13, 0x16, 0x30})
"""Types of signatures that are made over a User ID; 0x16 is what a draft calls an attestation."""


def at(year: int, month: int = 1, day: int = 1) -> int:
    """Noon of a day as Unix time."""
    return int(datetime(year, month, day, 12, tzinfo=UTC).timestamp())


def raw(data: bytes) -> list[bytes]:
    """The packets of binary data, each with its header."""
    return [data[packet.start : packet.end] for packet in packets.walk(data)]


def subpacket(kind: int, value: bytes) -> bytes:
    return bytes([len(value) + 1, kind]) + value


MDC_ONLY = subpacket(30, b"\x01")
SEIPD2 = subpacket(30, b"\x09")
"""Features (RFC 9580 §5.2.3.32); without any, pysequoia writes SEIPD version 2."""


def mpi(octets: bytes) -> bytes:
    number = int.from_bytes(octets)
    return number.bit_length().to_bytes(2) + number.to_bytes((number.bit_length() + 7) // 8)


def hashed_key(body: bytes) -> bytes:
    """A key as it stands in what is hashed (RFC 9580 §5.2.4)."""
    if body[0] == 6:
        return b"\x9b" + len(body).to_bytes(4) + body
    return b"\x99" + len(body).to_bytes(2) + body


@dataclass(frozen=True)
class Owner:
    """Somebody with a primary key and any number of subkeys, all made from labels."""

    name: str
    created: int = at(2025)

    @property
    def user_id(self) -> bytes:
        return f"{self.name} <{self.name}@example.com>".encode()

    @property
    def signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(self.name.encode()).digest())

    @property
    def primary(self) -> bytes:
        """The body of the primary key packet."""
        point = b"\x40" + self.signer.public_key().public_bytes_raw()
        return b"\x04" + self.created.to_bytes(4) + b"\x16" + _ED25519 + mpi(point)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha1(hashed_key(self.primary)).hexdigest().upper()

    def _decryptor(self, label: str) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(hashlib.sha256(f"{self.name} {label}".encode()).digest())

    def subkey(self, label: str = "mail", created: int = 0) -> bytes:
        """The body of an encryption subkey packet."""
        point = b"\x40" + self._decryptor(label).public_key().public_bytes_raw()
        return b"\x04" + (created or self.created).to_bytes(4) + b"\x12" + _CURVE25519 + mpi(point) + _KDF

    def sign(
        self,
        kind: int,
        target: bytes = b"",
        *,
        on: int = 0,
        flags: bytes | None = None,
        key_lasts: int = 0,
        lasts: int = 0,
        digest: int = 8,
        claims: bytes | None = None,
        hints: bytes | None = None,
        genuine: bool = True,
        subject: bytes = b"",
    ) -> bytes:
        """A signature packet of the primary key.

        Args:
            target: body of the User ID or subkey; empty for the primary key itself.
            on: when it claims to have been made; 0: with the key.
            claims: further hashed subpackets; None: Features that announce SEIPD version 1.
            hints: the unhashed area; None: the issuer.
            genuine: False: claims to be the owner's and is not.
            subject: body of another primary key that is spoken about; empty: the own.
        """
        hashed = subpacket(2, (on or self.created).to_bytes(4))
        hashed += MDC_ONLY if claims is None else claims
        for number, value in ((3, lasts), (9, key_lasts)):
            hashed += subpacket(number, value.to_bytes(4)) if value else b""
        if flags is not None:
            hashed += subpacket(27, flags)
        head = bytes([4, kind, 22, digest]) + len(hashed).to_bytes(2) + hashed
        message = hashed_key(subject or self.primary)
        if kind in ON_USER_ID:
            message += b"\xb4" + len(target).to_bytes(4) + target
        elif target:
            message += hashed_key(target)
        message += head + b"\x04\xff" + len(head).to_bytes(4)
        hashed_message = hashlib.new(_HASHES[digest], message).digest()
        signature = (self.signer if genuine else Owner("somebody else").signer).sign(hashed_message)
        unhashed = subpacket(16, bytes.fromhex(self.fingerprint[-16:])) if hints is None else hints
        tail = hashed_message[:2] + mpi(signature[:32]) + mpi(signature[32:])
        return encode(2, head + len(unhashed).to_bytes(2) + unhashed + tail)

    # ------------------------------------------------------------------ whole certificates

    def start(self, *signatures: bytes, user_id: bytes | None = None) -> bytes:
        """Primary key and User ID, with the given signatures on the latter or an ordinary one."""
        name = self.user_id if user_id is None else user_id
        on_name = b"".join(signatures) or self.sign(0x13, name, flags=b"\x01")
        return encode(packets.PUBLIC_KEY, self.primary) + encode(packets.USER_ID, name) + on_name

    def bind(self, *signatures: bytes, label: str = "mail", created: int = 0) -> bytes:
        """A subkey with the given signatures or an ordinary binding."""
        body = self.subkey(label, created)
        on_subkey = b"".join(signatures) or self.sign(0x18, body, flags=b"\x0c")
        return encode(packets.PUBLIC_SUBKEY, body) + on_subkey

    def secret(self, certificate: bytes, *labels: str) -> bytes:
        """The certificate with the secret keys in the place of the public ones; labels in order."""
        secrets = [mpi(self.signer.private_bytes_raw())]
        # Curve25519's legacy form is big-endian (RFC 9580 §5.5.5.6.1.1), with the clamped bits set.
        secrets += [mpi(_clamp(self._decryptor(label).private_bytes_raw())[::-1]) for label in labels]
        return b"".join(_with_secret(packet, secrets) for packet in packets_of(certificate))


@dataclass(frozen=True)
class Owner6:
    """Somebody with a version 6 primary key and an encryption subkey, made from a name."""

    name: str
    created: int = at(2025)

    @property
    def user_id(self) -> bytes:
        return f"{self.name} <{self.name}@example.com>".encode()

    @property
    def signer(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(self.name.encode()).digest())

    @property
    def primary(self) -> bytes:
        """The body of the primary key packet."""
        return self._key(27, self.signer.public_key().public_bytes_raw())

    @property
    def _decryptor(self) -> X25519PrivateKey:
        return X25519PrivateKey.from_private_bytes(hashlib.sha256(f"{self.name} mail".encode()).digest())

    @property
    def subkey(self) -> bytes:
        """The body of the encryption subkey packet."""
        return self._key(25, self._decryptor.public_key().public_bytes_raw())

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(hashed_key(self.primary)).hexdigest().upper()

    def _key(self, algorithm: int, point: bytes) -> bytes:
        return b"\x06" + self.created.to_bytes(4) + bytes([algorithm]) + len(point).to_bytes(4) + point

    def sign(
        self,
        kind: int,
        target: bytes = b"",
        *,
        claims: bytes = b"",
        hints: bytes | None = None,
        subject: bytes = b"",
        salt: bytes = bytes(16),
    ) -> bytes:
        """A signature packet of the primary key over a User ID, a subkey, or the primary key alone."""
        hashed = b"\x05\x02" + self.created.to_bytes(4) + claims
        head = bytes([6, kind, 27, 8]) + len(hashed).to_bytes(4) + hashed
        if kind in ON_USER_ID:
            target = b"\xb4" + len(target).to_bytes(4) + target
        elif target:
            target = hashed_key(target)
        message = salt + hashed_key(subject or self.primary) + target + head
        digest = hashlib.sha256(message + b"\x06\xff" + len(head).to_bytes(4)).digest()
        unhashed = subpacket(33, b"\x06" + bytes.fromhex(self.fingerprint)) if hints is None else hints
        tail = digest[:2] + bytes([len(salt)]) + salt + self.signer.sign(digest)
        return encode(2, head + len(unhashed).to_bytes(4) + unhashed + tail)

    def certificate(self, *on_user_id: bytes, binding: bytes = b"", features: bytes = SEIPD2) -> bytes:
        """The whole certificate, with further signatures on its User ID.

        Args:
            binding: in the place of an ordinary one.
            features: the subpacket in the direct-key signature; empty for none.
        """
        flags = subpacket(27, b"\x0c")
        parts = [
            encode(packets.PUBLIC_KEY, self.primary),
            self.sign(0x1F, claims=subpacket(27, b"\x01") + features),
            encode(packets.USER_ID, self.user_id),
            self.sign(0x13, self.user_id),
            *on_user_id,
            encode(packets.PUBLIC_SUBKEY, self.subkey),
            binding or self.sign(0x18, self.subkey, claims=flags),
        ]
        return b"".join(parts)

    def secret(self, certificate: bytes) -> bytes:
        """The certificate with the secret keys in the place of the public ones."""
        secrets = [self.signer.private_bytes_raw(), self._decryptor.private_bytes_raw()]
        return b"".join(_with_secret(packet, secrets) for packet in packets_of(certificate))


def _clamp(scalar: bytes) -> bytes:
    return bytes([scalar[0] & 248]) + scalar[1:31] + bytes([scalar[31] & 127 | 64])


def packets_of(data: bytes) -> list[packets.Packet]:
    return list(packets.walk(data))


def _with_secret(packet: packets.Packet, secrets: list[bytes]) -> bytes:
    if packet.tag not in {packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY}:
        return encode(packet.tag, packet.head)
    material = secrets.pop(0)
    tag = packets.SECRET_KEY if packet.tag == packets.PUBLIC_KEY else packets.SECRET_SUBKEY
    checksum = (sum(material) % 65536).to_bytes(2) if packet.head[0] == 4 else b""  # RFC 9580 §5.5.3
    return encode(tag, packet.head + b"\x00" + material + checksum)
