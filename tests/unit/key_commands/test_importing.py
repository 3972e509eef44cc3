"""Tests of `relay/key_commands/importing.py` on real folders and a real keyring."""

from __future__ import annotations

import pysequoia
import pytest

from relay.key_commands.importing import import_
from relay.key_commands.listing import list_
from tests import keys
from tests.unit.key_commands.desk import Desk
from tests.unit.keys.certs import armored, cert, fingerprint, tsk


def test_import_into_a_folder_writes_a_file_named_by_the_fingerprint(local: Desk) -> None:
    """Every certificate of a file gets one of its own; the verdict is told."""
    first, second = armored("bob@example.com"), armored("carol@example.com")

    result = local.run(import_, local.upload(first + second))

    names = {fingerprint(first), fingerprint(second)}
    assert 0 == result.exit_code, result.output
    assert {f"{name}.pgp" for name in names} == {path.name for path in local.folder.iterdir()}
    assert all(f"{name} added to folder: usable" in result.output for name in names)


def test_import_of_an_older_copy_keeps_the_revocation(local: Desk) -> None:
    """A copy without the revocation stands beside the one that has it, so the verdict stays."""
    key = tsk("bob@example.com")
    public = key.extract_certificate()
    data = bytes(public)
    length = len(bytes(next(iter(pysequoia.packet.PacketPile.from_bytes(data)))))
    revocation = bytes(public.revoke(certifier=key.certifier()))
    revoked = data[:length] + revocation + data[length:]

    results = [local.run(import_, local.upload(copy)) for copy in (revoked, data)]
    listed = local.run(list_)

    assert [0, 0] == [result.exit_code for result in results]
    assert 1 == listed.output.count("bob@example.com")
    assert "not usable: revoked" in listed.output


def test_import_of_an_unusable_certificate_says_why(local: Desk) -> None:
    """It is added, because it may be the revocation of another copy, and the verdict is told."""
    result = local.run(import_, local.upload(keys.certificate("expired-primary").data))

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
def test_import_of_anything_else_adds_nothing(local: Desk, data: bytes, reason: str) -> None:
    """One bad file among good ones, and nothing is added at all."""
    good = local.root / "good.pgp"
    good.write_bytes(cert("carol@example.com"))

    result = local.run(import_, good, local.upload(data))

    assert 1 == result.exit_code
    assert reason in result.output
    assert [] == list(local.folder.iterdir())


def test_import_beside_a_broken_file_of_that_name_is_refused(local: Desk) -> None:
    """A file that cannot be read is not overwritten: nobody knows what it holds."""
    data = cert("bob@example.com")
    path = local.put(f"{fingerprint(data)}.pgp", b"garbage")

    result = local.run(import_, local.upload(data))

    assert 1 == result.exit_code
    assert b"garbage" == path.read_bytes()


@pytest.mark.system
def test_import_into_a_keyring_is_found_there(ring: Desk) -> None:
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
def test_import_into_another_users_keyring_is_refused(ring: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """gpg would leave a keyring that the relay's user cannot read."""
    monkeypatch.setattr("os.geteuid", lambda: 65534)

    result = ring.run(import_, "--into", "ring", ring.upload(cert("bob@example.com")))

    assert 1 == result.exit_code
    assert "run this command as that user" in result.output


@pytest.mark.system
def test_import_of_version_6_into_a_keyring_says_where_it_belongs(ring: Desk) -> None:
    """GnuPG does not know it; nothing of the file, and nothing of a good one before it, is added."""
    good = ring.root / "good.pgp"
    good.write_bytes(cert("carol@example.com"))
    v6 = keys.certificate("v6").data

    refused = ring.run(import_, "--into", "ring", good, ring.upload(v6))
    taken = ring.run(import_, "--into", "folder", ring.upload(v6))

    assert [1, 0] == [refused.exit_code, taken.exit_code], taken.output
    assert "GnuPG does not know version 6 certificates; import it into a source of type directory" in (
        refused.stderr
    )
    assert ring.home is not None
    assert [] == list(ring.home.glob("pubring*"))


def test_import_counts_only_local_sources(desk: Desk) -> None:
    """One folder beside sources outside of this machine needs no --into, and these take nothing."""
    upload = desk.upload(cert("bob@example.com"))

    outside, found = desk.run(import_, "--into", "web", upload), desk.run(import_, upload)

    assert [2, 0] == [outside.exit_code, found.exit_code]
    assert "web lies outside of this machine" in outside.stderr
    assert 1 == len(list(desk.folder.iterdir()))
