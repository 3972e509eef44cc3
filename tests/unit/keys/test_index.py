"""Tests of `relay/keys/index.py`."""

from __future__ import annotations

import asyncio

import pysequoia
import pytest

from relay.errors import KeySourceUnavailable
from relay.keys.index import Refresher, parse
from relay.mime.packets import Malformed
from tests.fakes import FixedClock
from tests.unit.keys.certs import armored, cert, fingerprint, tsk


def test_parse_armour_and_binary_are_alike() -> None:
    """Armoured and binary files, with several blocks and several certificates in one, give all of them."""
    first, second, third = cert("a@x.example"), cert("b@x.example"), cert("c@x.example")
    texts = [str(pysequoia.Cert.from_bytes(data)).encode() for data in (first, second)]
    both = pysequoia.armor(first + second, pysequoia.ArmorKind.PublicKey)
    expected = [fingerprint(data) for data in (first, second, third)]

    assert expected == [found.fingerprint for found in parse(first + second + third, "folder")]
    assert expected[:2] == [found.fingerprint for found in parse(b"Bob's keys:\n\n" + b"\n".join(texts), "")]
    assert expected[:2] == [found.fingerprint for found in parse(both.encode(), "")]
    assert expected[:1] == [found.fingerprint for found in parse(b"\xef\xbb\xbf" + texts[0], "")]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(tsk("bob@example.com").extract_certificate())[:-20], "packet ends at"),
        (bytes(tsk("bob@example.com")), "secret key"),
        (armored("bob@example.com")[:-40], "without an END line"),
        (b"", "no OpenPGP certificate"),
        (b"hello", "no OpenPGP certificate"),
        (b"-----BEGIN PGP MESSAGE-----\n\nwcA=\n-----END PGP MESSAGE-----\n", "MESSAGE"),
    ],
)
def test_parse_of_anything_else_is_refused(data: bytes, reason: str) -> None:
    """A file that is cut short, secret or no key at all is never an empty list."""
    with pytest.raises(Malformed, match=reason):
        parse(data, "folder")


def test_parse_of_an_armoured_secret_key_is_refused() -> None:
    """Armour does not hide a secret key."""
    text = pysequoia.armor(bytes(tsk("bob@example.com")), pysequoia.ArmorKind.SecretKey).encode()

    with pytest.raises(Malformed, match="secret key"):
        parse(text, "folder")


class _Reading:
    """A refresh that waits until it is told to end."""

    def __init__(self) -> None:
        self.runs: list[bool] = []
        self.go = asyncio.Event()
        self.error: Exception | None = None

    async def __call__(self, everything: bool) -> None:
        self.runs.append(everything)
        await self.go.wait()
        if self.error:
            raise self.error


async def test_refresher_with_many_lookups_runs_once() -> None:
    """Lookups at the same time share one run; within a second of it none is begun, after it one is."""
    clock, reading = FixedClock(), _Reading()
    refresher = Refresher(reading, clock)
    reading.go.set()

    await asyncio.gather(*(refresher.fresh() for _ in range(10)))
    clock.advance(0.9)
    await refresher.fresh()
    early = list(reading.runs)
    clock.advance(0.2)
    await refresher.fresh()

    assert [False] == early
    assert [False, False] == reading.runs


async def test_refresher_cancelled_lookup_does_not_end_the_run() -> None:
    """A client that goes away takes nothing from the others who wait for the same run."""
    reading = _Reading()
    refresher = Refresher(reading, FixedClock())
    first, second = asyncio.create_task(refresher.fresh()), asyncio.create_task(refresher.fresh())
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    first.cancel()
    reading.go.set()
    await second

    assert first.cancelled()
    assert [False] == reading.runs


async def test_refresher_failure_is_repeated_until_the_next_run() -> None:
    """A source that could not be read stays unavailable, and is tried again a second later."""
    clock, reading = FixedClock(), _Reading()
    refresher = Refresher(reading, clock)
    reading.go.set()
    reading.error = KeySourceUnavailable("broken")

    for _ in range(2):
        with pytest.raises(KeySourceUnavailable, match="broken"):
            await refresher.fresh()
    reading.error = None
    clock.advance(1.1)
    await refresher.fresh()

    assert 2 == len(reading.runs)


async def test_refresher_after_a_bug_is_unavailable() -> None:
    """An unforeseen exception is seen by who waits, and leaves no state that reads as "no key"."""
    reading = _Reading()
    refresher = Refresher(reading, FixedClock())
    reading.go.set()
    reading.error = ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        await refresher.fresh()

    with pytest.raises(KeySourceUnavailable):
        await refresher.fresh()


async def test_refresher_that_hangs_is_unavailable() -> None:
    """A lookup waits only so long; the run goes on and serves the next one."""
    reading = _Reading()
    refresher = Refresher(reading, FixedClock(), patience_seconds=0.01)

    with pytest.raises(KeySourceUnavailable, match="takes over"):
        await refresher.fresh()
    reading.go.set()
    await asyncio.sleep(0)
    await refresher.fresh()

    assert [False] == reading.runs


async def test_refresher_anew_reads_everything_after_the_present_run() -> None:
    """HUP never makes do with a run that began before it."""
    reading = _Reading()
    refresher = Refresher(reading, FixedClock())
    running = asyncio.create_task(refresher.fresh())
    await asyncio.sleep(0)
    hup = asyncio.create_task(refresher.anew())
    await asyncio.sleep(0)

    reading.go.set()
    await asyncio.gather(running, hup)

    assert [False, True] == reading.runs
