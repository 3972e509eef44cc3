"""The contract of `relay.seams.KeySource`, kept by every local source."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pysequoia
import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.directory import DirectorySource
from relay.keys.gnupg import GnupgSource
from tests.fakes import FixedClock, ListJournal
from tests.programs import require
from tests.unit.keys.certs import cert, fingerprint, tsk


class Folder:
    """A `directory` source and its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FixedClock()
        self.source: DirectorySource | GnupgSource = DirectorySource("local", root, self.clock, ListJournal())

    def put(self, certificate: bytes) -> None:
        (self.root / f"{fingerprint(certificate)}.pgp").write_bytes(certificate)

    def take(self, certificate: bytes) -> None:
        (self.root / f"{fingerprint(certificate)}.pgp").unlink()

    def break_down(self) -> None:
        self.root.rename(self.root.with_name("elsewhere"))


class Keyring:
    """A `gnupg` source and its home."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.chmod(0o700)
        self.clock = FixedClock()
        self.source: DirectorySource | GnupgSource = GnupgSource("local", root, self.clock, ListJournal())
        self._gpg("--list-keys")

    def _gpg(self, *arguments: str, stdin: bytes = b"") -> None:
        command = [require("gpg"), "--batch", "--quiet", "--yes", "--homedir", str(self.root), *arguments]
        subprocess.run(command, input=stdin, check=True, capture_output=True)

    def put(self, certificate: bytes) -> None:
        self._gpg("--import", stdin=certificate)

    def take(self, certificate: bytes) -> None:
        self._gpg("--delete-keys", fingerprint(certificate))

    def break_down(self) -> None:
        (self.root / "pubring.kbx").write_bytes(b"garbage")


Place = Folder | Keyring


@pytest.fixture(params=[Folder, pytest.param(Keyring, marks=pytest.mark.system)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param is Keyring:
        require("gpg")
    root = Path(tempfile.mkdtemp(prefix="keys-"))  # short: GnuPG's sockets end at 107 characters
    yield request.param(root)
    shutil.rmtree(root, ignore_errors=True)
    shutil.rmtree(root.with_name("elsewhere"), ignore_errors=True)


async def _found(place: Place, address: str) -> list[str]:
    return sorted(found.fingerprint for found in await place.source.find(parse_mailbox(address)))


@pytest.mark.parametrize(
    ("user_id", "asked"),
    [
        ("Bob <bob@example.com>", "bob@example.com"),
        ("bob@example.com", "BOB@EXAMPLE.COM"),
        ("<Bob@Example.com>", '"bob"@example.com.'),
        ("Bob <bob@bücher.example>", "bob@xn--bcher-kva.example"),
        ("Bob <bob@xn--bcher-kva.example>", "bob@Bücher.example"),
    ],
)
async def test_find_of_a_named_address_is_the_certificate(place: Place, user_id: str, asked: str) -> None:
    """An address is found whatever its case, quoting and domain form, in every shape of User ID."""
    bob = cert(user_id)
    place.put(bob)

    found = await place.source.find(parse_mailbox(asked))

    assert [fingerprint(bob)] == [certificate.fingerprint for certificate in found]
    assert ["local"] == [certificate.source for certificate in found]
    assert bob == bytes(pysequoia.Cert.from_bytes(found[0].data))
    assert (user_id,) == found[0].user_ids


@pytest.mark.parametrize(
    "asked",
    ["ob@example.com", "bob@example.co", "xbob@example.com", "bob+tag@example.com", "bob@mail.example.com"],
)
async def test_find_of_a_similar_address_is_nothing(place: Place, asked: str) -> None:
    """Substrings, sub-addresses and sub-domains are other addresses; "none" is an empty list."""
    place.put(cert("Bob <bob@example.com>", "bob@example.com.evil.example"))

    assert [] == await _found(place, asked)


async def test_find_with_several_certificates_gives_all(place: Place) -> None:
    """Every certificate of an address is given, and every address of a certificate finds it."""
    one, two = cert("Bob <bob@example.com>", "bob@work.example"), cert("bob@example.com")
    place.put(one)
    place.put(two)

    assert sorted([fingerprint(one), fingerprint(two)]) == await _found(place, "bob@example.com")
    assert [fingerprint(one)] == await _found(place, "bob@work.example")
    assert {fingerprint(one), fingerprint(two)} == {found.fingerprint for found in await place.source.all()}


async def test_find_gives_expired_and_revoked_certificates(place: Place) -> None:
    """What may not be used is found all the same: the judge says why."""
    revoked = tsk("bob@example.com")
    public = revoked.extract_certificate()
    revocation = bytes(public.revoke(certifier=revoked.certifier()))
    primary = next(iter(pysequoia.packet.PacketPile.from_bytes(bytes(public))))
    length = len(bytes(primary))
    data = bytes(public)[:length] + revocation + bytes(public)[length:]
    place.put(data)

    assert [fingerprint(data)] == await _found(place, "bob@example.com")


async def test_find_after_a_change_sees_it(place: Place) -> None:
    """Certificates that come and go are seen a second later without a restart."""
    bob, carol = cert("bob@example.com"), cert("carol@example.com")
    place.put(bob)
    await _found(place, "bob@example.com")
    place.put(carol)
    place.take(bob)
    place.clock.advance(1.1)

    assert [] == await _found(place, "bob@example.com")
    assert [fingerprint(carol)] == await _found(place, "carol@example.com")


async def test_load_sees_a_change_at_once(place: Place) -> None:
    """Start-up and HUP do not wait for a second to pass."""
    await place.source.load()
    bob = cert("bob@example.com")
    place.put(bob)

    await place.source.load()

    assert [fingerprint(bob)] == await _found(place, "bob@example.com")


async def test_find_fingerprint_is_exact(place: Place) -> None:
    """A fingerprint finds its certificate; a part of one, or an empty one, finds nothing."""
    bob = cert("bob@example.com")
    place.put(bob)
    name = fingerprint(bob)

    assert [name] == [found.fingerprint for found in await place.source.find_fingerprint(name)]
    assert [] == await place.source.find_fingerprint(name[-16:])
    assert [] == await place.source.find_fingerprint("")


async def test_find_while_broken_is_unavailable_not_none(place: Place) -> None:
    """When the place of the keys cannot be read, nothing is answered, not even what was read before."""
    place.put(cert("bob@example.com"))
    await _found(place, "bob@example.com")
    place.break_down()
    place.clock.advance(1.1)

    for address in ("bob@example.com", "unknown@example.com"):
        with pytest.raises(KeySourceUnavailable):
            await _found(place, address)
    for ask in (place.source.all, place.source.load):
        with pytest.raises(KeySourceUnavailable):
            await ask()


async def test_find_where_the_place_never_existed_is_unavailable(place: Place) -> None:
    """A path that is wrong, or a volume that is not mounted, is not an absence of keys."""
    missing = os.fspath(place.root / "missing")
    place.source = type(place.source)("local", Path(missing), place.clock, ListJournal())

    with pytest.raises(KeySourceUnavailable, match="missing"):
        await _found(place, "bob@example.com")


async def test_find_in_an_empty_place_is_nothing(place: Place) -> None:
    """No certificate at all is an ordinary beginning."""
    assert [] == await _found(place, "bob@example.com")
