"""Keys of a GnuPG home: what gpg is started with, what it may not get away with, and what stays untouched."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from relay.errors import EncryptionFailed, SigningImpossible, SigningUnavailable
from relay.message import Verdict
from relay.mime import armor, packets
from relay.openpgp.engine import EngineUnavailable
from relay.openpgp.judge import Judge
from relay.openpgp.signing.assessment import KeyUnfit
from relay.openpgp.signing.gnupg import GnupgHome
from relay.openpgp.signing.registry import SecretKeys
from tests import keys
from tests.fakes import FixedClock
from tests.programs import require
from tests.unit.openpgp.parties import Parties, is_gone, public, until, verdict_of, version_6
from tests.unit.openpgp.signing.offices import PASSPHRASE, Office, open_with_gpg

pytestmark = pytest.mark.system

RULE = "policy.senders.office"
OFFICE = "office@example.org"

Program = Callable[[str], str]


def _now() -> int:
    return int((datetime.now(UTC) + timedelta(seconds=5)).timestamp())


@pytest.fixture
async def home(office: Office, scratch: Path) -> AsyncIterator[GnupgHome]:
    made = await _home(office, scratch)
    yield made
    await made.close()


async def _home(office: Office, scratch: Path, program: str = "gpg", **limits: float) -> GnupgHome:
    return await asyncio.to_thread(
        GnupgHome,
        "office",
        office.home,
        scratch,
        program=program,
        **limits,  # type: ignore[arg-type]  # numbers by name
    )


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


def _fixture(name: str) -> Verdict:
    found = keys.fixture(name)
    [verdict] = Judge().judge([found.certificate], found.address, FixedClock().now())
    return verdict


async def _sign(home: GnupgHome, fingerprint: str, *verdicts: Verdict, text: bytes = b"text") -> bytes:
    """Finds, opens and signs, as the registry does."""
    assert await home.find(fingerprint) is not None
    key = await home.open(fingerprint, _now())
    return await home.sign_and_encrypt(text, verdicts, key, RULE)


# --------------------------------------------------------------------------- the administrator's home


async def test_sign_writes_nothing_into_the_home(office: Office, home: GnupgHome, parties: Parties) -> None:
    """No file of the administrator's home is made or changed, beside the sockets of its agent."""
    fingerprint = office.add(OFFICE)
    office.kill_agent()
    before = office.files()

    await _sign(home, fingerprint, parties.verdicts["curve"])

    assert before == office.files()


async def test_sign_reads_no_options_of_the_home(office: Office, home: GnupgHome, parties: Parties) -> None:
    """A gpg.conf for people does not change what the relay sends."""
    fingerprint = office.add(OFFICE)
    (office.home / "gpg.conf").write_text(
        "throw-keyids\nhidden-encrypt-to office@example.org\nthis-is-wrong\n"
    )

    message = await _sign(home, fingerprint, parties.verdicts["curve"])

    [block] = armor.blocks(message)
    intended = tuple(subkey.key_id for subkey in parties.verdicts["curve"].subkeys)
    assert intended == packets.encrypted_message(block.data).pkesk_ids


async def test_close_removes_our_home_and_leaves_the_agent(office: Office, scratch: Path) -> None:
    """What we made is gone; the agent belongs to the administrator."""
    fingerprint = office.add(OFFICE)
    made = await _home(office, scratch)
    await made.find(fingerprint)
    await made.open(fingerprint, _now())

    await made.close()

    assert [] == list(scratch.iterdir())
    connect = [require("gpg-connect-agent"), "--homedir", str(office.home), "--no-autostart", "/bye"]
    done = await asyncio.to_thread(subprocess.run, connect, check=False, capture_output=True)
    assert 0 == done.returncode


async def test_sign_leaves_no_file_behind(
    office: Office, home: GnupgHome, scratch: Path, parties: Parties
) -> None:
    """Of a message nothing stays in our home but the link to the agent."""
    await _sign(home, office.add(OFFICE), parties.verdicts["curve"])

    assert ["S.gpg-agent"] == [path.name for path in scratch.rglob("*") if not path.is_dir()]


def test_home_directory_missing_is_unavailable(office: Office, scratch: Path) -> None:
    """Without a place for our home the relay does not start."""
    with pytest.raises(EngineUnavailable, match="no home"):
        GnupgHome("office", office.home, scratch / "missing")


# --------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("wanted", ["A" * 40, "A" * 64, "A" * 16])
async def test_find_unknown_key_is_none(office: Office, home: GnupgHome, wanted: str) -> None:
    """Neither another key nor a version 6 key nor a key ID is found."""
    office.add(OFFICE)

    assert await home.find(wanted) is None


async def test_find_home_that_cannot_be_read_raises(office: Office, scratch: Path) -> None:
    """A gpg that fails is not the answer that there is no key."""
    made = await _home(office, scratch, program="false")
    try:
        with pytest.raises(KeyUnfit, match="cannot be read") as caught:
            await made.find("A" * 40)
    finally:
        await made.close()

    assert caught.value.is_temporary


async def test_open_key_without_secret_raises(office: Office, home: GnupgHome) -> None:
    """A home that knows only the public key cannot sign."""
    fingerprint = office.add(OFFICE)
    office.forget_secret(fingerprint)
    await home.find(fingerprint)

    with pytest.raises(KeyUnfit, match="secret part is not there"):
        await home.open(fingerprint, _now())


async def test_open_locked_key_raises_soon(office: Office, home: GnupgHome) -> None:
    """Nobody is asked for a passphrase; it takes a moment, not a pinentry."""
    fingerprint = office.add(OFFICE, passphrase=PASSPHRASE)
    office.kill_agent()
    await home.find(fingerprint)

    async with asyncio.timeout(10):
        with pytest.raises(KeyUnfit, match="is locked") as caught:
            await home.open(fingerprint, _now())
    assert caught.value.is_temporary


async def test_open_agent_that_cannot_start_raises(office: Office, home: GnupgHome) -> None:
    """An agent that does not come up is a problem that may be repaired without a restart."""
    fingerprint = office.add(OFFICE)
    office.kill_agent()
    await until(lambda: not (office.home / "S.gpg-agent").exists())
    (office.home / "S.gpg-agent" / "in the way").mkdir(parents=True)
    await home.find(fingerprint)

    with pytest.raises(KeyUnfit) as caught:
        await home.open(fingerprint, _now())
    assert caught.value.is_temporary


# --------------------------------------------------------------------------- while it runs


async def test_sign_agent_dead_is_started_again(office: Office, home: GnupgHome, parties: Parties) -> None:
    """A key without passphrase survives its agent."""
    fingerprint = office.add(OFFICE)
    await _sign(home, fingerprint, parties.verdicts["curve"])
    key = await home.open(fingerprint, _now())
    office.kill_agent()

    message = await home.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE)

    assert fingerprint == open_with_gpg(parties, message, office.public(fingerprint)).signer


async def test_sign_agent_hangs_raises_in_time(office: Office, scratch: Path, parties: Parties) -> None:
    """An agent that does not answer ends in a temporary refusal, and gpg does not wait on."""
    fingerprint = office.add(OFFICE)
    made = await _home(office, scratch, timeout_seconds=1.5)
    await made.find(fingerprint)
    key = await made.open(fingerprint, _now())
    [link] = scratch.rglob("S.gpg-agent")
    link.unlink()
    with socket.socket(socket.AF_UNIX) as silent:  # takes the connection and says nothing
        silent.bind(str(link))
        silent.listen()
        with pytest.raises((SigningUnavailable, EncryptionFailed), match="longer"):
            await made.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE)
    await made.close()


async def test_sign_private_home_tidied_away_is_made_again(
    office: Office, home: GnupgHome, scratch: Path, parties: Parties
) -> None:
    """Whatever clears up old files in /tmp costs no mail, and what is made instead is gone at the end."""
    fingerprint = office.add(OFFICE)
    await home.find(fingerprint)
    key = await home.open(fingerprint, _now())
    [old] = scratch.iterdir()
    shutil.rmtree(old)

    message = await home.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE)
    made = home._scratch
    await home.close()

    assert fingerprint == open_with_gpg(parties, message, office.public(fingerprint)).signer
    assert made != old
    assert not made.exists()


async def test_find_in_an_empty_home_makes_an_empty_keyring_and_nothing_else(
    office: Office, home: GnupgHome
) -> None:
    """As gpg does it, whatever it is told."""
    assert await home.find("A" * 40) is None
    assert {"pubring.kbx"} >= {path.name for path in office.home.iterdir()}


async def test_sign_key_removed_while_running_raises(
    office: Office, home: GnupgHome, parties: Parties
) -> None:
    """A key that was taken away makes mail wait; it never leaves unsigned."""
    fingerprint = office.add(OFFICE)
    await home.find(fingerprint)
    key = await home.open(fingerprint, _now())
    office.forget_secret(fingerprint)

    with pytest.raises(SigningUnavailable, match="INV_SGNR") as caught:
        await home.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE)
    assert 451 == caught.value.reply().code
    assert fingerprint not in caught.value.reply().text


async def test_sign_key_locked_while_running_raises_soon(
    office: Office, home: GnupgHome, parties: Parties
) -> None:
    """An agent that has forgotten the passphrase makes mail wait, at once."""
    fingerprint = office.add(OFFICE, passphrase=PASSPHRASE)
    office.gpg("--detach-sign", "-u", fingerprint, stdin=b"unlock", passphrase=PASSPHRASE)
    await home.find(fingerprint)
    key = await home.open(fingerprint, _now())
    office.kill_agent()

    async with asyncio.timeout(10):
        with pytest.raises(SigningUnavailable, match="FAILURE sign"):
            await home.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE)


async def test_sign_gpg_killed_in_the_middle_raises(
    office: Office, scratch: Path, parties: Parties, program: Program, tmp_path: Path
) -> None:
    """Half a message is no message; the child of gpg goes with it."""
    pids = tmp_path / "pids"
    fingerprint = office.add(OFFICE)
    script = f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"
    made = await _home(office, scratch, program=program(script))
    await made.find(fingerprint)
    key = await made.open(fingerprint, _now())
    task = asyncio.create_task(made.sign_and_encrypt(b"text", (parties.verdicts["curve"],), key, RULE))
    await until(pids.exists)
    written = [int(pid) for pid in pids.read_text().split()]

    await made.close()

    with pytest.raises(SigningUnavailable):
        await task
    await until(lambda: all(map(is_gone, written)))


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("cat", id="unsigned and in clear"),
        pytest.param("echo; exit 0", id="nothing"),
        pytest.param("cat >/dev/null; exit 2", id="failure"),
        pytest.param("kill -9 $$", id="killed"),
    ],
)
async def test_sign_program_that_does_something_else_raises(
    office: Office, scratch: Path, parties: Parties, program: Program, script: str
) -> None:
    """What gpg does not confirm word for word is not sent."""
    fingerprint = office.add(OFFICE)
    made = await _home(office, scratch, program=program(script))
    try:
        with pytest.raises((SigningUnavailable, EncryptionFailed, SigningImpossible)):
            await _sign(made, fingerprint, parties.verdicts["curve"])
    finally:
        await made.close()


async def test_sign_program_that_only_encrypts_raises(
    office: Office, scratch: Path, parties: Parties, program: Program
) -> None:
    """A message without signature is not taken for a signed one."""
    fingerprint = office.add(OFFICE)
    gpg = require("gpg")
    script = f'for a do shift; case "$a" in --sign) ;; *) set -- "$@" "$a" ;; esac; done; exec {gpg} "$@"'
    made = await _home(office, scratch, program=program(script))
    try:
        with pytest.raises(SigningUnavailable):
            await _sign(made, fingerprint, parties.verdicts["curve"])
    finally:
        await made.close()


# --------------------------------------------------------------------------- whom it cannot serve


@pytest.mark.parametrize("name", ["v6", "pqc"])
async def test_sign_to_a_key_that_gnupg_does_not_know_is_refused_for_good(
    office: Office, home: GnupgHome, parties: Parties, name: str
) -> None:
    """A version 6 recipient is a permanent refusal that says what the administrator can do."""
    fingerprint = office.add(OFFICE)
    verdict = _fixture(name)

    with pytest.raises(SigningImpossible) as caught:
        await _sign(home, fingerprint, parties.verdicts["curve"], verdict)
    reply = caught.value.reply()
    assert (550, "5.7.5") == (reply.code, reply.enhanced)
    assert verdict.certificate.fingerprint in reply.text
    assert "into a file (secret_keys)" in reply.text


async def test_sign_to_a_certificate_that_gpg_refuses_is_refused_for_good(
    office: Office, home: GnupgHome
) -> None:
    """What gpg does not take today it does not take tomorrow: no endless 451."""
    fingerprint = office.add(OFFICE)
    good = verdict_of(office.public(office.add("other@example.org")))
    forged = good.reduced[:-5] + bytes([good.reduced[-5] ^ 1]) + good.reduced[-4:]
    spoiled = Verdict(good.certificate, True, "good", good.subkeys, forged)

    with pytest.raises(SigningImpossible, match="INV_RECP"):
        await _sign(home, fingerprint, spoiled)


@pytest.mark.parametrize("name", ["features-7", "aes128-only", "no-features", "storage-beside-mail", "p256"])
async def test_sign_to_every_kind_of_key_is_version_1_with_a_good_cipher(
    office: Office, home: GnupgHome, name: str, tmp_path: Path
) -> None:
    """Neither LibrePGP's OCB is written, nor 3DES for who lists nothing; and for the chosen subkeys alone."""
    fingerprint = office.add(OFFICE)
    verdict = _fixture(name)

    message = await _sign(home, fingerprint, verdict)

    [block] = armor.blocks(message)
    outside = packets.encrypted_message(block.data)
    assert sorted(subkey.key_id for subkey in verdict.subkeys) == sorted(outside.pkesk_ids)
    assert 1 == outside.seipd_version
    office.gpg("--import", stdin=keys.secret(name))
    shown = office.gpg("--show-session-key", "--status-fd=1", "--decrypt", stdin=message).decode()
    cipher = re.search(r"SESSION_KEY (\d+):", shown)
    assert cipher and cipher[1] == ("9" if verdict.lists_aes_256 else "7")
    assert f"VALIDSIG {fingerprint}" in shown


async def test_sign_certificate_of_a_message_is_gone_in_the_next(
    office: Office, home: GnupgHome, parties: Parties
) -> None:
    """Nothing lingers: what only an earlier message brought is unknown."""
    fingerprint = office.add(OFFICE)
    double, curve = parties.verdicts["double"], parties.verdicts["curve"]
    await _sign(home, fingerprint, double)

    with pytest.raises(SigningImpossible):
        await _sign(
            home, fingerprint, Verdict(double.certificate, True, "good", double.subkeys, curve.reduced)
        )


async def test_sign_secret_of_the_recipient_is_refused(
    office: Office, home: GnupgHome, parties: Parties
) -> None:
    """A secret key never gets near the keyring file."""
    curve = parties.verdicts["curve"]
    secret = parties.gpg("--export-secret-keys", curve.certificate.fingerprint)

    with pytest.raises(EncryptionFailed, match="secret"):
        await _sign(home, office.add(OFFICE), Verdict(curve.certificate, True, "good", curve.subkeys, secret))


async def test_sign_to_a_certificate_that_cannot_be_read_raises(
    office: Office, home: GnupgHome, parties: Parties
) -> None:
    """Garbage in the place of a certificate is no message, and no bug."""
    curve = parties.verdicts["curve"]

    with pytest.raises(EncryptionFailed):
        await _sign(
            home, office.add(OFFICE), Verdict(curve.certificate, True, "good", curve.subkeys, b"garbage")
        )


async def test_sign_version_6_signer_is_not_looked_for(office: Office, home: GnupgHome) -> None:
    """A version 6 key cannot lie in a GnuPG home, which is asked nothing about it."""
    wanted = packets.certificates(public(version_6("six")), "")[0].fingerprint
    secret_keys = SecretKeys([home], FixedClock())

    [problem] = await secret_keys.open([wanted])

    assert "is in none of secret_keys" in problem.sentence


async def test_sign_arguments_hold_nothing_of_the_message(
    office: Office, scratch: Path, parties: Parties, program: Program, tmp_path: Path
) -> None:
    """Arguments and environment: fixed words, fingerprints and our own paths."""
    log = tmp_path / "log"
    script = f'(printf "%s\\n" "$@"; env) > {log}; exec {require("gpg")} "$@"'
    fingerprint = office.add(OFFICE)
    made = await _home(office, scratch, program=program(script))
    await _sign(made, fingerprint, parties.verdicts["curve"], text=b"a marker of the text")
    await made.close()

    said = log.read_text()
    names = {line.split("=", 1)[0] for line in said.splitlines() if re.match(r"[A-Z_]+=", line)}
    assert "marker" not in said
    assert str(office.home) not in said
    assert names <= {"PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
    assert f"{fingerprint}!" in said
