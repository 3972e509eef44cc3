"""The key source `directory`: files with certificates below one folder, read again when they change.

The folder is looked at when somebody asks, at most once a second: what an admin copies there works without a
restart. A file that cannot be read never turns into "there is no key":

- While a file is broken that was good before, its last good certificates serve for `grace_seconds` (it is
  being written); after that the addresses that it served are unavailable.
- A file that was never good may hold the key of anybody: the address that its name gives is unavailable, and
  so is every address for which no other file has a certificate. The same holds for a broken file that was
  good before, because its new content may name new addresses.
- A file that is gone was removed on purpose, and its addresses with it.

Every such file is reported when it breaks and when it is good again.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.index import Entry, Index, Refresher, address_keys, parse
from relay.message import Address, Certificate
from relay.mime.packets import Malformed

if TYPE_CHECKING:
    from relay.seams import Clock, Journal

SUFFIXES = frozenset({".asc", ".pgp", ".gpg", ".key", ".pub"})
"""Names that end otherwise, or begin with a dot (also of folders), are none of ours: editors' backups,
half-made copies of rsync, the inner folders of a Kubernetes volume."""

_MAX_FILE_BYTES = 64 << 20
"""A keyring of some ten thousand certificates."""

_MAX_FILES = 50_000


class _Stamp(NamedTuple):
    """What changes when a file is written or replaced; the change time cannot be set back by a copy."""

    inode: int
    bytes: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> _Stamp:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@dataclass(frozen=True, slots=True)
class _File:
    """One file as it was last read."""

    path: str
    stamp: _Stamp | None
    """None: it could not even be opened, so every scan tries again."""
    named: str | None
    """`Address.key` of the address that is the file's name."""
    entries: tuple[Entry, ...] = ()
    """The last good ones; empty only if it was never good."""
    problem: str = ""
    broken_since: float = 0.0
    """Monotonic seconds."""

    def names(self, address_key: str) -> bool:
        """Whether the file is known to be about this address."""
        return address_key == self.named or any(address_key in entry.address_keys for entry in self.entries)

    def holds(self, fingerprint: str) -> bool:
        """Whether its last good content had this certificate."""
        return any(entry.certificate.fingerprint == fingerprint for entry in self.entries)


@dataclass(frozen=True, slots=True)
class _State:
    """Everything that one scan found; replaced as a whole, so a lookup never sees half of it."""

    files: dict[str, _File]
    index: Index
    broken: tuple[_File, ...]


class DirectorySource:
    """A `KeySource` over a folder.

    A certificate is returned for the addresses in its User IDs and for the address that is the name of its
    file (`bob@example.com.asc`), so that the judge can say why it may not be used there.

    Args:
        name: as in the configuration.
        path: the folder; folders in it are read as well.
        grace_seconds: how long a broken file's last good certificates serve.
    """

    def __init__(
        self, name: str, path: Path, clock: Clock, journal: Journal, *, grace_seconds: float = 300.0
    ) -> None:
        self.name = name
        self.path = path
        self._clock = clock
        self._journal = journal
        self._grace_seconds = grace_seconds
        self._state = _State({}, Index(), ())
        self._refresher = Refresher(self._scan, clock)

    async def load(self) -> None:
        """Reads every file anew, at start-up and on HUP. Raises KeySourceUnavailable."""
        await self._refresher.anew()

    async def find(self, address: Address) -> list[Certificate]:
        """Every certificate for the address.

        Raises:
            KeySourceUnavailable: the folder or a file that matters here cannot be read.
        """
        await self._refresher.fresh()
        found = self._state.index.find(address.key)
        self._check([file for file in self._state.broken if file.names(address.key)], found)
        return found

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        """The copies of one certificate. Raises as `find`."""
        await self._refresher.fresh()
        found = self._state.index.find_fingerprint(fingerprint)
        self._check([file for file in self._state.broken if file.holds(fingerprint)], found)
        return found

    async def all(self) -> list[Certificate]:
        """Every certificate, the last good ones of broken files included. Raises KeySourceUnavailable."""
        await self._refresher.fresh()
        return list(self._state.index.all)

    async def problems(self) -> list[str]:
        """One sentence for each file that cannot be read, with its path. Raises KeySourceUnavailable."""
        await self._refresher.fresh()
        return [f"{file.path}: {file.problem}" for file in self._state.broken]

    def _check(self, about: list[_File], found: list[Certificate]) -> None:
        """Raises KeySourceUnavailable if a broken file stands in the way of this answer.

        Args:
            about: the broken files that are known to be about what was asked.
        """
        now = self._clock.monotonic()
        for file in about:
            if not file.entries or now - file.broken_since > self._grace_seconds:
                raise KeySourceUnavailable(f"{file.path}: {file.problem}")
        if not found and self._state.broken:
            file = self._state.broken[0]
            raise KeySourceUnavailable(f"{file.path} may hold the key, but {file.problem}")

    async def _scan(self, everything: bool) -> None:
        before = self._state.files
        known = {path: _forget_stamp(file) for path, file in before.items()} if everything else before
        reader = _Reader(self.name, self.path, known, self._clock.monotonic())
        try:
            files = await asyncio.to_thread(reader.files)
        except OSError as exc:
            raise KeySourceUnavailable(f"{exc.filename or self.path}: {exc.strerror or exc}") from exc
        if files != before:
            self._state = await asyncio.to_thread(_state, files)
            self._report(before, files)

    def _report(self, before: dict[str, _File], after: dict[str, _File]) -> None:
        """Tells the journal about files that broke or were repaired, and the new totals."""
        for path, file in after.items():
            known = before[path].problem if path in before else ""
            if file.problem and file.problem != known:
                self._journal.record("key_file_broken", source=self.name, file=path, problem=file.problem)
            elif known and not file.problem:
                self._journal.record("key_file_repaired", source=self.name, file=path)
        self._journal.record(
            "keys_read",
            source=self.name,
            files=len(after),
            certificates=len(self._state.index.all),
            broken=len(self._state.broken),
        )


def _forget_stamp(file: _File) -> _File:
    return _File(file.path, None, file.named, file.entries, file.problem, file.broken_since)


def _state(files: dict[str, _File]) -> _State:
    entries = (entry for file in files.values() for entry in file.entries)
    return _State(files, Index(entries), tuple(file for file in files.values() if file.problem))


# --------------------------------------------------------------------------- reading, in a worker thread


@dataclass(frozen=True, slots=True)
class _Reader:
    """One scan of the folder; blocks."""

    source: str
    root: Path
    known: dict[str, _File]
    now: float
    """Monotonic seconds."""

    def files(self) -> dict[str, _File]:
        """Every file, read again where it changed. Raises OSError if a folder cannot be read."""
        paths = sorted(_walk(self.root))
        read = ((path, self._file(path)) for path in paths)
        return {path: file for path, file in read if file is not None}

    def _file(self, path: str) -> _File | None:
        before = self.known.get(path) or _File(path, None, _named(path))
        try:
            stamp = _Stamp.of(os.stat(path))  # noqa: PTH116 - thousands of files a second, pathlib is slow
            return before if stamp == before.stamp else self._read(before)
        except FileNotFoundError:
            if not os.path.islink(path):  # noqa: PTH114 - as above
                return None  # removed since the folder was listed
            return self._broken(before, None, "it is a link to nothing")
        except OSError as exc:
            return self._broken(before, None, f"it cannot be read: {exc.strerror}")

    def _read(self, before: _File) -> _File:
        stamp: _Stamp | None = None
        try:
            # The stamp is taken before the content: a later change always gives another stamp.
            data, stamp = _content(before.path)
            certificates = parse(data, self.source)
        except Malformed as exc:
            return self._broken(before, stamp, str(exc))
        named = frozenset({before.named} if before.named else ())
        entries = tuple(Entry(found, address_keys(found) | named) for found in certificates)
        return _File(before.path, stamp, before.named, entries)

    def _broken(self, before: _File, stamp: _Stamp | None, problem: str) -> _File:
        since = before.broken_since if before.problem else self.now
        return _File(before.path, stamp, before.named, before.entries, problem, since)


def _walk(root: Path) -> Iterator[str]:
    """The paths of all files that count. Links to folders are followed, each folder once."""
    seen: set[tuple[int, int]] = set()
    pending, files = [os.fspath(root)], 0
    while pending:
        folder = pending.pop()
        status = os.stat(folder)  # noqa: PTH116 - see above
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as listing:
            for item in listing:
                if item.name.startswith("."):
                    continue
                if item.is_dir():
                    pending.append(item.path)
                elif os.path.splitext(item.name)[1].lower() in SUFFIXES:  # noqa: PTH122 - see above
                    files += 1
                    yield item.path
                if files + len(pending) > _MAX_FILES:
                    raise OSError(None, f"it has more than {_MAX_FILES} files", os.fspath(root))


def _content(path: str) -> tuple[bytes, _Stamp]:
    """A regular file's octets and its stamp; never waits, whatever stands at the path."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Malformed("it is not a regular file")
        data = file.read(_MAX_FILE_BYTES + 1)
    if len(data) > _MAX_FILE_BYTES:
        raise Malformed(f"it is larger than {_MAX_FILE_BYTES} bytes")
    return data, _Stamp.of(status)


def _named(path: str) -> str | None:
    """`Address.key` of the address that is the file's name, without the suffix."""
    try:
        return parse_mailbox(Path(path).stem).key
    except ValueError:
        return None


# --------------------------------------------------------------------------- adding, for `relay keys import`


def with_certificate(content: bytes, certificate: Certificate) -> bytes:
    """The content of a file after adding a certificate to it, binary.

    A copy that differs from the one already there stands beside it: the judge merges copies, and replacing
    the old one could lose a revocation.

    Args:
        content: of the file as it is; empty if there is none yet.

    Raises:
        Malformed: the content is not in order.
    """
    copies = [copy.data for copy in parse(content, "")] if content else []
    return b"".join(copies if certificate.data in copies else [*copies, certificate.data])
