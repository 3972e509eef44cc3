"""Which engine does the work where GnuPG is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pysequoia
import pytest

from relay.errors import EncryptionFailed
from relay.message import Verdict
from relay.mime import armor, packets
from relay.openpgp.choosing import ByKey
from relay.openpgp.gnupg import GnupgEngine
from relay.openpgp.judge import Judge
from relay.openpgp.sequoia import IN_PROCESS_OCTETS, SequoiaEngine
from tests import keys
from tests.fakes import FixedClock

pytestmark = pytest.mark.system


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ByKey]:
    made = ByKey(await asyncio.to_thread(GnupgEngine, tmp_path), SequoiaEngine())
    yield made
    await made.close()


def _verdicts(*names: str) -> tuple[Verdict, ...]:
    found = [keys.fixture(name) for name in names]
    now = FixedClock().now()
    return tuple(Judge().judge([each.certificate], each.address, now)[0] for each in found)


async def _encrypted(engine: ByKey, *names: str) -> bytes:
    [block] = armor.blocks(await engine.encrypt(b"text", _verdicts(*names)))
    return block.data


_OLD_FORMAT = 0b1000_0000
"""The first two bits of GnuPG's session key packets; pysequoia writes the new format (RFC 9580 §4.2)."""


@pytest.mark.parametrize(
    ("names", "with_gnupg"),
    [
        (["curve25519"], True),
        (["rsa3072", "no-features", "features-9"], True),
        (["v6"], False),
        (["pqc"], False),
        (["features-7"], False),
        (["curve25519", "v6-no-features"], False),
    ],
)
async def test_encrypt_is_done_by_gnupg_wherever_it_can(
    engine: ByKey, names: list[str], with_gnupg: bool
) -> None:
    """Who asks for GnuPG gets it, and owners of newer keys get their mail."""
    data = await _encrypted(engine, *names)

    assert with_gnupg is (data[0] & 0b1100_0000 == _OLD_FORMAT)


@pytest.mark.parametrize(("names", "version"), [(["v6"], 2), (["v6", "curve25519"], 1), (["features-7"], 1)])
async def test_encrypt_what_gnupg_cannot_is_read_by_everyone(
    engine: ByKey, names: list[str], version: int
) -> None:
    """P-16, P-19: one message, one version, never LibrePGP's container."""
    data = await _encrypted(engine, *names)

    assert version == packets.encrypted_message(data).seipd_version
    for name in names:
        secret = pysequoia.Tsk.from_bytes(keys.secret(name))
        assert b"text" == pysequoia.decrypt(data, secret.decryptor()).bytes


@pytest.mark.parametrize("name", ["curve25519", "v6"])
async def test_encrypt_after_close_raises(engine: ByKey, name: str) -> None:
    """Both engines are closed."""
    await engine.close()

    with pytest.raises(EncryptionFailed):
        await engine.encrypt(bytes(IN_PROCESS_OCTETS + 1), _verdicts(name))
