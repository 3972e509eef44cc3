"""The second engine: GnuPG itself encrypts, one `gpg` process per message, driven through python-gnupg.

gpg sees no keyring but a file with the judged certificates of this message, in a private home of its own, so
that nothing lingers from another message and nothing else can be picked. It reads that file as a keyring and
verifies the self-signatures in it again. There is no agent, no network, no trust database and no option file.

Two things of RFC 9580 it cannot do: version 6 certificates, and a literal date of 0 (gpg always writes the
time). For keys that announce GnuPG's own OCB container GnuPG 2.4 has no option to write anything else:
such a message is refused, not sent. The relay gives such keys to pysequoia (`openpgp.choosing`).
"""

from __future__ import annotations

import asyncio
import copy
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import gnupg

from relay.errors import EncryptionFailed
from relay.message import Verdict
from relay.mime import packets
from relay.openpgp.armoring import Armour
from relay.openpgp.engine import MAX_WAITING, TIMEOUT_SECONDS, EngineUnavailable, Turns, intended

_OLDEST = (2, 2)
_BUFFER_OCTETS = 1 << 18
_V4_FINGERPRINT = re.compile(r"[0-9A-F]{40}")

_OPTIONS = (
    "--no-options",
    "--no-random-seed-file",  # its lock lets parallel processes wait for seconds
    "--no-autostart",
    "--disable-dirmngr",
    "--no-auto-key-locate",
    "--no-auto-check-trustdb",
    "--no-encrypt-to",
    "--no-default-recipient",
    "--no-throw-keyids",
    "--trust-model=always",  # the keyring holds what the judge accepted and nothing else
    "--compress-algo=none",
    "-z0",
    "--no-textmode",
    "--no-emit-version",
    "--no-comments",
    "--set-filename",
    "",
)

_AES_256, _AES_128 = "AES256", "AES"
"""By itself GnuPG takes 3DES where preferences are missing or have nothing in common, and CAST5 where it is
listed: RFC 9580 §9.3 forbids both, and has AES-128 in every list (§12.2)."""

_INTEGRITY_PROTECTED = "BEGIN_ENCRYPTION 2 "
"""gpg's word for v1 SEIPD; 0 stands for none or for OCB."""

_FATAL = {"INV_RECP", "NO_RECP", "FAILURE", "ERROR"}


class GnupgEngine:
    """Encrypts with gpg (`relay.seams.Engine`).

    Args:
        directory: an existing directory in which the private home is made.
        program: name or path of gpg.
        processes: how many run at the same time; None: one per processor.
        max_waiting: messages that may wait for their turn.
        timeout_seconds: for one message, waiting included; past it gpg's process group is killed.

    Raises:
        EngineUnavailable: gpg is missing, too old, or does not run, or the home cannot be made.
    """

    def __init__(
        self,
        directory: Path,
        *,
        program: str = "gpg",
        processes: int | None = None,
        max_waiting: int = MAX_WAITING,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        at_once = processes or os.cpu_count() or 1
        self._home = _make_home(directory)
        try:
            self._gpg = _prepare(program, self._home)
        except EngineUnavailable:
            shutil.rmtree(self._home)
            raise
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="gpg")
        self._turns = Turns(at_once, max_waiting, timeout_seconds)
        self._running: set[_Call] = set()
        self._closed = False

    async def encrypt(self, plaintext: bytes, keys: tuple[Verdict, ...]) -> bytes:
        """An ASCII-armoured message to every subkey of every verdict. Raises EncryptionFailed."""
        verdicts = intended(keys)
        recipients = _recipients(verdicts)
        keyring = b"".join(packets_of(verdict) for verdict in verdicts)
        cipher = _AES_256 if all(verdict.lists_aes_256 for verdict in keys) else _AES_128
        async with self._turns.take():
            if self._closed:
                raise EncryptionFailed("the engine is closed")
            return await self._run(_Call(self._gpg, keyring, recipients, cipher), plaintext)

    async def close(self) -> None:
        """Kills what still runs and removes the private home."""
        self._closed = True
        for call in list(self._running):
            call.kill()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(shutil.rmtree, self._home, ignore_errors=True)

    async def _run(self, call: _Call, plaintext: bytes) -> bytes:
        self._running.add(call)
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, call.encrypt, plaintext)
        finally:
            call.kill()  # does nothing unless we were cancelled
            self._running.discard(call)


class _Call:
    """One message in one gpg process; `kill` may come from another thread at any time."""

    def __init__(self, gpg: _Gpg, keyring: bytes, recipients: Sequence[str], cipher: str) -> None:
        self._gpg = gpg.for_call()
        self._options = ["--cipher-algo", cipher]
        self._keyring = keyring
        self._recipients = recipients
        self._text = BytesIO()  # unlike a join of all pieces it never holds the interpreter lock for long
        self._gpg.on_data = self._collect

    def encrypt(self, plaintext: bytes) -> bytes:
        """Blocks until gpg is done. Raises EncryptionFailed."""
        try:
            with tempfile.NamedTemporaryFile(dir=self._gpg.gnupghome, suffix=".pgp") as keyring:
                keyring.write(self._keyring)
                keyring.flush()
                self._gpg.keyring = [keyring.name]
                result = self._gpg.encrypt(plaintext, self._recipients, extra_args=self._options)
        except OSError as exc:  # a broken pipe: gpg ended before it had read everything
            raise EncryptionFailed(f"gpg: {exc}; {self._gpg.status.text}") from exc
        _check(result.returncode, self._gpg.status)
        if len(self._text.getbuffer()) <= len(plaintext):
            raise EncryptionFailed("gpg: the message is shorter than its plaintext")
        return self._armour()

    def kill(self) -> None:
        """Ends gpg and whatever it started, or keeps it from starting."""
        self._gpg.kill()

    def _collect(self, octets: bytes) -> bool:
        """Takes a piece of what gpg writes, so that python-gnupg does not keep it."""
        self._text.write(octets)
        return False

    def _armour(self) -> bytes:
        try:
            return bytes(Armour(self._text.getvalue()))
        except packets.Malformed as exc:
            raise EncryptionFailed(f"gpg: {exc}") from exc


class _Status(gnupg.Crypt):  # type: ignore[misc]  # python-gnupg has no types
    """Keeps every status line; python-gnupg's own class takes some refusals for success."""

    def __init__(self, gpg: _Gpg) -> None:
        super().__init__(gpg)
        self.lines: list[str] = []
        gpg.status = self

    @property
    def text(self) -> str:
        """The lines for the log: fingerprints and numbers, never content."""
        return "; ".join(self.lines)[:500]

    def handle_status(self, key: str, value: str) -> None:
        self.lines.append(f"{key} {value}")


class _Gpg(gnupg.GPG):  # type: ignore[misc]  # python-gnupg has no types
    """python-gnupg with a handle on its process, to which it sets no time limit."""

    buffer_size = _BUFFER_OCTETS
    result_map = {**gnupg.GPG.result_map, "crypt": _Status}  # noqa: RUF012 - how python-gnupg is extended
    status: _Status
    _process: subprocess.Popen[bytes] | None = None
    _killed = False
    _lock = threading.Lock()

    def for_call(self) -> _Gpg:
        """A copy for one message; making a new one would start a process."""
        call = copy.copy(self)
        call._lock = threading.Lock()
        call.status = _Status(call)
        return call

    def kill(self) -> None:
        with self._lock:
            self._killed = True
            if self._process and self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)

    def _open_subprocess(self, args: list[str], passphrase: bool = False) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._killed:
                raise BrokenPipeError("cancelled before gpg was started")
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                self.make_args(args, passphrase),
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=self.env,
                start_new_session=True,
            )
            return self._process


def _make_home(directory: Path) -> Path:
    """A private directory (0700)."""
    try:
        return Path(tempfile.mkdtemp(prefix="gpg-", dir=directory))
    except OSError as exc:
        raise EngineUnavailable(f"no home for gpg can be made in {directory}: {exc}") from exc


def _prepare(program: str, home: Path) -> _Gpg:
    """Starts gpg once, to see that it works and how old it is."""
    env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    try:
        gpg = _Gpg(program, gnupghome=str(home), options=list(_OPTIONS), env=env)
    except (OSError, ValueError) as exc:
        raise EngineUnavailable(f"{program} does not run: {exc}") from exc
    if not gpg.version or gpg.version < _OLDEST:
        raise EngineUnavailable(f"{program} is version {gpg.version}, {_OLDEST} is needed")
    return gpg


def _recipients(verdicts: Sequence[Verdict]) -> list[str]:
    """Every chosen subkey as `FPR!`: this one, and not what gpg would choose."""
    fingerprints = sorted({subkey.fingerprint for verdict in verdicts for subkey in verdict.subkeys})
    for fingerprint in fingerprints:
        if not _V4_FINGERPRINT.fullmatch(fingerprint):
            raise EncryptionFailed(f"GnuPG cannot encrypt to {fingerprint[:64]!r}: no version 4 key")
    return [f"{fingerprint}!" for fingerprint in fingerprints]


def packets_of(verdict: Verdict) -> bytes:
    """The certificate without trust packets, which would tell gpg that signatures are verified already."""
    try:
        certificates = packets.certificates(verdict.reduced, verdict.certificate.source)
    except packets.Malformed as exc:
        raise EncryptionFailed(f"certificate {verdict.certificate.fingerprint}: {exc}") from exc
    return b"".join(certificate.data for certificate in certificates)


def _check(exit_status: int | None, status: _Status) -> None:
    """Raises EncryptionFailed unless the exit status and every line say that it is the whole message."""
    keywords = {line.split(" ", 1)[0] for line in status.lines}
    protected = any(line.startswith(_INTEGRITY_PROTECTED) for line in status.lines)
    if exit_status != 0 or keywords & _FATAL or not protected or "END_ENCRYPTION" not in keywords:
        raise EncryptionFailed(f"gpg refused (exit status {exit_status}): {status.text}")
