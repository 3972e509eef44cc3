"""The worker process, spoken to as the relay does."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pysequoia
import pytest

from relay.mime import armor, packets
from relay.openpgp import version1
from relay.openpgp.worker import LENGTH, REPLY, REQUEST, LibraryRefused, encrypt, parse
from tests.unit.openpgp.parties import public, version_6


@pytest.fixture
def channel() -> Iterator[socket.socket]:
    """Our end of a worker's socket; the process must end with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen([sys.executable, "-m", "relay.openpgp.worker"], stdin=theirs.fileno())
    ours.settimeout(60)
    try:
        yield ours
        ours.close()
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def key() -> pysequoia.Tsk:
    return version_6("six")


def _request(plaintext: bytes, *certificates: bytes, allows_v2: bool = True) -> bytes:
    named = b"".join(LENGTH.pack(len(octets)) + octets for octets in certificates)
    return REQUEST.pack(allows_v2, len(certificates), len(plaintext)) + named + plaintext


def _answer(channel: socket.socket) -> tuple[bool, bytes]:
    with channel.makefile("rb") as stream:
        worked, length = REPLY.unpack(stream.read(REPLY.size))
        return worked, stream.read(length)


def test_main_requests_in_a_row_are_answered_in_order(channel: socket.socket, key: pysequoia.Tsk) -> None:
    """One process serves many messages, refusals between them included."""
    channel.sendall(_request(b"first", public(key)))
    first = _answer(channel)
    channel.sendall(_request(b"second", b"garbage"))
    second = _answer(channel)
    channel.sendall(_request(b"third", public(key)))
    third = _answer(channel)

    assert [True, False, True] == [first[0], second[0], third[0]]
    assert b"first" == pysequoia.decrypt(first[1], key.decryptor()).bytes
    assert b"third" == pysequoia.decrypt(third[1], key.decryptor()).bytes


@pytest.mark.parametrize(("allows_v2", "version"), [(True, 2), (False, 1)])
def test_main_version_is_the_one_that_was_allowed(
    channel: socket.socket, key: pysequoia.Tsk, allows_v2: bool, version: int
) -> None:
    """The worker is told, and keeps to it."""
    channel.sendall(_request(b"text", public(key), allows_v2=allows_v2))

    _, message = _answer(channel)

    [block] = armor.blocks(message)
    assert version == packets.encrypted_message(block.data).seipd_version
    assert b"text" == pysequoia.decrypt(message, key.decryptor()).bytes


@pytest.mark.parametrize("size", [0, 1, 47, 48, 49, 5000, 300_000])
def test_encrypt_version_1_where_the_library_would_write_2(key: pysequoia.Tsk, size: int) -> None:
    """P-17: one v3 session key for the owner alone, v1 data, the checksum that GnuPG 2.2 needs."""
    certificate = parse(public(key))
    text = bytes(encrypt(bytes(size), [certificate], allows_v2=False))

    [block] = armor.blocks(text)
    outside = packets.encrypted_message(block.data)
    assert (1, (3,), 0, True) == (
        outside.seipd_version,
        outside.pkesk_versions,
        outside.passwords,
        block.has_checksum,
    )
    assert bytes(size) == pysequoia.decrypt(text, key.decryptor()).bytes


@pytest.mark.parametrize("allows_v2", [True, False])
def test_encrypt_with_a_signer_is_signed_in_either_version(key: pysequoia.Tsk, allows_v2: bool) -> None:
    """The way around to version 1 does not lose the signature."""
    certificate = parse(public(key))

    text = bytes(encrypt(b"text", [certificate], allows_v2=allows_v2, signer=key.signer()))

    opened = pysequoia.decrypt(text, key.decryptor(), store=lambda _: [certificate])
    assert (b"text", 1) == (opened.bytes, len(opened.valid_sigs))


def test_encrypt_version_1_that_the_library_does_not_write_is_refused(
    key: pysequoia.Tsk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should another release of pysequoia ignore the certificate that asks for it, nothing is sent."""
    monkeypatch.setattr(version1, "CERTIFICATE", public(version_6("reads everything")))

    with pytest.raises(LibraryRefused, match="0 session keys"):
        encrypt(b"text", [parse(public(key))], allows_v2=False)


def test_main_refusal_names_the_reason_in_one_line(channel: socket.socket) -> None:
    """The reason goes to the log: one line, no backtrace."""
    channel.sendall(_request(b"text"))

    worked, reason = _answer(channel)

    assert not worked
    assert reason
    assert b"\n" not in reason


def test_main_half_a_message_is_never_encrypted(channel: socket.socket, key: pysequoia.Tsk) -> None:
    """If the relay dies while it hands a message over, the worker ends without an answer."""
    channel.sendall(_request(b"a long text", public(key))[:-4])
    channel.shutdown(socket.SHUT_WR)

    assert b"" == channel.recv(1)


def test_main_relay_gone_before_the_answer_ends_quietly(channel: socket.socket, key: pysequoia.Tsk) -> None:
    """Nobody reads the answer: no traceback, exit status 0 (the fixture checks it)."""
    channel.sendall(_request(bytes(5_000_000), public(key)))


def test_main_signals_for_the_service_do_not_cut_a_message_off(key: pysequoia.Tsk) -> None:
    """TERM, INT and HUP go to all processes of a service; a worker goes on until its socket is closed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen([sys.executable, "-m", "relay.openpgp.worker"], stdin=theirs.fileno())
        theirs.close()
        ours.settimeout(60)
        ours.sendall(_request(b"text", public(key)))
        assert _answer(ours)[0]  # it is up
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        ours.sendall(_request(b"text", public(key)))
        answered, _ = _answer(ours)
    status = process.wait(timeout=60)

    assert (True, 0) == (answered, status)
