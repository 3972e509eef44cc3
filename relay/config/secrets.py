"""Asks whether the secret keys for signing are where they should be, and can be used."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path as FilePath

from relay.config.document import Document
from relay.config.machine import check_directory, check_gpg, read_password
from relay.config.problems import Path
from relay.config.schema import GnupgKeys, KeyFile, Settings


def read_secret_key_passwords(document: Document, settings: Settings) -> dict[str, str]:
    """The passwords of the key files by the names of their entries; adds every problem with `secret_keys`.

    Whether the keys that rules name can sign is asked later: a key that has expired must not stop other mail.
    """
    found: dict[str, str] = {}
    wanted = _wanted(settings)
    for name, entry in settings.secret_keys.items():
        match entry:
            case GnupgKeys():
                check_directory(document, ("secret_keys", name, "home"), entry.home)
                check_gpg(document, ("secret_keys", name, "type"))
            case KeyFile():
                password = _password(document, name, entry)
                if password is not None or entry.password_file is None:
                    _check_key_file(document, ("secret_keys", name, "path"), entry.path, password, wanted)
                if password is not None:
                    found[name] = password
    return found


def _password(document: Document, name: str, entry: KeyFile) -> str | None:
    """None where there is none, or after a problem."""
    if entry.password_file is None:
        return None
    path = ("secret_keys", name, "password_file")
    password = read_password(document, path, entry.password_file)
    if password is not None:
        _check_group(document, path, entry.password_file)
    return password


def _check_group(document: Document, path: Path, file: FilePath) -> None:
    """Warns where others than the owner have the password; where all have it, that was said already."""
    mode = file.stat().st_mode
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and not mode & stat.S_IROTH:
        document.warn(path, f"{file} can be used by others than its owner; chmod 600")


def _wanted(settings: Settings) -> frozenset[str]:
    """The fingerprints that rules name."""
    signing = [entry.sign for entry in settings.policy.senders.values() if entry.sign]
    return frozenset(sign.key for sign in signing if sign.key)


def _check_key_file(
    document: Document, path: Path, file: FilePath, password: str | None, wanted: Iterable[str]
) -> None:
    """Opens the keys that rules name, so that a wrong password is found before mail waits for it."""
    from relay.openpgp.signing import keyfile

    try:
        keyfile.check(file, password, wanted, int(datetime.now(UTC).timestamp()))
    except keyfile.KeyFileInvalid as exc:
        document.add(path, f"{file} {exc}")
