"""Tests of `relay/key_commands/expiry.py`."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from relay.key_commands.collection import NO_ADDRESS, Judged
from relay.key_commands.expiry import as_dict, ending_by, expiring
from relay.message import Certificate, Verdict
from tests import keys
from tests.unit.key_commands.desk import Desk
from tests.unit.keys.certs import cert

NOW = datetime(2026, 6, 1, tzinfo=UTC)
UNTIL = NOW + timedelta(days=30)


def _entry(name: str, days: int | None, *, usable: bool = True, address: str = "bob@example.com") -> Judged:
    expires = None if days is None else NOW + timedelta(days=days)
    certificate = Certificate(b"", name * 40, (address,), "folder")
    sentence = "usable" if usable else "revoked"
    return Judged(address, Verdict(certificate, usable, sentence, expires=expires), ("folder",))


@pytest.mark.parametrize(
    ("entries", "names"),
    [
        ([_entry("A", None)], ""),
        ([_entry("A", 31)], ""),
        ([_entry("A", 30)], "A"),
        ([_entry("A", 1), _entry("B", None)], "A"),
        ([_entry("A", None, usable=False)], "A"),
        ([_entry("A", None, usable=False), _entry("B", None)], ""),
        ([_entry("A", None, usable=False), _entry("B", 5)], "AB"),
        ([_entry("A", None, usable=False), _entry("B", None, address="carol@example.com")], "A"),
        ([_entry("A", None, usable=False, address=NO_ADDRESS), _entry("B", None, address=NO_ADDRESS)], "A"),
    ],
)
def test_ending_by_names_what_needs_care(entries: list[Judged], names: str) -> None:
    """What ends soon, and what has ended unless the address has a better one."""
    assert list(names) == [entry.verdict.certificate.fingerprint[0] for entry in ending_by(entries, UNTIL)]


def test_as_dict_has_every_key_of_its_contract() -> None:
    """Programs find when and why."""
    found = as_dict(30, [_entry("A", 1), _entry("B", None, usable=False)], ["web is down"])

    assert {
        "days": 30,
        "certificates": [
            {
                "address": "bob@example.com",
                "fingerprint": "A" * 40,
                "sources": ["folder"],
                "usable": True,
                "sentence": "usable",
                "expires": "2026-06-02T00:00:00+00:00",
            },
            {
                "address": "bob@example.com",
                "fingerprint": "B" * 40,
                "sources": ["folder"],
                "usable": False,
                "sentence": "revoked",
                "expires": None,
            },
        ],
        "failures": ["web is down"],
    } == found


def test_expiring_looks_at_local_and_at_cached_certificates(desk: Desk) -> None:
    """Exit code 1 for cron; nobody is asked."""
    local, kept = keys.fixture("expired-primary"), keys.fixture("revoked-primary")
    desk.put("1.pgp", local.certificate.data)
    desk.put("2.pgp", cert("bob@example.com"))
    desk.web.keep(kept.address, kept.certificate.data)

    result, parsed = desk.run(expiring), json.loads(desk.run(expiring, "--json").stdout)

    assert 1 == result.exit_code
    assert [
        f"{local.address} {local.certificate.fingerprint} folder: not usable: {local.verdict}",
        f"{kept.address} {kept.certificate.fingerprint} web: not usable: {kept.verdict}",
    ] == result.stdout.splitlines()
    assert [["folder"], ["web"]] == [entry["sources"] for entry in parsed["certificates"]]
    assert [] == desk.web.asked


def test_expiring_of_nothing_is_silent(desk: Desk) -> None:
    """So that cron sends no mail."""
    desk.put("2.pgp", cert("bob@example.com"))

    result = desk.run(expiring, "--days", "365")

    assert (0, "") == (result.exit_code, result.output)


def test_expiring_in_more_days_than_a_calendar_has_is_a_usage_error(desk: Desk) -> None:
    """No trace of Python."""
    result = desk.run(expiring, "--days", "9999999999")

    assert 2 == result.exit_code
    assert "9999999999 is not in the range" in result.stderr


def test_expiring_with_an_unreadable_file_is_a_problem(desk: Desk) -> None:
    """What is not known cannot be said to last."""
    desk.folder.rename(desk.root / "elsewhere")
    desk.folder.symlink_to(desk.root / "elsewhere")
    (desk.root / "elsewhere").rename(desk.root / "gone")

    result = desk.run(expiring)

    assert 1 == result.exit_code
    assert "" != result.stderr
