"""Recipients of the engine tests: fresh keys, the verdicts a judge would give, two ways to read a message."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pysequoia

from relay.message import Subkey, Verdict
from relay.mime import packets
from tests.programs import require

_ENCRYPTION_ALGORITHMS = {1, 18, 25}
"""RSA, ECDH, X25519: none of the keys below signs with an RSA subkey."""

_V6_DIGITS = 64
"""Of a version 6 fingerprint; those keys below all announce version 2 of encrypted data."""


def verdict_of(certificate: bytes) -> Verdict:
    """What a judge says of a good certificate."""
    [parsed] = packets.certificates(certificate, "test")
    subkeys = [packet for packet in packets.walk(certificate) if packet.tag == packets.PUBLIC_SUBKEY]
    chosen = [packets.fingerprint(packet) for packet in subkeys if packet.head[5] in _ENCRYPTION_ALGORITHMS]
    return Verdict(
        certificate=parsed,
        usable=True,
        sentence="good",
        subkeys=tuple(Subkey(name, packets.pkesk_id(name), "any") for name in chosen),
        reduced=certificate,
        allows_v2=len(parsed.fingerprint) == _V6_DIGITS,
    )


def version_6(name: str) -> pysequoia.Tsk:
    """A key of RFC 9580."""
    return pysequoia.Tsk.generate(f"<{name}@example.org>", profile=pysequoia.Profile.RFC9580)


def public(key: pysequoia.Tsk) -> bytes:
    return bytes(key.extract_certificate())


def is_gone(pid: int) -> bool:
    """Whether there is no such process, or only its corpse."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


async def until(condition: Callable[[], bool]) -> None:
    """Waits for something that another process does and that nobody announces."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


@dataclass(repr=False)
class Parties:
    """A GnuPG home with the secret keys of everyone, each without a passphrase."""

    home: Path
    verdicts: dict[str, Verdict] = field(default_factory=dict)

    def add(self, name: str, primary: str, *subkeys: str) -> None:
        """A key with these encryption subkeys."""
        user = f"{name} <{name}@example.org>"
        self.gpg("--quick-generate-key", user, primary, "cert,sign", "never")
        fingerprint = self.gpg("--with-colons", "--list-keys", f"={user}").split(b"fpr:::::::::")[1][:40]
        for algorithm in subkeys:
            self.gpg("--quick-add-key", fingerprint.decode(), algorithm, "encrypt", "never")
        self.verdicts[name] = verdict_of(self.gpg("--export", fingerprint.decode()))

    def gpg(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What gpg prints; its failure fails the test."""
        options = ["--batch", "--no-tty", "--pinentry-mode=loopback", "--passphrase=", "--trust-model=always"]
        command = [require("gpg"), "--homedir", str(self.home), *options, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    def read_with_gpg(self, message: bytes) -> bytes:
        return self.gpg("--decrypt", stdin=message)

    def read_with_sequoia(self, message: bytes) -> bytes:
        """Tries every secret key in turn."""
        for verdict in self.verdicts.values():
            secret = self.gpg("--export-secret-keys", verdict.certificate.fingerprint)
            try:
                decrypted = pysequoia.decrypt(message, pysequoia.Tsk.from_bytes(secret).decryptor())
            except RuntimeError:
                continue
            assert decrypted.bytes is not None
            return decrypted.bytes
        raise AssertionError("nobody can read it")

    def close(self) -> None:
        subprocess.run([require("gpgconf"), "--homedir", str(self.home), "--kill", "all"], check=True)
        shutil.rmtree(self.home, ignore_errors=True)
