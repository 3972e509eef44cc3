"""The contract of every engine; what one writes, another implementation reads."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import EncryptionFailed
from relay.message import Verdict
from relay.mime import armor, packets
from relay.openpgp.choosing import ByKey
from relay.openpgp.gnupg import GnupgEngine
from relay.openpgp.judge import Judge
from relay.openpgp.sequoia import IN_PROCESS_OCTETS, SequoiaEngine
from tests.fakes import FixedClock
from tests.keys import FIXTURES, Fixture
from tests.unit.openpgp.parties import Parties

pytestmark = pytest.mark.system

Engine = SequoiaEngine | GnupgEngine | ByKey
Make = Callable[..., Engine]
Read = Callable[[bytes], bytes]

_LARGE = 8_000_000
"""Takes every engine long enough to be interrupted."""


async def _make(name: str, home: Path, **limits: float) -> Engine:
    if name == "sequoia":
        return SequoiaEngine(**limits)  # type: ignore[arg-type]  # numbers by name
    if name == "by key":
        return ByKey(await asyncio.to_thread(GnupgEngine, home), SequoiaEngine())
    return await asyncio.to_thread(GnupgEngine, home, **limits)  # type: ignore[arg-type]  # numbers by name


@pytest.fixture(params=["sequoia", "gnupg"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def engine(name: str, tmp_path: Path) -> AsyncIterator[Engine]:
    made = await _make(name, tmp_path)
    yield made
    await made.close()


@pytest.fixture
def read(name: str, parties: Parties) -> Read:
    """Decrypts with the other implementation."""
    return parties.read_with_gpg if name == "sequoia" else parties.read_with_sequoia


def _binary(message: bytes) -> bytes:
    [block] = armor.blocks(message)
    return block.data


def _octets(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@pytest.mark.parametrize(
    "size", [0, 1, 2, 2048, IN_PROCESS_OCTETS - 1, IN_PROCESS_OCTETS, IN_PROCESS_OCTETS + 1, 5_000_000]
)
async def test_encrypt_any_size_is_read_by_the_other(
    engine: Engine, read: Read, parties: Parties, size: int
) -> None:
    """Every size arrives byte for byte, on both sides of the border between process and worker."""
    plaintext = _octets(size)

    message = await engine.encrypt(plaintext, (parties.verdicts["curve"],))

    assert read(message) == plaintext


@given(plaintext=st.binary(max_size=400))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_encrypt_any_octets_are_read_by_the_other(
    engine: Engine, read: Read, parties: Parties, plaintext: bytes
) -> None:
    """No octet is changed: no line end, no NUL, nothing that is not text."""
    message = await engine.encrypt(plaintext, (parties.verdicts["rsa"],))

    assert plaintext == read(message)


@pytest.mark.parametrize("reader", ["curve", "rsa", "double"])
async def test_encrypt_several_recipients_each_can_read(
    engine: Engine, parties: Parties, reader: str
) -> None:
    """One message, and every recipient alone can open it."""
    message = await engine.encrypt(b"for all", tuple(parties.verdicts.values()))
    alone = Parties(parties.home, {reader: parties.verdicts[reader]})

    assert b"for all" == alone.read_with_sequoia(message)


@pytest.mark.parametrize("names", [["curve"], ["double"], ["rsa", "double"], ["curve", "rsa", "double"]])
async def test_encrypt_session_keys_are_for_exactly_the_chosen_subkeys(
    engine: Engine, parties: Parties, names: list[str]
) -> None:
    """One PKESK v3 per chosen subkey, no password, one SEIPD v1: for keys that announce nothing newer."""
    verdicts = tuple(parties.verdicts[each] for each in names)
    intended = sorted(subkey.key_id for verdict in verdicts for subkey in verdict.subkeys)

    outside = packets.encrypted_message(_binary(await engine.encrypt(b"text", verdicts)))

    assert intended == sorted(outside.pkesk_ids)
    assert ({3}, 0, 1) == (set(outside.pkesk_versions), outside.passwords, outside.seipd_version)


async def test_encrypt_same_certificate_twice_has_one_session_key_packet(
    engine: Engine, parties: Parties
) -> None:
    """The message does not tell that two of its recipients share a key."""
    curve = parties.verdicts["curve"]

    outside = packets.encrypted_message(_binary(await engine.encrypt(b"text", (curve, curve))))

    assert (curve.subkeys[0].key_id,) == outside.pkesk_ids


@pytest.mark.parametrize("size", [0, 100, IN_PROCESS_OCTETS + 1])
async def test_encrypt_armour_is_canonical(engine: Engine, parties: Parties, size: int) -> None:
    """P-04, P-12, P-13, P-27: one block, CRLF, seven bits, short lines, no header."""
    message = await engine.encrypt(_octets(size), (parties.verdicts["curve"],))

    [block] = armor.blocks(message)
    assert (0, len(message), "MESSAGE") == (block.start, block.end, block.label)
    assert ((), True) == (block.headers, block.has_checksum)  # v1: gpg 2.2 needs it
    assert message.endswith(b"\r\n-----END PGP MESSAGE-----\r\n")
    assert message.isascii()
    assert message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n")
    assert max(len(line) for line in message.split(b"\r\n")) <= 76


async def test_encrypt_inside_is_a_plain_literal(engine: Engine, parties: Parties) -> None:
    """P-14, P-15: the encrypted data hold one literal packet, binary and without name; no compression."""
    message = await engine.encrypt(b"aaaa" * 1000, (parties.verdicts["curve"],))

    listing = parties.gpg("--list-packets", stdin=message).decode()
    tags = re.findall(r"^# off=\d+ ctb=\S+ tag=(\d+)", listing, re.MULTILINE)
    assert ["1", "18", "11"] == tags
    assert "mode b" in listing
    assert 'name=""' in listing


async def test_encrypt_same_text_twice_has_fresh_session_keys(engine: Engine, parties: Parties) -> None:
    """P-21: copies of one message do not share their session key."""
    curve = (parties.verdicts["curve"],)
    copies = [await engine.encrypt(b"text", curve) for _ in range(2)]

    shown = [parties.gpg("--show-session-key", "--status-fd=1", "-d", stdin=copy) for copy in copies]

    keys = [re.search(rb"SESSION_KEY (\S+)", text) for text in shown]
    assert all(keys)
    assert keys[0] and keys[1] and keys[0][1] != keys[1][1]


@pytest.mark.parametrize("size", [10, IN_PROCESS_OCTETS + 1])
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: (), id="nobody"),
        pytest.param(lambda good: (good, replace(good, usable=False)), id="not usable"),
        pytest.param(lambda good: (replace(good, reduced=b"garbage"),), id="garbage"),
        pytest.param(lambda good: (replace(good, reduced=good.reduced[:-20]),), id="cut off"),
        pytest.param(lambda good: (replace(good, reduced=_primary_only(good)),), id="no subkey"),
        pytest.param(lambda good: (replace(good, reduced=_flipped(good.reduced)),), id="forged binding"),
    ],
)
async def test_encrypt_bad_certificate_raises(
    engine: Engine, parties: Parties, spoil: Callable[[Verdict], tuple[Verdict, ...]], size: int
) -> None:
    """Whatever is wrong with the certificates, there is no message at all, and the engine lives on."""
    good = parties.verdicts["curve"]

    with pytest.raises(EncryptionFailed):
        await engine.encrypt(_octets(size), spoil(good))

    assert await engine.encrypt(_octets(size), (good,))


def _primary_only(verdict: Verdict) -> bytes:
    """Up to the first subkey."""
    subkey = next(p for p in packets.walk(verdict.reduced) if p.tag == packets.PUBLIC_SUBKEY)
    return verdict.reduced[: subkey.start]


def _flipped(certificate: bytes) -> bytes:
    """One bit of the last signature, that of the subkey binding, is wrong."""
    return certificate[:-5] + bytes([certificate[-5] ^ 1]) + certificate[-4:]


@pytest.mark.parametrize("size", [2048, IN_PROCESS_OCTETS + 1])
async def test_encrypt_eight_at_once_each_gets_its_own(
    engine: Engine, read: Read, parties: Parties, size: int
) -> None:
    """Answers are never mixed up between messages that run at the same time."""
    texts = [_octets(size + index) for index in range(8)]

    messages = await asyncio.gather(*(engine.encrypt(text, (parties.verdicts["curve"],)) for text in texts))

    assert texts == [read(message) for message in messages]


async def test_encrypt_cancelled_the_next_message_is_its_own(
    engine: Engine, read: Read, parties: Parties
) -> None:
    """A cancelled message leaves nothing behind that could be taken for the next one's answer."""
    curve = (parties.verdicts["curve"],)
    for delay_seconds in (0.0, 0.005, 0.03):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay_seconds):
                await engine.encrypt(_octets(_LARGE), curve)

    assert b"x" * 300_000 == read(await engine.encrypt(b"x" * 300_000, curve))


async def test_encrypt_too_slow_raises(name: str, tmp_path: Path, parties: Parties) -> None:
    """A message that takes too long is a temporary refusal."""
    engine = await _make(name, tmp_path, timeout_seconds=0.001)
    try:
        with pytest.raises(EncryptionFailed, match="longer"):
            await engine.encrypt(_octets(_LARGE), (parties.verdicts["curve"],))
    finally:
        await engine.close()


async def test_encrypt_too_many_waiting_raises(name: str, tmp_path: Path, parties: Parties) -> None:
    """The line is bounded: of three large messages with one turn and one place to wait one is refused."""
    limit = {"workers": 1} if name == "sequoia" else {"processes": 1}
    engine = await _make(name, tmp_path, max_waiting=1, **limit)
    try:
        outcomes = await asyncio.gather(
            *(engine.encrypt(_octets(300_000), (parties.verdicts["curve"],)) for _ in range(3)),
            return_exceptions=True,
        )
    finally:
        await engine.close()

    assert [bytes, bytes, EncryptionFailed] == [type(outcome) for outcome in outcomes]


async def test_close_in_the_middle_fails_the_message(engine: Engine, parties: Parties) -> None:
    """Closing ends what runs, as a failure, soon."""
    started = time.monotonic()
    message = asyncio.create_task(engine.encrypt(_octets(_LARGE), (parties.verdicts["curve"],)))
    await asyncio.sleep(0)

    await engine.close()

    with pytest.raises(EncryptionFailed):
        await message
    assert time.monotonic() - started < 60


async def test_encrypt_after_close_raises(engine: Engine, parties: Parties) -> None:
    """A closed engine starts no process again."""
    await engine.close()

    with pytest.raises(EncryptionFailed):
        await engine.encrypt(_octets(300_000), (parties.verdicts["curve"],))


_REFUSED = {("gnupg", "v6"), ("gnupg", "pqc"), ("gnupg", "v6-no-features")}
"""Where the judge says yes and the engine no: GnuPG 2.2 and 2.4 know nothing of version 6."""


@pytest.mark.parametrize("name", ["sequoia", "gnupg", "by key"], indirect=True)
@pytest.mark.parametrize("fixture", [each for each in FIXTURES if each.usable], ids=lambda each: each.name)
async def test_encrypt_every_certificate_the_judge_accepts(
    engine: Engine, name: str, fixture: Fixture
) -> None:
    """What the judge calls usable the engine encrypts to, to exactly the subkeys that the judge chose."""
    [verdict] = Judge().judge([fixture.certificate], fixture.address, FixedClock().now())

    try:
        [block] = armor.blocks(await engine.encrypt(b"text", (verdict,)))
    except EncryptionFailed:
        assert (name, fixture.name) in _REFUSED
        return

    ids = packets.encrypted_message(block.data).pkesk_ids
    assert (name, fixture.name) not in _REFUSED
    assert sorted(subkey.key_id for subkey in verdict.subkeys) == sorted(ids)
