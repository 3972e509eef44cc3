"""Tests of `relay/conversation.py`: transactions of one client, and what is remembered when it vanishes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from relay.address import parse_mailbox
from relay.conversation import Conversation
from relay.errors import (
    DeliveryIncomplete,
    LoginRefused,
    NextHopRefused,
    NextHopUnavailable,
    SenderNotAllowed,
)
from relay.message import Address, Client, Login, MailOptions
from relay.openpgp.sequoia import SequoiaEngine
from relay.rule import Mixed
from tests.fakes import ScriptedSession
from tests.line import Line, LyingEngine, policy

CLIENT = Client("conn", "192.0.2.1", login=Login("sender", ("sender@example.com",)))
SENDER, ALICE, BOB = (
    parse_mailbox(name) for name in ("sender@example.com", "alice@clear.example", "bob@clear.example")
)
IDENTIFIED = b"Message-ID: <1@example.com>\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\n"
CONTENT = b"From: sender@example.com\r\nTo: alice@clear.example\r\n" + IDENTIFIED + b"\r\nhello\r\n"
UNIDENTIFIED = CONTENT.replace(IDENTIFIED, b"")


@pytest.fixture
def world() -> Line:
    """Nothing is encrypted here: the recipients' rule is `never`."""
    return Line(LyingEngine(lambda plaintext, keys: b""))


async def _open(world: Line) -> Conversation:
    conversation = world.pipeline.connect(CLIENT)
    await conversation.mail(CLIENT, "conn-1", SENDER, MailOptions())
    await conversation.rcpt(ALICE)
    return conversation


async def _submit(world: Line, content: bytes = CONTENT) -> Conversation:
    conversation = await _open(world)
    await conversation.data(content)
    return conversation


async def test_login_asks_the_authenticator(world: Line) -> None:
    """The login that comes back carries what the authenticator says of it."""
    conversation = world.pipeline.connect(CLIENT)

    assert Login("alice") == await conversation.login("alice", "right")
    with pytest.raises(LoginRefused):
        await conversation.login("alice", "wrong")


async def test_mail_of_a_foreign_sender_never_reaches_the_next_hop(world: Line) -> None:
    """The envelope sender is checked before anything is opened, and the log says so."""
    conversation = world.pipeline.connect(CLIENT)

    with pytest.raises(SenderNotAllowed):
        await conversation.mail(CLIENT, "conn-1", BOB, MailOptions())

    assert [] == world.session.dialogue
    assert ["sender_refused"] == world.journal.names()


async def test_mail_again_drops_the_transaction_before(world: Line) -> None:
    """Two MAIL commands never share recipients."""
    conversation = await _open(world)

    await conversation.mail(CLIENT, "conn-2", SENDER, MailOptions())
    await conversation.rcpt(BOB)
    await conversation.data(CONTENT)

    assert [(BOB,)] == [copy.recipients for copy in world.session.taken]
    assert ["mail", f"rcpt:{ALICE}", "rset", "mail"] == world.session.dialogue[:4]


async def test_data_without_a_transaction_is_refused(world: Line) -> None:
    """A transaction serves one message; the edge never lets a client get here."""
    conversation = await _submit(world)

    with pytest.raises(RuntimeError):
        await conversation.data(CONTENT)

    assert 1 == len(world.session.taken)


async def test_data_failure_is_logged_with_its_detail(world: Line) -> None:
    """What the client does not read stands in the log."""
    world.session.script["data"] = [NextHopUnavailable("connection reset by peer")]

    with pytest.raises(NextHopUnavailable):
        await _submit(world)

    event, facts = world.journal.events[-1]
    assert ("message_refused", "451 4.4.1", "connection reset by peer") == (
        event,
        facts["reply"],
        facts["detail"],
    )


async def test_data_gives_the_transaction_on_the_next_hop_back(world: Line) -> None:
    """A delivered message leaves nothing open, so that the connection serves the next one."""
    await _submit(world)

    assert ["data", "rset"] == world.session.dialogue[-2:]


async def test_close_ends_session_and_transaction(world: Line) -> None:
    """Nothing of a connection stays open."""
    conversation = await _open(world)

    await conversation.close()

    assert ["rset", "close"] == world.session.dialogue[-2:]


# --------------------------------------------------------------------------- RFC 1047


async def test_confirmed_mail_sent_again_is_delivered_again(world: Line) -> None:
    """Identical mails sent on purpose all arrive."""
    for _ in range(2):
        conversation = await _submit(world)
        conversation.confirm()
        await conversation.close()

    assert 2 == len(world.session.taken)


async def test_unconfirmed_mail_sent_again_is_not_delivered_twice(world: Line) -> None:
    """A client that vanished after the dot, and may not have read the 250, hears it at its retry."""
    conversation = await _submit(world)
    await conversation.close()

    retry = await _submit(world)
    retry.confirm()
    again = await _submit(world)

    assert 2 == len(world.session.taken)  # the first try, and `again`, which followed a known outcome
    await again.close()


@pytest.mark.parametrize(
    "content",
    [
        UNIDENTIFIED,
        UNIDENTIFIED + IDENTIFIED,
        UNIDENTIFIED.replace(b"\r\n\r\n", b"\r\nMessage-ID: <1@example.com>\r\n\r\n"),
    ],
    ids=["neither", "both in the body only", "no date"],
)
async def test_unconfirmed_mail_without_message_id_and_date_is_delivered_again(
    content: bytes, world: Line
) -> None:
    """Without both fields of the client a retry cannot be told from a second mail."""
    await (await _submit(world, content)).close()

    await _submit(world, content)

    assert 2 == len(world.session.taken)


@pytest.mark.parametrize(
    ("client", "sender"),
    [(replace(CLIENT, login=Login("other")), SENDER), (CLIENT, None)],
    ids=["another login", "another sender"],
)
async def test_unconfirmed_mail_of_somebody_else_is_delivered(
    client: Client, sender: Address | None, world: Line
) -> None:
    """The same content is a retry only from the same login and sender."""
    await (await _submit(world)).close()

    conversation = world.pipeline.connect(client)
    await conversation.mail(client, "conn-2", sender, MailOptions())
    await conversation.rcpt(ALICE)
    await conversation.data(CONTENT)

    assert 2 == len(world.session.taken)


async def test_unconfirmed_refusal_is_tried_again(world: Line) -> None:
    """What was not delivered is never taken for delivered."""
    world.session.script["data"] = [NextHopUnavailable()]
    with pytest.raises(NextHopUnavailable):
        await _submit(world)

    await _submit(world)

    assert 1 == len(world.session.taken)


async def test_retry_while_the_first_try_still_runs_waits_for_it(world: Line) -> None:
    """The client vanished during the delivery: its retry gets that delivery's outcome."""
    held = asyncio.Event()
    first = await _open(world)
    world.session.hold = held
    running = asyncio.create_task(first.data(CONTENT))
    await world.session.holding.wait()
    first.gone()
    retry = await _open(world)
    waiting = asyncio.create_task(retry.data(CONTENT))
    await asyncio.sleep(0)
    assert not waiting.done()

    world.session.hold = None
    held.set()
    await asyncio.gather(running, waiting)
    await first.close()

    assert 1 == len(world.session.taken)


async def test_retry_of_unidentified_mail_does_not_wait(world: Line) -> None:
    """A second mail that only looks alike is not held up by the first, nor taken for it."""
    held = asyncio.Event()
    first = await _open(world)
    world.session.hold = held
    running = asyncio.create_task(first.data(UNIDENTIFIED))
    await world.session.holding.wait()
    first.gone()
    world.session.hold = None

    await _submit(world, UNIDENTIFIED)
    assert not running.done()

    held.set()
    await running
    assert 2 == len(world.session.taken)


async def test_retry_whose_client_vanishes_while_it_waits_is_waited_for_too(world: Line) -> None:
    """Three tries of one message: each waits for the one before, and one delivery is all that happens."""
    world.session.script["data"] = [NextHopUnavailable()]
    tries = []
    holds = [asyncio.Event(), asyncio.Event()]
    world.session.hold = holds[0]
    for _ in range(2):
        conversation = await _open(world)
        tries.append(asyncio.create_task(conversation.data(CONTENT)))
        await asyncio.sleep(0)
        conversation.gone()
    world.session.hold = holds[1]
    holds[0].set()
    await asyncio.wait(tries[:1])
    for _ in range(3):
        await asyncio.sleep(0)
    world.session.hold = None

    last = asyncio.create_task(_submit(world))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not last.done()

    holds[1].set()
    first, second, _ = await asyncio.gather(*tries, last, return_exceptions=True)
    assert (True, None) == (isinstance(first, NextHopUnavailable), second)
    assert 1 == len(world.session.taken)


async def test_partly_delivered_mail_reaches_only_the_rest_at_the_retry() -> None:
    """After `DeliveryIncomplete` nobody gets the message twice, whatever the client read."""
    session = ScriptedSession({f"rcpt:{SENDER}": [NextHopUnavailable()]})
    world = Line(SequoiaEngine(workers=1), session=session, policy=policy(mixed=Mixed.SPLIT))
    keyed = parse_mailbox("curve25519@example.com")
    first = await _open(world)
    await first.rcpt(keyed)
    session.script[f"rcpt:{ALICE}"] = [NextHopRefused(550, "5.1.1", "the recipient")]
    with pytest.raises(DeliveryIncomplete):
        await first.data(CONTENT)
    first.confirm()

    retry = await _open(world)
    await retry.rcpt(keyed)
    await retry.data(CONTENT)

    assert [(keyed,), (ALICE,)] == [copy.recipients for copy in session.taken]
