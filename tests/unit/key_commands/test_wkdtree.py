"""Tests of `relay/key_commands/wkdtree.py`; the expected tree is the one that GnuPG's own tool makes."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pysequoia
import pytest

from relay.key_commands.wkdtree import Changes, Page, page, path_of, read, write
from relay.message import Address, Certificate, Verdict
from relay.mime.packets import certificates
from relay.openpgp.judge import Judge
from tests import keys
from tests.programs import require, unavailable
from tests.unit.key_commands.desk import certificate
from tests.unit.keys.certs import cert, fingerprint, tsk

NOW = datetime(2026, 6, 1, tzinfo=UTC)
BOB = "bob@example.com"


def _page(*data: bytes, before: bytes = b"", address: str = BOB) -> Page:
    copies = [certificate(each, "folder") for each in data]
    return page(address, copies, before, Judge(), NOW)


def _published(found: Page) -> list[Certificate]:
    return certificates(found.data, "") if found.data else []


def _files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def umask() -> Iterator[None]:
    """A strict one."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def _revoked(key: pysequoia.Tsk) -> bytes:
    public = key.extract_certificate()
    data = bytes(public)
    length = len(bytes(next(iter(pysequoia.packet.PacketPile.from_bytes(data)))))
    return data[:length] + bytes(public.revoke(certifier=key.certifier())) + data[length:]


# --------------------------------------------------------------------------- the content of a file


def test_page_has_nobody_elses_user_id() -> None:
    """What is asked for is one address; the others of its owner are nobody's business."""
    data = cert("Bob <bob@example.com>", "secret@example.com")

    found = page(BOB, [certificate(data)], b"", Judge(), datetime.now(UTC))

    assert [("Bob <bob@example.com>",)] == [known.user_ids for known in _published(found)]
    assert b"secret@example.com" not in found.data


def test_page_of_an_unusable_certificate_that_was_never_published_is_empty() -> None:
    """Nobody has it, so nobody has to learn of its end; it is told which one."""
    expired = keys.fixture("expired-primary")

    found = _page(expired.certificate.data, address=str(expired.address))

    assert b"" == found.data
    assert [expired.verdict] == [verdict.sentence for verdict in found.left_out]


@pytest.mark.parametrize("name", ["expired-primary", "revoked-primary"])
def test_page_keeps_what_was_published_before(name: str) -> None:
    """Whoever has fetched it must learn that it was revoked, or has expired."""
    fixture = keys.fixture(name)
    data = fixture.certificate.data

    found = _page(data, before=data, address=str(fixture.address))

    assert [fixture.certificate.fingerprint] == [known.fingerprint for known in _published(found)]
    assert () == found.left_out


def test_page_has_usable_certificates_first() -> None:
    """A reader that takes only one takes the right one."""
    old, new = tsk(BOB), cert(BOB)
    revoked = _revoked(old)
    copies = [certificate(revoked), certificate(new)]

    found = page(BOB, copies, revoked + new, Judge(), datetime.now(UTC))

    names = [known.fingerprint for known in _published(found)]
    assert [fingerprint(new), fingerprint(revoked)] == names


def test_page_has_every_copy_of_a_certificate() -> None:
    """The revocation may stand in the second one."""
    key = tsk(BOB)
    plain, revoked = bytes(key.extract_certificate()), _revoked(key)

    found = page(BOB, [certificate(plain), certificate(revoked)], plain, Judge(), datetime.now(UTC))

    assert {plain, revoked} == {known.data for known in _published(found)}


class LosesExpiry:
    """A judge of a certificate whose expiry stands in the signature of another User ID only."""

    def judge(self, copies: list[Certificate], address: Address | None, now: datetime) -> list[Verdict]:
        return [
            Verdict(copy, usable, "usable" if usable else "expired")
            for copy in copies
            for usable in [b"other@example.com" not in copy.data]
        ]


def test_page_does_not_make_an_expired_certificate_usable_by_cutting() -> None:
    """What the cut-off User ID says of the key counts all the same."""
    data = cert(BOB, "other@example.com")

    found = page(BOB, [certificate(data)], b"", LosesExpiry(), NOW)  # type: ignore[arg-type] # enough of one

    assert (b"", ["expired"]) == (found.data, [verdict.sentence for verdict in found.left_out])


def test_page_beside_garbage_begins_anew() -> None:
    """A damaged file tells nothing of what was published."""
    expired = keys.fixture("expired-primary")

    assert b"" == _page(expired.certificate.data, before=b"garbage", address=str(expired.address)).data


# --------------------------------------------------------------------------- the tree


@pytest.mark.usefixtures("umask")
def test_write_makes_a_tree_that_a_web_server_can_read(tmp_path: Path) -> None:
    """Whatever the umask: folders 0755, files 0644; with a policy file for the domain."""
    root = tmp_path / "www" / "keys"
    pages = {BOB: Page(b"data", ())}

    assert Changes(1, 0) == write(root, "example.com", pages)

    made = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    assert {0o755} == {mode for path, mode in made.items() if path.is_dir()}
    assert {0o644} == {mode for path, mode in made.items() if path.is_file()}
    base = ".well-known/openpgpkey/example.com"
    assert [f"{base}/hu/{path_of(root, BOB).name}", f"{base}/policy"] == _files(root)
    assert (b"data", b"") == (read(path_of(root, BOB)), (root / base / "policy").read_bytes())


def test_write_again_touches_nothing(tmp_path: Path) -> None:
    """So that a copy to the web server has nothing to copy; a policy of the administrator's stays."""
    pages = {BOB: Page(b"data", ())}
    write(tmp_path, "example.com", pages)
    policy = tmp_path / ".well-known/openpgpkey/example.com/policy"
    policy.write_text("protocol-version: 5\n")
    before = path_of(tmp_path, BOB).stat()

    assert Changes(0, 0) == write(tmp_path, "example.com", pages)

    after = path_of(tmp_path, BOB).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert "protocol-version: 5\n" == policy.read_text()


def test_write_removes_the_files_of_others_and_nothing_else(tmp_path: Path) -> None:
    """Only names of thirty-two characters of Z-Base-32, only files, only in `hu`, only of this domain."""
    write(tmp_path, "example.com", {BOB: Page(b"x", ()), "carol@example.com": Page(b"x", ())})
    write(tmp_path, "example.org", {"bob@example.org": Page(b"x", ())})
    hu = path_of(tmp_path, BOB).parent
    kept = ["y" * 31, "y" * 33, "l" * 32, "v" * 32, "0" * 32, "2" * 32, "Y" * 32, ".htaccess", "index.html"]
    for name in kept:
        (hu / name).write_bytes(b"")
    (hu / ("y" * 32)).mkdir()
    (hu.parent / ("y" * 32)).write_bytes(b"")

    changes = write(tmp_path, "example.com", {BOB: Page(b"x", ()), "carol@example.com": Page(b"", ())})

    assert Changes(0, 1) == changes
    assert {*kept, "y" * 32, path_of(tmp_path, BOB).name} == {path.name for path in hu.iterdir()}
    assert (hu.parent / ("y" * 32)).exists()
    assert path_of(tmp_path, "bob@example.org").exists()


def test_write_does_not_follow_a_link(tmp_path: Path) -> None:
    """What it leads to is none of ours."""
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    path = path_of(tmp_path, BOB)
    path.parent.mkdir(parents=True)
    path.symlink_to(target)

    write(tmp_path, "example.com", {BOB: Page(b"data", ())})

    assert (b"precious", b"data", False) == (target.read_bytes(), path.read_bytes(), path.is_symlink())


# --------------------------------------------------------------------------- beside GnuPG


def _gpg_wks_client() -> str:
    listed = subprocess.run(
        [require("gpgconf"), "--list-dirs", "libexecdir"], capture_output=True, text=True, check=True
    )
    path = Path(listed.stdout.strip()) / "gpg-wks-client"
    return str(path) if path.exists() else unavailable("gpg-wks-client is not installed")


@pytest.mark.system
def test_tree_is_the_one_that_gnupg_makes(tmp_path: Path) -> None:
    """The same names, and in each file what gpg reads as the same key with the same User ID."""
    client, gpg = _gpg_wks_client(), require("gpg")
    addresses = ["bob@example.com", "Bob.Builder+tag@example.com", "carol@xn--bcher-kva.example"]
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours" / ".well-known" / "openpgpkey"
    theirs.mkdir()
    for address in addresses:
        key, domain = address.lower(), address.partition("@")[2]
        data = cert(f"Somebody <{address}>", "other@example.org")
        upload = tmp_path / "upload"
        upload.write_bytes(data)
        (theirs / domain).mkdir(exist_ok=True)
        command = [client, "--directory", theirs, "--install-key", upload, address]
        done = subprocess.run(
            command, env={**os.environ, "GNUPGHOME": str(home)}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        found = page(key, [certificate(data)], b"", Judge(), datetime.now(UTC))
        write(ours.parent.parent, domain, {**_pages_of(ours, domain, addresses), key: found})

    names = [name for name in _files(ours) if not name.endswith("/policy")]
    assert [name for name in _files(theirs) if not name.endswith("/policy")] == names
    for name in names:
        assert _shown(gpg, home, theirs / name) == _shown(gpg, home, ours / name)


def _pages_of(base: Path, domain: str, addresses: list[str]) -> dict[str, Page]:
    """What was written so far for a domain."""
    root = base.parent.parent
    mine = [address.lower() for address in addresses if address.endswith(f"@{domain}")]
    return {key: Page(read(path_of(root, key)), ()) for key in mine}


def _shown(gpg: str, home: Path, file: Path) -> list[str]:
    done = subprocess.run(
        [gpg, "--homedir", home, "--batch", "--with-colons", "--show-keys", file],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()
