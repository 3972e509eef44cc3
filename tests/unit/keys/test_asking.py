"""One query: what is written down about an answer, a failure, a revocation, and when nothing may be."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from relay.errors import KeySourceDistrusted, KeySourceUnavailable, StoreUnavailable
from relay.keys.entries import CacheTimes, Question
from relay.message import Certificate
from relay.mime.packets import walk
from relay.openpgp.judge import Judge
from tests.forge import Owner
from tests.keys import certificate
from tests.unit.keys.discoveries import ADDRESS, BOB, NONE, Bench, Outcome, positive

DAY = 86_400
ASK = Question("wkd", BOB, ADDRESS)
KEY, OTHER = certificate("rsa2048", "wkd"), certificate("curve25519", "wkd")
BEFORE, REVOKED = certificate("revoked-primary-before", "wkd"), certificate("revoked-primary", "wkd")
DOWN, BOGUS = KeySourceUnavailable("down"), KeySourceDistrusted("bogus")


async def test_query_answered_is_kept_with_its_times() -> None:
    """The entry says what was asked, what came, when, and until when it serves."""
    bench = Bench()
    bench.says(positive(KEY))
    now = bench.clock.now()
    kept = await bench.asking().query(ASK, used_at=now)

    assert kept.entry == bench.entry
    assert ("wkd", BOB, "bob@example.com") == (bench.entry.source, bench.entry.key, bench.entry.address)
    assert ((KEY.data,), now, now) == (
        *(bench.entry.certificates, bench.entry.answered_at, bench.entry.used_at),
    )
    assert now + timedelta(days=1) == bench.entry.fresh_until
    assert now + timedelta(days=8) == bench.entry.usable_until


async def test_query_answered_names_the_source_and_the_time() -> None:
    """Whatever name the answer bore."""
    bench = Bench()
    bench.says(positive(replace(KEY, source="elsewhere")))
    kept = await bench.asking().query(ASK)

    assert [("wkd", bench.clock.now())] == [(one.source, one.fetched) for one in kept.certificates]


async def test_query_answered_spreads_the_end_of_freshness() -> None:
    """What was asked together is not due together: a tenth either way."""
    bench = Bench()
    bench.says(positive(KEY))
    asking = bench.asking(random=None)
    spans = []
    for _ in range(50):
        await asking.query(ASK)
        spans.append(bench.entry.fresh_until - bench.clock.now())

    assert len(set(spans)) > 40
    assert timedelta(seconds=0.9 * DAY) <= min(spans)
    assert max(spans) <= timedelta(seconds=1.1 * DAY)


async def test_query_answered_with_a_maximum_ends_there() -> None:
    """The lifetime of a DNS record ends the answer, whatever is configured, and it is never stale (K-18)."""
    bench = Bench()
    bench.says(positive(KEY, max_age_seconds=300))
    await bench.asking(random=None).query(ASK)

    assert [bench.clock.now() + timedelta(seconds=300)] * 2 == [
        *(bench.entry.fresh_until, bench.entry.usable_until),
    ]


async def test_query_answered_with_a_key_that_ends_soon_is_due_daily() -> None:
    """Its owner will extend it, and that is to be known before the next message."""
    bench = Bench()
    end = bench.clock.now() + timedelta(days=2)
    asking = bench.asking(
        CacheTimes(keep_seconds=30 * DAY),
        expires=lambda certificates: end if KEY in certificates else None,
    )
    bench.says(positive(KEY), positive(OTHER), NONE)
    spans = []
    for _ in range(3):
        await asking.query(ASK)
        spans.append(bench.entry.fresh_until - bench.clock.now())

    assert [timedelta(days=1), timedelta(days=30), timedelta(hours=1)] == spans


async def test_query_judges_beside_the_event_loop() -> None:
    """Strangers choose how long it takes to find out when their certificates end."""
    bench, threads = Bench(), []
    asking = bench.asking(expires=lambda certificates: threads.append(threading.get_ident()))
    bench.says(positive(KEY))
    await asking.query(ASK)

    assert 1 == len(threads)
    assert threading.get_ident() not in threads


async def test_query_keeps_when_it_was_used() -> None:
    """A refresh in the background is no use; neither is a failure a reason to forget one."""
    bench = Bench()
    bench.says(positive(KEY), positive(KEY), DOWN)
    used_at = bench.clock.now()
    await bench.asking().query(ASK, used_at)
    seen = []
    for _ in range(2):
        bench.clock.advance(DAY)
        await bench.asking().query(ASK)
        seen.append(bench.entry.used_at)

    assert [used_at, used_at] == seen


async def test_query_answered_none_forgets_the_key() -> None:
    """The source has it no more; what was pinned is remembered elsewhere."""
    bench = Bench()
    bench.says(positive(REVOKED), NONE)
    await bench.asking().query(ASK)
    kept = await bench.asking().query(ASK)

    assert ((), ()) == (kept.certificates, bench.entry.certificates)


async def test_query_answered_none_asks_whether_the_key_was_revoked() -> None:
    """A key server gives a revoked key by its fingerprint alone: that is "revoked" and not "gone" (K-25)."""
    bench = Bench()
    bench.says(positive(BEFORE), NONE)
    bench.discovery.says(BEFORE.fingerprint, positive(REVOKED))
    await bench.asking().query(ASK)
    kept = await bench.asking().query(ASK)

    [verdict] = Judge().judge(list(kept.certificates), None, bench.clock.now())
    assert (BEFORE.fingerprint, False) == (verdict.certificate.fingerprint, verdict.usable)
    assert verdict.sentence.startswith("revoked on ")


async def test_query_answered_none_never_brings_the_key_back_into_use() -> None:
    """A revocation that anybody may have added (here a stranger's) does not undo that it is gone."""
    bench = Bench()
    junk = replace(BEFORE, data=BEFORE.data + Owner("eve").sign(0x20))
    bench.says(positive(BEFORE), NONE)
    bench.discovery.says(BEFORE.fingerprint, positive(junk))
    await bench.asking().query(ASK)
    kept = await bench.asking().query(ASK)

    verdicts = Judge().judge(list(kept.certificates), None, bench.clock.now())
    assert [False] == [verdict.usable for verdict in verdicts]


async def test_query_answered_none_for_a_key_that_is_in_order_is_none() -> None:
    """Its owner withdrew the address, and nothing else."""
    bench = Bench()
    bench.says(positive(BEFORE), NONE)
    bench.discovery.says(BEFORE.fingerprint, positive(BEFORE))
    await bench.asking().query(ASK)
    kept = await bench.asking().query(ASK)

    assert () == kept.certificates


async def test_query_answered_none_fails_where_that_cannot_be_asked() -> None:
    """Nobody knows then whether it was revoked."""
    bench = Bench()
    bench.says(positive(BEFORE), NONE)
    bench.discovery.says(BEFORE.fingerprint, DOWN)
    await bench.asking().query(ASK)
    kept = await bench.asking().query(ASK)

    assert kept.entry and kept.entry.failure
    assert [BEFORE.data] == [certificate.data for certificate in kept.certificates]


async def test_query_for_a_fingerprint_without_user_ids_refreshes_what_is_known() -> None:
    """A server that withholds User IDs does not take them from the copy that has them (K-25)."""
    bench = Bench()
    bare = replace(KEY, data=KEY.data[: next(walk(KEY.data)).end], user_ids=())
    bench.discovery.says(KEY.fingerprint, positive(KEY), positive(bare), positive(bare))
    about = Question.about_fingerprint("wkd", KEY.fingerprint)
    for _ in range(3):
        kept = await bench.asking().query(about)

    assert [bare.data, KEY.data] == [certificate.data for certificate in kept.certificates]


async def test_query_for_a_fingerprint_asks_for_it() -> None:
    """It is kept under a key of its own, without an address, and marks nobody."""
    bench = Bench()
    bench.discovery.says(KEY.fingerprint, positive(KEY))
    await bench.asking().query(Question.about_fingerprint("wkd", KEY.fingerprint))
    entry = bench.cache.kept["wkd", f"fingerprint:{KEY.fingerprint}"]

    assert ([KEY.fingerprint], "", (KEY.data,)) == (bench.discovery.asked, entry.address, entry.certificates)
    assert [] == bench.seen.marked


# --------------------------------------------------------------------------- revocations


async def test_query_without_a_revocation_that_was_seen_keeps_both_copies() -> None:
    """A server that strips a revocation does not undo it, nor on the next refresh, nor after a failure."""
    bench = Bench()
    bench.says(positive(BEFORE), positive(REVOKED), positive(BEFORE), DOWN, positive(BEFORE))
    found = [(await bench.asking().query(ASK)).certificates for _ in range(5)]

    assert [(BEFORE,), (REVOKED,), (BEFORE, REVOKED), (BEFORE, REVOKED), (BEFORE, REVOKED)] == found
    assert (BEFORE.data, REVOKED.data) == bench.entry.certificates


async def test_query_heeds_a_revocation_that_another_process_saw() -> None:
    """What counts is in the database, not in the memory of one process."""
    bench = Bench()
    bench.says(positive(BEFORE))
    await bench.find()
    bench.says(positive(REVOKED))
    await bench.make().refresh(ADDRESS)
    bench.says(positive(BEFORE))

    assert [BEFORE, REVOKED] == await bench.source.refresh(ADDRESS)
    await bench.source.close()


# --------------------------------------------------------------------------- failures


async def test_query_failing_keeps_the_key_and_says_so() -> None:
    """The old answer stays; the log has the failure, and that an old answer is served."""
    bench = Bench()
    bench.says(positive(KEY), DOWN)
    await bench.asking().query(ASK)
    bench.clock.advance(DAY)
    kept = await bench.asking().query(ASK)

    assert ((KEY,), "down", 1) == (kept.certificates, bench.entry.failure, bench.entry.failures)
    usable = bench.entry.usable_until.isoformat()
    about = {"id": "", "source": "wkd", "address": BOB}
    assert [
        ("key_query_failed", {**about, "reason": "down", "failures": 1}),
        ("key_answer_stale", {**about, "usable_until": usable}),
    ] == bench.journal.events


@pytest.mark.parametrize(
    ("before", "after_seconds", "failure"),
    [(None, 0, DOWN), (NONE, DAY, DOWN), (positive(KEY), 60, DOWN), (positive(KEY), DAY, BOGUS)],
    ids=["never answered", "none", "still fresh", "distrusted"],
)
async def test_query_failing_is_not_called_stale_where_nothing_stale_is_served(
    before: Outcome | None, after_seconds: float, failure: Outcome
) -> None:
    """Nobody is told of an old answer where there is none, where it is still fresh, or must not serve."""
    bench = Bench()
    if before is not None:
        bench.says(before)
        await bench.asking().query(ASK)
    bench.clock.advance(after_seconds)
    bench.says(failure)
    await bench.asking().query(ASK)

    assert ["key_query_failed"] == bench.journal.names()


async def test_query_that_hangs_is_a_failure() -> None:
    """A source without an end is one that cannot be asked."""
    bench = Bench()
    bench.discovery.hold = asyncio.Event()
    await bench.asking(patience_seconds=0.01).query(ASK)

    assert ("it does not answer in time", 1) == (bench.entry.failure, bench.entry.failures)


async def test_query_with_a_bug_keeps_nothing() -> None:
    """It propagates; `keys.queries` tells those who wait that it could not be found out."""
    bench = Bench()
    bench.says(ZeroDivisionError())

    with pytest.raises(ZeroDivisionError):
        await bench.asking().query(ASK)
    assert {} == bench.cache.kept


async def test_query_with_what_is_no_certificate_is_a_bug() -> None:
    """What could not be read back is never kept."""
    bench = Bench()
    bench.says(positive(replace(KEY, data=b"garbage")))

    with pytest.raises(ValueError, match="no packet"):
        await bench.asking().query(ASK)
    assert {} == bench.cache.kept


# --------------------------------------------------------------------------- the database


@pytest.mark.parametrize("what", ["get", "put"])
@pytest.mark.parametrize("outcome", [positive(KEY), NONE, DOWN], ids=["key", "none", "down"])
async def test_query_without_the_store_raises(what: str, outcome: Outcome) -> None:
    """An answer that cannot be remembered is not given."""
    bench = Bench()
    bench.says(outcome)
    bench.cache.down = {what}

    with pytest.raises(StoreUnavailable):
        await bench.asking().query(ASK)


async def test_query_that_cannot_mark_keeps_nothing() -> None:
    """A key that was kept and not marked would count as never seen."""
    bench = Bench()
    bench.says(positive(KEY))
    bench.seen.is_down = True

    with pytest.raises(StoreUnavailable):
        await bench.asking().query(ASK)
    assert {} == bench.cache.kept


async def test_query_marks_an_address_with_a_key_alone() -> None:
    """Once, although it is answered again; and not for "none" or a failure."""
    bench = Bench()
    marked = []
    for outcome in (NONE, DOWN, positive(KEY), positive(OTHER)):
        bench.says(outcome)
        await bench.asking().query(ASK)
        marked.append(list(bench.seen.marked))

    assert [[], [], [BOB], [BOB]] == marked


async def test_query_without_a_pin_book_answers() -> None:
    """Where nothing is pinned, nobody is marked."""
    bench = Bench()
    bench.says(positive(KEY))
    kept = await bench.asking(pins=None).query(ASK)

    assert ((KEY,), set()) == (kept.certificates, kept.seen)


async def test_read_of_nothing_is_no_entry() -> None:
    """Nothing known is no answer."""
    kept = await Bench().asking().read(ASK)

    assert (None, ()) == (kept.entry, kept.certificates)


async def test_read_of_a_damaged_entry_is_no_entry() -> None:
    """What cannot be read is neither a key nor "none"; the log says so."""
    bench = Bench()
    bench.says(positive(KEY))
    await bench.asking().query(ASK)
    bench.cache.kept["wkd", BOB] = replace(bench.entry, certificates=(b"garbage",))
    kept = await bench.asking().read(ASK)

    assert (None, ()) == (kept.entry, kept.certificates)
    assert ["key_entry_unreadable"] == bench.journal.names()


async def test_read_of_a_large_certificate_gives_it_back() -> None:
    """What is parsed in a thread is the same."""
    bench = Bench()
    packet = bytes([0xC0 | 13, 0xFF]) + (100_000).to_bytes(4) + b"x" * 100_000
    large = Certificate(KEY.data + packet, KEY.fingerprint, (*KEY.user_ids, "x" * 100_000), "wkd")
    bench.says(positive(large))
    asked = await bench.asking().query(ASK)

    assert (large,) == asked.certificates == (await bench.asking().read(ASK)).certificates
