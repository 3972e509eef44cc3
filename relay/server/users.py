"""The authenticator `users`: logins in a file, with argon2id hashes and the senders that each may use.

One login a line, `name:hash` or `name:hash:pattern,pattern`; `#` begins a comment line. The patterns say what
the login may use as envelope sender and as author: `a@b.example` is one mailbox, `*@b.example` a domain, `*`
anything. A name that is itself an address may leave them out and then sends only as itself; any other name
has to say them, because "nothing was said" must not mean "anything" (RFC 6409 §6.1).

The file is read again when it changes. If it then cannot be read, or has a bad line, nobody is let in and
nobody is refused: logins are answered 454 until it is repaired.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import secrets
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import argon2

from relay.address import parse_domain, parse_mailbox
from relay.errors import LoginRefused, LoginUnavailable
from relay.files import replace_file
from relay.message import Login

_HASH = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,9}),t=(\d{1,9}),p=(\d{1,9})\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}"
)
"""PHC string format; salt of 8 octets, digest of 12 octets at least."""

_MAX_MEMORY_KIB = 1 << 18
"""Of one hash: 256 MiB, four times the default of `relay passwd` (RFC 9106 §4, second choice)."""

_MAX_PASSES, _MAX_LANES = 64, 64
_MAX_FILE_BYTES = 16 << 20

_WORKERS = 2
"""Hashes computed at the same time: each takes its memory and several threads."""

_MAX_WAITING = 64
"""Logins that wait for a worker; more are told to come back."""


@dataclass(frozen=True, slots=True)
class _User:
    """One line of the file."""

    name: str
    hash: str
    senders: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class _Read:
    """The file as it was read."""

    stamp: tuple[int, ...]
    users: Mapping[str, _User]
    decoy: str
    """What the password of an unknown user is compared with: a hash of the same cost that fits none."""


class Users:
    """Checks logins against a file. Made by `load`."""

    def __init__(self, path: Path, read: _Read) -> None:
        self._path = path
        self._read = read
        self._lock = threading.Lock()  # guards _read, which the workers replace
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="argon2")
        self._waiting = 0

    def __len__(self) -> int:
        return len(self._read.users)

    async def verify(self, username: str, password: str) -> Login:
        """The login, if the password is right.

        Raises:
            LoginRefused: unknown user or wrong password; takes the same time and says the same.
            LoginUnavailable: the file cannot be read now, or too many logins are being checked.
        """
        if self._waiting >= _MAX_WAITING:
            raise LoginUnavailable(f"{self._waiting} logins are being checked")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, self._verify, username, password)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Stops the workers; logins that wait are dropped."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _verify(self, username: str, password: str) -> Login:
        read = self._current()
        user = read.users.get(_login_key(username))
        try:
            argon2.PasswordHasher().verify(user.hash if user else read.decoy, _prepared(password))
        except argon2.exceptions.VerifyMismatchError as exc:
            raise LoginRefused("wrong password" if user else "unknown user") from exc
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError) as exc:
            raise LoginUnavailable(f"the hash cannot be checked: {exc}") from exc
        if user is None:
            raise LoginRefused("unknown user")
        return Login(user.name, user.senders)

    def _current(self) -> _Read:
        with self._lock:
            try:
                if _stamp(self._path.stat()) != self._read.stamp:
                    self._read = _read(self._path)
            except (OSError, ValueError) as exc:
                raise LoginUnavailable(f"{self._path}: {exc}") from exc
            return self._read


def load(path: Path) -> Users:
    """Reads a file of logins; blocks.

    Raises:
        OSError: it cannot be read.
        ValueError: it has bad lines; the text has one line for each of them, with its number.
    """
    return Users(path, _read(path))


def write(path: Path, name: str, password: str, senders: tuple[str, ...] = ()) -> None:
    """Sets one login's password in a file, which is made with mode 0600 where there is none; blocks.

    Raises:
        OSError: it cannot be read or written; the old content is still there.
        ValueError: as `with_password`.
    """
    content = path.read_bytes() if path.exists() else b""
    replace_file(path, with_password(content, name, password, senders), mode=0o600)


def with_password(content: bytes, name: str, password: str, senders: tuple[str, ...]) -> bytes:
    """The content of a file of logins after setting one login's password; other lines stay as they are.

    Args:
        senders: patterns; empty keeps those of the login's present line.

    Raises:
        ValueError: the content has bad lines, or the new line would be one.
    """
    if ":" in name or name.startswith("#"):
        raise ValueError("a login may neither hold a colon nor begin with #")
    _parse(content)
    lines = content.decode().split("\n") if content else []
    if lines and not lines[-1]:
        lines.pop()
    at = next(
        (at for at, line in enumerate(lines) if _login_key(_name(line)) == _login_key(name)), len(lines)
    )
    kept = lines[at].rstrip("\r").split(":")[2:] if at < len(lines) else []
    fields = [
        name,
        argon2.PasswordHasher().hash(_prepared(password)),
        *([",".join(senders)] if senders else kept),
    ]
    lines[at : at + 1] = [":".join(fields)]
    changed = "".join(f"{line}\n" for line in lines).encode()
    _parse(changed)
    return changed


def _name(line: str) -> str:
    return "" if line.startswith("#") else line.partition(":")[0]


def _prepared(password: str) -> bytes:
    """One form for what different systems type for the same accented letter (RFC 8265 §4.2)."""
    return unicodedata.normalize("NFC", password).encode("utf-8", "surrogatepass")


def _login_key(name: str) -> str:
    """Names that are addresses are one whatever their case; all others are compared as they are."""
    name = unicodedata.normalize("NFC", name)
    try:
        return parse_mailbox(name).key
    except ValueError:
        return name


# --------------------------------------------------------------------------- the file


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(path: Path) -> _Read:
    with path.open("rb") as file:
        stamp = _stamp(os.fstat(file.fileno()))
        content = file.read(_MAX_FILE_BYTES + 1)
    if len(content) > _MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {_MAX_FILE_BYTES} bytes")
    users = _parse(content)
    return _Read(stamp, users, _decoy(user.hash for user in users.values()))


def _parse(content: bytes) -> dict[str, _User]:
    users: dict[str, _User] = {}
    problems: list[str] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        try:
            user = _user(line.removesuffix(b"\r").decode())
            if users.setdefault(_login_key(user.name), user) is not user:
                raise ValueError(f"a second line for {user.name}")
        except UnicodeDecodeError:
            problems.append(f"line {number}: it is not UTF-8")
        except ValueError as exc:
            problems.append(f"line {number}: {exc}")
    if problems:
        raise ValueError("\n".join(problems))
    return users


def _user(line: str) -> _User:
    """One line. Its texts never quote the line: a hash, or a password put there by mistake, stays secret."""
    name, colon, rest = line.partition(":")
    hash, more, patterns = rest.partition(":")
    if not colon or not name or name != name.strip() or not name.isprintable():
        raise ValueError("it is not name:hash or name:hash:pattern,pattern")
    _check_hash(hash)
    if more:
        return _User(name, hash, _senders(patterns))
    if "@" not in name:
        raise ValueError(f"{name} is not an address, so a third field has to say its senders (* for any)")
    parse_mailbox(name)
    return _User(name, hash, (name,))


def _check_hash(hash: str) -> None:
    match = _HASH.fullmatch(hash)
    if not match:
        raise ValueError("the second field is not an argon2id hash (`relay passwd` writes them)")
    memory, passes, lanes = (int(number) for number in match.groups())
    if memory > _MAX_MEMORY_KIB or passes > _MAX_PASSES or lanes > _MAX_LANES:
        raise ValueError(
            f"the hash costs too much: at most m={_MAX_MEMORY_KIB},t={_MAX_PASSES},p={_MAX_LANES}"
        )


def _senders(field: str) -> tuple[str, ...] | None:
    patterns = tuple(pattern.strip() for pattern in field.split(","))
    for pattern in patterns:
        local, _, domain = pattern.rpartition("@")
        if local == "*":
            parse_domain(domain)
        elif pattern != "*":
            parse_mailbox(pattern)
    return None if "*" in patterns else patterns


def _decoy(hashes: Iterator[str]) -> str:
    """A hash that no password fits, of the cost that most lines have."""
    costs = Counter(hash.rpartition("$")[0].rpartition("$")[0] for hash in hashes)
    if not costs:
        usual = argon2.PasswordHasher()
        costs[f"$argon2id$v=19$m={usual.memory_cost},t={usual.time_cost},p={usual.parallelism}"] = 1
    salt, digest = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"{costs.most_common(1)[0][0]}${salt}${digest}"
