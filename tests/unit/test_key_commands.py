"""Tests of `relay/key_commands.py` on real folders and a real keyring."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pysequoia
import pytest
from click.testing import CliRunner, Result

from relay.key_commands import import_, list_, show
from tests import keys
from tests.programs import require
from tests.unit.keys.certs import armored, cert, fingerprint, tsk

_CONFIG = """\
hostname: relay.example.com
listen:
  - {{address: "127.0.0.1:0", tls: none}}
auth: {{type: none}}
next_hop: {{address: "127.0.0.1:2525", tls: none}}
keys:
{sources}
policy:
  default: {{keys: [folder]}}
"""
_FOLDER = "  folder: {type: directory, path: keys}\n"


class Setup:
    """A configuration, its folder of keys, and the commands on them."""

    def __init__(self, root: Path, home: Path | None = None) -> None:
        self.root = root
        self.folder = root / "keys"
        self.folder.mkdir()
        self.config = root / "relay.yaml"
        keyring = f"  ring: {{type: gnupg, home: {home}}}\n" if home else ""
        self.config.write_text(_CONFIG.format(sources=_FOLDER + keyring))

    def put(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(data)
        return path

    def upload(self, data: bytes) -> Path:
        path = self.root / "upload.asc"
        path.write_bytes(data)
        return path

    def run(self, command: object, *arguments: str | Path) -> Result:
        given = ["--config", str(self.config), *map(str, arguments)]
        return CliRunner().invoke(command, given)  # type: ignore[arg-type] # a click command


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Setup]:
    require("gpg")
    home = Path(tempfile.mkdtemp(prefix="gpg-"))  # short: GnuPG's sockets end at 107 characters
    yield Setup(tmp_path, home)
    shutil.rmtree(home, ignore_errors=True)


def test_list_has_a_line_for_each_address_with_its_verdict(setup: Setup) -> None:
    """Sorted by address; usable and unusable ones, and a certificate that names no address."""
    both = cert("Bob <bob@example.com>", "a@example.com")
    nameless = cert("Nobody")
    setup.put("1.pgp", both)
    setup.put("2.pgp", keys.certificate("expired-primary").data)
    setup.put("3.pgp", nameless)

    result = setup.run(list_)

    lines = [line.split(maxsplit=3) for line in result.output.splitlines()[1:]]
    assert 0 == result.exit_code
    assert [
        ["-", fingerprint(nameless), "folder", "usable"],
        ["a@example.com", fingerprint(both), "folder", "usable"],
        ["bob@example.com", fingerprint(both), "folder", "usable"],
        [
            "expired-primary@example.com",
            keys.certificate("expired-primary").fingerprint,
            "folder",
            "not usable: expired on 2025-03-01",
        ],
    ] == [[cell.strip() for cell in line] for line in lines]


@pytest.mark.system
def test_list_with_an_unreadable_source_says_so(setup: Setup) -> None:
    """A list that is not complete exits with 1 and names what is missing."""
    require("gpg")
    ring = "  ring: {type: gnupg, home: keys}\n"
    setup.config.write_text(_CONFIG.format(sources=_FOLDER + ring))
    setup.put("bob.pgp", cert("bob@example.com"))

    result = setup.run(list_)

    assert 1 == result.exit_code
    assert "bob@example.com" in result.stdout
    assert "ring cannot be asked" in result.stderr


def test_show_by_address_and_by_fingerprint_gives_the_details(setup: Setup) -> None:
    """Fingerprints may be written as people write them."""
    data = cert("Bob <bob@example.com>")
    setup.put("bob.pgp", data)
    name = fingerprint(data)
    spaced = " ".join(name[at : at + 4] for at in range(0, 40, 4)).lower()

    results = [setup.run(show, wanted) for wanted in ("BOB@example.com", name, spaced, f"0x{name}")]

    assert [0] * 4 == [result.exit_code for result in results]
    for result in results:
        assert name in result.output
        assert "Bob <bob@example.com>" in result.output
        assert "subkey" in result.output


@pytest.mark.parametrize(("wanted", "code"), [("nobody@example.com", 1), ("0" * 40, 1), ("@", 2)])
def test_show_of_nothing_exits_with_1(setup: Setup, wanted: str, code: int) -> None:
    """What is not there is a problem that was found."""
    assert code == setup.run(show, wanted).exit_code


def test_import_into_a_folder_writes_a_file_named_by_the_fingerprint(setup: Setup) -> None:
    """Every certificate of a file gets one of its own; the verdict is told."""
    first, second = armored("bob@example.com"), armored("carol@example.com")

    result = setup.run(import_, setup.upload(first + second))

    names = {fingerprint(first), fingerprint(second)}
    assert 0 == result.exit_code, result.output
    assert {f"{name}.pgp" for name in names} == {path.name for path in setup.folder.iterdir()}
    assert all(f"{name} added to folder: usable" in result.output for name in names)


def test_import_of_an_older_copy_keeps_the_revocation(setup: Setup) -> None:
    """A copy without the revocation stands beside the one that has it, so the verdict stays."""
    key = tsk("bob@example.com")
    public = key.extract_certificate()
    data = bytes(public)
    length = len(bytes(next(iter(pysequoia.packet.PacketPile.from_bytes(data)))))
    revocation = bytes(public.revoke(certifier=key.certifier()))
    revoked = data[:length] + revocation + data[length:]

    results = [setup.run(import_, setup.upload(copy)) for copy in (revoked, data)]
    listed = setup.run(list_)

    assert [0, 0] == [result.exit_code for result in results]
    assert 1 == listed.output.count("bob@example.com")
    assert "not usable: revoked" in listed.output


def test_import_of_an_unusable_certificate_says_why(setup: Setup) -> None:
    """It is added, because it may be the revocation of another copy, and the verdict is told."""
    result = setup.run(import_, setup.upload(keys.certificate("expired-primary").data))

    assert 0 == result.exit_code
    assert "not usable: expired on 2025-03-01" in result.output


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (bytes(tsk("bob@example.com")), "secret key"),
        (b"hello", "no OpenPGP certificate"),
        (b"", "no OpenPGP"),
    ],
)
def test_import_of_anything_else_adds_nothing(setup: Setup, data: bytes, reason: str) -> None:
    """One bad file among good ones, and nothing is added at all."""
    good = setup.root / "good.pgp"
    good.write_bytes(cert("carol@example.com"))

    result = setup.run(import_, good, setup.upload(data))

    assert 1 == result.exit_code
    assert reason in result.output
    assert [] == list(setup.folder.iterdir())


def test_import_beside_a_broken_file_of_that_name_is_refused(setup: Setup) -> None:
    """A file that cannot be read is not overwritten: nobody knows what it holds."""
    data = cert("bob@example.com")
    path = setup.put(f"{fingerprint(data)}.pgp", b"garbage")

    result = setup.run(import_, setup.upload(data))

    assert 1 == result.exit_code
    assert b"garbage" == path.read_bytes()


@pytest.mark.system
def test_import_into_a_keyring_is_found_there(ring: Setup) -> None:
    """gpg imports it into the home of the source; without --into two sources are one too many."""
    data = cert("Bob <bob@example.com>")
    upload = ring.upload(data)

    ambiguous = ring.run(import_, upload)
    unknown = ring.run(import_, "--into", "nowhere", upload)
    imported = ring.run(import_, "--into", "ring", upload)
    listed = ring.run(list_)

    assert [2, 2, 0, 0] == [result.exit_code for result in (ambiguous, unknown, imported, listed)]
    assert "folder, ring" in ambiguous.output
    assert ["bob@example.com", fingerprint(data), "ring", "usable"] == listed.output.splitlines()[1].split()


@pytest.mark.system
def test_import_into_another_users_keyring_is_refused(ring: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """gpg would leave a keyring that the relay's user cannot read."""
    monkeypatch.setattr("os.geteuid", lambda: 65534)

    result = ring.run(import_, "--into", "ring", ring.upload(cert("bob@example.com")))

    assert 1 == result.exit_code
    assert "run this command as that user" in result.output
