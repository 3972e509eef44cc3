"""Tests of `relay/key_commands/refreshing.py`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from relay.address import parse_mailbox
from relay.key_commands.refreshing import USED_WITHIN, refresh
from tests.unit.key_commands.desk import BOB, Desk
from tests.unit.keys.certs import cert, fingerprint, tsk

OLD, NEW = cert("bob@example.com"), cert("bob@example.com")
CAROL = parse_mailbox("carol@example.com")


def _today() -> datetime:
    return datetime.now(UTC)


def test_refresh_prints_what_changed_and_keeps_it(desk: Desk) -> None:
    """The key that is gone, and the new one with its verdict."""
    desk.web.keep(BOB, OLD)
    desk.web.says[BOB.key] = [NEW]

    result = desk.run(refresh, "bob@example.com")

    assert 0 == result.exit_code, result.output
    assert [
        f"bob@example.com web: gone {fingerprint(OLD)}",
        f"bob@example.com web: new {fingerprint(NEW)}: usable",
        "queries: 2; changed: 1, failed: 0",
    ] == result.stdout.splitlines()
    assert (NEW,) == desk.cache.kept["web", BOB.key].certificates


def test_refresh_tells_of_other_signatures_on_the_same_key(desk: Desk) -> None:
    """A revocation, or an extended expiry, comes with the same fingerprint."""
    desk.web.keep(BOB, OLD)
    desk.web.says[BOB.key] = [OLD + OLD[-1:0]]
    same = desk.run(refresh, "bob@example.com")
    signature = cert("bob@example.com", "other@example.com")
    desk.web.keep(CAROL, signature)
    desk.web.says[CAROL.key] = [_without_last_packet(signature)]

    changed = desk.run(refresh, "carol@example.com")

    assert "queries: 2; changed: 0, failed: 0\n" == same.stdout
    assert f"carol@example.com web: changed {fingerprint(signature)}: not usable" in changed.stdout


def test_refresh_tells_when_a_changed_key_ends(desk: Desk) -> None:
    """An extension is the usual change, and "usable" it was before."""
    owner = tsk("bob@example.com")
    ends = [datetime(year, 3, 1, tzinfo=UTC) for year in (2090, 2095)]
    versions = [bytes(owner.extract_certificate().set_expiration(end, owner.certifier())) for end in ends]
    desk.web.keep(BOB, versions[0])
    desk.web.says[BOB.key] = [versions[1]]

    result = desk.run(refresh, "bob@example.com")

    name = fingerprint(versions[1])
    assert f"bob@example.com web: changed {name}: usable until 2095-03-01" == result.stdout.splitlines()[0]


def _without_last_packet(data: bytes) -> bytes:
    from relay.mime.packets import walk

    return data[: list(walk(data))[-1].start]


def test_refresh_without_addresses_asks_for_what_was_used_lately(desk: Desk) -> None:
    """What nobody wrote to for two weeks is left alone: each query tells somebody whom we write to."""
    desk.web.keep(BOB, OLD, used_at=_today() - USED_WITHIN + timedelta(hours=1))
    desk.web.keep(CAROL, NEW, used_at=_today() - USED_WITHIN - timedelta(hours=1))

    result = desk.run(refresh)

    assert (["bob@example.com"], []) == (desk.web.asked, desk.dns.asked)
    assert "queries: 1; changed: 0, failed: 0\n" == result.stdout


def test_refresh_asks_a_few_at_a_time(desk: Desk) -> None:
    """Eight, so that it ends soon, and no server takes it for an attack."""
    for number in range(24):
        desk.web.keep(parse_mailbox(f"{number}@example.com"), OLD, used_at=_today())
    desk.web.meets = asyncio.Barrier(8)

    result = desk.run(refresh)

    assert "queries: 24; changed: 0, failed: 0\n" == result.stdout
    assert 8 == desk.web.most


def test_refresh_of_an_address_asks_where_it_was_and_where_its_rule_looks(desk: Desk) -> None:
    """Nobody else learns of it."""
    text = desk.config.read_text().replace("[folder, web, dns]", "[folder]")
    desk.config.write_text(text)
    desk.dns.keep(BOB, OLD)

    desk.run(refresh, "bob@example.com", "carol@example.com")

    assert ([], ["bob@example.com"]) == (desk.web.asked, desk.dns.asked)


def test_refresh_that_fails_keeps_what_was_known(desk: Desk) -> None:
    """The failure has a line, the exit code is 1, and nothing is called gone."""
    desk.web.keep(BOB, OLD)
    desk.web.down = "connection refused"

    result = desk.run(refresh, "bob@example.com")

    assert 1 == result.exit_code
    assert "queries: 2; changed: 0, failed: 1\n" == result.stdout
    assert "web cannot be asked about bob@example.com: connection refused\n" == result.stderr


def test_refresh_ends_a_query_that_hangs(desk: Desk) -> None:
    """After `limits.lookup_seconds`, so that cron jobs do not pile up."""
    desk.config.write_text(desk.config.read_text() + "limits: {lookup_seconds: 1s}\n")
    desk.web.hangs = True

    result = desk.run(refresh, "bob@example.com")

    assert 1 == result.exit_code
    assert "no answer within 1 seconds" in result.stderr


def test_refresh_with_local_sources_only_has_nothing_to_do(local: Desk) -> None:
    """They are read again by themselves; a store is not opened."""
    result = local.run(refresh)

    assert 1 == result.exit_code
    assert "nothing is remembered in a store" in result.stderr


def test_refresh_without_a_store_says_so_in_one_line(desk: Desk) -> None:
    """No trace of Python."""
    desk.cache.down = True

    result = desk.run(refresh)

    assert 1 == result.exit_code
    assert "Error: the store cannot be used: the store is down\n" == result.stderr
