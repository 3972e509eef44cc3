"""Secret keys of a GnuPG home: one gpg process signs and encrypts, the agent of that home has the key.

gpg runs in a private home of ours, in which there is nothing but a link to the socket of that agent, so that
neither the options nor the keyring of the administrator's home play a part. Nothing is written to that one
but what the agent itself writes, and an empty keyring where gpg finds none when it is asked for a key. As in
`openpgp.gnupg`, the keyring is a file with the judged certificates of one message, here with the public part
of the signing key before them.

Where all recipients announce LibrePGP's OCB, GnuPG 2.4 would write nothing but that. Such a message is
encrypted to the certificate of `openpgp.version1` as well, which announces nothing of the kind, and its
session key is taken out again.

Nobody is asked for a passphrase or PIN: what the agent does not know already is an error at once.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import pysequoia

from relay.errors import EncryptionFailed, SigningImpossible, SigningUnavailable
from relay.message import Verdict
from relay.mime import packets
from relay.openpgp import version1
from relay.openpgp.armoring import Armour
from relay.openpgp.engine import MAX_WAITING, TIMEOUT_SECONDS, EngineUnavailable, Turns, intended
from relay.openpgp.gnupg import packets_of
from relay.openpgp.signing.assessment import PROBE, KeyUnfit, SigningKey, choose, prove
from relay.openpgp.signing.process import Finished, ProgramFailed, Programs

_AGENT_SECONDS = 20.0
"""For everything but the message itself: starting the agent, listing keys, one short signature by a card."""

_ASKED_AT_ONCE = 8
"""Keys that are looked for and opened at the same time; each has one program running."""

_V4_FINGERPRINT = re.compile(r"[0-9A-F]{40}")

_OPTIONS = (
    "--batch",
    "--no-tty",
    "--status-fd=2",
    "--no-options",
    "--no-random-seed-file",  # its lock lets parallel processes wait for seconds
    "--no-autostart",  # the agent of our own home would know no key
    "--disable-dirmngr",
    "--no-auto-key-locate",
    "--no-auto-check-trustdb",
    "--no-encrypt-to",
    "--no-default-recipient",
    "--no-throw-keyids",
    "--no-default-keyring",
    "--trust-model=always",  # the keyring holds what the judge accepted and nothing else
    "--pinentry-mode=error",
    "--digest-algo=SHA512",  # whatever a recipient prefers (RFC 9580 §9.5)
    "--compress-algo=none",
    "-z0",
    "--no-textmode",
    "--no-emit-version",
    "--no-comments",
    "--set-filename",
    "",
)

_FATAL = frozenset({"INV_RECP", "NO_RECP", "INV_SGNR", "FAILURE", "ERROR"})
_NO_AGENT = 77
"""GPG_ERR_NO_AGENT, the low 16 bits of a code."""
_INTEGRITY_PROTECTED = "2"
"""gpg's word for v1 SEIPD; 0 stands for none or for OCB."""
_STRONG_CIPHERS = frozenset({"7", "8", "9", "10", "11", "12", "13"})
"""AES, Twofish, Camellia: those with blocks of 128 bits (RFC 9580 §9.3)."""
_MARK = "[GNUPG:] "
_STRONG_HASHES = frozenset({"8", "9", "10"})


class GnupgHome:
    """Signs with the keys of one GnuPG home.

    Args:
        name: in the configuration.
        home: of the administrator; only its agent is used, and its keyring is read.
        directory: an existing directory in which our private home is made.
        program: name or path of gpg.
        processes: how many run at the same time; None: one per processor.
        max_waiting: messages that may wait for their turn.
        timeout_seconds: for one message, waiting included; past it gpg's process group is killed.

    Raises:
        EngineUnavailable: the private home cannot be made.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        directory: Path,
        *,
        program: str = "gpg",
        processes: int | None = None,
        max_waiting: int = MAX_WAITING,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.name = name
        self._home = home
        self._program = program
        self._scratch = _make_home(directory)
        self._renewing = asyncio.Lock()
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        self._certificates: dict[str, bytes] = {}
        self._turns = Turns(processes or os.cpu_count() or 1, max_waiting, timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._programs = Programs()

    async def find(self, fingerprint: str) -> bytes | None:
        """The public certificate with this primary or subkey; None where the home does not hold it.

        Raises:
            KeyUnfit: the home cannot be read.
        """
        if not _V4_FINGERPRINT.fullmatch(fingerprint):
            return None
        # `--lock-never`: nothing is written beside the keyring
        options = ["--lock-never", "--no-auto-check-trustdb", "--trust-model=always", "--no-random-seed-file"]
        command = [self._program, "--homedir", str(self._home), "--batch", "--no-tty", "--no-options"]
        async with self._asking:
            done = await self._ask([*command, *options, "--export", "--", fingerprint])
        if done.exit_status and "nothing exported" not in done.complaint:
            raise KeyUnfit(f"cannot be read from {self._home}: {_short(done)}", is_temporary=True)
        if done.output:
            self._certificates[fingerprint] = done.output
        return done.output or None

    async def open(self, fingerprint: str, now: int) -> SigningKey:
        """The key, proven and ready to sign; the agent is started where it does not run. Raises KeyUnfit."""
        public = self._certificates[fingerprint]
        async with self._asking:
            await self._wake_agent()
            key = choose(public, fingerprint, await self._secrets(public), now)
            done = await self._gpg(key.certificate, ["--detach-sign", "-u", f"{key.fingerprint}!"], PROBE)
        if done.exit_status:
            raise KeyUnfit(_why(done), is_temporary=True)
        prove(key, done.output)
        return key

    async def sign_and_encrypt(
        self, plaintext: bytes, keys: tuple[Verdict, ...], key: SigningKey, rule: str
    ) -> bytes:
        """As `relay.seams.Signer`. Raises EncryptionFailed, SigningUnavailable or SigningImpossible."""
        verdicts = intended(keys)
        async with self._turns.take():  # before anything large is made: many may wait
            shape, others = _shape(keys)
            keyring = b"".join([key.certificate, *(packets_of(verdict) for verdict in verdicts), *others])
            whom = _recipients(verdicts, rule)
            arguments = [*shape, "--sign", "--encrypt", "-u", f"{key.fingerprint}!", *whom]
            try:
                done = await self._gpg(keyring, arguments, plaintext, self._timeout_seconds)
                if _NO_AGENT in _Status(done).codes:
                    await self._wake_agent()
                    done = await self._gpg(keyring, arguments, plaintext, self._timeout_seconds)
            except KeyUnfit as exc:
                raise SigningUnavailable(str(exc), rule=rule) from exc
            return await asyncio.to_thread(_message, done, key, rule, has_extra=bool(others))

    async def close(self) -> None:
        """Kills what still runs and removes the private home; the agent is the administrator's and stays."""
        await self._programs.close()
        await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    # ----------------------------------------------------------------- the agent

    async def _wake_agent(self) -> None:
        """Starts the agent unless it runs, and links our home to its socket. Raises KeyUnfit."""
        # gpgconf stands beside gpg in every package, and knows where the socket of a home lies
        command = ["gpgconf", "--homedir", str(self._home)]
        started = await self._ask([*command, "--launch", "gpg-agent"])
        found = await self._ask([*command, "--list-dirs", "agent-socket"])
        socket = unquote(found.output.decode("utf-8", "surrogateescape").strip())
        if started.exit_status or not socket:
            raise KeyUnfit(f"has no agent: {_short(started)}", is_temporary=True)
        home = await self._private_home()
        await asyncio.to_thread(_link, home / "S.gpg-agent", socket)

    async def _secrets(self, public: bytes) -> frozenset[str]:
        """Fingerprints of the keys whose secret the agent has, or knows the card of. Raises KeyUnfit."""
        done = await self._gpg(public, ["--with-colons", "--list-secret-keys"])
        found, is_there = set(), False
        for line in done.output.decode("ascii", "replace").splitlines():
            fields = line.split(":")
            if fields[0] in {"sec", "ssb"}:
                is_there = fields[14] != "#"
            elif fields[0] == "fpr" and is_there:
                found.add(fields[9])
        return frozenset(found)

    # ----------------------------------------------------------------- programs

    async def _gpg(
        self, keyring: bytes, arguments: Sequence[str], stdin: bytes = b"", seconds: float = _AGENT_SECONDS
    ) -> Finished:
        """gpg in our home with this keyring. Raises KeyUnfit, temporary."""
        home = await self._private_home()
        async with self._file(home, keyring) as file:
            options = ["--homedir", str(home), *_OPTIONS, "--keyring", file]
            return await self._ask([self._program, *options, *arguments], stdin, seconds)

    async def _ask(
        self, command: Sequence[str], stdin: bytes = b"", seconds: float = _AGENT_SECONDS
    ) -> Finished:
        try:
            return await self._programs.run(command, _environment(), stdin, timeout_seconds=seconds)
        except ProgramFailed as exc:
            raise KeyUnfit(f"cannot be used: {exc}", is_temporary=True) from exc

    async def _private_home(self) -> Path:
        """Our home, or a new one where somebody tidied it away; gpg then says that no agent is there.

        Raises:
            KeyUnfit, temporary: none can be made.
        """
        async with self._renewing:
            self._scratch = await asyncio.to_thread(_kept_or_new, self._scratch)
        return self._scratch

    @asynccontextmanager
    async def _file(self, home: Path, keyring: bytes) -> AsyncIterator[str]:
        """A file with public keys, for as long as it is needed."""
        path = await asyncio.to_thread(_write, home, keyring)
        try:
            yield str(path)
        finally:
            await asyncio.to_thread(path.unlink, missing_ok=True)


# --------------------------------------------------------------------------- what gpg is given


def _make_home(directory: Path | None) -> Path:
    """A private directory (0700); None: in the system's own place for them."""
    try:
        return Path(tempfile.mkdtemp(prefix="sign-", dir=directory))
    except OSError as exc:
        place = directory or tempfile.gettempdir()
        raise EngineUnavailable(f"no home for gpg can be made in {place}: {exc}") from exc


def _kept_or_new(home: Path) -> Path:
    """Whoever removed it can own the directory around it now: a new one is made where that is no matter."""
    try:
        return home if home.is_dir() else _make_home(None)
    except EngineUnavailable as exc:
        raise KeyUnfit(f"cannot be used: {exc}", is_temporary=True) from exc


def _environment() -> Mapping[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def _link(place: Path, socket: str) -> None:
    """A new link in place of an older one, at no time none."""
    fresh = place.with_suffix(f".{os.getpid()}.{secrets.token_hex(4)}")
    fresh.symlink_to(socket)
    fresh.replace(place)


def _write(directory: Path, keyring: bytes) -> Path:
    """Raises KeyUnfit, temporary."""
    try:
        with tempfile.NamedTemporaryFile(dir=directory, suffix=".pgp", delete=False) as file:
            file.write(keyring)
            return Path(file.name)
    except OSError as exc:
        raise KeyUnfit(f"cannot be used: {exc}", is_temporary=True) from exc


def _recipients(verdicts: Sequence[Verdict], rule: str) -> list[str]:
    """Every chosen subkey as `FPR!`: this one, and not what gpg would choose. Raises SigningImpossible."""
    for verdict in verdicts:
        keys = [packet.head for packet in packets.walk(verdict.reduced) if packet.tag in _KEYS]
        if any(body[0] != 4 or body[5] not in _ALGORITHMS for body in keys):
            detail = "a version or algorithm that GnuPG does not know"
            raise SigningImpossible(detail, rule=rule, fingerprint=verdict.certificate.fingerprint)
    names = {subkey.fingerprint for verdict in verdicts for subkey in verdict.subkeys}
    return [argument for name in sorted(names) for argument in ("-r", f"{name}!")]


_KEYS = frozenset({packets.PUBLIC_KEY, packets.PUBLIC_SUBKEY})
_ALGORITHMS = frozenset({1, 2, 3, 17, 18, 19, 22})
"""RSA, DSA and the elliptic curves of version 4: what both GnuPG 2.2 and 2.4 read."""


def _shape(verdicts: Sequence[Verdict]) -> tuple[list[str], list[bytes]]:
    """Arguments, and a further certificate, that make gpg write v1 SEIPD with a cipher that all can read.

    By itself GnuPG takes 3DES where preferences have nothing in common, which RFC 9580 §9.3 forbids.
    """
    cipher = ["--cipher-algo", "AES256" if all(verdict.lists_aes_256 for verdict in verdicts) else "AES"]
    if not all(verdict.needs_sequoia for verdict in verdicts):  # of keys that GnuPG knows: those with OCB
        return ["--armor", *cipher], []
    keys = [packet for packet in packets.walk(version1.CERTIFICATE) if packet.tag == packets.PUBLIC_SUBKEY]
    return [*cipher, "-r", f"{packets.fingerprint(keys[0])}!"], [version1.CERTIFICATE]


# --------------------------------------------------------------------------- what gpg answers


class _Status:
    """The status lines of one run: keywords with what stands behind them."""

    def __init__(self, done: Finished) -> None:
        marked = [line for line in done.complaint.splitlines() if line.startswith(_MARK)]
        self.lines = [line.removeprefix(_MARK) for line in marked]
        self.text = "; ".join(self.lines)[:500]
        """For the log: fingerprints and numbers, never content."""

    def of(self, keyword: str) -> list[str]:
        """What stands behind this keyword, one word after the other; empty where it was not written."""
        found = next((line for line in self.lines if line.split(" ", 1)[0] == keyword), "")
        return found.split(" ")[1:]

    @property
    def codes(self) -> set[int]:
        """The errors of libgpg-error, without their sources."""
        last = [line.rpartition(" ")[2] for line in self.lines if line.startswith("FAILURE ")]
        return {int(code) & 0xFFFF for code in last if code.isdigit()}

    def is_whole(self, key: SigningKey) -> bool:
        """Whether everything was signed by this key with a strong hash, and encrypted with v1 SEIPD."""
        kind, _, hash, _, _, signer = [*self.of("SIG_CREATED"), *[""] * 6][:6]
        words = {line.split(" ", 1)[0] for line in self.lines}
        is_signed = kind == "S" and hash in _STRONG_HASHES and signer == key.fingerprint
        container, cipher = [*self.of("BEGIN_ENCRYPTION"), "", ""][:2]
        is_protected = container == _INTEGRITY_PROTECTED and cipher in _STRONG_CIPHERS
        return is_signed and is_protected and "END_ENCRYPTION" in words and not words & _FATAL


def _message(done: Finished, key: SigningKey, rule: str, *, has_extra: bool) -> bytes:
    """The armoured message. Raises EncryptionFailed, SigningUnavailable or SigningImpossible."""
    status = _Status(done)
    log = f"gpg (exit status {done.exit_status}): {status.text}"
    refused = [*status.of("INV_RECP"), *status.of("NO_RECP")]
    if refused:  # a key that the judge accepts and this gpg does not: today, and tomorrow
        raise SigningImpossible(log, rule=rule, fingerprint=refused[-1].rstrip("!"))
    if done.exit_status or status.of("INV_SGNR") or not status.of("SIG_CREATED"):
        raise SigningUnavailable(log, rule=rule)
    if not status.is_whole(key):
        raise EncryptionFailed(log)
    try:
        return bytes(Armour(_without_extra(done.output) if has_extra else done.output))
    except packets.Malformed as exc:
        raise EncryptionFailed(f"gpg: {exc}") from exc


def _without_extra(message: bytes) -> bytes:
    """The armoured message for a binary one that was encrypted to `version1.CERTIFICATE` as well."""
    return pysequoia.armor(version1.without(message), pysequoia.ArmorKind.Message).encode()


_LOCKED = frozenset({11, 85, 86, 87, 99, 114, 177, 198})
"""Passphrase or PIN wrong, missing or not confirmed, no pinentry: the agent would have to ask."""
_NO_SECRET = frozenset({9, 17, 91, 108, 109, 110, 111, 112})
"""No public or secret key; the wrong card, or none, or one that was removed or must be reset."""


def _why(done: Finished) -> str:
    """Why gpg did not sign, for people."""
    status = _Status(done)
    if status.codes & _LOCKED:
        return "is locked: its agent would have to ask for the passphrase or PIN; unlock it there"
    if status.codes & _NO_SECRET:
        return "is not with the agent: its secret part or its card is missing"
    return f"cannot sign: {_short(done)}"


def _short(done: Finished) -> str:
    """The end of what gpg said, which names the reason."""
    said = [line for line in done.complaint.splitlines() if line and not line.startswith(_MARK)]
    return (said or [f"exit status {done.exit_status}"])[-1][:200]
