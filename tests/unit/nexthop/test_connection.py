"""One connection: nothing of value before verified TLS, one reply per command, every failure our own."""

from __future__ import annotations

import asyncio
import ssl
import traceback
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.errors import (
    LoginRefused,
    MessageTooLarge,
    NeedsEightBit,
    NeedsSmtpUtf8,
    NextHopRefused,
    NextHopUnavailable,
    OutcomeUnknown,
    RelayError,
)
from relay.message import Address, Offers
from relay.nexthop.connection import HopConnection
from relay.nexthop.login import Credentials
from relay.nexthop.replies import HopFailure, Reason
from relay.nexthop.settings import Timeouts, Tls
from relay.nexthop.trust import client_context
from relay.nexthop.wire import Needs
from tests.fakes import FakeNextHop, Fault
from tests.unit.nexthop.conftest import ALICE, BOB, JOSE, QUICK, sealed, server_context, settings_for

LOGIN = Credentials("relay", "s3cret")


@asynccontextmanager
async def connected(
    fake: FakeNextHop, ca_file: Path | None = None, **more: Any
) -> AsyncIterator[HopConnection]:
    connection = HopConnection(settings_for(fake, **more))
    try:
        await connection.open(client_context(ca_file) if ca_file else None)
        yield connection
    finally:
        connection.close()


async def failure_of_open(fake: FakeNextHop, ca_file: Path | None = None, **more: Any) -> HopFailure:
    with pytest.raises(HopFailure) as caught:
        async with connected(fake, ca_file, **more):
            pass
    return caught.value


# --------------------------------------------------------------------------- TLS


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
async def test_open_with_good_certificate_is_encrypted(
    tls: str, good_context: ssl.SSLContext, ca_file: Path
) -> None:
    """The good case of the matrix below, so that its failures are about the certificate."""
    async with (
        FakeNextHop(tls=tls, context=good_context) as fake,
        connected(fake, ca_file) as connection,
    ):
        assert connection.tls.startswith("TLSv1.3 ")
        assert connection.offers.size_bytes == 10485760


def bad_contexts(authority: trustme.CA) -> dict[str, ssl.SSLContext]:
    expired = authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 2, tzinfo=UTC))
    contexts = {
        "wrong name": server_context(authority.issue_cert("mail.example.com")),
        "name in CN only": server_context(authority.issue_cert("other.example", common_name="127.0.0.1")),
        "expired": server_context(expired),
        "unknown CA": server_context(trustme.CA().issue_cert("127.0.0.1")),
        "TLS 1.1": server_context(authority.issue_cert("127.0.0.1")),
    }
    contexts["TLS 1.1"].set_ciphers("DEFAULT@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that it is deprecated is the point
        contexts["TLS 1.1"].minimum_version = ssl.TLSVersion.TLSv1
        contexts["TLS 1.1"].maximum_version = ssl.TLSVersion.TLSv1_1
    return contexts


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
@pytest.mark.parametrize("fault", ["wrong name", "name in CN only", "expired", "unknown CA", "TLS 1.1"])
async def test_open_with_bad_certificate_sends_nothing(
    tls: str, fault: str, authority: trustme.CA, ca_file: Path
) -> None:
    """Neither a login nor mail goes to a next hop that is not proven to be the right one (C-01)."""
    async with FakeNextHop(tls=tls, context=bad_contexts(authority)[fault]) as fake:
        failure = await failure_of_open(fake, ca_file)

        assert failure.reason in (Reason.TLS, Reason.UNREACHABLE)  # an old server just hangs up
        assert failure.reply().code == 451
        assert set(fake.verbs()) <= {"EHLO", "STARTTLS"}


async def test_open_with_stripped_starttls_sends_nothing(good_context: ssl.SSLContext, ca_file: Path) -> None:
    """aiosmtplib's default goes on in clear text; here a missing STARTTLS ends it (C-02)."""
    async with FakeNextHop() as fake:
        failure = await failure_of_open(fake, ca_file, tls=Tls.STARTTLS)
        await asyncio.sleep(0)

        assert failure.reason is Reason.TLS
        assert set(fake.verbs()) <= {"EHLO", "QUIT"}


@pytest.mark.parametrize(
    "reply", [b"454 4.7.0 no TLS now\r\n", b"501 no\r\n", b"250 strange\r\n", Fault.DROP]
)
async def test_open_with_refused_starttls_sends_nothing(
    reply: Any, good_context: ssl.SSLContext, ca_file: Path
) -> None:
    """A refused upgrade never falls back to clear text."""
    async with FakeNextHop(tls="starttls", context=good_context) as fake:
        fake.on("STARTTLS", reply)
        await failure_of_open(fake, ca_file)

        assert set(fake.verbs()) <= {"EHLO", "STARTTLS"}


async def test_open_discards_replies_injected_before_the_handshake(
    good_context: ssl.SSLContext, ca_file: Path
) -> None:
    """What a man in the middle appends to the 220 in clear text is not read inside TLS (C-03)."""
    async with FakeNextHop(tls="starttls", context=good_context, offers=("SIZE 5",)) as fake:
        fake.on("STARTTLS", b"220 ready\r\n250-injected\r\n250-SIZE 999\r\n250 SMTPUTF8\r\n")
        async with connected(fake, ca_file) as connection:
            await connection.mail(ALICE, Needs())

            assert connection.offers == Offers(size_bytes=5)
            assert fake.lines[-1] == b"MAIL FROM:<alice@example.com>"


async def test_open_forgets_what_was_offered_before_tls(good_context: ssl.SSLContext, ca_file: Path) -> None:
    """Offers count only from the EHLO inside TLS (RFC 3207 §4.2)."""
    async with FakeNextHop(tls="starttls", context=good_context, offers=()) as fake:
        fake.on("EHLO", b"250-hop\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250 SMTPUTF8\r\n")
        async with connected(fake, ca_file) as connection:
            assert connection.offers == Offers()


async def test_open_without_tls_to_another_host_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that passed as loopback but leads elsewhere is noticed when it has become an address."""
    async with FakeNextHop() as fake:
        monkeypatch.setattr("relay.nexthop.connection.is_loopback", lambda address: False)
        failure = await failure_of_open(fake)

        assert failure.reason is Reason.TLS
        assert fake.lines == []


# --------------------------------------------------------------------------- opening


@pytest.mark.parametrize(
    ("verb", "step", "reason"),
    [
        ("CONNECT", Fault.DROP, Reason.UNREACHABLE),
        ("CONNECT", b"554 5.7.1 go away\r\n", Reason.REFUSED),
        ("CONNECT", b"421 4.3.2 busy\r\n", Reason.REFUSED),
        ("CONNECT", b"HTTP/1.1 400 Bad Request\r\n", Reason.PROTOCOL),
        ("CONNECT", b"220 hop\r\n250 too early\r\n", Reason.PROTOCOL),
        ("CONNECT", b"x" * 40_000, Reason.PROTOCOL),
        ("CONNECT", b"220-more\r\n" * 4_000, Reason.PROTOCOL),
        ("EHLO", Fault.DROP, Reason.LOST),
        ("EHLO", b"502 5.5.1 no\r\n", Reason.REFUSED),
        ("EHLO", b"\xff\xfe\r\n", Reason.PROTOCOL),
    ],
)
async def test_open_failing_step_is_a_hop_failure(verb: str, step: Any, reason: Reason) -> None:
    """Whatever the next hop does instead of greeting us is our one exception, 451 for the client."""
    async with FakeNextHop() as fake:
        fake.on(verb, step)
        failure = await failure_of_open(fake)

        assert failure.reason is reason
        assert failure.reply().code == 451


async def test_open_nobody_listening_is_unreachable() -> None:
    """A refused TCP connection."""
    async with FakeNextHop() as fake:
        pass

    assert (await failure_of_open(fake)).reason is Reason.UNREACHABLE


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70 + ".invalid"])
async def test_open_bad_name_is_unreachable(host: str, ca_file: Path) -> None:
    """A name that does not resolve, or that IDNA cannot encode."""
    async with FakeNextHop() as fake:
        failure = await failure_of_open(fake, ca_file, host=host, tls=Tls.IMPLICIT)

    assert failure.reason is Reason.UNREACHABLE


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO"])
async def test_open_silent_hop_times_out(verb: str) -> None:
    """Nobody waits for ever."""
    timeouts = Timeouts(open_seconds=0.1, command_seconds=0.1)
    async with FakeNextHop() as fake:
        fake.on(verb, Fault.HANG)
        failure = await failure_of_open(fake, timeouts=timeouts)

    assert failure.reason is Reason.TIMEOUT


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        (("SIZE 1000", "8bitmime", "SmtpUtf8", "DSN"), Offers(1000, True, True)),
        (("SIZE",), Offers()),
        (("SIZE 0",), Offers()),
        (("SIZE big",), Offers()),
        (("SIZE ²",), Offers()),
        (("SIZE " + "9" * 400,), Offers()),
        (("AUTH plain XOAUTH2", "AUTH=LOGIN"), Offers(auth=("PLAIN", "XOAUTH2", "LOGIN"))),
    ],
)
async def test_offers_are_read_from_ehlo(offers: tuple[str, ...], expected: Offers) -> None:
    """Odd parameters are no limit and no error (RFC 1870 §4)."""
    async with FakeNextHop(offers=offers) as fake, connected(fake) as connection:
        assert connection.offers == expected


# --------------------------------------------------------------------------- AUTH


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "CRAM-MD5 PLAIN LOGIN"])
async def test_login_good_password_is_accepted(mechanisms: str) -> None:
    """PLAIN and LOGIN work; CRAM-MD5 is passed over."""
    async with FakeNextHop(logins={"relay": "s3cret"}) as fake:
        fake.mechanisms = mechanisms
        async with connected(fake) as connection:
            await connection.login(LOGIN)
            await connection.mail(ALICE, Needs())


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN", "CRAM-MD5 PLAIN LOGIN"])
async def test_login_wrong_password_is_tried_once(mechanisms: str) -> None:
    """aiosmtplib's login tries every mechanism: three failures for one. Here there is one AUTH command."""
    async with FakeNextHop(logins={"relay": "other"}) as fake:
        fake.mechanisms = mechanisms
        async with connected(fake) as connection:
            with pytest.raises(LoginRefused):
                await connection.login(LOGIN)

        assert fake.verbs().count("AUTH") == 1


@pytest.mark.parametrize(
    ("verb", "step"), [("LOGIN", b"535 5.7.8 no such user\r\n"), ("AUTH", b"535 no\r\n")]
)
async def test_login_refused_at_either_step_is_refused(verb: str, step: bytes) -> None:
    """AUTH LOGIN has two steps and both can judge."""
    async with FakeNextHop(logins={"relay": "s3cret"}) as fake:
        fake.mechanisms = "LOGIN"
        fake.on(verb, step)
        async with connected(fake) as connection:
            with pytest.raises(LoginRefused):
                await connection.login(LOGIN)


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (Fault.DROP, Reason.LOST),
        (b"454 4.7.0 later\r\n", Reason.REFUSED),
        (b"421 4.3.2 bye\r\n", Reason.REFUSED),
        (b"538 5.7.11 TLS\r\n", Reason.LOGIN),
        (b"AGFsaWNl\r\n", Reason.PROTOCOL),
    ],
)
async def test_login_failing_otherwise_is_no_refusal(mechanisms: str, step: Any, reason: Reason) -> None:
    """Only a judgement of the password is one."""
    async with FakeNextHop(logins={"relay": "s3cret"}) as fake:
        fake.mechanisms = mechanisms
        fake.on("AUTH", step)
        async with connected(fake) as connection:
            with pytest.raises(HopFailure) as caught:
                await connection.login(LOGIN)

        assert caught.value.reason is reason


@pytest.mark.parametrize("mechanisms", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("password", ["pw", "s3cret-and-longer"])
async def test_login_failures_never_show_the_password(mechanisms: str, password: str) -> None:
    """Neither the password nor its form on the wire is in an error, even if the server quotes it."""
    credentials = Credentials("relay", password)
    wire = [*credentials.login(), credentials.plain()]
    async with FakeNextHop(logins={"relay": "other"}) as fake:
        fake.mechanisms = mechanisms
        quoted = b" ".join(wire) + b"\r\n"
        for step in (b"501 bad: " + quoted, b"535 bad: " + quoted, quoted, b"xxx" + quoted, Fault.DROP):
            fake.on("AUTH", step)
            async with connected(fake) as connection:
                with pytest.raises(RelayError) as caught:
                    await connection.login(credentials)

            shown = "".join(traceback.format_exception(caught.value))
            assert not any(secret.decode() in shown for secret in [*wire, password.encode()])


# --------------------------------------------------------------------------- MAIL and RCPT


@pytest.mark.parametrize(
    ("sender", "needs", "expected"),
    [
        (ALICE, Needs(), b"MAIL FROM:<alice@example.com>"),
        (None, Needs(), b"MAIL FROM:<>"),
        (None, Needs(size_bytes=7), b"MAIL FROM:<> SIZE=7"),
        (JOSE, Needs(True, True, 7), "MAIL FROM:<josé@example.org> SIZE=7 BODY=8BITMIME SMTPUTF8".encode()),
        (Address("a,b@x.test", "a,b", "x.test"), Needs(), b"MAIL FROM:<a,b@x.test>"),
        (Address('"a> b"@x.test', "a> b", "x.test"), Needs(), b'MAIL FROM:<"a> b"@x.test>'),
        (Address("a(c)b@x.test", "a(c)b", "x.test"), Needs(), b"MAIL FROM:<a(c)b@x.test>"),
        (Address("Alice@Example.COM", "Alice", "example.com"), Needs(), b"MAIL FROM:<Alice@Example.COM>"),
    ],
)
async def test_mail_says_the_sender_as_it_is(sender: Address | None, needs: Needs, expected: bytes) -> None:
    """aiosmtplib would parse `a,b@x` to `a` and raises for the null sender; here nothing is changed."""
    async with FakeNextHop() as fake, connected(fake) as connection:
        await connection.mail(sender, needs)

        assert fake.lines[-1] == expected


@pytest.mark.parametrize(
    "text",
    [
        "a@x> SIZE=1",
        "a@x>\r\nRCPT TO:<b@x",
        "a b@x",
        "<a@x",
        'a"x y"@x',
        '"a"b"> X="@x',
        '"a\r\nRSET\r\n"@x',
        "a\0@x",
    ],
)
async def test_mail_and_rcpt_never_write_what_is_no_address(text: str) -> None:
    """An address that would end its command and begin another one is stopped at the wire."""
    address = Address(text, "a", "x")
    async with FakeNextHop() as fake, connected(fake) as connection:
        with pytest.raises(ValueError):
            await connection.mail(address, Needs())
        with pytest.raises(ValueError):
            await connection.rcpt(address)
        await asyncio.sleep(0)

        assert set(fake.verbs()) <= {"EHLO"}


@pytest.mark.parametrize(
    ("needs", "error"),
    [
        (Needs(smtputf8=True), NeedsSmtpUtf8),
        (Needs(eightbit=True), NeedsEightBit),
        (Needs(size_bytes=1001), MessageTooLarge),
    ],
)
async def test_mail_beyond_the_offers_is_not_sent(needs: Needs, error: type[RelayError]) -> None:
    """C-15, C-16, C-17: what the next hop cannot take is refused with a permanent reply."""
    async with FakeNextHop(offers=("SIZE 1000",)) as fake, connected(fake) as connection:
        with pytest.raises(error) as caught:
            await connection.mail(ALICE, needs)

        assert not caught.value.is_temporary
        assert fake.verbs() == ["EHLO"]


async def test_mail_to_hop_without_size_declares_none() -> None:
    """A parameter that was not offered is not used."""
    async with FakeNextHop(offers=()) as fake, connected(fake) as connection:
        await connection.mail(ALICE, Needs(size_bytes=5))

        assert fake.lines[-1] == b"MAIL FROM:<alice@example.com>"


async def test_mail_with_open_transaction_resets_first() -> None:
    """A second MAIL never joins an older transaction."""
    async with FakeNextHop() as fake, connected(fake) as connection:
        await connection.mail(ALICE, Needs())
        await connection.mail(None, Needs())

        assert fake.verbs() == ["EHLO", "MAIL", "RSET", "MAIL"]


@pytest.mark.parametrize(
    ("step", "error"),
    [
        (b"550 5.1.1 no\r\n", NextHopRefused),
        (b"421 4.3.2 closing\r\n", NextHopUnavailable),
        (b"503 5.5.1 what?\r\n", NextHopUnavailable),
        (b"250 ok\r\n250 ok\r\n", NextHopUnavailable),
        (b"334 go\r\n", NextHopUnavailable),
        (b"2xx ok\r\n", NextHopUnavailable),
        (Fault.DROP, NextHopUnavailable),
    ],
)
@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
async def test_command_bad_answer_is_refused_or_unavailable(
    verb: str, step: Any, error: type[RelayError]
) -> None:
    """Every answer to every command ends in one of our two errors; two replies to one command in 451."""
    async with FakeNextHop() as fake, connected(fake) as connection:
        fake.on(verb, step)
        with pytest.raises(error):
            await connection.mail(ALICE, Needs())
            await connection.rcpt(BOB)
            await connection.data()

        assert fake.received == b""


async def test_command_silent_hop_times_out_and_is_not_usable() -> None:
    """A late reply could be taken for that of the next command, so the connection is over."""
    async with (
        FakeNextHop().on("MAIL", Fault.HANG) as fake,
        connected(fake, timeouts=Timeouts(command_seconds=0.1)) as connection,
    ):
        with pytest.raises(HopFailure) as caught:
            await connection.mail(ALICE, Needs())

        assert caught.value.reason is Reason.TIMEOUT
        assert not connection.is_usable


# --------------------------------------------------------------------------- content


@asynccontextmanager
async def after_354(fake: FakeNextHop, **more: Any) -> AsyncIterator[HopConnection]:
    async with connected(fake, **more) as connection:
        await connection.mail(ALICE, Needs())
        await connection.rcpt(BOB)
        await connection.data()
        yield connection


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        (b"250 2.0.0 ok\r\n", None, 250),
        (b"550 5.7.1 spam\r\n", NextHopRefused, 550),
        (b"452 4.3.1 full\r\n", NextHopRefused, 452),
        (b"552 5.3.4 big\r\n", NextHopRefused, 552),
        (b"421 4.3.2 closing\r\n", NextHopUnavailable, 451),
        (b"354 again\r\n", OutcomeUnknown, 451),
        (b"garbage\r\n", OutcomeUnknown, 451),
        (b"x" * 40_000, OutcomeUnknown, 451),
        (Fault.DROP, OutcomeUnknown, 451),
        (Fault.HANG, OutcomeUnknown, 451),
    ],
)
async def test_transfer_final_reply_decides(step: Any, error: type[RelayError] | None, code: int) -> None:
    """After the final dot only a clear yes or no is an outcome (RFC 1047)."""
    timeouts = Timeouts(final_seconds=0.2)
    fake = FakeNextHop().on("DOT", step)
    async with fake, after_354(fake, timeouts=timeouts) as connection:
        if error is None:
            await connection.transfer(sealed())
            assert connection.is_usable
        else:
            with pytest.raises(error) as caught:
                await connection.transfer(sealed())
            assert caught.value.reply().code == code
            assert connection.is_usable is (error is NextHopRefused)


LARGE = sealed(body=b"x" * 70 + b"\r\n" + (b"." * 70 + b"\r\n") * 200_000)
"""Larger than all socket buffers together, so that an upload is still under way when the next hop acts."""


@pytest.mark.parametrize(
    ("step", "error", "code"),
    [
        (Fault.DROP, NextHopUnavailable, 451),
        (b"552 5.3.4 too big\r\n", NextHopRefused, 552),
        (b"421 4.3.0 going down\r\n", NextHopUnavailable, 451),
        (b"250 2.0.0 taken already\r\n", OutcomeUnknown, 451),
        (b"nonsense\r\n", NextHopUnavailable, 451),
    ],
)
async def test_transfer_ended_by_the_hop_within_the_content(
    step: Any, error: type[RelayError], code: int
) -> None:
    """Without the final dot nothing was taken; an early refusal is heard; the connection is over."""
    fake = FakeNextHop().on("CONTENT", step)
    async with fake, after_354(fake, timeouts=Timeouts(block_seconds=5)) as connection:
        with pytest.raises(error) as caught:
            await connection.transfer(LARGE)

        assert caught.value.reply().code == code
        assert not connection.is_usable
        assert fake.mails == []


async def test_transfer_hop_that_stops_reading_times_out_with_bounded_memory() -> None:
    """Every block must be taken in time, and what waits for it stays small."""
    fake = FakeNextHop().on("CONTENT", Fault.HANG)
    async with fake, after_354(fake, timeouts=Timeouts(block_seconds=0.3)) as connection:
        transport = connection._protocol.transport
        assert isinstance(transport, asyncio.Transport)
        task = asyncio.ensure_future(connection.transfer(LARGE))
        await asyncio.sleep(0.15)
        waiting = transport.get_write_buffer_size()
        with pytest.raises(NextHopUnavailable):
            await task

        assert waiting < 300_000


async def test_transfer_with_two_final_replies_is_taken_and_the_connection_over() -> None:
    """The first one counts; what follows could be read as the reply to the next message."""
    fake = FakeNextHop().on("DOT", b"250 2.0.0 ok\r\n250 2.0.0 ok\r\n")
    async with fake, after_354(fake) as connection:
        await connection.transfer(sealed())

        assert not connection.is_usable


async def test_transfer_slow_final_reply_is_accepted() -> None:
    """The final reply has a time-out of its own, far longer than that of commands (C-08)."""
    timeouts = Timeouts(command_seconds=0.3, data_seconds=0.3, block_seconds=0.3, final_seconds=30)

    async def later() -> bytes:
        await asyncio.sleep(0.9)
        return b"250 2.0.0 queued at last\r\n"

    fake = FakeNextHop().on("DOT", later)
    async with fake, after_354(fake, timeouts=timeouts) as connection:
        await connection.transfer(sealed())

        assert len(fake.mails) == 1


async def test_transfer_slow_upload_does_not_use_up_the_final_time() -> None:
    """One time-out does not cover upload and reply: many blocks, each in time, take as long as they take."""
    timeouts = Timeouts(block_seconds=5, final_seconds=0.3)
    fake = FakeNextHop()
    read = 0

    async with fake, after_354(fake, timeouts=timeouts) as connection:
        upload = asyncio.ensure_future(connection.transfer(LARGE))
        while read < len(LARGE.body) and not upload.done():
            read = len(fake.received)
            await asyncio.sleep(0.002)
        await upload

        assert fake.mails[0].content == LARGE.header + b"\r\n" + LARGE.body


async def test_transfer_of_a_large_message_lets_others_run() -> None:
    """The loop is given back between blocks, so a large message does not stop small ones."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    fake = FakeNextHop()
    async with fake, after_354(fake) as connection:
        task = asyncio.ensure_future(others())
        await connection.transfer(LARGE)
        task.cancel()

        assert turns >= len(LARGE.body) // 65_536


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\nplain", "text", None])
async def test_transfer_of_anything_else_writes_nothing(content: Any) -> None:
    """The last place before the wire takes sealed or released content only."""
    fake = FakeNextHop()
    async with fake, after_354(fake) as connection:
        with pytest.raises(TypeError):
            await connection.transfer(content)
        connection.close()
        await asyncio.sleep(0.01)

        assert fake.received == b""


@pytest.mark.parametrize("tls", ["none", "implicit", "starttls"])
async def test_transfer_dots_arrive_exactly(tls: str, good_context: ssl.SSLContext, ca_file: Path) -> None:
    """Dot-stuffing and no other change (C-18)."""
    body = b".\r\n..\r\n.x\r\nx.\r\n\r\n.\r\n\xff\x00\r\n"
    fake = FakeNextHop(tls=tls, context=good_context)
    async with fake, after_354(fake, ca_file=None if tls == "none" else ca_file) as connection:
        await connection.transfer(sealed(body=body))

        assert fake.mails[0].content == b"Subject: ...\r\n\r\n" + body


async def test_close_within_content_says_no_quit() -> None:
    """QUIT would become part of the message."""
    fake = FakeNextHop()
    async with fake, after_354(fake) as connection:
        connection.close()
        await asyncio.sleep(0.02)

        assert fake.verbs()[-1] == "DATA"
        assert fake.received == b""


async def test_close_of_idle_connection_says_quit() -> None:
    """RFC 5321 §4.1.1.10."""
    async with FakeNextHop() as fake, connected(fake) as connection:
        connection.close()
        await asyncio.sleep(0.02)

        assert fake.verbs() == ["EHLO", "QUIT"]
        assert fake.current == 0


STATES = ["CONNECT", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "DOT", "CONTENT"]


@pytest.mark.parametrize(
    ("tls", "verb"),
    [(tls, verb) for tls in ("none", "implicit", "starttls") for verb in STATES] + [("starttls", "STARTTLS")],
)
async def test_cancelled_in_any_state_leaves_no_socket(
    tls: str, verb: str, good_context: ssl.SSLContext, ca_file: Path
) -> None:
    """A cancelled command closes its connection at once; the next hop sees it go."""
    fake = FakeNextHop(tls=tls, context=good_context, logins={"relay": "s3cret"}).on(verb, Fault.HANG)

    async def whole() -> None:
        async with connected(fake, None if tls == "none" else ca_file, timeouts=QUICK) as connection:
            await connection.login(LOGIN)
            await connection.mail(ALICE, Needs())
            await connection.rcpt(BOB)
            await connection.data()
            await connection.transfer(LARGE)

    before = open_sockets()
    async with fake:
        task = asyncio.ensure_future(whole())
        while fake.is_scripted(verb):  # noqa: ASYNC110 - the fake has no event for each of its states
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.sleep(0.01)

    assert open_sockets() == before
    assert fake.mails == []


def open_sockets() -> int:
    return sum(
        str(link.readlink()).startswith("socket:")
        for link in Path("/proc/self/fd").iterdir()
        if link.is_symlink()
    )
