"""What a setting needs of this machine: files that can be read, directories, programs, secrets in files."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path as FilePath

from relay.config.document import Document
from relay.config.problems import Path
from relay.files import read_regular

_MAX_SECRET_BYTES = 4096


def can_read(document: Document, path: Path, file: FilePath) -> bool:
    """Whether the file can be read; adds a problem where not."""
    try:
        with file.open("rb") as stream:
            stream.read(1)
    except OSError as exc:
        document.add(path, f"{file} cannot be read: {exc.strerror}")
        return False
    return True


def check_secrecy(document: Document, path: Path, file: FilePath) -> None:
    """Warns of a secret that every user can read.

    Not an error: secrets that container engines mount are world-readable (inside of the container).
    """
    if file.stat().st_mode & 0o004:
        document.warn(path, f"{file} can be read by every user of this machine; chmod o-r")


def read_password(document: Document, path: Path, file: FilePath) -> str | None:
    """The secret in the file of a setting, without the line end after it; None after a problem."""
    try:
        content, _ = read_regular(file, _MAX_SECRET_BYTES)
    except OSError as exc:
        document.add(path, f"{file} cannot be read: {exc.strerror}")
        return None
    check_secrecy(document, path, file)
    try:
        secret = content.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        secret = ""
    if not secret or len(content) > _MAX_SECRET_BYTES or not set(secret).isdisjoint("\r\n\0"):
        document.add(path, "must hold one line with the password, and nothing else")
        return None
    return secret


def check_authorities(document: Document, path: Path, file: FilePath) -> None:
    """Adds a problem unless the file holds certificates to trust."""
    if not can_read(document, path, file):
        return
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError as exc:
        document.add(path, f"holds no certificates in PEM form: {exc.reason}")


def check_directory(document: Document, path: Path, directory: FilePath) -> None:
    """Adds a problem unless the directory can be read."""
    if not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        document.add(path, f"{directory} is not a directory; create it or correct the path")
    elif not os.access(directory, os.R_OK | os.X_OK):
        document.add(path, f"{directory} cannot be read by this user")


def check_writable(document: Document, path: Path, file: FilePath) -> None:
    """Adds a problem unless the file can be written, or made; SQLite makes further files beside it."""
    if not os.path.isdir(file.parent):  # noqa: PTH112 - as above
        is_relative = file.is_relative_to(document.file.parent)
        hint = "; an absolute path has four slashes, as in sqlite:////var/lib/relay/relay.db"
        document.add(
            path,
            f"{file.parent} is not a directory; the database of found keys lies there: create it, writable"
            f" for the relay's user, or correct the path{hint if is_relative else ''}",
        )
    elif not os.access(file.parent, os.W_OK | os.X_OK):
        document.add(
            path,
            f"{file.parent} cannot be written by this user, or is on a read-only file system; the database of"
            " found keys needs that",
        )
    elif os.path.lexists(file) and not (os.path.isfile(file) and os.access(file, os.R_OK | os.W_OK)):  # noqa: PTH113 - as above
        document.add(
            path,
            f"{file} is not a file that this user can read and write; correct the path, or the owner of the"
            " file",
        )


def check_gpg(document: Document, path: Path) -> None:
    """Adds a problem unless GnuPG is installed."""
    if shutil.which("gpg") is None:
        document.add(path, "needs the program gpg, which was not found; install gnupg")
