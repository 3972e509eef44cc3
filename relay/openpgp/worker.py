"""The calls into pysequoia, and the process around them that encrypts large messages.

pysequoia holds the interpreter lock while it encrypts (10 MB: 23 to 85 ms), so that a thread would not help.
A worker speaks length-prefixed frames over the socket that is its standard input, one message after another,
and ends when that socket does. The plaintext is only ever in this memory and in that socket.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import BufferedRWPair

import pysequoia

from relay.hardening import harden_process
from relay.mime.packets import Malformed
from relay.openpgp import version1
from relay.openpgp.armoring import Armour

REQUEST = struct.Struct("!?HQ")
"""Whether version 2 is allowed, number of certificates, length of the plaintext; the certificates follow,
then the plaintext."""

LENGTH = struct.Struct("!I")
"""Length of one certificate."""

REPLY = struct.Struct("!?Q")
"""Whether it worked, and the length of what follows: the armoured message, or the reason in UTF-8."""

_MAX_REASON_CHARS = 300


class LibraryRefused(Exception):
    """pysequoia did not encrypt; the text is its reason, for the log."""


def parse(certificate: bytes) -> pysequoia.Cert:
    """A certificate as pysequoia keeps it. Raises LibraryRefused."""
    with calling_library():
        return pysequoia.Cert.from_bytes(certificate)


def encrypt(
    plaintext: bytes,
    certificates: Sequence[pysequoia.Cert],
    *,
    allows_v2: bool,
    signer: pysequoia.PySigner | None = None,
) -> Armour:
    """The message: literal `b` without name and date, no compression, v1 or v2 SEIPD, never mixed.

    pysequoia writes v2 also to certificates that announce nothing; that is seen in what it wrote, and undone,
    so that the many certificates that do announce something cost nothing.

    Args:
        allows_v2: whether every owner can read it (RFC 9580 §13.7).
        signer: signs inside of the encryption; None: the message is not signed.

    Raises:
        LibraryRefused: whatever pysequoia objects to, a panic of its Rust code included.
    """
    if signer is not None and not allows_v2:  # a second signature would cost more than the detour
        return _write_v1(plaintext, certificates, signer)
    message = _write(plaintext, certificates, signer)
    if allows_v2 or not message.is_v2:
        return message
    del message  # it can be large
    return _write_v1(plaintext, certificates, signer)


_Certificates = Sequence[pysequoia.Cert]
_Signer = pysequoia.PySigner | None


def _write(plaintext: bytes, certificates: _Certificates, signer: _Signer) -> Armour:
    """The message in the version that pysequoia chooses."""
    with calling_library():
        text = pysequoia.encrypt(plaintext, certificates, signer)
    return _checked(text, plaintext)


def _write_v1(plaintext: bytes, certificates: _Certificates, signer: _Signer) -> Armour:
    """The message in version 1: encrypted to one more certificate, which asks for it, and then not to it."""
    with calling_library():
        everyone = [*certificates, _parsed(version1.CERTIFICATE)]
        data = version1.without(pysequoia.encrypt(plaintext, everyone, signer, armor=False))
        text = pysequoia.armor(data, pysequoia.ArmorKind.Message)
    message = _checked(text.encode(), plaintext)
    if message.is_v2:
        raise LibraryRefused("it writes version 2 where version 1 is asked for")
    return message


_parsed = lru_cache(maxsize=1)(pysequoia.Cert.from_bytes)


def _checked(text: bytes, plaintext: bytes) -> Armour:
    if len(text) <= len(plaintext):
        raise LibraryRefused("the message is shorter than its plaintext")
    with calling_library():
        return Armour(text)


@contextmanager
def calling_library() -> Iterator[None]:
    """Maps what pysequoia raises: RuntimeError, and a panic that no `except Exception` would catch; and what
    is said of a message that it should not have written."""
    try:
        yield
    except (RuntimeError, Malformed) as exc:
        raise LibraryRefused(_reason(exc)) from exc
    except BaseException as exc:
        if type(exc).__module__ != "pyo3_runtime":  # PanicException, which cannot be imported
            raise
        raise LibraryRefused(f"panic: {_reason(exc)}") from exc


def _reason(exc: BaseException) -> str:
    """The first line; a Rust backtrace follows it."""
    return str(exc).partition("\n")[0][:_MAX_REASON_CHARS]


def main() -> None:
    """Serves the relay that started this process until its end of the socket closes."""
    harden_process()
    _ignore_signals()
    with (
        suppress(ConnectionError),
        socket.socket(fileno=sys.stdin.fileno()) as channel,
        channel.makefile("rwb") as stream,
    ):
        while _serve(stream):
            pass


def _ignore_signals() -> None:
    """A signal for the whole service must not cut off messages that the relay still drains."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _serve(stream: BufferedRWPair) -> bool:
    """Answers one request; False when there is none any more. Keeps nothing of it."""
    try:
        message = _encrypt_next(stream)
    except EOFError:
        return False
    except LibraryRefused as exc:
        reason = str(exc).encode("utf-8", "replace")
        stream.write(REPLY.pack(False, len(reason)) + reason)
    else:
        stream.write(REPLY.pack(True, len(message)))
        stream.writelines(message.chunks())
    stream.flush()
    return True


def _encrypt_next(stream: BufferedRWPair) -> Armour:
    allows_v2, count, length = REQUEST.unpack(_read(stream, REQUEST.size))
    certificates = [_read(stream, *LENGTH.unpack(_read(stream, LENGTH.size))) for _ in range(count)]
    plaintext = _read(stream, length)
    parsed = [parse(certificate) for certificate in certificates]
    return encrypt(plaintext, parsed, allows_v2=allows_v2)


def _read(stream: BufferedRWPair, length: int) -> bytes:
    """Exactly that many octets; raises EOFError, so that half a message is never encrypted."""
    octets = stream.read(length)
    if len(octets) < length:
        raise EOFError
    return octets


if __name__ == "__main__":
    main()
