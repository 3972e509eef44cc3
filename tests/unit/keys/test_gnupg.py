"""Tests of `relay/keys/gnupg.py` beyond the contract of all sources."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.gnupg import GnupgSource, Gpg, add
from relay.keys.index import parse
from tests.fakes import FixedClock, ListJournal
from tests.programs import require
from tests.unit.keys.certs import cert, fingerprint

BOB = parse_mailbox("bob@example.com")


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="gpg-"))  # short: GnuPG's sockets end at 107 characters
    yield path
    shutil.rmtree(path, ignore_errors=True)


def _source(home: Path, program: str = "gpg", timeout_seconds: float = 30.0) -> GnupgSource:
    clock = FixedClock()
    return GnupgSource(
        "keyring", home, clock, ListJournal(), program=program, timeout_seconds=timeout_seconds
    )


def _script(folder: Path, text: str) -> str:
    """A program that stands in for gpg."""
    path = folder / "fake-gpg"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def _keyring(home: Path) -> None:
    (home / "pubring.kbx").write_bytes(b"x")


async def test_gpg_that_hangs_is_killed_with_its_children(home: Path, tmp_path: Path) -> None:
    """After the time-out the whole process group is gone and the source is unavailable."""
    _keyring(home)
    program = _script(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; wait")

    with pytest.raises(KeySourceUnavailable, match="took over"):
        await _source(home, program, timeout_seconds=1.0).find(BOB)

    child = int((tmp_path / "child").read_text())
    assert _ends(child)


def _ends(pid: int) -> bool:
    """Whether a process is gone or a zombie within some seconds."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("echo 'no such keyring' >&2; exit 2", "gpg failed with 2: no such keyring"),
        ("kill -9 $$", "gpg failed with -9"),
        ("printf garbage", "cannot be read"),
        ("cat /dev/zero | head -c 3000000", "more than 1000000 bytes"),
    ],
)
async def test_gpg_that_fails_is_unavailable(
    home: Path, tmp_path: Path, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure, a crash, nonsense and too much output are all "cannot tell"."""
    _keyring(home)
    monkeypatch.setattr("relay.keys.gnupg._MAX_EXPORT_BYTES", 1_000_000)

    with pytest.raises(KeySourceUnavailable, match=reason):
        await _source(home, _script(tmp_path, text)).find(BOB)


async def test_gpg_that_is_missing_is_unavailable(home: Path) -> None:
    """A machine without gpg has an unavailable source, not an empty one."""
    _keyring(home)

    with pytest.raises(KeySourceUnavailable, match="cannot be run"):
        await _source(home, "/nonexistent/gpg").find(BOB)


@pytest.mark.parametrize("size", [None, 0])
async def test_home_without_a_keyring_is_unavailable(home: Path, size: int | None) -> None:
    """An empty home, or an empty keybox, looks like a volume that is not mounted."""
    if size == 0:
        (home / "pubring.kbx").touch()

    with pytest.raises(KeySourceUnavailable, match=r"keyring|empty"):
        await _source(home).find(BOB)


async def test_unchanged_keyring_is_exported_once(home: Path, tmp_path: Path) -> None:
    """gpg is started again only when the files change, and never with an address in its arguments."""
    _keyring(home)
    data = tmp_path / "export.pgp"
    data.write_bytes(cert("bob@example.com"))
    clock = FixedClock()
    program = _script(tmp_path, f'echo "$@" >> {tmp_path}/calls; cat {data}')
    source = GnupgSource("keyring", home, clock, ListJournal(), program=program)

    for address in ("bob@example.com", "--version@example.com"):
        await source.find(parse_mailbox(address))
        clock.advance(2)
    calls = (tmp_path / "calls").read_text().splitlines()

    assert 1 == len(calls)
    assert {"--no-auto-key-locate", "--no-random-seed-file", "--batch", "--export"} <= set(calls[0].split())
    assert "@" not in calls[0]


async def test_changed_keyring_with_failing_gpg_does_not_serve_the_old_export(
    home: Path, tmp_path: Path
) -> None:
    """What changed may be a revocation: the old export is not used beside it."""
    _keyring(home)
    data = tmp_path / "export.pgp"
    data.write_bytes(cert("bob@example.com"))
    clock = FixedClock()
    source = GnupgSource(
        "keyring", home, clock, ListJournal(), program=_script(tmp_path, f"cat {data} || exit 2")
    )
    await source.find(BOB)
    data.unlink()
    (home / "pubring.kbx").write_bytes(b"xx")
    clock.advance(1.1)

    for _ in range(2):
        with pytest.raises(KeySourceUnavailable, match="gpg failed"):
            await source.find(BOB)
        clock.advance(1.1)


@pytest.mark.system
async def test_add_imports_and_merges(home: Path) -> None:
    """What `relay keys import` puts into a new home is found there, twice is once."""
    require("gpg")
    [bob] = parse(cert("Bob <bob@example.com>"), "")

    await add(Gpg(home), bob)
    await add(Gpg(home), bob)

    assert [bob.fingerprint] == [found.fingerprint for found in await _source(home).find(BOB)]


@pytest.mark.system
async def test_add_of_a_certificate_that_gpg_leaves_out_is_said(home: Path) -> None:
    """gpg imports nothing without a valid User ID: that is an error, not a success."""
    require("gpg")
    [broken] = parse(cert("Bob <bob@example.com>").replace(b"bob@", b"eve@"), "")

    with pytest.raises(KeySourceUnavailable):
        await add(Gpg(home), broken)

    assert fingerprint(broken.data) == broken.fingerprint
