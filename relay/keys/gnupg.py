"""The key source `gnupg`: the public keyring of a GnuPG home, exported once and again when its files change.

gpg is never asked for an address: it finds by substring, and starts network lookups of its own. It exports
everything, and the packets are indexed here. `--export` leaves nothing out that a verdict needs: revoked and
expired keys are in it.

An answer is given only from an export of the files as they are now. If they changed and gpg fails, the
source is unavailable, although an older export is at hand: what changed may be a revocation. A home without a
keyring, or with an empty file for one, is unavailable too: an unmounted volume looks the same, and is not "no
key".

gpg is run with asyncio and not with python-gnupg, which has no time-out, no bound for the output, cannot end
a process group, and occupies three threads a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from relay.errors import KeySourceUnavailable
from relay.keys.index import Entry, Index, Refresher, address_keys, parse
from relay.message import Address, Certificate
from relay.mime.packets import Malformed

if TYPE_CHECKING:
    from relay.seams import Clock, Journal

_KEYRINGS = ("pubring.kbx", "pubring.gpg", "public-keys.d/pubring.db", "public-keys.d/pubring.db-wal")
"""Where GnuPG 2.1+, older versions, and keyboxd (with its write-ahead log) keep public keys."""

_OPTIONS = (
    "--batch",
    "--no-tty",
    "--quiet",
    "--no-options",  # a gpg.conf could strip what is exported
    "--no-permission-warning",
    "--no-auto-key-locate",  # never a network lookup
    "--no-auto-check-trustdb",
    "--no-random-seed-file",  # its lock makes parallel processes wait for one another
)

_MAX_EXPORT_BYTES = 512 << 20
_MAX_COMPLAINT_BYTES = 2000
"""Of gpg's standard error, for the log."""


class GnupgSource:
    """A `KeySource` over the keyring of a GnuPG home.

    Args:
        name: as in the configuration.
        home: the GnuPG home directory; it may be read-only.
        program: gpg, as a name in PATH or a path.
        timeout_seconds: for one export; after it gpg's process group is killed.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        clock: Clock,
        journal: Journal,
        *,
        program: str = "gpg",
        timeout_seconds: float = 60.0,
    ) -> None:
        self.name = name
        self.home = home
        self._journal = journal
        self._gpg = Gpg(home, program, timeout_seconds)
        self._index = Index()
        self._stamps: _Stamps = ()
        self._refresher = Refresher(self._refresh, clock)

    async def load(self) -> None:
        """Exports the keyring anew, at start-up and on HUP. Raises KeySourceUnavailable."""
        await self._refresher.anew()

    async def find(self, address: Address) -> list[Certificate]:
        """Every certificate for the address. Raises KeySourceUnavailable."""
        await self._refresher.fresh()
        return self._index.find(address.key)

    async def find_fingerprint(self, fingerprint: str) -> list[Certificate]:
        """The certificate with this fingerprint. Raises KeySourceUnavailable."""
        await self._refresher.fresh()
        return self._index.find_fingerprint(fingerprint)

    async def all(self) -> list[Certificate]:
        """Every certificate. Raises KeySourceUnavailable."""
        await self._refresher.fresh()
        return list(self._index.all)

    async def _refresh(self, everything: bool) -> None:
        try:
            # Taken before the export: a change during it gives another stamp, and a new export.
            stamps = await asyncio.to_thread(_stamps, self.home)
        except OSError as exc:
            raise KeySourceUnavailable(f"{exc.filename or self.home}: {exc.strerror or exc}") from exc
        if stamps == self._stamps and not everything:
            return
        self._stamps = ()
        data = await self._gpg.run("--lock-never", "--export")
        self._index = await asyncio.to_thread(_index, data, self.name)
        self._stamps = stamps
        self._journal.record("keys_read", source=self.name, certificates=len(self._index.all))


_Stamps = tuple[tuple[str, int, int, int, int], ...]


def _stamps(home: Path) -> _Stamps:
    """What changes when the keyring does. Raises OSError if there is none to be read; blocks."""
    found = []
    for name in _KEYRINGS:
        with contextlib.suppress(FileNotFoundError):
            status = (home / name).stat()
            found.append((name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    if not found:
        raise FileNotFoundError(None, "it has no keyring (`relay keys import` makes one)", str(home))
    if any(name == "pubring.kbx" and size == 0 for name, _, size, _, _ in found):
        raise OSError(None, "it is empty, which gpg never leaves it", str(home / "pubring.kbx"))
    return tuple(found)


def _index(data: bytes, source: str) -> Index:
    try:
        certificates = parse(data, source) if data else []
    except Malformed as exc:
        raise KeySourceUnavailable(f"what gpg exports cannot be read: {exc}") from exc
    return Index(Entry(certificate, address_keys(certificate)) for certificate in certificates)


class Gpg:
    """Runs gpg on one home with fixed arguments, bounded in time and output."""

    def __init__(self, home: Path, program: str = "gpg", timeout_seconds: float = 60.0) -> None:
        self._home = home
        self._program = program
        self._timeout_seconds = timeout_seconds

    async def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        """What gpg writes to its standard output.

        Args:
            arguments: fixed text only, never anything that a user wrote.

        Raises:
            KeySourceUnavailable: it failed, took too long, or wrote too much.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds), self._process(*arguments) as process:
                return await _conversation(process, stdin)
        except TimeoutError as exc:
            raise KeySourceUnavailable(f"gpg took over {self._timeout_seconds:.0f} seconds") from exc
        except OSError as exc:
            raise KeySourceUnavailable(f"gpg cannot be run: {exc}") from exc

    @contextlib.asynccontextmanager
    async def _process(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """gpg in a process group of its own, which never outlives the block."""
        process = await asyncio.create_subprocess_exec(
            self._program,
            *_OPTIONS,
            "--homedir",
            str(self._home),
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _conversation(process: asyncio.subprocess.Process, stdin: bytes) -> bytes:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise KeySourceUnavailable("gpg was started without pipes")
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(process.stdin, stdin))
        complaint = group.create_task(_complaint(process.stderr))
        output = group.create_task(_output(process.stdout))
    if len(output.result()) > _MAX_EXPORT_BYTES:
        raise KeySourceUnavailable(f"gpg exports more than {_MAX_EXPORT_BYTES} bytes")
    if await process.wait() != 0:
        text = complaint.result().decode("utf-8", "replace").strip()
        raise KeySourceUnavailable(f"gpg failed with {process.returncode}: {text}")
    return output.result()


async def _feed(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # gpg ended: its exit status says why
        stream.write(data)
        await stream.drain()
    stream.close()


async def _output(stream: asyncio.StreamReader) -> bytes:
    """Everything up to the end; of too much only a little more than the bound, and the rest is dropped."""
    chunks, size = [], 0
    while chunk := await stream.read(1 << 20):
        if size <= _MAX_EXPORT_BYTES:
            chunks.append(chunk)
            size += len(chunk)
    return b"".join(chunks)


async def _complaint(stream: asyncio.StreamReader) -> bytes:
    """The beginning of what gpg says; the rest is read and dropped, so that gpg never waits."""
    kept = b""
    while chunk := await stream.read(1 << 16):
        kept = (kept + chunk)[:_MAX_COMPLAINT_BYTES]
    return kept


# --------------------------------------------------------------------------- adding, for `relay keys import`


async def add(gpg: Gpg, certificate: Certificate) -> None:
    """Imports a certificate into the keyring; gpg merges it with a copy that is already there.

    Raises:
        KeySourceUnavailable: gpg failed or left the certificate out (a version that it does not know).
    """
    await gpg.run("--trust-model", "always", "--import", stdin=certificate.data)
    exported = await gpg.run("--lock-never", "--export")
    index = await asyncio.to_thread(_index, exported, "")
    if not index.find_fingerprint(certificate.fingerprint):
        raise KeySourceUnavailable(
            "gpg did not take the certificate; its version may not know this kind of key"
        )
