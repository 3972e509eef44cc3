"""Secret keys in a file: pysequoia signs and encrypts, small messages here, large ones in another process.

The file is read when the relay starts, on HUP, and when `find` sees that it is another one. What the relay
keeps of it is the secret part of keys that may sign, as it stood in the file, and the opened key in the
memory that pysequoia guards.

A file may hold several copies of a key, with its secret or without, and its revocation by itself. All of them
count together: a copy that is older hides nothing that another one says.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import relay
from relay.errors import EncryptionFailed, SigningUnavailable
from relay.files import read_regular
from relay.message import Verdict
from relay.mime import armor, packets
from relay.mime.packets import Malformed
from relay.openpgp.engine import MAX_WAITING, TIMEOUT_SECONDS, Turns, intended
from relay.openpgp.sequoia import IN_PROCESS_OCTETS, IN_PROCESS_SUBKEYS
from relay.openpgp.signatures import encode
from relay.openpgp.signing import library, worker
from relay.openpgp.signing.assessment import PROBE, KeyUnfit, SigningKey, choose, may_sign, prove
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
    """One certificate of the file, all copies merged, with its secret keys."""

    public: bytes = field(repr=False)
    secrets: dict[str, bytes] = field(repr=False)
    """Fingerprint → secret key packet, of every key that may sign and whose secret is really there."""
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


_PRIMARY = frozenset({packets.PUBLIC_KEY, packets.SECRET_KEY})
_PUBLIC = frozenset({packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY})
_SECRET = {packets.SECRET_KEY: packets.PUBLIC_KEY, packets.SECRET_SUBKEY: packets.PUBLIC_SUBKEY}


def read(path: Path) -> tuple[HeldKey, ...]:
    """The keys in the file; blocks.

    Raises:
        KeyFileInvalid: it cannot be read, others can read it, or it holds no secret key.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[tuple[HeldKey, ...], _Seen]:
    """The keys, and which file they stood in. Raises KeyFileInvalid."""
    try:
        octets, status = read_regular(path, MAX_FILE_BYTES)
    except OSError as exc:
        raise KeyFileInvalid(f"cannot be read: {exc.strerror}") from exc
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise KeyFileInvalid("holds a secret key and can be used by others than its owner; chmod 600")
    if len(octets) > MAX_FILE_BYTES:
        raise KeyFileInvalid(f"is larger than {MAX_FILE_BYTES} bytes")
    return parse(octets), _seen(status)


_Seen = tuple[int, int, int, int]
"""What is different for another file, or another content of the same."""


def _seen(status: os.stat_result) -> _Seen:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def parse(octets: bytes) -> tuple[HeldKey, ...]:
    """The keys in the octets of a file, armoured or not. Raises KeyFileInvalid."""
    try:
        blocks = [block.data for block in armor.blocks(octets)] if b"-----BEGIN" in octets else [octets]
        found = [held for held in _merged([one for block in blocks for one in _split(block)]) if held.secrets]
    except (Malformed, LibraryRefused) as exc:
        raise KeyFileInvalid("is damaged, or not a file of OpenPGP keys") from exc
    if not found:
        raise KeyFileInvalid("holds no secret key; gpg --export-secret-keys FINGERPRINT writes one")
    return tuple(_only_signing(held) for held in found)


def check(path: Path, password: str | None, wanted: Iterable[str], now: int) -> None:
    """Reads the file and opens those of its keys that rules name; blocks.

    What is wrong with a key itself, that it has expired for example, is found by `KeyFile.open`.

    Raises:
        KeyFileInvalid: as `read`; or the password does not open one of these keys.
    """
    for held in read(path):
        for fingerprint in sorted(_names(held).intersection(wanted)):
            try:
                _choose(held, fingerprint, password, now)
            except KeyUnfit as exc:
                if exc.is_mistake:
                    raise KeyFileInvalid(f"holds the key {fingerprint}, which {exc}") from exc


class KeyFile:
    """Signs with the keys of one file.

    Args:
        name: in the configuration.
        held: what `read` found.
        password: for the protected ones.
        path: where that was, to see when it changes; None: it never does.
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
        path: Path | None = None,
        seen: _Seen | None = None,
        processes: int | None = None,
        max_waiting: int = MAX_WAITING,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.name = name
        self._held = held
        self._password = password
        self._path = path
        self._seen = seen
        self._opened: dict[SigningKey, _Opened] = {}
        self._turns = Turns(processes or os.cpu_count() or 1, max_waiting, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._programs = Programs()

    @classmethod
    def of(cls, name: str, path: Path, password: str | None = None) -> KeyFile:
        """The keys of this file, now and as it changes; blocks. Raises KeyFileInvalid."""
        held, seen = _read(path)
        return cls(name, held, password, path=path, seen=seen)

    async def find(self, fingerprint: str) -> bytes | None:
        """The public certificate with this primary or subkey; None where the file does not hold it.

        Raises:
            KeyUnfit: the file has changed, and cannot be used any more.
        """
        if self._path:
            await asyncio.to_thread(self._refresh, self._path)
        found = self._holder(fingerprint)
        return found.public if found else None

    async def open(self, fingerprint: str, now: int) -> SigningKey:
        """The key, proven and ready to sign. Raises KeyUnfit."""
        held = self._holder(fingerprint)
        if held is None:
            raise KeyUnfit("was taken out of its file just now", is_temporary=True)
        key, opened = await asyncio.to_thread(_choose, held, fingerprint, self._password, now)
        others = {other: kept for other, kept in self._opened.items() if other.fingerprint != key.fingerprint}
        self._opened = {**others, key: opened}
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
        self._opened = {}

    def _holder(self, fingerprint: str) -> HeldKey | None:
        return next((held for held in self._held if fingerprint in _names(held)), None)

    def _refresh(self, path: Path) -> None:
        """Reads the file again where it is another one; blocks.

        Raises:
            KeyUnfit: it cannot be used; temporary, because it may be half written.
        """
        try:
            if _seen(path.stat()) != self._seen:
                self._held, self._seen = _read(path)
        except OSError as exc:
            raise KeyUnfit(
                f"cannot be used: {path} cannot be read: {exc.strerror}", is_temporary=True
            ) from exc
        except KeyFileInvalid as exc:
            raise KeyUnfit(f"cannot be used: {path} {exc}", is_temporary=True) from exc

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
        raise KeyUnfit("is protected with a password; name a password_file", is_mistake=True)
    secret = (held.secret_of(key), password if is_protected else None)
    try:
        signer = library.signer(*secret)
    except LibraryRefused as exc:
        what = (
            "is not opened by the password in password_file" if is_protected else f"cannot be opened: {exc}"
        )
        raise KeyUnfit(what, is_mistake=is_protected) from exc
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
    """The octets of each key, secret or public, and of what stands before the first one."""
    starts = [packet.start for packet in packets.walk(data) if packet.tag in _PRIMARY]
    return [data[start:end] for start, end in pairwise([0, *starts, len(data)]) if start < end]


def _merged(copies: Sequence[bytes]) -> list[HeldKey]:
    """Each key that is there with a secret, in the order of the file, with what all its copies say."""
    secret, public, loose = defaultdict[str, list[HeldKey]](list), defaultdict[str, list[bytes]](list), b""
    for copy in copies:
        first = next(packets.walk(copy))
        if first.tag == packets.SECRET_KEY:
            held = _held(copy)
            secret[held.fingerprint].append(held)
        elif first.tag == packets.PUBLIC_KEY:
            public[packets.fingerprint(first)].append(copy)
        else:  # a revocation as GnuPG writes it beforehand; whose it is, is asked when the key is assessed
            loose += _signatures(copy)
    return [_united(found, public[fingerprint], loose) for fingerprint, found in secret.items()]


def _signatures(data: bytes) -> bytes:
    walked = packets.walk(data)
    return b"".join(data[packet.start : packet.end] for packet in walked if packet.tag == packets.SIGNATURE)


def _united(found: Sequence[HeldKey], public: Sequence[bytes], loose: bytes) -> HeldKey:
    """One key of all its copies; of a secret that is there twice the first one counts."""
    secrets, protected = dict[str, bytes](), set[str]()
    for held in found:
        fresh = held.secrets.keys() - secrets.keys()
        secrets |= {name: held.secrets[name] for name in held.secrets if name in fresh}
        protected |= held.protected & fresh
    return HeldKey(_joined([*(held.public for held in found), *public], loose), secrets, frozenset(protected))


def _joined(copies: Sequence[bytes], loose: bytes) -> bytes:
    """All copies of a certificate as one: the primary key, what is signed on it alone, and then the rest."""
    primary = next(packets.walk(copies[0]))
    direct, rest = loose, b""
    for copy in dict.fromkeys(copies):
        _, *walked = packets.walk(copy)
        parts = [packet.start for packet in walked if packet.tag not in _ON_WHAT_STANDS_BEFORE]
        border = min(parts, default=len(copy))
        direct += copy[next(packets.walk(copy)).end : border]
        rest += copy[border:]
    return copies[0][: primary.end] + direct + rest


_ON_WHAT_STANDS_BEFORE = frozenset({packets.SIGNATURE, packets.TRUST, packets.MARKER, packets.PADDING})


def _only_signing(held: HeldKey) -> HeldKey:
    """Without the secrets that can only decrypt or certify: the relay has no use for them."""
    names = may_sign(held.public)
    kept = {name: packet for name, packet in held.secrets.items() if name in names}
    return replace(held, secrets=kept, protected=held.protected & kept.keys())


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
