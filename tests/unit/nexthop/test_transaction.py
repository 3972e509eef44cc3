"""One transaction: all recipients accepted before content, whatever becomes of the connection meanwhile."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from relay.errors import (
    MessageTooLarge,
    NeedsEightBit,
    NeedsSmtpUtf8,
    NextHopRefused,
    NextHopUnavailable,
    OutcomeUnknown,
    RelayError,
)
from relay.message import Address, Released
from relay.nexthop.settings import Timeouts
from relay.nexthop.transaction import SmtpTransaction
from tests.fakes import FakeNextHop, Fault, FixedClock
from tests.unit.nexthop.conftest import ALICE, BOB, CAROL, CLIENT, JOSE, HopMaker, sealed

LOGINS = {"relay": "s3cret"}


async def started(hop: Any, *recipients: Address, sender: Address | None = ALICE) -> SmtpTransaction:
    transaction: SmtpTransaction = await hop.session(CLIENT).start(sender)
    for recipient in recipients:
        await transaction.add(recipient)
    return transaction


async def hung_up(fake: FakeNextHop) -> None:
    await fake.hang_up()
    await asyncio.sleep(0.02)  # the FIN arrives


# --------------------------------------------------------------------------- replies


async def test_add_refused_recipient_is_not_part_of_the_transaction(hop_for: HopMaker) -> None:
    """aiosmtplib's sendmail is silent about one of two refused recipients; here it is raised (C-10)."""
    async with FakeNextHop().on("RCPT", None, b"550 5.1.1 unknown\r\n", None) as fake:
        transaction = await started(hop_for(fake), BOB)
        with pytest.raises(NextHopRefused) as caught:
            await transaction.add(CAROL)
        await transaction.send(sealed(BOB))

        assert (caught.value.reply().code, caught.value.reply().enhanced) == (550, "5.1.1")
        assert fake.mails[0].rcpts == [b"<bob@example.org>"]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (b"550 5.7.1 sender refused\r\n", (550, "5.7.1")),
        (b"451 4.7.1 greylisted\r\n", (451, "4.7.1")),
        (b"553 not yours\r\n", (553, "5.0.0")),
        (b"530 5.7.0 login\r\n", (451, "4.4.1")),
        (b"421 4.3.2 closing\r\n", (451, "4.4.1")),
        (Fault.DROP, (451, "4.4.1")),
    ],
)
async def test_start_bad_answer_to_mail(hop_for: HopMaker, step: Any, expected: tuple[int, str]) -> None:
    """Only a judgement of the sender keeps its class."""
    async with FakeNextHop().on("MAIL", step, step) as fake:
        with pytest.raises(RelayError) as caught:
            await started(hop_for(fake))

        assert (caught.value.reply().code, caught.value.reply().enhanced) == expected


async def test_start_refused_sender_leaves_a_clean_connection(hop_for: HopMaker) -> None:
    """The next message is not judged by the last one (C-32), and no connection is wasted."""
    async with FakeNextHop().on("MAIL", b"550 5.7.1 no\r\n") as fake:
        hop = hop_for(fake)
        with pytest.raises(NextHopRefused):
            await started(hop)
        await (await started(hop, BOB)).send(sealed(BOB))

        assert fake.connections == 1


@pytest.mark.parametrize("verb", ["DATA", "DOT"])
async def test_send_refused_content_keeps_code_and_connection(hop_for: HopMaker, verb: str) -> None:
    """A refusal at DATA or at the final dot is the client's, and the next transaction is not joined to it."""
    async with FakeNextHop().on(verb, b"554 5.6.0 no\r\n") as fake:
        hop = hop_for(fake)
        transaction = await started(hop, BOB)
        with pytest.raises(NextHopRefused) as caught:
            await transaction.send(sealed(BOB))
        await (await started(hop, CAROL)).send(sealed(CAROL))

        assert caught.value.reply().code == 554
        assert [mail.rcpts for mail in fake.mails] == [[b"<carol@example.org>"]]
        assert fake.connections == 1


@pytest.mark.parametrize(
    ("verb", "step", "error"),
    [
        ("RCPT", b"421 4.3.2 closing\r\n", NextHopUnavailable),
        ("DATA", b"421 4.3.2 closing\r\n", NextHopUnavailable),
        ("CONTENT", Fault.DROP, NextHopUnavailable),
        ("DOT", b"421 4.3.2 closing\r\n", NextHopUnavailable),
        ("DOT", Fault.DROP, OutcomeUnknown),
    ],
)
async def test_hop_that_goes_within_the_transaction(
    hop_for: HopMaker, verb: str, step: Any, error: type[RelayError]
) -> None:
    """421 and a loss before the final dot: nothing was taken. A loss after it: nobody knows (RFC 1047)."""
    async with FakeNextHop().on(verb, step) as fake:
        with pytest.raises(error) as caught:
            transaction = await started(hop_for(fake), BOB)
            await transaction.send(sealed(BOB))

        assert isinstance(caught.value, OutcomeUnknown) == (error is OutcomeUnknown)
        assert fake.mails == []
        assert fake.verbs().count("DATA") <= 1


@pytest.mark.parametrize("step", [b"503 5.5.1 what?\r\n", b"530 5.7.0 login\r\n", b"354 go\r\n"])
async def test_connection_in_doubt_is_not_used_again(hop_for: HopMaker, step: bytes) -> None:
    """An answer that shows another state than ours costs the connection, not the next message."""
    async with FakeNextHop().on("RCPT", step) as fake:
        hop = hop_for(fake)
        transaction = await started(hop)
        with pytest.raises(NextHopUnavailable):
            await transaction.add(BOB)
        await transaction.abandon()
        await (await started(hop, BOB)).send(sealed(BOB))

        assert [mail.connection for mail in fake.mails] == [2]


# --------------------------------------------------------------------------- connections that died


async def test_start_on_a_connection_that_died_idle_uses_a_fresh_one(hop_for: HopMaker) -> None:
    """A stale idle connection never becomes a 451."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
        await (await started(hop, BOB)).send(sealed(BOB))
        await hung_up(fake)
        await (await started(hop, BOB)).send(sealed(BOB))

        assert len(fake.mails) == 2


@pytest.mark.parametrize(
    "step", [Fault.DROP, Fault.HANG, b"421 4.4.2 idle too long\r\n", b"503 5.5.1 what?\r\n", b"junk\r\n"]
)
async def test_start_on_a_half_dead_connection_uses_a_fresh_one(hop_for: HopMaker, step: Any) -> None:
    """Whatever a reused connection answers to its first command except a judgement, a fresh one is asked."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake, timeouts=Timeouts(command_seconds=0.3))
        await (await started(hop, BOB)).send(sealed(BOB))
        fake.on("MAIL", step)
        await (await started(hop, BOB)).send(sealed(BOB))

        assert [mail.connection for mail in fake.mails] == [1, 2]


async def test_start_on_fresh_connection_is_tried_once(hop_for: HopMaker) -> None:
    """A next hop that fails fresh connections is not hammered."""
    async with FakeNextHop().on("MAIL", Fault.DROP, Fault.DROP) as fake:
        with pytest.raises(NextHopUnavailable):
            await started(hop_for(fake))

        assert fake.connections == 1


async def test_start_refused_on_reused_connection_is_the_answer(hop_for: HopMaker) -> None:
    """A judgement of the sender is not asked for twice."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
        await (await started(hop, BOB)).send(sealed(BOB))
        fake.on("MAIL", b"550 5.7.1 no\r\n")
        with pytest.raises(NextHopRefused):
            await started(hop)

        assert fake.connections == 1


async def test_send_after_hang_up_replays_everything_before_content(hop_for: HopMaker) -> None:
    """Postfix hangs up after 300 s of upload: opened, logged in and accepted again, then the content."""
    async with FakeNextHop(logins=LOGINS) as fake:
        hop = hop_for(fake, username="relay", password="s3cret")
        transaction = await started(hop, BOB, CAROL)
        await hung_up(fake)
        fake.lines.clear()
        await transaction.send(sealed(BOB, CAROL))

        assert fake.verbs() == ["EHLO", "AUTH", "MAIL", "RCPT", "RCPT", "DATA"]
        assert fake.mails[0].rcpts == [b"<bob@example.org>", b"<carol@example.org>"]


async def test_add_after_hang_up_replays_the_earlier_ones(hop_for: HopMaker) -> None:
    """The same between two RCPT commands."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB)
        await hung_up(fake)
        await transaction.add(CAROL)
        await transaction.send(sealed(BOB, CAROL))

        assert fake.mails[0].rcpts == [b"<bob@example.org>", b"<carol@example.org>"]


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
async def test_connection_lost_at_a_command_is_replayed_once(hop_for: HopMaker, verb: str) -> None:
    """A hang-up that crosses our command: nothing of content was sent, so it is repeated, once."""
    async with FakeNextHop().on(verb, Fault.DROP) as fake:
        transaction = await started(hop_for(fake), BOB)
        await transaction.send(sealed(BOB))

        assert [mail.connection for mail in fake.mails] == [2]


@pytest.mark.parametrize("verb", ["RCPT", "DATA"])
async def test_connection_lost_at_a_command_twice_is_unavailable(hop_for: HopMaker, verb: str) -> None:
    """There is an end to it."""
    async with FakeNextHop().on(verb, Fault.DROP, Fault.DROP) as fake:
        with pytest.raises(NextHopUnavailable):
            transaction = await started(hop_for(fake), BOB)
            await transaction.send(sealed(BOB))

        assert fake.connections == 2


@pytest.mark.parametrize("refused", [0, 1])
async def test_send_replay_refused_recipient_refuses_the_message(hop_for: HopMaker, refused: int) -> None:
    """A recipient that is refused now stops the content for all: there is no partial send."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB, CAROL)
        await hung_up(fake)
        fake.on("RCPT", *[None] * refused, b"450 4.2.1 not now\r\n")
        with pytest.raises(NextHopRefused) as caught:
            await transaction.send(sealed(BOB, CAROL))

        assert caught.value.reply().code == 450
        assert fake.received == b""
        assert "DATA" not in fake.verbs()


async def test_add_replay_refused_earlier_recipient_is_not_this_ones_refusal(hop_for: HopMaker) -> None:
    """A 550 for an earlier recipient must not bounce the present one; the message cannot leave without it."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB)
        await hung_up(fake)
        fake.on("RCPT", b"550 5.1.1 gone\r\n")
        with pytest.raises(NextHopUnavailable) as caught:
            await transaction.add(CAROL)
        fake.on("RCPT", b"550 5.1.1 gone\r\n")
        with pytest.raises(NextHopRefused):
            await transaction.send(sealed(BOB))

        assert caught.value.reply().code == 451
        assert fake.received == b""


async def test_send_when_hop_does_not_come_back_is_unavailable(hop_for: HopMaker) -> None:
    """Nothing was sent."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB)
    await asyncio.sleep(0.02)
    with pytest.raises(NextHopUnavailable):
        await transaction.send(sealed(BOB))

    assert fake.received == b""


# --------------------------------------------------------------------------- what a message needs


async def test_start_null_sender(hop_for: HopMaker) -> None:
    """aiosmtplib raises for `<>`."""
    async with FakeNextHop() as fake:
        await (await started(hop_for(fake), BOB, sender=None)).send(sealed(BOB))

        assert fake.mails[0].mail == b"MAIL FROM:<>"


async def test_send_ascii_content_declares_nothing(hop_for: HopMaker) -> None:
    """Ciphertext is ASCII, whatever the original was (C-14)."""
    async with FakeNextHop() as fake:
        await (await started(hop_for(fake), BOB)).send(sealed(BOB))

        assert fake.verbs() == ["EHLO", "MAIL", "RCPT", "DATA"]
        assert fake.mails[0].mail == b"MAIL FROM:<alice@example.com>"


async def test_send_eightbit_content_repeats_mail_with_body_and_size(hop_for: HopMaker) -> None:
    """What MAIL did not declare is declared by another one, with all recipients."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB, CAROL)
        await transaction.send(sealed(BOB, CAROL, body=b"\xe9\r\n"))

        assert fake.verbs() == ["EHLO", "MAIL", "RCPT", "RCPT", "RSET", "MAIL", "RCPT", "RCPT", "DATA"]
        assert fake.mails[0].mail == b"MAIL FROM:<alice@example.com> SIZE=19 BODY=8BITMIME"
        assert len(fake.mails[0].rcpts) == 2


async def test_add_utf8_recipient_repeats_mail_with_smtputf8(hop_for: HopMaker) -> None:
    """A later recipient can need more than the first MAIL declared."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB, JOSE)
        await transaction.send(sealed(BOB, JOSE))

        assert fake.verbs() == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "RCPT", "DATA"]
        assert fake.mails[0].mail == b"MAIL FROM:<alice@example.com> SMTPUTF8"
        assert fake.mails[0].rcpts == [b"<bob@example.org>", "<josé@example.org>".encode()]


async def test_add_replay_broken_off_is_made_good_before_content(hop_for: HopMaker) -> None:
    """After half a replay the next hop knows half the recipients; the content waits for all of them."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB, CAROL)
        fake.on("RCPT", None, b"450 4.2.1 not now\r\n")
        with pytest.raises(NextHopUnavailable):
            await transaction.add(JOSE)
        await transaction.send(sealed(BOB, CAROL))

        assert fake.mails[0].rcpts == [b"<bob@example.org>", b"<carol@example.org>"]


async def test_add_refused_utf8_recipient_leaves_no_need_behind(hop_for: HopMaker) -> None:
    """A refused recipient does not shape the message of the others."""
    async with FakeNextHop(offers=()) as fake:
        transaction = await started(hop_for(fake), BOB)
        with pytest.raises(NeedsSmtpUtf8) as caught:
            await transaction.add(JOSE)
        await transaction.send(sealed(BOB))

        assert (caught.value.reply().code, caught.value.reply().enhanced) == (553, "5.6.7")
        assert fake.mails[0].mail == b"MAIL FROM:<alice@example.com>"


async def test_start_utf8_sender_without_smtputf8_is_refused(hop_for: HopMaker) -> None:
    """C-16."""
    async with FakeNextHop(offers=()) as fake:
        with pytest.raises(NeedsSmtpUtf8):
            await started(hop_for(fake), sender=JOSE)

        assert "MAIL" not in fake.verbs()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (sealed(BOB, body=b"\x80\r\n"), NeedsEightBit),
        (Released(b"A: b\r\n", b"\x80\r\n", (BOB,), "rule"), NeedsEightBit),
        (sealed(BOB, smtputf8=True), NeedsSmtpUtf8),
        (sealed(BOB, body=b"x" * 1000 + b"\r\n"), MessageTooLarge),
    ],
)
async def test_send_what_the_hop_cannot_take_sends_nothing(
    hop_for: HopMaker, content: Any, error: type[RelayError]
) -> None:
    """Nothing is converted, downgraded or cut (C-15, C-16, C-17)."""
    async with FakeNextHop(offers=("SIZE 1000",)) as fake:
        hop = hop_for(fake)
        transaction = await started(hop, BOB)
        with pytest.raises(error) as caught:
            await transaction.send(content)
        await (await started(hop, BOB)).send(sealed(BOB))

        assert not caught.value.is_temporary
        assert (len(fake.mails), fake.connections) == (1, 1)


# --------------------------------------------------------------------------- guards


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\nplain", "text", None, object()])
async def test_send_anything_but_outgoing_sends_nothing(hop_for: HopMaker, content: Any) -> None:
    """There is no way to hand over plain bytes."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB)
        with pytest.raises(TypeError):
            await transaction.send(content)

        assert "DATA" not in fake.verbs()


@pytest.mark.parametrize(
    ("accepted", "made_for"),
    [((), (BOB,)), ((BOB,), (BOB, CAROL)), ((BOB, CAROL), (BOB,)), ((CAROL,), (BOB,))],
)
async def test_send_content_made_for_others_sends_nothing(
    hop_for: HopMaker, accepted: tuple[Address, ...], made_for: tuple[Address, ...]
) -> None:
    """Content goes to exactly the recipients it was made for: nobody else gets it, nobody is left out."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), *accepted)
        with pytest.raises(ValueError, match="recipients"):
            await transaction.send(sealed(*made_for))

        assert "DATA" not in fake.verbs()


async def test_transaction_after_its_end_is_a_bug(hop_for: HopMaker) -> None:
    """No content is sent twice."""
    async with FakeNextHop() as fake:
        transaction = await started(hop_for(fake), BOB)
        await transaction.send(sealed(BOB))
        with pytest.raises(RuntimeError):
            await transaction.send(sealed(BOB))
        with pytest.raises(RuntimeError):
            await transaction.add(CAROL)
        await transaction.abandon()

        assert len(fake.mails) == 1


async def test_abandon_leaves_no_recipient_behind(hop_for: HopMaker) -> None:
    """The next transaction on the connection begins with a RSET."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
        await (await started(hop, BOB)).abandon()
        await (await started(hop, CAROL)).send(sealed(CAROL))

        assert fake.mails[0].rcpts == [b"<carol@example.org>"]
        assert fake.connections == 1


async def test_session_close_ends_its_transactions(hop_for: HopMaker) -> None:
    """A client that vanishes leaves nothing behind, and the connection serves the next one."""
    async with FakeNextHop() as fake:
        hop = hop_for(fake)
        session = hop.session(CLIENT)
        await session.start(ALICE)
        await session.close()
        await (await started(hop, BOB)).send(sealed(BOB))

        assert fake.connections == 1
        with pytest.raises(RuntimeError):
            await session.start(ALICE)


async def test_session_close_while_adding_ends_the_transaction_afterwards(hop_for: HopMaker) -> None:
    """A client that vanishes within RCPT leaves its connection to others."""
    answered = asyncio.Event()

    async def late() -> bytes:
        await answered.wait()
        return b"250 2.1.5 ok\r\n"

    async with FakeNextHop().on("RCPT", late) as fake:
        hop = hop_for(fake)
        session = hop.session(CLIENT)
        transaction = await session.start(ALICE)
        adding = asyncio.ensure_future(transaction.add(BOB))
        while fake.is_scripted("RCPT"):  # noqa: ASYNC110 - the fake has no event for each of its states
            await asyncio.sleep(0.01)
        await session.close()
        answered.set()
        await adding
        await (await started(hop, CAROL)).send(sealed(CAROL))

        assert fake.connections == 1
        assert fake.mails[0].rcpts == [b"<carol@example.org>"]


@pytest.mark.parametrize("client_login", [False, True])
async def test_session_close_while_sending_lets_it_end(hop_for: HopMaker, client_login: bool) -> None:
    """A client that vanishes after the final dot does not stop its message (S-27)."""
    answered = asyncio.Event()

    async def late() -> bytes:
        await answered.wait()
        return b"250 2.0.0 ok\r\n"

    async with FakeNextHop(logins=LOGINS if client_login else None).on("DOT", late) as fake:
        session = hop_for(fake, client_login=client_login).session(CLIENT)
        if client_login:
            await session.login("relay", "s3cret")
        transaction = await session.start(ALICE)
        await transaction.add(BOB)
        sending = asyncio.ensure_future(transaction.send(sealed(BOB)))
        while fake.is_scripted("DOT"):  # noqa: ASYNC110 - the fake has no event for each of its states
            await asyncio.sleep(0.01)
        await session.close()
        answered.set()
        await sending
        await asyncio.sleep(0.02)

        assert len(fake.mails) == 1
        assert fake.current == (0 if client_login else 1)
        assert session._credentials is None


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "CONTENT", "DOT"])
async def test_cancelled_transaction_leaves_slot_and_pool_clean(hop_for: HopMaker, verb: str) -> None:
    """A cancelled command costs its connection and nothing else."""
    async with FakeNextHop().on(verb, Fault.HANG) as fake:
        hop = hop_for(fake, max_connections=1, timeouts=Timeouts(slot_seconds=1))

        async def whole() -> None:
            transaction = await started(hop, BOB)
            await transaction.send(sealed(BOB, body=b"x" * 70 + b"\r\n" * 4_000_000))

        task = asyncio.ensure_future(whole())
        while fake.is_scripted(verb):  # noqa: ASYNC110 - the fake has no event for each of its states
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kept = list(hop.pool._parked)
        await (await started(hop, CAROL)).send(sealed(CAROL))

        assert kept == []
        assert [mail.rcpts for mail in fake.mails] == [[b"<carol@example.org>"]]
        assert not hop.pool._used


async def test_random_faults_never_deliver_partially_or_twice(hop_for: HopMaker, clock: FixedClock) -> None:
    """Under random drops and refusals each message is delivered whole exactly when `send` returned.

    Only after OutcomeUnknown may it be either way, and then at most once.
    """
    chance = random.Random(20260601)
    faults: list[Any] = [None] * 12 + [Fault.DROP, b"421 4.3.2 bye\r\n", b"450 4.2.0 no\r\n", b"junk\r\n"]
    outcomes: dict[int, str] = {}
    async with FakeNextHop() as fake:
        hop = hop_for(fake, max_connections=3)
        verbs = ("CONNECT", "EHLO", "MAIL", "RCPT", "RSET", "DATA", "CONTENT", "DOT")
        for verb in verbs:
            answers = [fault for fault in faults if verb != "CONTENT" or fault in (None, Fault.DROP)]
            fake.on(verb, *(chance.choice(answers) for _ in range(200)))
        for number in range(150):
            outcomes[number] = await _attempt(hop, number)
        delivered = [int(mail.content.rsplit(b"\r\n", 2)[1]) for mail in fake.mails]

    returned = [number for number, outcome in outcomes.items() if outcome == "sent"]
    unknown = {number for number, outcome in outcomes.items() if outcome == "OutcomeUnknown"}
    assert sorted(set(delivered) - unknown) == returned
    assert len(delivered) == len(set(delivered))
    assert all(mail.rcpts == [b"<bob@example.org>", b"<carol@example.org>"] for mail in fake.mails)
    assert len(returned) > 15
    assert not hop.pool._used


async def _attempt(hop: Any, number: int) -> str:
    session = hop.session(CLIENT)
    try:
        transaction = await session.start(ALICE)
        await transaction.add(BOB)
        await transaction.add(CAROL)
        await transaction.send(sealed(BOB, CAROL, body=f"{number}\r\n".encode()))
    except RelayError as exc:
        return type(exc).__name__
    finally:
        await session.close()
    return "sent"
