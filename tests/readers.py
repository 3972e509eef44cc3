"""Programs and libraries of others that read OpenPGP messages, each alone with a secret key in its own home.

Every call has a time limit and leaves nothing behind; none of them asks a network. What a reader cannot read
is said beside it with the reason, by the name of the key fixture: `can` is exact both ways, and
`tests/integration/reading` fails where it is not.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.programs import require, unavailable

_ROOT = Path(__file__).parents[1]
_PROGRAMS = _ROOT / "tests" / "reader_programs"
_NODE_MODULES = _ROOT / ".venv" / "readers" / "node_modules"
"""Where `make test` puts the packages of `reader_programs/package.json`."""
_DEBIAN_PYTHON = "/usr/bin/python3"
_DEBIAN_PGPY = Path("/usr/lib/python3/dist-packages/pgpy")
_LIMIT_SECONDS = 60
"""For one process; the slowest needs about two."""
_AT_ONCE = os.cpu_count() or 1


class Unreadable(Exception):
    """A reader does not give the plaintext; the text is what it says."""


@dataclass(frozen=True)
class _Desk:
    """What lies before a reader: a home of its own, the secret key and the messages in files."""

    home: Path
    secret: Path
    messages: tuple[Path, ...]

    def run(self, *command: str | Path, stdin: Path | None = None) -> bytes:
        """What the command prints. Raises Unreadable where it fails."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        with (stdin or Path(os.devnull)).open("rb") as file:
            done = subprocess.run(
                command,
                stdin=file,
                capture_output=True,
                check=False,
                cwd=self.home,
                env=environment,
                timeout=_LIMIT_SECONDS,
            )
        if done.returncode != 0:
            raise Unreadable(done.stderr.decode("utf-8", "replace").strip()[:500])
        return done.stdout

    def print_each(self, *command: str | Path) -> list[bytes]:
        """What the command prints for each message on its standard input, several at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            return list(threads.map(lambda message: self.run(*command, stdin=message), self.messages))

    def write_all(self, *command: str | Path) -> list[bytes]:
        """What the command writes beside the messages that it is given, all at once."""
        self.run(*command, self.secret, *self.messages)
        return [message.with_name(f"{message.name}.plain").read_bytes() for message in self.messages]


@dataclass(frozen=True)
class Reader:
    """An OpenPGP implementation that decrypts."""

    name: str
    read: Callable[[_Desk], list[bytes]]
    unable: Mapping[str, str]
    """Key fixtures whose messages it cannot read, each with the reason."""
    prints_text: bool = False
    """Whether it takes all plaintext for text: LF for CRLF, one U+FFFD for what is not UTF-8."""

    def __str__(self) -> str:
        return self.name

    def can(self, key: str) -> bool:
        """Whether it reads what is encrypted to the key fixture of this name."""
        return key not in self.unable

    def as_printed(self, plaintext: bytes) -> bytes:
        """The plaintext as this reader prints it."""
        if not self.prints_text:
            return plaintext
        text = plaintext.replace(b"\r\n", b"\n").decode("utf-8", "surrogateescape")
        return re.sub("[\udc80-\udcff]+", "\ufffd", text).encode()

    def decrypt(self, armored: bytes, secret: bytes) -> bytes:
        """The plaintext of one message. Raises Unreadable."""
        return self.decrypt_all([armored], secret)[0]

    def decrypt_all(self, armored: Sequence[bytes], secret: bytes) -> list[bytes]:
        """The plaintexts of several messages to one key, in order. Raises Unreadable if one has none."""
        # Not in pytest's folder: the path of the agent's socket has to be short.
        with tempfile.TemporaryDirectory(prefix="reader-", ignore_cleanup_errors=True) as name:
            home = Path(name)
            messages = tuple(home / f"{number}.asc" for number in range(len(armored)))
            for path, message in zip(messages, armored, strict=True):
                path.write_bytes(message)
            (home / "secret.pgp").write_bytes(secret)
            return self.read(_Desk(home, home / "secret.pgp", messages))


def _gpg(desk: _Desk) -> list[bytes]:
    gpg = (require("gpg"), "--homedir", desk.home, "--batch", "--quiet", "--disable-dirmngr")
    try:
        desk.run(*gpg, "--import", desk.secret)
        # One process: of several at once, some do not get the key from the agent.
        desk.run(*gpg, "--decrypt-files", *desk.messages)
        return [message.with_suffix("").read_bytes() for message in desk.messages]
    finally:
        desk.run(require("gpgconf"), "--homedir", desk.home, "--kill", "all")


def _rnp(desk: _Desk) -> list[bytes]:
    options = ("--homedir", desk.home, "--notty", "--password", "", "--keyfile", desk.secret)
    return desk.print_each(require("rnp"), *options, "--decrypt", "--output", "-")


def _sq(desk: _Desk) -> list[bytes]:
    return desk.print_each(require("sq"), "decrypt", "--recipient-key", desk.secret)


def _sqop(desk: _Desk) -> list[bytes]:
    return desk.print_each(require("sqop"), "decrypt", desk.secret)


def _gosop(desk: _Desk) -> list[bytes]:
    return desk.print_each(require("gosop"), "decrypt", desk.secret)


def _pgpy(desk: _Desk) -> list[bytes]:
    if not _DEBIAN_PGPY.is_dir():
        unavailable("python3-pgpy is not installed")
    return desk.write_all(_DEBIAN_PYTHON, _PROGRAMS / "decrypt.py", "pgpy")


def _rpgp(desk: _Desk) -> list[bytes]:
    if not importlib.util.find_spec("openpgp"):
        unavailable("rpgp-py is not installed")
    return desk.write_all(sys.executable, _PROGRAMS / "decrypt.py", "rpgp")


def _pysequoia(desk: _Desk) -> list[bytes]:
    return desk.write_all(sys.executable, _PROGRAMS / "decrypt.py", "pysequoia")


def _node(module: str) -> Callable[[_Desk], list[bytes]]:
    def read(desk: _Desk) -> list[bytes]:
        path = _NODE_MODULES / module
        if not path.is_dir():
            unavailable(f"{module} is not installed: `make test` does it where there is npm")
        return desk.write_all(require("node"), _PROGRAMS / "decrypt.cjs", path)

    return read


_OLDER = {
    **dict.fromkeys(("v6", "v6-no-features", "pqc"), "older than RFC 9580: no keys of version 6"),
    "features-9": "older than RFC 9580: no encrypted data of version 2",
}

READERS = (
    Reader("gpg", _gpg, _OLDER),
    Reader("rnp", _rnp, _OLDER),
    Reader("sq", _sq, _OLDER),
    Reader("sqop", _sqop, _OLDER),
    Reader("pgpy", _pgpy, _OLDER),
    Reader(
        "gosop",
        _gosop,
        {
            **_OLDER,
            "primary-for-mail": "wants a subkey for encryption",
            "forged-features": "refuses a key with one bad self-signature, even beside a good one",
        },
        prints_text=True,
    ),
    Reader("openpgp.js", _node("openpgp"), {"pqc": "no ML-KEM"}),
    Reader("protontech", _node("@protontech/openpgp"), {}),
    Reader("rpgp", _rpgp, {"pqc": "built without ML-KEM"}),
    Reader("pysequoia", _pysequoia, {"storage-beside-mail": "its decryptor holds one subkey of each key"}),
)
"""Those that read in the tests. PGPainless is not among them: it needs a Java runtime of 190 MB."""


def reader(name: str) -> Reader:
    """The reader of this name."""
    return next(found for found in READERS if found.name == name)
