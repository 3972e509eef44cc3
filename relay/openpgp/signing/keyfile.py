"""Secret keys in a file: pysequoia signs and encrypts, small messages here, large ones in another process.

The file is read once, when the relay starts and on HUP. What the relay keeps of it is the secret part of keys
that can sign, as it stood in the file, and the opened key in the memory that pysequoia guards.
"""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

import relay
from relay.errors import EncryptionFailed, SigningUnavailable
from relay.message import Verdict
from relay.mime import armor, packets
from relay.mime.packets import Malformed
from relay.openpgp.engine import MAX_WAITING, TIMEOUT_SECONDS, Turns, intended
from relay.openpgp.sequoia import IN_PROCESS_OCTETS, IN_PROCESS_SUBKEYS
from relay.openpgp.signatures import encode
from relay.openpgp.signing import library, worker
from relay.openpgp.signing.assessment import PROBE, KeyUnfit, SigningKey, choose, prove
from relay.openpgp.signing.process import ProgramFailed, Programs
from relay.openpgp.worker import LibraryRefused, encrypt
from relay.openpgp.worker import parse as parse_certificate

MAX_FILE_BYTES = 1 << 20
"""Hundreds of keys."""

_SLOW_ALGORITHMS = frozenset({32, 33, 34})
"""SLH-DSA needs up to a second for a signature, so that even small messages leave this process."""

_PROTECTED = frozenset({253, 254, 255})
_GNU_SPECIFIER = 101
"""S2K type of a secret that GnuPG left out: it lies elsewhere, or on a card."""


class KeyFileInvalid(ValueError):
    """The file cannot be used; the text is a sentence about it: `holds no secret key`."""


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One certificate of the file with its secret keys."""

    public: bytes = field(repr=False)
    secrets: dict[str, bytes] = field(repr=False)
    """Fingerprint → secret key packet, of every key whose secret is really there."""
    protected: frozenset[str]
    """Fingerprints of those that need the password."""

    @property
    def fingerprint(self) -> str:
        """Of the primary key."""
        return packets.certificates(self.public, "")[0].fingerprint

    def secret_of(self, key: SigningKey) -> bytes:
        """The certificate for readers with the one secret in it that signs, and no other."""
        walked = packets.walk(key.certificate)
        return b"".join(
            self.secrets[key.fingerprint]
            if packet.tag in _PUBLIC and packets.fingerprint(packet) == key.fingerprint
            else key.certificate[packet.start : packet.end]
            for packet in walked
        )


_PUBLIC = frozenset({packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY})
_SECRET = {packets.SECRET_KEY: packets.PUBLIC_KEY, packets.SECRET_SUBKEY: packets.PUBLIC_SUBKEY}


def read(path: Path) -> tuple[HeldKey, ...]:
    """The keys in the file; blocks.

    Raises:
        KeyFileInvalid: it cannot be read, others can read it, or it holds no secret key.
    """
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            octets = stream.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise KeyFileInvalid(f"cannot be read: {exc.strerror}") from exc
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileInvalid("holds a secret key and can be used by others than its owner; chmod 600")
    if len(octets) > MAX_FILE_BYTES:
        raise KeyFileInvalid(f"is larger than {MAX_FILE_BYTES} bytes")
    return parse(octets)


def parse(octets: bytes) -> tuple[HeldKey, ...]:
    """The keys in the octets of a file, armoured or not. Raises KeyFileInvalid."""
    try:
        blocks = [block.data for block in armor.blocks(octets)] if b"-----BEGIN" in octets else [octets]
        held = [_held(one) for block in blocks for one in _split(block)]
    except (Malformed, LibraryRefused) as exc:
        raise KeyFileInvalid("is damaged, or not a file of OpenPGP keys") from exc
    found = tuple(key for key in held if key.secrets)
    if not found:
        raise KeyFileInvalid("holds no secret key; gpg --export-secret-keys FINGERPRINT writes one")
    return found


def check(path: Path, password: str | None, now: int) -> None:
    """Reads the file and opens what can sign; blocks.

    Raises:
        KeyFileInvalid: as `read`; or no key in it can sign now, or the password does not open it.
    """
    problems = []
    for held in read(path):
        try:
            _choose(held, held.fingerprint, password, now)
        except KeyUnfit as exc:
            problems.append(f"key {held.fingerprint} {exc}")
        else:
            return
    raise KeyFileInvalid("holds no key that can sign: " + "; ".join(problems)[:400])


class KeyFile:
    """Signs with the keys of one file.

    Args:
        name: in the configuration.
        held: what `read` found.
        password: for the protected ones.
        processes: how many large messages at the same time; None: one per processor.
        max_waiting: large messages that may wait.
        timeout_seconds: for one large message, waiting included.
    """

    def __init__(
        self,
        name: str,
        held: tuple[HeldKey, ...],
        password: str | None = None,
        *,
        processes: int | None = None,
        max_waiting: int = MAX_WAITING,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.name = name
        self._held = held
        self._password = password
        self._opened: dict[SigningKey, _Opened] = {}
        self._turns = Turns(processes or os.cpu_count() or 1, max_waiting, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._programs = Programs()

    async def find(self, fingerprint: str) -> bytes | None:
        """The public certificate with this primary or subkey; None where the file does not hold it."""
        found = next((held for held in self._held if fingerprint in _names(held)), None)
        return found.public if found else None

    async def open(self, fingerprint: str, now: int) -> SigningKey:
        """The key, proven and ready to sign. Raises KeyUnfit."""
        held = next(held for held in self._held if fingerprint in _names(held))
        key, opened = await asyncio.to_thread(_choose, held, fingerprint, self._password, now)
        self._opened[key] = opened
        return key

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], key: SigningKey, rule: str
    ) -> bytes:
        """As `relay.seams.Signer`. Raises EncryptionFailed or SigningUnavailable."""
        order = _Order.of(plaintext, keys)
        opened = self._opened.get(key)
        if opened is None:
            raise SigningUnavailable("the signer is closed", rule=rule)
        if order.is_small and key.algorithm not in _SLOW_ALGORITHMS:
            return _sign_here(order, opened)
        async with self._turns.take():
            return await self._sign_outside(order, opened, rule)

    async def close(self) -> None:
        """Ends the processes; messages in them fail."""
        await self._programs.close()
        self._opened.clear()

    async def _sign_outside(self, order: _Order, opened: _Opened, rule: str) -> bytes:
        frame = worker.frame(*opened.secret, order.certificates, order.plaintext, allows_v2=order.allows_v2)
        try:
            done = await self._programs.run(
                worker.command(), _environment(), *frame, timeout_seconds=self._timeout_seconds
            )
        except ProgramFailed as exc:
            raise SigningUnavailable(str(exc), rule=rule) from exc
        if done.exit_status:
            raise EncryptionFailed(f"the signing process failed ({done.exit_status}): {done.complaint[:300]}")
        return done.output


@dataclass(frozen=True, slots=True, repr=False)
class _Order:
    """What is to be encrypted, to whom."""

    plaintext: bytes
    certificates: list[bytes]
    allows_v2: bool
    is_small: bool
    """Whether it is made on the event loop."""

    @classmethod
    def of(cls, plaintext: bytes, keys: tuple[Verdict, ...]) -> _Order:
        """Raises EncryptionFailed for keys that may not be used."""
        verdicts = intended(keys)
        subkeys = sum(len(verdict.subkeys) for verdict in verdicts)
        return cls(
            plaintext,
            certificates=[verdict.reduced for verdict in verdicts],
            allows_v2=all(verdict.allows_v2 for verdict in keys),
            is_small=len(plaintext) <= IN_PROCESS_OCTETS and subkeys <= IN_PROCESS_SUBKEYS,
        )


@dataclass(frozen=True, slots=True, repr=False)
class _Opened:
    """A key that can sign; nothing of it is ever shown."""

    signer: library.Signer
    secret: tuple[bytes, str | None]
    """The secret key packet with its certificate, and the password for it."""


def _choose(held: HeldKey, wanted: str, password: str | None, now: int) -> tuple[SigningKey, _Opened]:
    """The key that this fingerprint means, opened: some hundred milliseconds. Raises KeyUnfit."""
    key = choose(held.public, wanted, frozenset(held.secrets), now)
    return key, _open(held, key, password)


def _open(held: HeldKey, key: SigningKey, password: str | None) -> _Opened:
    """Opens the key and makes one signature that is verified. Raises KeyUnfit."""
    is_protected = key.fingerprint in held.protected
    if is_protected and password is None:
        raise KeyUnfit("is protected with a password; name a password_file")
    secret = (held.secret_of(key), password if is_protected else None)
    try:
        signer = library.signer(*secret)
    except LibraryRefused as exc:
        what = (
            "is not opened by the password in password_file" if is_protected else f"cannot be opened: {exc}"
        )
        raise KeyUnfit(what) from exc
    try:
        prove(key, library.sign(PROBE, signer))
    except LibraryRefused as exc:
        raise KeyUnfit(f"cannot sign: {exc}") from exc
    return _Opened(signer, secret)


def _sign_here(order: _Order, opened: _Opened) -> bytes:
    try:
        parsed = [parse_certificate(certificate) for certificate in order.certificates]
        return bytes(encrypt(order.plaintext, parsed, allows_v2=order.allows_v2, signer=opened.signer))
    except LibraryRefused as exc:
        raise EncryptionFailed(str(exc)) from exc


def _environment() -> dict[str, str]:
    """Ours, and a fixed threshold that makes glibc give freed buffers back to the system at once."""
    root = str(Path(relay.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "MALLOC_MMAP_THRESHOLD_": str(1 << 18)}


# --------------------------------------------------------------------------- taking a file apart


def _names(held: HeldKey) -> set[str]:
    return {held.fingerprint, *held.secrets}


def _split(data: bytes) -> list[bytes]:
    """The octets of each secret key; certificates without one may stand beside it."""
    walked = [
        packet for packet in packets.walk(data) if packet.tag in {packets.SECRET_KEY, packets.PUBLIC_KEY}
    ]
    ends = [*(packet.start for packet in walked), len(data)][1:]
    both = zip(walked, ends, strict=True)
    return [data[packet.start : end] for packet, end in both if packet.tag == packets.SECRET_KEY]


def _held(data: bytes) -> HeldKey:
    """One key with its public part as a certificate; secrets of an unknown kind are left out.

    The body of a secret key packet begins with that of the public one (RFC 9580 §5.5.3). How long that is
    depends on the algorithm, and pysequoia knows.
    """
    certificate = library.public(data)
    bodies = [packet.head for packet in packets.walk(certificate) if packet.tag in _PUBLIC]
    public, secrets, protected = b"", dict[str, bytes](), set[str]()
    is_known = True
    for packet in packets.walk(data):
        octets = data[packet.start : packet.end]
        if packet.tag in _SECRET:
            body = next((body for body in bodies if packet.head.startswith(body)), b"")
            is_known = bool(body)
            public_packet = encode(_SECRET[packet.tag], body)
            usage = packet.head[len(body) : len(body) + 3]
            if is_known and not _is_stub(usage):
                fingerprint = packets.fingerprint(next(packets.walk(public_packet)))
                secrets[fingerprint] = octets
                protected |= {fingerprint} if usage[0] else set()
            octets = public_packet
        if is_known:  # else its signatures go with it
            public += octets
    return HeldKey(public, secrets, frozenset(protected))


def _is_stub(usage: bytes) -> bool:
    """Whether GnuPG wrote a place holder: usage octet, cipher, and an S2K specifier of its own."""
    return not usage or (usage[0] in _PROTECTED and usage[2:3] == bytes([_GNU_SPECIFIER]))
