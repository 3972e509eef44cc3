"""Tests of `relay/key_commands/asking.py`."""

from __future__ import annotations

import asyncio
import json

import pytest

from relay.key_commands.asking import lookup
from relay.message import PinConflict
from tests import keys
from tests.unit.key_commands.desk import BOB, Desk
from tests.unit.keys.certs import cert, fingerprint

GOOD = cert("bob@example.com")


def test_lookup_asks_everyone_and_shows_each_answer(desk: Desk) -> None:
    """Also those behind a source that has a key; fresh answers and not those that are kept."""
    expired = keys.fixture("expired-primary")
    desk.put("1.pgp", expired.certificate.data)
    desk.web.keep(expired.address, cert("old@example.com"))
    desk.web.says[expired.address.key] = []
    desk.dns.says[expired.address.key] = [GOOD]

    result = desk.run(lookup, str(expired.address))

    assert 0 == result.exit_code, result.output
    lines = [line.strip().split(maxsplit=1) for line in result.output.splitlines() if line.strip()]
    said = {value.split()[0]: lines[at + 1][1] for at, (name, value) in enumerate(lines) if name == "source"}
    assert {"folder": "1 certificate", "web": "no certificate", "dns": "1 certificate"} == said
    assert ["verdict", "not usable: expired on 2025-03-01"] in lines
    assert ["verdict", f"not usable: has no User ID <{expired.address}>"] in lines
    assert "dns (trust dnssec, " in result.output
    assert ["outcome", "refused; nothing is sent"] in lines


def test_lookup_says_which_source_the_rule_leaves_out(desk: Desk) -> None:
    """Else "refused, no key is known" stands below a usable key."""
    desk.config.write_text(desk.config.read_text().replace("[folder, web, dns]", "[folder, web]"))
    desk.dns.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "bob@example.com")

    headings = [line for line in result.stdout.splitlines() if line.startswith("source")]
    assert [False, False, True] == ["; the rule does not name it)" in heading for heading in headings]
    assert "because  policy.default decides" in result.stdout


def test_lookup_of_nothing_is_an_answer(desk: Desk) -> None:
    """That no source has a key was found out; it is no failure."""
    result = desk.run(lookup, "nobody@example.com")

    assert 0 == result.exit_code, result.output
    assert 3 == result.output.count("no certificate")


def test_lookup_with_a_dead_source_shows_the_others(desk: Desk) -> None:
    """Its failure has a line, the exit code is 1, and what another one says is there."""
    desk.web.down = "502 \x1b[31mfrom the server"
    desk.dns.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "bob@example.com")

    assert 1 == result.exit_code
    assert "web cannot be asked: 502 \N{REPLACEMENT CHARACTER}[31mfrom the server\n" == result.stderr
    assert fingerprint(GOOD) in result.stdout
    assert "\x1b" not in result.output


def test_lookup_does_not_wait_for_a_source_that_hangs(desk: Desk) -> None:
    """It fails after `limits.lookup_seconds`; the others are asked side by side with it."""
    desk.config.write_text(desk.config.read_text() + "limits: {lookup_seconds: 1s}\n")
    desk.web.hangs = True
    desk.dns.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "bob@example.com")

    assert 1 == result.exit_code
    assert "web cannot be asked: no answer within 1 seconds" in result.stderr
    assert fingerprint(GOOD) in result.stdout


def test_lookup_asks_side_by_side(desk: Desk) -> None:
    """Each of the two sources answers only while the other one is asked, too."""
    desk.web.meets = desk.dns.meets = asyncio.Barrier(2)

    result = desk.run(lookup, "nobody@example.com")

    assert 0 == result.exit_code, result.output


def test_lookup_pins_nothing(desk: Desk) -> None:
    """It says what would be chosen; the first key is pinned by the first message."""
    desk.web.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "bob@example.com")

    assert 0 == result.exit_code, result.output
    assert f"encrypted to {fingerprint(GOOD)}" in result.output
    assert ({}, {}) == (desk.book.pins, desk.book.keys)


def test_lookup_tells_of_a_changed_key_what_to_type(desk: Desk) -> None:
    """The pin, the conflict, and the commands that decide it."""
    desk.pin(cert("bob@example.com"))
    pinned = desk.book.pins[BOB.key].fingerprint
    desk.web.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "bob@example.com")

    assert f"{pinned}, since 2026-05-01, from web (trust wkd)" in result.output
    assert f"relay keys approve bob@example.com {fingerprint(GOOD)}" in result.output
    assert f"relay keys reject bob@example.com {fingerprint(GOOD)}" in result.output


def test_lookup_of_one_source_asks_no_other(desk: Desk) -> None:
    """`--source` limits; the pin is shown, and no rule is asked, because it would need the others."""
    desk.pin(GOOD)
    desk.web.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "--source", "web", "--json", "bob@example.com")

    found = json.loads(result.stdout)
    assert (["bob@example.com"], []) == (desk.web.asked, desk.dns.asked)
    assert ["web"] == [source["name"] for source in found["sources"]]
    assert (None, fingerprint(GOOD)) == (found["explanation"], found["pin"]["fingerprint"])


def test_lookup_as_json_has_every_key_of_its_contract(desk: Desk) -> None:
    """Programs find each source with trust, time and certificates, the pin, and the rule's decision."""
    desk.pin(cert("bob@example.com"))
    desk.web.says[BOB.key] = [GOOD]
    desk.dns.down = "SERVFAIL"

    result = desk.run(lookup, "--json", "bob@example.com")

    found = json.loads(result.stdout)
    assert 1 == result.exit_code
    assert {"address", "sources", "pin", "explanation", "problems"} == set(found)
    folder, web, dns = found["sources"]
    assert {"name", "trust", "milliseconds", "found", "failure", "certificates"} == set(folder)
    assert ("manual", "wkd", "dnssec") == (folder["trust"], web["trust"], dns["trust"])
    assert ("SERVFAIL", 0) == (dns["failure"], dns["found"])
    [known] = web["certificates"]
    assert (fingerprint(GOOD), True, None) == (known["fingerprint"], known["usable"], known["expires"])
    assert "held" == PinConflict(found["explanation"]["conflict"]["kind"]).value


def test_lookup_with_the_store_down_in_the_middle_says_so(desk: Desk) -> None:
    """What the sources said is shown; that the pin is not known is a failure."""
    desk.book.down = True
    desk.web.says[BOB.key] = [GOOD]

    result = desk.run(lookup, "bob@example.com")

    assert 1 == result.exit_code
    assert fingerprint(GOOD) in result.stdout
    assert "which key was used before is not known: the store cannot be read: the store is down" in (
        result.stderr
    )


@pytest.mark.parametrize("arguments", [["nonsense"], ["--source", "nowhere", "bob@example.com"]])
def test_lookup_of_nonsense_exits_with_2(desk: Desk, arguments: list[str]) -> None:
    """No address, or a source that is not configured; nobody is asked."""
    assert 2 == desk.run(lookup, *arguments).exit_code
    assert [] == desk.web.asked
