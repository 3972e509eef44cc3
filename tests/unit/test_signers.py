"""Tests of `relay/signers.py`: a key that cannot sign is found before mail waits for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay import signers
from relay.config import Config
from relay.config import load as load_config
from tests import keys
from tests.fakes import FixedClock, ListJournal

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
