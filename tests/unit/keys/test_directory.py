"""Tests of `relay/keys/directory.py` beyond the contract of all sources."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.directory import DirectorySource, with_certificate
from relay.keys.index import parse
from tests import keys
from tests.fakes import FixedClock, ListJournal
from tests.unit.keys.certs import armored, cert, fingerprint, tsk

BOB = parse_mailbox("bob@example.com")
CAROL = parse_mailbox("carol@example.com")
NOBODY = parse_mailbox("nobody@example.com")


class Place:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.clock = FixedClock()
        self.journal = ListJournal()
        self.source = DirectorySource("folder", root, self.clock, self.journal, grace_seconds=60)

    def later(self, seconds: float = 1.1) -> None:
        self.clock.advance(seconds)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("name", ["a.asc", "b.pgp", "c.gpg", "d.key", "e.pub", "F.ASC", "deep/er/g.asc"])
async def test_find_in_every_kind_of_file_succeeds(place: Place, name: str) -> None:
    """All usual suffixes count, in sub-folders too, armoured or binary whatever the suffix."""
    file = place.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(armored("bob@example.com") + armored("carol@example.com"))

    assert 1 == len(await place.source.find(BOB))
    assert 1 == len(await place.source.find(CAROL))


@pytest.mark.parametrize("name", ["bob.txt", "bob.asc~", ".bob.asc", "..data/bob.asc", "README"])
async def test_find_ignores_what_is_none_of_ours(place: Place, name: str) -> None:
    """Backups, hidden files and other suffixes neither count nor break anything."""
    file = place.root / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"not a key")

    assert [] == await place.source.find(BOB)


async def test_find_follows_links_of_a_mounted_volume(place: Place, tmp_path: Path) -> None:
    """Files that are links into a hidden folder, as Kubernetes mounts them, are read; loops end."""
    (place.root / "..2026").mkdir()
    (place.root / "..2026" / "bob.asc").write_bytes(armored("bob@example.com"))
    (place.root / "..data").symlink_to("..2026")
    (place.root / "bob.asc").symlink_to("..data/bob.asc")
    (place.root / "again").symlink_to(tmp_path)

    assert 1 == len(await place.source.find(BOB))


async def test_find_of_the_file_name_gives_the_certificate_without_that_user_id(place: Place) -> None:
    """A file named by an address answers for it, so that the judge can say what is wrong with it."""
    other = cert("Robert <robert@example.com>")
    (place.root / "Bob@Example.com.asc").write_bytes(other)

    assert [fingerprint(other)] == [found.fingerprint for found in await place.source.find(BOB)]


async def test_half_written_file_serves_its_last_good_certificates(place: Place) -> None:
    """While a file is being written its addresses keep their certificates, and others are unavailable."""
    file = place.root / "team.asc"
    file.write_bytes(cert("bob@example.com"))
    await place.source.load()
    file.write_bytes(cert("bob@example.com")[:100])
    place.later()

    assert 1 == len(await place.source.find(BOB))
    with pytest.raises(KeySourceUnavailable, match=r"team\.asc may hold the key"):
        await place.source.find(NOBODY)


async def test_file_that_stays_broken_makes_its_addresses_unavailable(place: Place) -> None:
    """After the grace period a broken file's certificates serve no longer, and are not "none"."""
    file = place.root / "team.asc"
    data = cert("bob@example.com")
    file.write_bytes(data)
    (place.root / "carol.asc").write_bytes(cert("carol@example.com"))
    await place.source.load()
    file.write_bytes(data[:100])
    place.later()
    await place.source.find(BOB)
    place.later(61)

    with pytest.raises(KeySourceUnavailable, match=r"team\.asc"):
        await place.source.find(BOB)
    with pytest.raises(KeySourceUnavailable, match=r"team\.asc"):
        await place.source.find_fingerprint(fingerprint(data))
    assert 1 == len(await place.source.find(CAROL))


async def test_broken_file_that_is_repaired_serves_again(place: Place) -> None:
    """A repair is seen without a restart; breaking and repairing are each reported once."""
    file = place.root / "team.asc"
    file.write_bytes(cert("bob@example.com")[:100])
    with pytest.raises(KeySourceUnavailable):
        await place.source.find(BOB)
    place.later()
    with pytest.raises(KeySourceUnavailable):
        await place.source.find(BOB)
    file.write_bytes(cert("bob@example.com"))
    place.later()

    assert 1 == len(await place.source.find(BOB))
    assert [] == await place.source.find(NOBODY)
    names = place.journal.names()
    assert [1, 1] == [names.count("key_file_broken"), names.count("key_file_repaired")]


async def test_file_never_good_hides_nobody(place: Place) -> None:
    """It may hold anyone's key: an address without another certificate is unavailable, others are served."""
    (place.root / "a.asc").write_bytes(b"")
    (place.root / "carol.asc").write_bytes(cert("carol@example.com"))

    with pytest.raises(KeySourceUnavailable, match=r"a\.asc"):
        await place.source.find(BOB)
    with pytest.raises(KeySourceUnavailable, match=r"a\.asc"):
        await place.source.find_fingerprint("0" * 40)
    assert 1 == len(await place.source.find(CAROL))
    assert ["a.asc: it holds no OpenPGP certificate"] == [
        problem.removeprefix(f"{place.root}/") for problem in await place.source.problems()
    ]


async def test_file_never_good_named_by_an_address_makes_it_unavailable(place: Place) -> None:
    """Even where another file has a certificate: the broken one may be its revocation."""
    (place.root / "bob@example.com.asc").write_bytes(b"")
    (place.root / "old.asc").write_bytes(cert("bob@example.com"))

    with pytest.raises(KeySourceUnavailable, match="bob@example"):
        await place.source.find(BOB)


async def test_removed_file_takes_its_addresses_along(place: Place) -> None:
    """Removing a file, broken or not, is how an admin says that its keys are gone."""
    file = place.root / "team.asc"
    file.write_bytes(cert("bob@example.com"))
    await place.source.load()
    file.write_bytes(b"broken")
    place.later()
    await place.source.find(BOB)
    file.unlink()
    place.later()

    assert [] == await place.source.find(BOB)


async def test_secret_key_is_refused_and_reported(place: Place) -> None:
    """A secret key is never used and never ignored; no key material reaches the journal."""
    (place.root / "bob.asc").write_bytes(bytes(tsk("bob@example.com")))

    with pytest.raises(KeySourceUnavailable, match="secret key"):
        await place.source.find(BOB)
    events = dict(place.journal.events)
    assert "it holds a secret key; export the public key alone" == events["key_file_broken"]["problem"]


@pytest.mark.parametrize("kind", ["fifo", "dangling", "large"])
async def test_odd_files_are_broken_and_do_not_hang(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pipes, dead links and oversized files are reported instead of read."""
    odd = place.root / "odd.asc"
    if kind == "fifo":
        os.mkfifo(odd)
    elif kind == "dangling":
        odd.symlink_to("nowhere")
    else:
        monkeypatch.setattr("relay.keys.directory._MAX_FILE_BYTES", 1000)
        odd.write_bytes(b"x" * 1001)

    with pytest.raises(KeySourceUnavailable, match=r"odd\.asc"):
        await place.source.find(BOB)


async def test_too_many_files_are_unavailable(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder past the bound is not read in part."""
    monkeypatch.setattr("relay.keys.directory._MAX_FILES", 3)
    for number in range(4):
        (place.root / f"{number}.asc").write_bytes(cert("bob@example.com"))

    with pytest.raises(KeySourceUnavailable, match="more than 3 files"):
        await place.source.find(BOB)


async def test_unreadable_folder_is_unavailable(place: Place) -> None:
    """A sub-folder that cannot be looked into makes the source unavailable, not smaller."""
    (place.root / "sub").symlink_to("sub")  # without permission is the usual case, but not for root

    with pytest.raises(KeySourceUnavailable, match="sub"):
        await place.source.find(BOB)


async def test_unchanged_file_is_not_read_again(place: Place) -> None:
    """A file that did not change is recognised by its stamp: the certificates stay the same objects."""
    (place.root / "bob.asc").write_bytes(cert("bob@example.com"))
    [before] = await place.source.find(BOB)
    (place.root / "carol.asc").write_bytes(cert("carol@example.com"))
    place.later()
    [after] = await place.source.find(BOB)

    assert before is after
    assert 2 == place.journal.names().count("keys_read")


async def test_replaced_file_of_same_size_and_time_is_read_again(place: Place) -> None:
    """A copy that keeps the old modification time is noticed all the same."""
    one, two = cert("bob@example.com"), cert("bob@example.com")
    file = place.root / "bob.pgp"
    file.write_bytes(one)
    times = file.stat()
    await place.source.load()
    copy = file.with_suffix(".new")
    copy.write_bytes(two)
    os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))
    copy.replace(file)
    place.later()

    assert fingerprint(two) in {found.fingerprint for found in await place.source.find(BOB)}


@pytest.mark.slow
async def test_ten_thousand_certificates_load_in_reasonable_time(place: Place) -> None:
    """10 000 files are loaded within seconds, and looking again costs a fraction of that."""
    template = cert("Person <person00000@example.com>")
    for number in range(10_000):
        data = template.replace(b"person00000", f"person{number:05}".encode())
        (place.root / f"{number}.pgp").write_bytes(data)

    await place.source.load()

    assert 10_000 == len(await place.source.all())
    assert 1 == len(await place.source.find(parse_mailbox("person09999@example.com")))


def test_with_certificate_keeps_the_copy_that_is_there() -> None:
    """A second, different copy stands beside the first; the same one is not added twice."""
    one, two = (parse(cert("bob@example.com"), "")[0] for _ in range(2))
    first = with_certificate(b"", one)
    both = with_certificate(first, two)

    assert one.data == first
    assert one.data + two.data == both
    assert both == with_certificate(both, two)


async def test_every_fixture_key_is_found_by_its_address(place: Place) -> None:
    """Whatever version, algorithm or oddity a certificate has, it reaches the judge and breaks nothing."""
    for fixture in keys.FIXTURES:
        shutil.copy(keys.FOLDER / f"{fixture.name}.pgp", place.root)

    found = {fixture.name: await place.source.find(fixture.address) for fixture in keys.FIXTURES}

    assert [] == await place.source.problems()
    missed = {name for name, certificates in found.items() if not certificates}
    assert {"wrong-user-id"} == missed
