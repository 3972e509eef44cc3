"""Tests of `relay/key_commands/listing.py`."""

from __future__ import annotations

import pytest

from relay.key_commands.listing import list_, show
from tests import keys
from tests.programs import require
from tests.unit.key_commands.desk import BOB, FOLDER, Desk
from tests.unit.keys.certs import cert, fingerprint


def test_list_has_a_line_for_each_address_with_its_verdict(local: Desk) -> None:
    """Sorted by address; usable and unusable ones, and a certificate that names no address."""
    both = cert("Bob <bob@example.com>", "a@example.com")
    nameless = cert("Nobody")
    local.put("1.pgp", both)
    local.put("2.pgp", keys.certificate("expired-primary").data)
    local.put("3.pgp", nameless)

    result = local.run(list_)

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
def test_list_with_an_unreadable_source_says_so(local: Desk) -> None:
    """A list that is not complete exits with 1 and names what is missing."""
    require("gpg")
    local.configure({**FOLDER, "ring": "{type: gnupg, home: keys}"})
    local.put("bob.pgp", cert("bob@example.com"))

    result = local.run(list_)

    assert 1 == result.exit_code
    assert "bob@example.com" in result.stdout
    assert "ring cannot be asked" in result.stderr


def test_show_by_address_and_by_fingerprint_gives_the_details(local: Desk) -> None:
    """Fingerprints may be written as people write them."""
    data = cert("Bob <bob@example.com>")
    local.put("bob.pgp", data)
    name = fingerprint(data)
    spaced = " ".join(name[at : at + 4] for at in range(0, 40, 4)).lower()

    results = [local.run(show, wanted) for wanted in ("BOB@example.com", name, spaced, f"0x{name}")]

    assert [0] * 4 == [result.exit_code for result in results]
    for result in results:
        assert name in result.output
        assert "Bob <bob@example.com>" in result.output
        assert "subkey" in result.output


@pytest.mark.parametrize(("wanted", "code"), [("nobody@example.com", 1), ("0" * 40, 1), ("@", 2)])
def test_show_of_nothing_exits_with_1(local: Desk, wanted: str, code: int) -> None:
    """What is not there is a problem that was found."""
    assert code == local.run(show, wanted).exit_code


@pytest.mark.parametrize("place", ["cached", "pinned", "waiting"])
def test_show_of_a_fingerprint_knows_what_is_remembered(desk: Desk, place: str) -> None:
    """`relay keys pending` names a fingerprint; this is how to see whose key it is before approving it."""
    data = cert("Bob <bob@example.com>")
    desk.web.keep(BOB, data if place == "cached" else cert("bob@example.com"))
    if place == "pinned":
        desk.pin(data)
    elif place == "waiting":
        desk.wait(data)

    result = desk.run(show, fingerprint(data))

    assert 0 == result.exit_code, result.output
    shown = dict(line.strip().split(maxsplit=1) for line in result.output.splitlines())
    source = {"cached": "web", "pinned": "web (pinned)", "waiting": "dns (waiting)"}[place]
    assert (fingerprint(data), source) == (shown["certificate"], shown["from"])
    assert "user id    Bob <bob@example.com>" in result.output


def test_show_with_the_store_down_shows_the_files_and_says_so(desk: Desk) -> None:
    """What lies on this machine needs no store."""
    data = cert("bob@example.com")
    desk.put("bob.pgp", data)
    desk.broken = "connection refused"

    result = desk.run(show, fingerprint(data))

    assert (1, "the store cannot be used: connection refused\n") == (result.exit_code, result.stderr)
    assert fingerprint(data) in result.stdout


def test_list_leaves_out_what_is_cached_unless_asked(desk: Desk) -> None:
    """`--cached` adds the answers of sources outside of this machine; the copies of one key are one line."""
    data = cert("bob@example.com")
    other = cert("carol@example.com")
    desk.put("bob.pgp", data)
    desk.web.keep(BOB, data)
    desk.dns.keep(keys.fixture("curve25519").address, other)

    plain, cached = desk.run(list_), desk.run(list_, "--cached")

    assert [0, 0] == [plain.exit_code, cached.exit_code], cached.output
    assert ["bob@example.com", fingerprint(data), "folder", "usable"] == plain.output.splitlines()[1].split()
    assert [
        ["bob@example.com", fingerprint(data), "folder,web", "usable"],
        ["curve25519@example.com", fingerprint(other), "dns", "not"],
    ] == [line.split()[:4] for line in cached.output.splitlines()[1:]]
    assert [] == desk.web.asked


def test_list_without_a_store_shows_the_local_certificates(desk: Desk) -> None:
    """A store that is down is in the way of what it holds, not of the files on this machine."""
    desk.broken = "connection refused"
    desk.put("bob.pgp", cert("bob@example.com"))

    plain, cached = desk.run(list_), desk.run(list_, "--cached")

    assert [0, 1] == [plain.exit_code, cached.exit_code]
    assert "bob@example.com" in plain.output
    assert "Error: the store cannot be used: connection refused\n" == cached.stderr


def test_show_of_an_address_includes_what_is_cached(desk: Desk) -> None:
    """What was found before is shown with its source; nobody is asked."""
    data = cert("bob@example.com")
    desk.web.keep(BOB, data)

    result = desk.run(show, "bob@example.com")

    assert 0 == result.exit_code, result.output
    assert [fingerprint(data), "web"] == [line.split()[-1] for line in result.output.splitlines()[:2]]
    assert [] == desk.web.asked
