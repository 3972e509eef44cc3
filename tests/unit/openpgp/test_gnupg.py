"""The engine that runs gpg: what it is started with, and what it may not get away with."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from relay.errors import EncryptionFailed
from relay.message import Verdict
from relay.openpgp.engine import EngineUnavailable
from relay.openpgp.gnupg import GnupgEngine, _Call, _prepare
from tests.forge import MDC_ONLY, Owner, subpacket
from tests.opinions import GnuPG, judge
from tests.programs import require
from tests.unit.openpgp.parties import Parties, is_gone, public, until, verdict_of, version_6

pytestmark = pytest.mark.system

Program = Callable[[str], str]


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[GnupgEngine]:
    made = await asyncio.to_thread(GnupgEngine, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes a program that is gpg, except that it encrypts as the given shell lines say."""

    def make(script: str) -> str:
        path = tmp_path / "fake-gpg"
        gpg = require("gpg")
        path.write_text(f'#!/bin/sh\ncase "$*" in\n*--encrypt*)\n{script}\n;;\n*) exec {gpg} "$@" ;;\nesac\n')
        path.chmod(0o700)
        return str(path)

    return make


def _written_by_fake(path: Path) -> list[int]:
    """The processes that the fake wrote down: itself and its child."""
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def _files(directory: Path) -> list[int]:
    """The mode of everything below it."""
    return [path.stat().st_mode & 0o777 for path in directory.rglob("*")]


async def test_engine_home_is_private_and_removed(tmp_path: Path) -> None:
    """The scratch home belongs to us alone and does not outlive the engine."""
    engine = await asyncio.to_thread(GnupgEngine, tmp_path)
    before = _files(tmp_path)
    await engine.close()

    assert ([0o700], []) == (before, _files(tmp_path))


async def test_encrypt_leaves_no_file_behind(engine: GnupgEngine, parties: Parties, tmp_path: Path) -> None:
    """No certificate, and nothing else, stays for the next message."""
    await engine.encrypt(b"text", (parties.verdicts["curve"],))

    assert [0o700] == _files(tmp_path)


@pytest.mark.parametrize("script", ["exit 3", "echo nonsense"])
def test_engine_program_that_is_not_gpg_is_unavailable(tmp_path: Path, script: str) -> None:
    """A broken gpg is found when the relay starts, and no home is left."""
    program = tmp_path / "broken"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)

    with pytest.raises(EngineUnavailable):
        GnupgEngine(tmp_path, program=str(program))

    assert [program] == list(tmp_path.iterdir())


def test_engine_program_missing_is_unavailable(tmp_path: Path) -> None:
    """A missing gpg is named."""
    with pytest.raises(EngineUnavailable, match="no-such-gpg"):
        GnupgEngine(tmp_path, program="no-such-gpg")


def test_engine_old_gpg_is_unavailable(tmp_path: Path) -> None:
    """GnuPG 1.4 and 2.0 are refused."""
    program = tmp_path / "old"
    program.write_text("#!/bin/sh\necho cfg:version:1.4.23\n")
    program.chmod(0o700)

    with pytest.raises(EngineUnavailable, match=r"1, 4, 23"):
        GnupgEngine(tmp_path, program=str(program))


def test_engine_directory_missing_is_unavailable(tmp_path: Path) -> None:
    """Without a place for its home the engine does not start."""
    with pytest.raises(EngineUnavailable, match="no home"):
        GnupgEngine(tmp_path / "missing")


async def test_encrypt_version_6_is_refused_with_its_reason(engine: GnupgEngine) -> None:
    """The log says that it is the version, not something unknown."""
    with pytest.raises(EncryptionFailed, match="version 4"):
        await engine.encrypt(b"text", (verdict_of(public(version_6("six"))),))


async def test_encrypt_subkey_that_left_the_certificate_is_gone(
    engine: GnupgEngine, parties: Parties
) -> None:
    """A subkey of an earlier message is unknown in the next one: nothing lingers in the home."""
    double, curve = parties.verdicts["double"], parties.verdicts["curve"]
    await engine.encrypt(b"text", (double,))

    with pytest.raises(EncryptionFailed, match="INV_RECP"):
        await engine.encrypt(b"text", (replace(double, reduced=curve.reduced),))


async def test_encrypt_trust_packets_of_a_certificate_are_not_believed(
    engine: GnupgEngine, parties: Parties
) -> None:
    """A forged binding stays forged, although a packet behind it says that gpg verified it already."""
    good = parties.verdicts["curve"].reduced
    forged = good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]
    believed = forged + b"\xb0\x06\x00\x03gpg\x00"

    with pytest.raises(EncryptionFailed, match="INV_RECP"):
        await engine.encrypt(b"text", (replace(parties.verdicts["curve"], reduced=believed),))


async def test_encrypt_secret_key_is_refused(engine: GnupgEngine, parties: Parties) -> None:
    """A secret key never gets near the keyring file."""
    curve = parties.verdicts["curve"]
    secret = parties.gpg("--export-secret-keys", curve.certificate.fingerprint)

    with pytest.raises(EncryptionFailed, match="secret"):
        await engine.encrypt(b"text", (replace(curve, reduced=secret),))


async def test_encrypt_recipients_are_named_by_subkey_fingerprint(
    tmp_path: Path, program: Program, parties: Parties
) -> None:
    """gpg is told exact subkeys and to look nowhere else; nothing that a sender wrote is an argument."""
    log = tmp_path / "arguments"
    engine = await asyncio.to_thread(
        GnupgEngine, tmp_path, program=program(f'printf "%s\\n" "$@" > {log}; exec {require("gpg")} "$@"')
    )
    double = parties.verdicts["double"]
    await engine.encrypt(b"marker", (double,))
    await engine.close()

    arguments = log.read_text().splitlines()
    named = [value for option, value in pairwise(arguments) if option == "--recipient"]
    assert sorted(f"{subkey.fingerprint}!" for subkey in double.subkeys) == named
    assert {
        "--no-default-keyring",
        "--no-options",
        "--no-random-seed-file",
        "--no-auto-key-locate",
        "--no-encrypt-to",
        "--no-default-recipient",
        "--no-autostart",
    } <= set(arguments)
    assert not any("marker" in argument or "@" in argument for argument in arguments)


_CIPHERS = {
    "aes": b"\x07",
    "aes-256": b"\x09\x07",
    "aes-256-alone": b"\x09",
    "camellia": b"\x0d",
    "triple-des": b"\x02",
    "cast5": b"\x03\x02",
    "empty": b"",
    "silent": None,
}
"""Name of an owner → his preferred ciphers (RFC 9580 §9.3)."""


def _party(name: str) -> tuple[Verdict, bytes]:
    """The verdict on such an owner's certificate, and his secret keys."""
    owner, ciphers = Owner(name), _CIPHERS[name]
    claims = MDC_ONLY + (subpacket(11, ciphers) if ciphers is not None else b"")
    certificate = owner.start(owner.sign(0x13, owner.user_id, flags=b"\x01", claims=claims)) + owner.bind()
    return judge(certificate, address=None), owner.secret(certificate, "mail")


@pytest.mark.parametrize(
    ("names", "cipher"),
    [
        (["aes"], b"7:"),
        (["aes-256"], b"9:"),
        (["aes-256-alone"], b"9:"),
        (["aes-256", "aes-256-alone"], b"9:"),
        (["aes-256-alone", "camellia"], b"7:"),
        (["aes-256", "aes"], b"7:"),
        (["aes-256", "silent"], b"7:"),
        (["camellia"], b"7:"),
        (["triple-des"], b"7:"),
        (["cast5"], b"7:"),
        (["empty"], b"7:"),
        (["silent"], b"7:"),
    ],
)
async def test_encrypt_cipher_is_one_that_all_owners_read(
    engine: GnupgEngine, tmp_path: Path, names: list[str], cipher: bytes
) -> None:
    """P-20: AES-256 where all list it, else AES-128, which is tacitly in every list; never 3DES or CAST5."""
    party, gnupg = [_party(name) for name in names], GnuPG(tmp_path / "h")
    try:
        gnupg.run("--pinentry-mode", "loopback", "--import", stdin=party[0][1])
        message = await engine.encrypt(b"text", tuple(verdict for verdict, _ in party))

        shown = gnupg.run("--show-session-key", "--status-fd=1", "--decrypt", stdin=message)
    finally:
        gnupg.close()
    assert b"SESSION_KEY " + cipher in shown
    assert b"text" in shown


_BEGIN = "echo '[GNUPG:] BEGIN_ENCRYPTION 2 9' >&2"
_BEGIN_OCB = "echo '[GNUPG:] BEGIN_ENCRYPTION 0 9 2' >&2"
_END = "echo '[GNUPG:] END_ENCRYPTION' >&2"


async def test_encrypt_fake_gpg_that_tells_the_truth_is_believed(
    tmp_path: Path, program: Program, parties: Parties
) -> None:
    """The fake of the next test fails for nothing but its lies."""
    script = f'{require("gpg")} "$@" 2>/dev/null; {_BEGIN}; {_END}'
    engine = await asyncio.to_thread(GnupgEngine, tmp_path, program=program(script))
    message = await engine.encrypt(b"text", (parties.verdicts["curve"],))
    await engine.close()

    assert b"text" == parties.read_with_gpg(message)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("cat; exit 0", id="plaintext without a word"),
        pytest.param("cat >/dev/null; exit 0", id="nothing at all"),
        pytest.param(f"cat; {_BEGIN}; {_END}", id="plaintext as ciphertext"),
        pytest.param(f"GPG; {_BEGIN}; {_END}; exit 2", id="exit status"),
        pytest.param(f"GPG; {_BEGIN_OCB}; {_END}", id="OCB container"),
        pytest.param(f"GPG; {_BEGIN}", id="no end"),
        pytest.param(f"GPG; {_BEGIN}; echo '[GNUPG:] INV_RECP 0 X' >&2; {_END}", id="recipient left out"),
        pytest.param(f"(head -c 9; cat >/dev/null) | GPG; {_BEGIN}; {_END}", id="half the message"),
        pytest.param("kill -9 $$", id="killed"),
        pytest.param("exec 0<&-; exit 2", id="does not read"),
    ],
)
async def test_encrypt_gpg_that_fails_or_lies_raises(
    tmp_path: Path, program: Program, parties: Parties, script: str
) -> None:
    """Exit status, every status line and the length must all say that it is the whole message."""
    engine = await asyncio.to_thread(
        GnupgEngine, tmp_path, program=program(script.replace("GPG", f'{require("gpg")} "$@" 2>/dev/null'))
    )
    try:
        with pytest.raises(EncryptionFailed):
            await engine.encrypt(b"text" * 100_000, (parties.verdicts["curve"],))
    finally:
        await engine.close()


@pytest.mark.parametrize("end", ["time-out", "cancelled", "closed"])
async def test_encrypt_hanging_gpg_is_killed_with_its_children(
    tmp_path: Path, program: Program, parties: Parties, end: str
) -> None:
    """However the wait ends, the whole process group of gpg ends with it."""
    written = tmp_path / "pids"
    engine = await asyncio.to_thread(
        GnupgEngine,
        tmp_path,
        program=program(f"sleep 1000 & echo $$ $! > {written}; wait"),
        timeout_seconds=1 if end == "time-out" else 100,
    )
    message = asyncio.create_task(engine.encrypt(b"text", (parties.verdicts["curve"],)))
    await until(lambda: len(_written_by_fake(written)) == 2)
    pids = _written_by_fake(written)

    if end == "cancelled":
        message.cancel()
    if end == "closed":
        await engine.close()
    with pytest.raises(asyncio.CancelledError if end == "cancelled" else EncryptionFailed):
        await message
    await engine.close()

    assert [True, True] == [is_gone(pid) for pid in pids]


def test_call_killed_before_it_starts_never_starts(tmp_path: Path, program: Program) -> None:
    """A cancellation that comes before the process leaves no process behind."""
    started = tmp_path / "started"
    gpg = _prepare(program(f"touch {started}"), tmp_path)
    call = _Call(gpg, b"", ["F!"], "AES")
    call.kill()

    with pytest.raises(EncryptionFailed, match="cancelled"):
        call.encrypt(b"text")

    assert not started.exists()


def test_verdicts_of_the_parties_are_as_the_names_say(parties: Parties) -> None:
    """The fixtures are what the tests above take them for."""
    counts = {name: len(verdict.subkeys) for name, verdict in parties.verdicts.items()}

    assert {"curve": 1, "rsa": 1, "double": 2} == counts
    assert all(isinstance(verdict, Verdict) for verdict in parties.verdicts.values())
