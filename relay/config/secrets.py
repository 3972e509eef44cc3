"""Asks whether the secret keys for signing are where they should be, and can be used."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path as FilePath

from relay.config.document import Document
from relay.config.machine import check_directory, check_gpg, read_password
from relay.config.problems import Path
from relay.config.schema import GnupgKeys, KeyFile, Settings


def read_secret_key_passwords(document: Document, settings: Settings) -> dict[str, str]:
    """The passwords of the key files by the names of their entries; adds every problem with `secret_keys`."""
    found: dict[str, str] = {}
    for name, entry in settings.secret_keys.items():
        match entry:
            case GnupgKeys():
                check_directory(document, ("secret_keys", name, "home"), entry.home)
                check_gpg(document, ("secret_keys", name, "type"))
            case KeyFile():
                password = _password(document, name, entry)
                if password is not None or entry.password_file is None:
                    _check_key_file(document, ("secret_keys", name, "path"), entry.path, password)
                if password is not None:
                    found[name] = password
    return found


def _password(document: Document, name: str, entry: KeyFile) -> str | None:
    """None where there is none, or after a problem."""
    if entry.password_file is None:
        return None
    return read_password(document, ("secret_keys", name, "password_file"), entry.password_file)


def _check_key_file(document: Document, path: Path, file: FilePath, password: str | None) -> None:
    """Opens the keys as the relay will, so that a wrong password is found before mail waits for it."""
    from relay.openpgp.signing import keyfile

    try:
        keyfile.check(file, password, int(datetime.now(UTC).timestamp()))
    except keyfile.KeyFileInvalid as exc:
        document.add(path, f"{file} {exc}")
