"""Sends messages through the line and opens, with the recipient's key, what left."""

from __future__ import annotations

import asyncio
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pysequoia

from relay.message import Outgoing, Sealed
from relay.mime import armor
from relay.openpgp.gnupg import GnupgEngine
from relay.openpgp.sequoia import SequoiaEngine
from tests import corpus, keys
from tests.line import ALICE, Line

FIXTURE = "curve25519"
"""The key of ALICE."""

_ROOT = re.compile(
    rb'Content-Type: multipart/mixed; boundary="(=_[0-9a-f]{38})";\r\n'
    rb'\tprotected-headers="v1"; hp="cipher"\r\n'
)
_HP_OUTER = re.compile(rb"HP-Outer:(?:\r\n)? ")

Fields = list[tuple[str, bytes]]


@dataclass(frozen=True)
class Arrived:
    """An encrypted copy beside what was submitted."""

    submitted: bytes
    sealed: Sealed
    plaintext: bytes

    @property
    def outer(self) -> Fields:
        """The outer fields without those of the relay itself: its Received in front, the container behind."""
        fields, _ = corpus.split(self.sealed.header)
        assert fields[0][1].startswith(b"Received: from client.example ")
        assert ["mime-version", "content-type"] == [name for name, _ in fields[-2:]]
        return fields[1:-2]

    @property
    def copied(self) -> Fields:
        """The fields of the payload root that were submitted."""
        return [field for field in self._root if field[0] != "hp-outer"]

    @property
    def recomputed(self) -> Fields:
        """The outer header as HP-Outer tells it (RFC 9788 §2.2)."""
        values = [_HP_OUTER.sub(b"", raw, count=1) for name, raw in self._root if name == "hp-outer"]
        return [field for value in values for field in corpus.split(value)[0]]

    @property
    def child(self) -> bytes:
        """The only part of the payload root."""
        header, _, body = self.plaintext.partition(b"\r\n\r\n")
        root = _ROOT.match(header)
        assert root, header[:200]
        before, behind = b"--" + root[1] + b"\r\n", b"\r\n--" + root[1] + b"--\r\n"
        assert body.startswith(before)
        assert body.endswith(behind)
        return body[len(before) : -len(behind)]

    @property
    def _root(self) -> Fields:
        root = _ROOT.match(self.plaintext)
        assert root, self.plaintext[:200]
        return corpus.split(self.plaintext[root.end() :])[0]


@cache
def arrived(name: str, engine: str = "sequoia") -> Arrived:
    """The message of the corpus with this name, sent once for all tests of a process."""
    return send(MESSAGES[name], engine)


def send(content: bytes, engine: str = "sequoia") -> Arrived:
    """What becomes of a message for ALICE. Raises what the line refuses it with."""
    sealed = outgoing(content, engine)
    assert isinstance(sealed, Sealed)
    return Arrived(content, sealed, decrypted(sealed.body))


def outgoing(content: bytes, engine: str = "sequoia") -> Outgoing:
    """The only copy that left."""
    with tempfile.TemporaryDirectory() as directory:
        # Outside of the loop, as the relay does it at its start: GnuPG's home is made here.
        chosen = GnupgEngine(Path(directory)) if engine == "gnupg" else SequoiaEngine(workers=1)
        return asyncio.run(_outgoing(content, chosen))


async def _outgoing(content: bytes, engine: GnupgEngine | SequoiaEngine) -> Outgoing:
    try:
        line = Line(engine)
        await line.send(content, ALICE)
        (copy,) = line.session.taken
        return copy
    finally:
        await engine.close()


def decrypted(body: bytes) -> bytes:
    """What the recipient reads in the only armoured block of a body."""
    (block,) = armor.blocks(body)
    secret = pysequoia.Tsk.from_bytes(keys.secret(FIXTURE))
    message = body[block.start : block.end]
    plaintext = pysequoia.decrypt(message, decryptor=secret.decryptor()).bytes
    assert plaintext is not None
    return plaintext


MESSAGES = dict(corpus.messages())
"""Every message of the corpus by its name."""
