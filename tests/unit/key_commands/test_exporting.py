"""Tests of `relay/key_commands/exporting.py`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from relay.key_commands.exporting import armored, export
from relay.keys.index import parse
from tests import keys
from tests.programs import require
from tests.unit.key_commands.desk import BOB, Desk, certificate
from tests.unit.keys.certs import cert, fingerprint


def _exported(text: str) -> list[bytes]:
    return [found.data for found in parse(text.encode(), "")]


def test_export_of_an_address_has_what_is_known_anywhere(desk: Desk) -> None:
    """Local, cached, pinned and pending, each once."""
    local, cached, pinned, pending = (cert("bob@example.com") for _ in range(4))
    desk.put("bob.pgp", local)
    desk.web.keep(BOB, cached, local)
    desk.pin(pinned)
    desk.wait(pending)

    result = desk.run(export, "bob@example.com")

    assert 0 == result.exit_code, result.output
    assert [local, cached, pinned, pending] == _exported(result.stdout)
    assert [] == desk.web.asked


@pytest.mark.parametrize("place", ["folder", "cached", "pinned", "pending"])
def test_export_of_a_fingerprint_finds_it_in_every_place(desk: Desk, place: str) -> None:
    """The pin of an address of which something is cached, too."""
    wanted, other = cert("bob@example.com"), cert("bob@example.com")
    desk.web.keep(BOB, wanted if place == "cached" else other)
    if place == "folder":
        desk.put("bob.pgp", wanted)
    elif place == "pinned":
        desk.pin(wanted)
    elif place == "pending":
        desk.wait(wanted)
    name = fingerprint(wanted)

    result = desk.run(export, f"0x{name[:4]} {name[4:]}")

    assert [wanted] == _exported(result.stdout)


def test_export_of_nothing_exits_with_1(desk: Desk) -> None:
    """Standard output stays empty, so that a pipe imports nothing."""
    result = desk.run(export, "bob@example.com")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "no source that can be read has a certificate for bob@example.com\n" == result.stderr


def test_export_works_with_local_sources_alone(local: Desk) -> None:
    """No store is opened."""
    data = cert("bob@example.com")
    local.put("bob.pgp", data)
    local.broken = "must not be opened"

    assert [data] == _exported(local.run(export, "bob@example.com").stdout)


@pytest.mark.system
@pytest.mark.parametrize("padding", ["", "b", "bb"])
def test_armored_is_read_by_gnupg(tmp_path: Path, padding: str) -> None:
    """Whatever the length is modulo three, and without a complaint."""
    gpg = require("gpg")
    data = cert(f"bob{padding}@example.com")

    shown = subprocess.run(
        [gpg, "--homedir", tmp_path, "--batch", "--with-colons", "--show-keys"],
        input=armored(certificate(data)).encode(),
        capture_output=True,
        check=True,
    )

    assert f"fpr:::::::::{fingerprint(data)}:" in shown.stdout.decode()
    assert b"rror" not in shown.stderr
    assert b"CRC" not in shown.stderr


def test_armored_has_a_checksum_for_version_4_only() -> None:
    """It must not follow a version 6 key (RFC 9580 §6.1)."""
    texts = [armored(keys.certificate(name)) for name in ("curve25519", "v6")]

    assert [True, False] == [text.splitlines()[-2].startswith("=") for text in texts]
    assert [keys.certificate(name).data for name in ("curve25519", "v6")] == [
        _exported(text)[0] for text in texts
    ]
