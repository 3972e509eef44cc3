"""The section `secret_keys`: what is wrong with a place of secret keys is found before mail waits for it."""

from __future__ import annotations

import os
from pathlib import Path

import pysequoia
import pytest

from relay.config import GnupgKeys, KeyFile
from tests import keys
from tests.configs import MINIMAL, Load, problems, write_secret

FILE = MINIMAL + 'secret_keys: {office: {type: file, path: "${HERE}/signing.pgp"}}\n'
PROTECTED = FILE.replace('.pgp"', '.pgp", password_file: "${HERE}/password"')


@pytest.fixture
def gpg(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GnuPG is installed."""
    monkeypatch.setenv("PATH", str(files / "bin"))


def _write(directory: Path, octets: bytes, mode: int = 0o600) -> str:
    write_secret(directory / "signing.pgp", octets)
    (directory / "signing.pgp").chmod(mode)
    return str(directory)


def test_load_key_file(loaded: Load, tmp_path: Path) -> None:
    """A key that signs is no problem; relative paths start at the configuration."""
    config = loaded(FILE, HERE=_write(tmp_path, keys.secret("curve25519")))

    assert {"office": KeyFile(type="file", path=tmp_path / "signing.pgp")} == config.secret_keys
    assert {} == config.secret_key_passwords


@pytest.mark.usefixtures("gpg")
def test_load_gnupg_home(loaded: Load, tmp_path: Path) -> None:
    """A home is a directory; what is in it is asked when the relay starts."""
    config = loaded(MINIMAL + "secret_keys: {card: {type: gnupg, home: keys}}\n")

    assert {"card": GnupgKeys(type="gnupg", home=tmp_path / "keys")} == config.secret_keys


def test_load_without_the_section_has_no_secret_keys(loaded: Load) -> None:
    """Nothing is signed unless it was configured."""
    assert {} == loaded(MINIMAL).secret_keys


def test_load_password_is_read_and_shown_nowhere(loaded: Load, tmp_path: Path) -> None:
    """The password of the file reaches the relay, but no text about the configuration."""
    write_secret(tmp_path / "password", b"correct horse\n")

    config = loaded(PROTECTED, HERE=_write(tmp_path, keys.secret("curve25519")))

    assert {"office": "correct horse"} == config.secret_key_passwords
    assert "correct horse" not in repr(config)


@pytest.mark.parametrize(
    ("octets", "mode", "expected"),
    [
        (keys.secret("curve25519"), 0o640, "and can be used by others than its owner; chmod 600"),
        (keys.certificate("curve25519").data, 0o600, "holds no secret key; gpg --export-secret-keys"),
        (b"garbage", 0o600, "is damaged, or not a file of OpenPGP keys"),
    ],
)
def test_load_bad_key_file_is_a_problem_that_names_it(
    loaded: Load, tmp_path: Path, octets: bytes, mode: int, expected: str
) -> None:
    """Who can read the file, and what is in it, with what to do."""
    [(line, path, message)] = problems(loaded, FILE, HERE=_write(tmp_path, octets, mode))

    assert (6, "secret_keys.office.path") == (line, path)
    assert message.startswith(f"{tmp_path}/signing.pgp ")
    assert expected in message


def test_load_missing_key_file_is_a_problem(loaded: Load, tmp_path: Path) -> None:
    """A file that is not there is said to be so."""
    [(_, path, message)] = problems(loaded, FILE, HERE=str(tmp_path))

    assert "secret_keys.office.path" == path
    assert f"{tmp_path}/signing.pgp cannot be read: No such file or directory" == message


def test_load_missing_password_file_is_one_problem(loaded: Load, tmp_path: Path) -> None:
    """Without the password the keys are not judged."""
    here = _write(tmp_path, keys.secret("curve25519"))

    [(_, path, _)] = problems(loaded, PROTECTED, HERE=here)

    assert "secret_keys.office.password_file" == path


def _signing(text: str, fingerprint: str) -> str:
    return text.replace(
        "folder]}}", f'folder]}}, senders: {{"*@example.com": {{sign: {{key: {fingerprint}}}}}}}}}'
    )


def test_load_expired_key_is_no_problem_of_the_configuration(loaded: Load, tmp_path: Path) -> None:
    """One key that has expired, whether a rule names it or not, must not stop all mail."""
    expired = bytes(pysequoia.Tsk.generate("<old@example.com>", validity_seconds=1))
    here = _write(tmp_path, expired)
    fingerprint = str(pysequoia.Tsk.from_bytes(expired).extract_certificate().fingerprint).upper()

    assert loaded(FILE, HERE=here).secret_keys
    assert loaded(_signing(FILE, fingerprint), HERE=here).secret_keys


def test_load_password_file_that_is_a_pipe_is_a_problem(loaded: Load, tmp_path: Path) -> None:
    """Neither the start nor a reload waits for somebody to write into it."""
    os.mkfifo(tmp_path / "password", 0o600)

    [(_, path, message)] = problems(loaded, PROTECTED, HERE=_write(tmp_path, keys.secret("curve25519")))

    assert "secret_keys.office.password_file" == path
    assert f"{tmp_path}/password cannot be read: not a regular file" == message


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o600, []),
        (0o640, ["chmod 600"]),
        (0o620, ["chmod 600"]),
        (0o604, ["chmod o-r"]),
        (0o644, ["chmod o-r"]),
    ],
)
def test_load_password_file_for_others_is_a_warning(
    loaded: Load, tmp_path: Path, mode: int, expected: list[str]
) -> None:
    """Whoever has the password and a copy of the file can sign."""
    write_secret(tmp_path / "password", b"correct horse\n")
    (tmp_path / "password").chmod(mode)

    warnings = loaded(PROTECTED, HERE=_write(tmp_path, keys.secret("curve25519"))).warnings

    found = [warning.message for warning in warnings if "password_file" in warning.path]
    assert expected == [message[-len("chmod 600") :] for message in found]
