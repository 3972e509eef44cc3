"""The one call into pysequoia, and the process around it that encrypts large messages.

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
from io import BufferedRWPair

import pysequoia

from relay.hardening import harden_process
from relay.mime.packets import Malformed
from relay.openpgp.armoring import Armour

REQUEST = struct.Struct("!HQ")
"""Number of certificates, length of the plaintext; the certificates follow, then the plaintext."""

LENGTH = struct.Struct("!I")
"""Length of one certificate."""

REPLY = struct.Struct("!?Q")
"""Whether it worked, and the length of what follows: the armoured message, or the reason in UTF-8."""

_MAX_REASON_CHARS = 300


class LibraryRefused(Exception):
    """pysequoia did not encrypt; the text is its reason, for the log."""


def parse(certificate: bytes) -> pysequoia.Cert:
    """A certificate as pysequoia keeps it. Raises LibraryRefused."""
    with _library():
        return pysequoia.Cert.from_bytes(certificate)


def encrypt(plaintext: bytes, certificates: Sequence[pysequoia.Cert]) -> Armour:
    """The message: literal `b` without name and date, no compression, v1 or v2 SEIPD.

    v2 only where every certificate announces it (RFC 9580 §13.7); a message never mixes versions.

    Raises:
        LibraryRefused: whatever pysequoia objects to, a panic of its Rust code included.
    """
    with _library():
        text = pysequoia.encrypt(plaintext, certificates)
    if len(text) <= len(plaintext):
        raise LibraryRefused("the message is shorter than its plaintext")
    try:
        return Armour(text)
    except Malformed as exc:
        raise LibraryRefused(str(exc)) from exc


@contextmanager
def _library() -> Iterator[None]:
    """Maps what pysequoia raises: RuntimeError, and a panic that no `except Exception` would catch."""
    try:
        yield
    except RuntimeError as exc:
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
    count, length = REQUEST.unpack(_read(stream, REQUEST.size))
    certificates = [_read(stream, *LENGTH.unpack(_read(stream, LENGTH.size))) for _ in range(count)]
    plaintext = _read(stream, length)
    return encrypt(plaintext, [parse(certificate) for certificate in certificates])


def _read(stream: BufferedRWPair, length: int) -> bytes:
    """Exactly that many octets; raises EOFError, so that half a message is never encrypted."""
    octets = stream.read(length)
    if len(octets) < length:
        raise EOFError
    return octets


if __name__ == "__main__":
    main()
