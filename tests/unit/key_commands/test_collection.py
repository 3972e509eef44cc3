"""Tests of `relay/key_commands/collection.py`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.key_commands import collection
from relay.message import Certificate
from relay.openpgp.judge import Judge
from tests.unit.key_commands.desk import BOB, Desk, certificate
from tests.unit.keys.certs import cert, fingerprint


class Shelf:
    """A local source that is down."""

    name = "shelf"

    async def load(self) -> None:
        raise KeySourceUnavailable("no such volume")

    async def all(self) -> list[Certificate]:
        raise KeySourceUnavailable("no such volume")


async def test_ask_all_goes_on_past_a_source_that_is_down() -> None:
    """It is named, and what the others have is there."""
    found, failures = await collection.ask_all([Shelf(), Shelf()], lambda source: source.all())  # type: ignore[list-item] # enough of one

    assert ([], ["shelf cannot be asked: no such volume"] * 2) == (found, failures)


async def test_cached_has_the_answers_of_every_outside_source(desk: Desk) -> None:
    """By the address that was asked for, whatever stands in the User IDs."""
    first, second = cert("bob@example.com"), cert("somebody@else.example")
    desk.web.keep(BOB, first)
    desk.dns.keep(BOB, second)

    groups, failures = await collection.cached(desk.sources)

    assert [] == failures
    assert {BOB.key: [(first, "web"), (second, "dns")]} == {
        key: [(known.data, known.source) for known in group] for key, group in groups.items()
    }


async def test_cached_has_what_messages_taught(desk: Desk) -> None:
    """A learned key is in use like a cached one; one that is damaged is named and hides no other."""
    data, eve = cert("bob@example.com"), parse_mailbox("eve@example.com")
    desk.learn(data)
    desk.learn(cert("eve@example.com"), eve)
    desk.learned.rows[eve.key] = replace(desk.learned.rows[eve.key], certificate=b"garbage")

    groups, failures = await collection.cached(desk.sources)

    assert [("heard", data)] == [(known.source, known.data) for known in groups[BOB.key]]
    assert ["the key that was learned for eve@example.com is damaged"] == failures


async def test_cached_names_an_entry_that_cannot_be_read(desk: Desk) -> None:
    """A damaged one hides no other."""
    data = cert("bob@example.com")
    desk.web.keep(BOB, b"garbage")
    desk.dns.keep(BOB, data)

    groups, failures = await collection.cached(desk.sources)

    assert [data] == [known.data for known in groups[BOB.key]]
    assert failures[0].startswith("what web answered about bob@example.com cannot be read: ")


async def test_cached_keeps_what_was_asked_by_fingerprint_apart(desk: Desk) -> None:
    """Such an entry has no address."""
    data = cert("bob@example.com")
    desk.web.keep(BOB, data)
    place, entry = next(iter(desk.cache.kept.items()))
    desk.cache.kept[place] = replace(entry, address="")

    groups, _ = await collection.cached(desk.sources)

    assert [collection.NO_ADDRESS] == list(groups)


def test_judged_merges_copies_and_names_their_sources() -> None:
    """One entry for each certificate of each address, sorted."""
    both = certificate(cert("bob@example.com", "alice@example.com"), "folder")
    groups = collection.merged(collection.by_address([both]), {BOB.key: [replace(both, source="web")]})

    found = collection.judged(groups, Judge(), datetime.now(UTC))

    name = fingerprint(both.data)
    assert [("alice@example.com", name, ("folder",)), (BOB.key, name, ("folder", "web"))] == [
        (entry.address_key, entry.verdict.certificate.fingerprint, entry.sources) for entry in found
    ]
    assert all(entry.verdict.usable for entry in found)
