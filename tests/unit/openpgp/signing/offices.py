"""Whoever signs in the tests: a GnuPG home with secret keys, and what a recipient's gpg says of a message."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.programs import require
from tests.unit.openpgp.parties import Parties

PASSPHRASE = "correct horse"


@dataclass(repr=False)
class Office:
    """A GnuPG home of the administrator, in which secret keys for signing lie."""

    home: Path

    def add(
        self,
        mailbox: str,
        primary: str = "ed25519",
        *,
        expires: str = "never",
        passphrase: str = "",
        before: int = 0,
    ) -> str:
        """A key that signs with its primary and has a subkey to encrypt to; its fingerprint.

        Args:
            before: the Unix time at which it is made; 0: now.
        """
        words = ("--quick-generate-key", mailbox, primary, "cert,sign", expires)
        self.gpg(*_at(before), *words, passphrase=passphrase)
        listing = self.gpg("--with-colons", "--list-keys", f"={mailbox}").decode()
        fingerprint = re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[0]
        self.add_subkey(fingerprint, "cv25519", "encrypt", passphrase=passphrase)
        return fingerprint

    def add_subkey(
        self,
        fingerprint: str,
        algorithm: str,
        usage: str,
        expires: str = "never",
        *,
        passphrase: str = "",
        before: int = 0,
    ) -> str:
        """A further subkey, made now or at a Unix time; its fingerprint."""
        words = ("--quick-add-key", fingerprint, algorithm, usage, expires)
        self.gpg(*_at(before), *words, passphrase=passphrase)
        listing = self.gpg("--with-colons", "--list-keys", fingerprint).decode()
        return re.findall(r"^fpr:+([0-9A-F]{40}):", listing, re.MULTILINE)[-1]

    def revoke(self, fingerprint: str) -> None:
        """Publishes the revocation that gpg made with the key."""
        text = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.gpg("--import", stdin=text.replace(":-----BEGIN", "-----BEGIN").encode())

    def public(self, fingerprint: str) -> bytes:
        return self.gpg("--export", fingerprint)

    def secret(self, fingerprint: str, passphrase: str = "") -> bytes:
        return self.gpg("--export-secret-keys", fingerprint, passphrase=passphrase)

    def forget_secret(self, fingerprint: str) -> None:
        """Takes the secret key away from the agent, the public one stays."""
        listing = self.gpg("--with-colons", "--with-keygrip", "--list-keys", fingerprint).decode()
        for keygrip in re.findall(r"^grp:+([0-9A-F]{40}):", listing, re.MULTILINE):
            (self.home / "private-keys-v1.d" / f"{keygrip}.key").unlink()
        self.kill_agent()

    def kill_agent(self) -> None:
        """Ends the agent, and with it every passphrase that it knew."""
        subprocess.run([require("gpgconf"), "--homedir", str(self.home), "--kill", "all"], check=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """The agent runs, and answers nobody."""
        ask = [require("gpg-connect-agent"), "--homedir", str(self.home), "getinfo pid", "/bye"]
        pid = int(subprocess.run(ask, check=True, capture_output=True).stdout.split()[1])
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def files(self) -> set[str]:
        """Everything in the home but the sockets of the agent."""
        return {
            f"{path.relative_to(self.home)} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for path in self.home.rglob("*")
            if not path.name.startswith("S.")
        }

    def gpg(self, *arguments: str, stdin: bytes = b"", passphrase: str = "") -> bytes:
        """What gpg prints; its failure fails the test."""
        options = ["--batch", "--no-tty", "--pinentry-mode=loopback", f"--passphrase={passphrase}"]
        command = [require("gpg"), "--homedir", str(self.home), *options, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    def close(self) -> None:
        self.kill_agent()
        shutil.rmtree(self.home, ignore_errors=True)


def _at(moment: int) -> list[str]:
    return [f"--faked-system-time={moment}"] if moment else []


@dataclass(frozen=True)
class Opened:
    """What a recipient's gpg says of a message."""

    text: bytes
    status: str

    @property
    def signer(self) -> str:
        """Fingerprint of the (sub)key whose signature is good and valid; empty where there is none."""
        good = re.search(r"^\[GNUPG:\] GOODSIG ", self.status, re.MULTILINE)
        valid = re.search(r"^\[GNUPG:\] VALIDSIG ([0-9A-F]{40}) ", self.status, re.MULTILINE)
        return valid[1] if good and valid else ""

    @property
    def signature(self) -> tuple[str, str]:
        """Version and hash number of the signature."""
        valid = re.search(r"VALIDSIG \S+ \S+ \S+ \S+ (\d+) \S+ \S+ (\d+) ", self.status)
        return (valid[1], valid[2]) if valid else ("", "")


def open_with_gpg(parties: Parties, message: bytes, *senders: bytes) -> Opened:
    """Decrypts and verifies as a recipient who has the senders' certificates."""
    parties.gpg("--import", stdin=b"".join(senders))
    options = ["--batch", "--no-tty", "--pinentry-mode=loopback", "--passphrase=", "--trust-model=always"]
    command = [require("gpg"), "--homedir", str(parties.home), *options, "--status-fd=2", "--decrypt"]
    done = subprocess.run(command, input=message, capture_output=True, check=False)
    return Opened(done.stdout, done.stderr.decode("utf-8", "replace"))
