"""Two opinions of one certificate: the judge's and GnuPG's, each with the clock of the tests."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path

from relay.address import parse_mailbox, user_id_key
from relay.message import Address, Certificate, Verdict
from relay.openpgp.judge import Judge
from tests.fakes import FixedClock
from tests.forge import Owner
from tests.programs import require

NOW = FixedClock().now()
OWNER = Owner("owner")
MAILBOX = parse_mailbox("owner@example.com")


def judge(*copies: bytes, address: Address | None = MAILBOX, now: datetime = NOW) -> Verdict:
    """The verdict on one certificate, given in one or more copies."""
    found = [Certificate(data, "", (), f"source {index}") for index, data in enumerate(copies)]
    [verdict] = Judge().judge(found, address, now)
    return verdict


def certificate(*signatures: bytes, user_id: bytes | None = None) -> bytes:
    """An ordinary certificate of OWNER whose subkey has the given bindings."""
    return OWNER.start(user_id=user_id) + OWNER.bind(*signatures)


def binding(**claims: object) -> bytes:
    """An ordinary binding of OWNER's subkey, with other claims."""
    return OWNER.sign(0x18, OWNER.subkey(), **{"flags": b"\x0c", **claims})  # type: ignore[arg-type]


_DEAD = {"e", "r", "i", "d", "n"}
"""Validity letters of `--with-colons`: expired, revoked, invalid, disabled, not valid."""


class GnuPG:
    """GnuPG with a home and a clock of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._command = [
            require("gpg"), "--homedir", str(home), "--batch", "--quiet", "--no-random-seed-file",
            "--no-auto-key-locate", "--no-auto-check-trustdb", "--trust-model", "always",
            "--faked-system-time", NOW.strftime("%Y%m%dT%H%M%S!"),
        ]  # fmt: skip
        self._home = home

    def run(self, *arguments: str, stdin: bytes = b"") -> bytes:
        done = subprocess.run(
            [*self._command, *arguments], input=stdin, capture_output=True, check=False, timeout=60
        )
        return done.stdout

    def usable(self, data: bytes, address: Address) -> set[str]:
        """Key IDs that GnuPG would encrypt to, if it were asked for each by name."""
        self.run("--import", stdin=data)
        rows = [line.split(":") for line in self.run("--list-keys", "--with-colons").decode().splitlines()]
        names = [row for row in rows if row[0] == "uid" and row[1] not in _DEAD]
        named = any(user_id_key(row[9]) == address.key for row in names)
        primaries = [row for row in rows if row[0] == "pub"]
        if not named or any(row[1] in _DEAD for row in primaries):
            return set()
        candidates = [row for row in rows if row[0] in {"pub", "sub"} and row[1] not in _DEAD]
        return {row[4] for row in candidates if "e" in row[11]}

    def close(self) -> None:
        subprocess.run(["gpgconf", "--homedir", str(self._home), "--kill", "all"], check=False, timeout=60)
