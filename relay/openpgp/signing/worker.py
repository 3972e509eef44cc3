"""The process that signs and encrypts one large message, and the frame in which it gets everything.

pysequoia holds the interpreter lock while it works, so that a thread would not help. The secret key, its
password, the certificates and the plaintext come over the standard input, which only the relay holds: never
in an argument, the environment or a file. A process serves one message and ends, so that the opened key does
not stay in a second place.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import BinaryIO

from relay.hardening import harden_process
from relay.openpgp.armoring import Armour
from relay.openpgp.signing import library
from relay.openpgp.worker import LibraryRefused, encrypt, parse

_HEAD = struct.Struct("!?HQ")
"""Whether version 2 is allowed, number of certificates, length of the plaintext, which comes last."""

_LENGTH = struct.Struct("!I")
"""Length of the secret key, of the password with a sign before it, or of one certificate."""


def frame(
    secret: bytes, password: str | None, certificates: Sequence[bytes], plaintext: bytes, *, allows_v2: bool
) -> tuple[bytes, bytes]:
    """What the process reads: every part behind its length; the plaintext, which can be large, by itself."""
    protection = b"" if password is None else b"=" + password.encode()
    parts = [secret, protection, *certificates]
    head = b"".join(octets for part in parts for octets in (_LENGTH.pack(len(part)), part))
    return _HEAD.pack(allows_v2, len(certificates), len(plaintext)) + head, plaintext


def command() -> list[str]:
    """How the process is started."""
    # -P and PYTHONPATH: it runs this very package, whatever lies in the working directory
    return [sys.executable, "-P", "-m", "relay.openpgp.signing.worker"]


def answer(stream: BinaryIO) -> Armour:
    """The message for one frame. Raises LibraryRefused, or EOFError where the frame is cut off."""
    allows_v2, count, length = _HEAD.unpack(_read(stream, _HEAD.size))
    secret, protection, *certificates = [
        _read(stream, *_LENGTH.unpack(_read(stream, _LENGTH.size))) for _ in range(2 + count)
    ]
    plaintext = _read(stream, length)
    key = library.signer(secret, protection[1:].decode() if protection else None)
    return encrypt(plaintext, [parse(each) for each in certificates], allows_v2=allows_v2, signer=key)


def main() -> None:
    """Answers the frame on the standard input; exit status 1 and a reason where it cannot."""
    harden_process()
    try:
        message = answer(sys.stdin.buffer)
    except LibraryRefused as exc:
        sys.exit(str(exc))
    except EOFError:
        sys.exit("the frame is cut off")
    sys.stdout.buffer.writelines(message.chunks())


def _read(stream: BinaryIO, length: int) -> bytes:
    """Exactly that many octets; raises EOFError, so that half a message is never signed."""
    octets = stream.read(length)
    if len(octets) < length:
        raise EOFError
    return octets


if __name__ == "__main__":
    main()
