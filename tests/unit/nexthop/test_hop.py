"""Sessions: whose login a connection carries, and how failed logins stay few."""

from __future__ import annotations

import asyncio
import gc
import ssl
from pathlib import Path
from typing import Any

import pytest

from relay.errors import LoginRefused, LoginUnavailable, NextHopUnavailable, RelayError
from relay.message import Client, Offers
from relay.nexthop.settings import Timeouts
from relay.seams import HopSession, HopTransaction, NextHop
from tests.fakes import FakeNextHop, Fault, FixedClock, ListJournal
from tests.unit.nexthop.conftest import ALICE, BOB, CLIENT, HopMaker, sealed

LOGINS = {"relay": "s3cret", "alice": "wonder", "bob": "builder"}


async def deliver(session: HopSession) -> None:
    transaction = await session.start(ALICE)
    await transaction.add(BOB)
    await transaction.send(sealed(BOB))


async def test_hop_is_what_the_pipeline_asks_for(hop_for: HopMaker) -> None:
    """The types agree with the pipeline's Protocols."""
    async with FakeNextHop() as fake:
        hop: NextHop = hop_for(fake)
        session: HopSession = hop.session(CLIENT)
        transaction: HopTransaction = await session.start(None)
        await transaction.abandon()


# --------------------------------------------------------------------------- the relay's own login


async def test_own_login_connections_are_shared_and_reused(hop_for: HopMaker) -> None:
    """Many sessions, one connection, one AUTH; MAIL says AUTH=<> (C-04)."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, username="relay", password="s3cret")
        for number in range(5):
            session = hop.session(Client(str(number), "192.0.2.1"))
            await deliver(session)
            await session.close()

        assert (fake.connections, fake.verbs().count("AUTH")) == (1, 1)
        assert [mail.mail for mail in fake.mails] == [b"MAIL FROM:<alice@example.com> AUTH=<>"] * 5


async def test_own_login_refused_is_451_and_not_tried_again(hop_for: HopMaker, clock: FixedClock) -> None:
    """A wrong password in the configuration does not make the next hop ban the relay."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, username="relay", password="wrong")
        for _ in range(10):
            with pytest.raises(NextHopUnavailable) as caught:
                await deliver(hop.session(CLIENT))
            assert caught.value.reply().code == 451

        assert (fake.connections, fake.verbs().count("AUTH")) == (1, 1)


async def test_own_login_refused_is_tried_after_the_pause(hop_for: HopMaker, clock: FixedClock) -> None:
    """When the password is repaired on the next hop, mail flows again by itself."""
    async with FakeNextHop(logins={"relay": "other"}) as fake:
        hop = hop_for(fake, username="relay", password="s3cret")
        with pytest.raises(NextHopUnavailable):
            await deliver(hop.session(CLIENT))
        fake.logins["relay"] = "s3cret"
        clock.advance(901)
        await deliver(hop.session(CLIENT))

        assert len(fake.mails) == 1


async def test_own_login_refused_in_parallel_is_tried_once(hop_for: HopMaker) -> None:
    """Many clients at once do not multiply the failure."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, username="relay", password="wrong")
        sessions = [hop.session(CLIENT) for _ in range(8)]
        results = await asyncio.gather(*map(deliver, sessions), return_exceptions=True)

        assert {type(result).__name__ for result in results} == {"HopFailure"}
        assert fake.verbs().count("AUTH") == 1


# --------------------------------------------------------------------------- the client's login


async def test_client_login_serves_its_session_on_one_connection(hop_for: HopMaker) -> None:
    """The connection of the AUTH carries the session's mail, under the client's name, without AUTH=<>."""
    async with FakeNextHop(logins=LOGINS) as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        await session.login("alice", "wonder")
        await deliver(session)
        await deliver(session)

        assert [(mail.login, mail.mail) for mail in fake.mails] == [
            ("alice", b"MAIL FROM:<alice@example.com>")
        ] * 2
        assert (fake.connections, fake.verbs().count("AUTH")) == (1, 1)


async def test_client_logins_never_mix(hop_for: HopMaker) -> None:
    """Each session sends under its own login, also when they take turns and connections are scarce."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, client_login=True, max_connections=1)
        alice, bob = hop.session(CLIENT), hop.session(CLIENT)
        await alice.login("alice", "wonder")
        await bob.login("bob", "builder")
        for session in (alice, bob, bob, alice):
            await deliver(session)

        assert [mail.login for mail in fake.mails] == ["alice", "bob", "bob", "alice"]
        assert fake.most == 1


async def test_client_login_connection_closes_with_the_session(hop_for: HopMaker) -> None:
    """Nobody inherits it."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, client_login=True)
        session = hop.session(CLIENT)
        await session.login("alice", "wonder")
        await deliver(session)
        await session.close()
        await asyncio.sleep(0.02)

        assert fake.current == 0
        with pytest.raises(NextHopUnavailable):
            await deliver(hop.session(CLIENT))


@pytest.mark.parametrize("name", ["start before login", "start after refused login"])
async def test_session_without_login_connects_nowhere(name: str, hop_for: HopMaker) -> None:
    """With auth next-hop nothing is sent without the client's login, even to a hop that would take it."""
    async with FakeNextHop() as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        if "refused" in name:
            with pytest.raises(LoginUnavailable):
                await session.login("alice", "wonder")
        before = fake.connections
        with pytest.raises(NextHopUnavailable):
            await deliver(session)

        assert fake.connections == before


async def test_login_wrong_password_is_refused_and_can_be_repeated(hop_for: HopMaker) -> None:
    """The next hop's judgement reaches the client; the right password then works."""
    async with FakeNextHop(logins=LOGINS) as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        with pytest.raises(LoginRefused) as caught:
            await session.login("alice", "wrong")
        await session.login("alice", "wonder")
        await deliver(session)

        assert caught.value.reply().code == 535
        assert fake.mails[0].login == "alice"


@pytest.mark.parametrize("credentials", [("", "x"), ("alice\0bob", "x"), ("alice", "")])
async def test_login_impossible_is_refused_without_asking(
    hop_for: HopMaker, credentials: tuple[str, str]
) -> None:
    """What SASL PLAIN cannot carry is wrong in any case."""
    async with FakeNextHop(logins=LOGINS) as fake:
        with pytest.raises(LoginRefused):
            await hop_for(fake, client_login=True).session(CLIENT).login(*credentials)

        assert fake.connections == 0


@pytest.mark.parametrize(
    ("verb", "step"),
    [
        ("CONNECT", Fault.DROP),
        ("CONNECT", b"554 no\r\n"),
        ("EHLO", b"421 no\r\n"),
        ("AUTH", b"454 4.7.0 later\r\n"),
        ("AUTH", b"534 5.7.9 too weak\r\n"),
        ("AUTH", b"530 5.7.0 TLS first\r\n"),
        ("AUTH", Fault.DROP),
        ("AUTH", Fault.HANG),
    ],
)
async def test_login_that_cannot_be_judged_is_454(hop_for: HopMaker, verb: str, step: Any) -> None:
    """An outage never makes a mail client throw its stored password away."""
    async with FakeNextHop(logins=LOGINS).on(verb, step) as fake:
        hop = hop_for(fake, client_login=True, timeouts=Timeouts(open_seconds=0.5, command_seconds=0.3))
        with pytest.raises(LoginUnavailable) as caught:
            await hop.session(CLIENT).login("alice", "wonder")

        assert caught.value.reply().code == 454


async def test_login_without_mechanism_or_hop_is_454(hop_for: HopMaker) -> None:
    """Nor does a next hop without AUTH, or none at all."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake, client_login=True)
        with pytest.raises(LoginUnavailable):
            await hop.session(CLIENT).login("alice", "wonder")
    with pytest.raises(LoginUnavailable):
        await hop.session(CLIENT).login("alice", "wonder")


async def test_client_login_is_repeated_when_the_connection_died(hop_for: HopMaker) -> None:
    """Postfix hangs up after 300 s; the session goes on."""
    async with FakeNextHop(logins=LOGINS) as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        await session.login("alice", "wonder")
        await fake.hang_up()
        await deliver(session)

        assert fake.mails[0].login == "alice"


async def test_client_login_changed_meanwhile_is_451_and_tried_once(hop_for: HopMaker) -> None:
    """A password that was changed within a long session does not become a series of failed logins."""
    async with FakeNextHop(logins=dict(LOGINS)) as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        await session.login("alice", "wonder")
        fake.logins["alice"] = "changed"
        await fake.hang_up()
        for _ in range(3):
            with pytest.raises(NextHopUnavailable) as caught:
                await deliver(session)
            assert caught.value.reply().code == 451

        assert fake.verbs().count("AUTH") == 2


async def test_client_login_refused_later_ends_its_other_connections(hop_for: HopMaker) -> None:
    """When the next hop has said no, nothing more is sent under that login."""
    async with FakeNextHop(logins=dict(LOGINS)) as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        await session.login("alice", "wonder")
        first = await session.start(ALICE)
        fake.logins["alice"] = "changed"
        with pytest.raises(NextHopUnavailable):
            await session.start(ALICE)
        await first.abandon()
        with pytest.raises(NextHopUnavailable):
            await deliver(session)

        assert fake.mails == []


async def test_closed_session_holds_no_credentials(hop_for: HopMaker) -> None:
    """They live as long as the session and not longer."""
    async with FakeNextHop(logins={"alice": "pässword-of-this-test"}) as fake:
        session = hop_for(fake, client_login=True).session(CLIENT)
        await session.login("alice", "pässword-of-this-test")
        await session.close()
        gc.collect()

        assert session._credentials is None


# --------------------------------------------------------------------------- the rest


async def test_slow_uploads_keep_nobody_from_sending(hop_for: HopMaker) -> None:
    """A transaction that waits for its client holds no slot; it is replayed if its connection was needed."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake, max_connections=2, timeouts=Timeouts(slot_seconds=0.2))
        slow = [await hop.session(CLIENT).start(ALICE) for _ in range(6)]
        for transaction in slow:
            await transaction.add(BOB)
        await deliver(hop.session(CLIENT))
        for transaction in slow:
            await transaction.send(sealed(BOB))

        assert len(fake.mails) == 7
        assert fake.most <= 3  # the fake notices a closed connection a moment later


async def test_parallel_messages_stay_below_the_limit(hop_for: HopMaker) -> None:
    """The next hop never sees more than `max_connections`, and all messages arrive."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake, max_connections=3)
        await asyncio.gather(*(deliver(hop.session(CLIENT)) for _ in range(30)))

        assert len(fake.mails) == 30
        assert fake.most <= 4


async def test_slot_time_out_is_451(hop_for: HopMaker) -> None:
    """When the next hop hangs for everybody, clients are told in time."""
    async with FakeNextHop().on("DOT", Fault.HANG) as fake:
        hop = hop_for(fake, max_connections=1, timeouts=Timeouts(slot_seconds=0.1, final_seconds=5))
        stuck = asyncio.ensure_future(deliver(hop.session(CLIENT)))
        while fake.is_scripted("DOT"):  # noqa: ASYNC110 - the fake has no event for each of its states
            await asyncio.sleep(0.01)
        with pytest.raises(NextHopUnavailable):
            await deliver(hop.session(CLIENT))
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)

        await deliver(hop.session(CLIENT))


async def test_offers_are_those_of_the_last_ehlo(hop_for: HopMaker) -> None:
    """Empty before the first connection; `refresh` fills them."""
    async with FakeNextHop(offers=("SIZE 1000", "SMTPUTF8")) as fake:
        hop = hop_for(fake)
        before = hop.offers
        await hop.refresh()

        assert before == Offers()
        assert hop.offers == Offers(size_bytes=1000, smtputf8=True)


async def test_refresh_of_a_dead_hop_is_in_the_journal(hop_for: HopMaker, journal: ListJournal) -> None:
    """At start-up a failure is reported and starts nothing worse."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
    await hop.refresh()

    assert [(name, fields["reason"]) for name, fields in journal.events] == [
        ("nexthop_failed", "unreachable")
    ]


async def test_refresh_with_client_login_leaves_no_connection(hop_for: HopMaker) -> None:
    """A connection without a login is of no use there."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, client_login=True)
        await hop.refresh()
        await asyncio.sleep(0.02)

        assert "PLAIN" in hop.offers.auth
        assert fake.current == 0


async def test_close_says_quit_and_closes_every_idle_connection(hop_for: HopMaker) -> None:
    """The next hop sees an orderly end."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
        await deliver(hop.session(CLIENT))
        await hop.close()
        await asyncio.sleep(0.02)

        assert fake.current == 0
        assert fake.verbs()[-1] == "QUIT"


async def test_close_drops_no_message_under_way(hop_for: HopMaker) -> None:
    """A reload that replaces the next hop lets open sessions finish, and then nothing is left."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
        session = hop.session(CLIENT)
        transaction = await session.start(ALICE)
        await transaction.add(BOB)
        await hop.close()
        await transaction.send(sealed(BOB))
        await session.close()
        await asyncio.sleep(0.02)

        assert len(fake.mails) == 1
        assert fake.current == 0


async def test_journal_names_success_and_failure_without_credentials(
    hop_for: HopMaker, journal: ListJournal, good_context: ssl.SSLContext, ca_file: Path
) -> None:
    """An admin sees why; nobody sees a password or a user name."""
    async with FakeNextHop(logins=LOGINS, tls="implicit", context=good_context) as fake:
        hop = hop_for(fake, client_login=True, ca_file=ca_file)
        session = hop.session(CLIENT)
        with pytest.raises(LoginRefused):
            await session.login("alice", "hunter2")
        await session.login("alice", "wonder")
        fake.on("CONNECT", b"554 no service\r\n")
        with pytest.raises(RelayError):
            await hop.session(CLIENT).login("bob", "builder")

    assert journal.names() == ["nexthop_failed", "nexthop_connected", "nexthop_failed"]
    assert journal.events[1][1]["tls"] == "TLSv1.3 TLS_AES_256_GCM_SHA384"
    assert journal.events[1][1]["id"] == CLIENT.id
    shown = repr(journal.events)
    assert not any(secret in shown for secret in ("hunter2", "wonder", "builder", "alice"))


async def test_tls_context_is_made_once(
    hop_for: HopMaker, good_context: ssl.SSLContext, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """22 ms of CPU are paid once, not per connection."""
    made = []
    monkeypatch.setattr(ssl, "create_default_context", _counting(made, ssl.create_default_context))
    async with FakeNextHop(logins=LOGINS, tls="implicit", context=good_context) as fake:
        hop = hop_for(fake, client_login=True, ca_file=ca_file)
        for _ in range(5):
            session = hop.session(CLIENT)
            await session.login("alice", "wonder")
            await session.close()

        assert fake.connections == 5
    assert len(made) == 1


def _counting(calls: list[int], real: Any) -> Any:
    def count(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(*args, **kwargs)

    return count
