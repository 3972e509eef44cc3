"""Tests of `relay/signers.py`: a key that cannot sign is found before mail waits for it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pysequoia
import pytest

from relay import signers
from relay.config import Config
from relay.config import load as load_config
from relay.errors import SigningUnavailable
from relay.mime import packets
from tests import keys
from tests.fakes import FixedClock, ListJournal
from tests.unit.openpgp.parties import until

KEY = keys.certificate("rsa3072").fingerprint
CONFIG = """\
hostname: relay.example.com
listen: [{address: "127.0.0.1:0", tls: none}]
auth: {type: none}
next_hop: {address: "127.0.0.1:25", tls: none}
keys: {folder: {type: directory, path: keys}}
secret_keys: {file: {type: file, path: signing.pgp}}
policy:
  default: {encrypt: always, keys: [folder]}
  senders:
    "*@example.com": {sign: {key: %(key)s}}
    bot@example.com: {sign: never}
"""


async def _loaded(folder: Path, text: str = CONFIG, key: str = KEY, fixture: str = "rsa3072") -> Config:
    (folder / "keys").mkdir(exist_ok=True)
    secret = folder / "signing.pgp"
    secret.write_bytes(keys.secret(fixture))
    secret.chmod(0o600)
    (folder / "relay.yaml").write_text(text % {"key": key})
    return await asyncio.to_thread(load_config, folder / "relay.yaml", {})


async def test_make_opens_the_keys_that_rules_name(tmp_path: Path) -> None:
    """The signer is there before the first message, and signs with that key."""
    signer = await signers.make(await _loaded(tmp_path), tmp_path, FixedClock(), ListJournal())

    assert signer is not None
    assert () == await signer.open([KEY])
    await signer.close()


async def test_make_without_a_rule_that_signs_opens_nothing(tmp_path: Path) -> None:
    """A place with keys that nobody uses is not touched."""
    text = CONFIG.replace('    "*@example.com": {sign: {key: %(key)s}}\n', "")

    assert await signers.make(await _loaded(tmp_path, text), tmp_path, FixedClock(), ListJournal()) is None


async def test_make_key_that_is_nowhere_stops_the_start(tmp_path: Path) -> None:
    """A name that points nowhere is an error, not an unsigned message later."""
    config = await _loaded(tmp_path, key="AB" * 20)
    with pytest.raises(ValueError, match=f"signing key {'AB' * 20} is in none of secret_keys: file"):
        await signers.make(config, tmp_path, FixedClock(), ListJournal())


async def test_problems_for_relay_check_name_key_and_reason(tmp_path: Path) -> None:
    """`relay check` finds it without starting anything."""
    [problem] = await signers.problems(await _loaded(tmp_path, key="AB" * 20))

    assert (False, "AB" * 20) == (problem.is_temporary, problem.fingerprint)
    assert () == await signers.problems(await _loaded(tmp_path))


async def test_problems_file_that_went_away_is_one(tmp_path: Path) -> None:
    """Between reading the configuration and opening the keys a file may vanish."""
    config = await _loaded(tmp_path)
    (tmp_path / "signing.pgp").unlink()
    [problem] = await signers.problems(config)

    assert "secret_keys cannot be used" in problem.sentence


TWO = CONFIG.replace("{file: {", "{other: {type: file, path: other.pgp}, file: {").replace(
    "    bot@", "    old@example.com: {sign: {key: %(other)s}}\n    bot@"
)


def _write_secret(path: Path, octets: bytes) -> str:
    """Writes a secret key; its fingerprint."""
    path.write_bytes(octets)
    path.chmod(0o600)
    return str(pysequoia.Tsk.from_bytes(octets).extract_certificate().fingerprint).upper()


def _expired() -> bytes:
    return bytes(pysequoia.Tsk.generate("<old@example.com>", validity_seconds=86_400))


def _revoked() -> bytes:
    key = pysequoia.Tsk.generate("<old@example.com>")
    certificate = pysequoia.Cert.from_bytes(bytes(key.extract_certificate()))
    return bytes(key) + bytes(certificate.revoke(key.certifier()))


def _in_two_days() -> FixedClock:
    return FixedClock(datetime.now(UTC) + timedelta(days=2))


@pytest.mark.parametrize(
    ("secret", "expected"),
    [(_expired(), "cannot sign: its signing subkey expired on"), (_revoked(), "revoked on")],
)
async def test_make_key_that_is_expired_or_revoked_stops_only_its_own_mail(
    tmp_path: Path, secret: bytes, expected: str
) -> None:
    """The signer is adopted, the other key signs, and the journal says which key does not and why."""
    fingerprint = _write_secret(tmp_path / "other.pgp", secret)
    config = await _loaded(tmp_path, TWO.replace("%(other)s", fingerprint))
    journal = ListJournal()

    signer = await signers.make(config, tmp_path, _in_two_days(), journal)

    assert signer is not None
    assert () == await signer.open([KEY])
    [(event, facts)] = journal.events
    assert "signing_key_unusable" == event
    assert f"the signing key {fingerprint} {expected}" in str(facts["problem"])
    with pytest.raises(SigningUnavailable, match=f"the signing key {fingerprint} {expected}"):
        await signer.sign_and_encrypt(b"text", (), fingerprint, rule="policy.senders")
    await signer.close()


async def test_problems_for_relay_check_include_a_key_that_has_expired(tmp_path: Path) -> None:
    """What does not stop the start is still found by `relay check`, as a lasting problem."""
    secret = bytes(pysequoia.Tsk.generate("<old@example.com>", validity_seconds=1))
    fingerprint = _write_secret(tmp_path / "other.pgp", secret)
    config = await _loaded(tmp_path, TWO.replace("%(other)s", fingerprint))
    await until(lambda: datetime.now(UTC).timestamp() > _made(secret) + 1)

    [problem] = await signers.problems(config)

    assert (fingerprint, False, False) == (problem.fingerprint, problem.is_temporary, problem.is_mistake)


def _made(secret: bytes) -> int:
    return int.from_bytes(next(packets.walk(secret)).head[1:5])


async def test_make_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """A reload that is refused again and again does not fill the disk."""
    text = CONFIG.replace("{file: {", "{home: {type: gnupg, home: keys}, file: {")
    config = await _loaded(tmp_path, text)
    (tmp_path / "signing.pgp").chmod(0o644)
    (tmp_path / "scratch").mkdir()

    with pytest.raises(ValueError, match="chmod 600"):
        await signers.make(config, tmp_path / "scratch", FixedClock(), ListJournal())
    assert [] == list((tmp_path / "scratch").iterdir())


async def test_make_says_who_can_read_the_password(tmp_path: Path) -> None:
    """The relay signs, and the journal warns of the file at each start, not only `relay check`."""
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "password").chmod(0o640)
    text = CONFIG.replace("signing.pgp}", "signing.pgp, password_file: password}")
    journal = ListJournal()

    signer = await signers.make(await _loaded(tmp_path, text), tmp_path, FixedClock(), journal)

    assert signer is not None
    await signer.close()
    [(event, facts)] = journal.events
    assert ("secret_keys_warning", "secret_keys.file.password_file") == (event, facts["setting"])
    assert "chmod 600" in str(facts["problem"])
