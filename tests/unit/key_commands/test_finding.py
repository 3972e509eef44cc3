"""Tests of `relay/key_commands/finding.py`."""

from __future__ import annotations

from dataclasses import replace

import click
import pytest

from relay.config import load
from relay.key_commands.finding import known, wanted_by
from relay.key_commands.opening import run
from relay.message import Address, Certificate
from tests.unit.key_commands.desk import BOB, Desk
from tests.unit.keys.certs import cert, fingerprint

NAME = "0123456789ABCDEF0123456789ABCDEF01234567"


def _known(desk: Desk, address: Address | None, name: str) -> tuple[list[Certificate], list[str]]:
    return run(known(load(desk.config, {}), address, name))


@pytest.mark.parametrize("text", [NAME, NAME.lower(), f"0x{NAME}", f"0X{NAME}", f" {NAME[:8]} {NAME[8:]}"])
def test_wanted_by_reads_a_fingerprint_as_people_write_it(text: str) -> None:
    """With blanks, in any letter case, and with a prefix."""
    assert (None, NAME) == wanted_by(text)


def test_wanted_by_reads_an_address() -> None:
    """Anything with an @."""
    assert (BOB.key, "") == ((wanted := wanted_by("Bob@Example.com"))[0] and wanted[0].key, wanted[1])


@pytest.mark.parametrize("text", ["", "bob", NAME[:16], f"{NAME}0", "@", "bob@"])
def test_wanted_by_anything_else_is_a_usage_error(text: str) -> None:
    """A mistyped name must not look like a key that is not there."""
    with pytest.raises(click.BadParameter):
        wanted_by(text)


def test_known_of_an_address_has_each_copy_once(desk: Desk) -> None:
    """Local, cached, pinned and pending; a pin that is still in its source is not told twice."""
    local, cached, pinned, pending = (cert("bob@example.com") for _ in range(4))
    desk.put("bob.pgp", local)
    desk.web.keep(BOB, cached)
    desk.pin(cached)
    first, _ = _known(desk, BOB, "")
    desk.pin(pinned)
    desk.wait(pending)
    second, failures = _known(desk, BOB, "")

    assert [(local, "folder"), (cached, "web")] == [(each.data, each.source) for each in first]
    assert [(pinned, "web (pinned)"), (pending, "dns (waiting)")] == [
        (each.data, each.source) for each in second[2:]
    ]
    assert [] == failures


def test_known_of_a_damaged_pin_is_a_certificate_all_the_same(desk: Desk) -> None:
    """The judge says what is wrong with it."""
    pin = desk.pin(cert("bob@example.com"))
    desk.book.pins[BOB.key] = replace(pin, certificate=b"garbage")

    [found], _ = _known(desk, BOB, "")

    assert (b"garbage", pin.fingerprint, ()) == (found.data, found.fingerprint, found.user_ids)


def test_known_with_the_store_down_has_the_files(desk: Desk) -> None:
    """And a sentence about the rest."""
    data = cert("bob@example.com")
    desk.put("bob.pgp", data)
    desk.broken = "no such host"

    found, failures = _known(desk, None, fingerprint(data))

    assert ([data], ["the store cannot be used: no such host"]) == ([each.data for each in found], failures)
