"""Tests of `relay/key_commands/publishing.py`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from relay.key_commands.publishing import publish, wkd_hash
from relay.key_commands.wkdtree import path_of
from tests import keys
from tests.unit.key_commands.desk import Desk
from tests.unit.keys.certs import cert


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "www"


def _published(root: Path, *addresses: str) -> list[bool]:
    return [path_of(root, address).exists() for address in addresses]


def test_wkd_hash_prints_the_hash_and_both_urls() -> None:
    """The example of the draft (§3.1), with the local part as it was typed."""
    result = CliRunner().invoke(wkd_hash, ["Joe.Doe@Example.ORG", "joe.doe@example.org"])

    assert 0 == result.exit_code, result.output
    name = "iy9q119eutrkn8s1mk4r39qejnbu3n5q"
    assert [
        f"Joe.Doe@Example.ORG {name}",
        f"  https://openpgpkey.example.org/.well-known/openpgpkey/example.org/hu/{name}?l=Joe.Doe",
        f"  https://example.org/.well-known/openpgpkey/hu/{name}?l=Joe.Doe",
        f"joe.doe@example.org {name}",
    ] == result.output.splitlines()[:4]


def test_wkd_hash_of_no_address_exits_with_2() -> None:
    """Nothing is printed that looks like an answer."""
    assert 2 == CliRunner().invoke(wkd_hash, ["joe"]).exit_code


def test_wkd_hash_of_an_address_without_a_domain_exits_with_2() -> None:
    """`openpgpkey.[192.0.2.1]` is no host; a URL with it would send somebody on a search."""
    result = CliRunner().invoke(wkd_hash, ["joe@[192.0.2.1]"])

    assert (2, "") == (result.exit_code, result.stdout)
    assert "joe@[192.0.2.1] has no domain" in result.stderr


def test_publish_writes_the_addresses_of_the_named_domains(local: Desk, root: Path) -> None:
    """Every address of a certificate, and those of partners only if their domain is named."""
    local.put("1.pgp", cert("bob@example.com", "robert@example.com"))
    local.put("2.pgp", cert("carol@partner.example"))

    result = local.run(publish, "--wkd", root, "--domain", "Example.COM")

    assert 0 == result.exit_code, result.output
    assert "example.com: addresses published: 2; files written: 2, removed: 0\n" == result.stdout
    assert [True, True, False] == _published(
        root, "bob@example.com", "robert@example.com", "carol@partner.example"
    )


def test_publish_without_a_domain_writes_all(desk: Desk, root: Path) -> None:
    """Of the local sources: what others publish is theirs."""
    desk.put("1.pgp", cert("bob@example.com"))
    desk.put("2.pgp", cert("carol@partner.example"))
    desk.web.keep(keys.fixture("curve25519").address, keys.certificate("curve25519").data)
    desk.broken = "the store is not needed"

    result = desk.run(publish, "--wkd", root)

    assert 0 == result.exit_code, result.output
    assert [True, True, False] == _published(
        root, "bob@example.com", "carol@partner.example", "curve25519@example.com"
    )


def test_publish_tells_what_it_leaves_out(local: Desk, root: Path) -> None:
    """A certificate that is not usable, with the reason."""
    expired = keys.fixture("expired-primary")
    local.put("1.pgp", expired.certificate.data)
    local.put("2.pgp", cert("bob@example.com"))

    result = local.run(publish, "--wkd", root)

    assert 0 == result.exit_code, result.output
    assert [
        f"{expired.address}: {expired.certificate.fingerprint} is not published: {expired.verdict}",
        "example.com: addresses published: 1; files written: 1, removed: 0",
    ] == result.stdout.splitlines()
    assert [False, True] == _published(root, str(expired.address), "bob@example.com")


def test_publish_removes_an_address_whose_certificate_is_gone(local: Desk, root: Path) -> None:
    """The last one of a domain needs the domain to be named."""
    bob, carol = local.put("1.pgp", cert("bob@example.com")), local.put("2.pgp", cert("carol@example.com"))
    local.put("3.pgp", cert("dave@example.org"))
    local.run(publish, "--wkd", root)

    bob.unlink()
    first = local.run(publish, "--wkd", root)
    carol.unlink()
    second = local.run(publish, "--wkd", root)
    third = local.run(publish, "--wkd", root, "--domain", "example.com")

    assert "example.com: addresses published: 1; files written: 0, removed: 1" in first.stdout
    assert "example.com" not in second.stdout
    assert "example.com: addresses published: 0; files written: 0, removed: 1\n" == third.stdout
    assert [False, False, True] == _published(
        root, "bob@example.com", "carol@example.com", "dave@example.org"
    )


@pytest.mark.parametrize("fault", ["broken file", "no folder", "empty folder"])
def test_publish_with_an_unreadable_source_changes_nothing(local: Desk, root: Path, fault: str) -> None:
    """A disk that is not there must not take everybody's key off the web."""
    local.put("1.pgp", cert("bob@example.com"))
    local.put("2.pgp", cert("carol@example.com"))
    assert 0 == local.run(publish, "--wkd", root).exit_code
    if fault == "broken file":
        local.put("1.pgp", b"garbage")
    else:
        shutil.rmtree(local.folder)
    if fault == "empty folder":
        local.folder.mkdir()

    result = local.run(publish, "--wkd", root, "--domain", "example.com")

    assert 1 == result.exit_code
    assert "" != result.stderr
    assert [True, True] == _published(root, "bob@example.com", "carol@example.com")


def test_publish_of_a_mistyped_domain_makes_no_folder(local: Desk, root: Path) -> None:
    """It is said, with exit code 1; the other domains are published."""
    local.put("1.pgp", cert("bob@example.com"))

    result = local.run(publish, "--wkd", root, "--domain", "exmaple.com", "--domain", "example.com")

    assert 1 == result.exit_code
    assert "exmaple.com: no local source has a certificate for an address there\n" == result.stderr
    assert ["example.com"] == [path.name for path in (root / ".well-known/openpgpkey").iterdir()]


def test_publish_where_nothing_can_be_written_says_so(local: Desk, root: Path) -> None:
    """One line with the place."""
    local.put("1.pgp", cert("bob@example.com"))
    root.mkdir()
    (root / ".well-known").write_bytes(b"")

    result = local.run(publish, "--wkd", root)

    assert 1 == result.exit_code
    assert f"Error: {root / '.well-known'}" in result.stderr


def test_publish_of_version_6_does_not_depend_on_the_engine(local: Desk, root: Path) -> None:
    """We may encrypt with GnuPG; who reads the directory may have something newer."""
    local.put("1.pgp", keys.certificate("v6").data)
    local.config.write_text(local.config.read_text() + "engine: gnupg\n")

    result = local.run(publish, "--wkd", root)

    assert 0 == result.exit_code, result.output
    assert [True] == _published(root, "v6@example.com")
