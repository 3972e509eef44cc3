from __future__ import annotations

import asyncio
import logging
import re
import smtplib
import socket
import ssl
import struct

import pytest

from relay.budget import Budget
from relay.errors import KeyMissing, LoginUnavailable, NextHopUnavailable, OverMemory
from relay.message import Offers
from relay.server.settings import Limits, Timers, Tls
from tests.fakes import RecordingLine
from tests.unit.server.conftest import MakeEdge
from tests.unit.server.edge import PLAIN, Edge, Peer

MARKER = "Zanzibar-4711"


async def send_message(peer: Peer, text: str = "Subject: x\r\n\r\nbody") -> str:
    await peer.begin()
    return await peer.ask(text + "\r\n.")


# --------------------------------------------------------------------------- TLS


async def test_implicit_tls_submission_by_smtplib(edge: Edge) -> None:
    """A stock client submits on an implicit TLS port with AUTH (S-01, S-03)."""
    port = await edge.listen(Tls.IMPLICIT, auth=True)

    def submit() -> None:
        with smtplib.SMTP_SSL("127.0.0.1", port, context=unchecked(edge)) as client:
            client.login("alice", "s3cret")
            client.sendmail("alice@example.com", ["bob@example.org"], "Subject: x\r\n\r\nbody\r\n")

    await asyncio.to_thread(submit)

    assert [b"Subject: x\r\n\r\nbody\r\n"] == edge.line.messages
    assert re.fullmatch(r"TLSv1\.[23] \S+", edge.line.clients[0].tls)


async def test_starttls_submission_by_smtplib(edge: Edge) -> None:
    """A stock client submits through STARTTLS with AUTH LOGIN."""
    port = await edge.listen(Tls.STARTTLS, auth=True)

    def submit() -> None:
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.starttls(context=unchecked(edge))
            client.ehlo()
            client.user, client.password = "alice", "s3cret"
            client.auth("LOGIN", client.auth_login)
            client.sendmail("alice@example.com", ["bob@example.org"], "Subject: x\r\n\r\nbody\r\n")

    await asyncio.to_thread(submit)

    assert [b"Subject: x\r\n\r\nbody\r\n"] == edge.line.messages


def unchecked(edge: Edge) -> ssl.SSLContext:
    """For clients that dial by address; the certificate has a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def test_tls_below_1_2_fails(edge: Edge) -> None:
    """TLS 1.1 gets no connection (S-02)."""
    port = await edge.listen(Tls.IMPLICIT)
    old = unchecked(edge)
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=old)
    assert "tls_failed" in edge.journal.names()


async def test_handshake_that_never_comes_is_cut(make_edge: MakeEdge) -> None:
    """A client that says nothing on an implicit TLS port is dropped, and its place is free again."""
    edge = make_edge(timers=Timers(handshake_seconds=0.1))
    peer = await edge.dial(await edge.listen(Tls.IMPLICIT))

    async with asyncio.timeout(2):
        assert await peer.closed()
    assert ["tls_failed"] == edge.journal.names()


async def test_context_is_asked_for_each_connection(make_edge: MakeEdge) -> None:
    """A certificate that was read again serves the next connection."""
    edge = make_edge()
    port = await edge.listen(Tls.IMPLICIT)
    await (await edge.dial(port, tls=True)).reply()
    edge.server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await edge.dial(port, tls=True)


# --------------------------------------------------------------------------- replies


async def test_every_reply_has_an_enhanced_status(edge: Edge) -> None:
    """Every 2xx, 4xx and 5xx but greeting and EHLO carries a status of its own class (S-34)."""
    peer = await edge.start()
    edge.line.failures = {"rcpt:c@example.org": KeyMissing(recipient="c@example.org", rule="r")}
    commands = ["NOOP", "HELP", "VRFY a", "EXPN a", "BDAT 1", "X", "", "RSET", "RSET 1", "STARTTLS", PLAIN]
    commands += [
        "RCPT TO:<b@example.org>",
        "DATA",
        "MAIL FROM:<a@example.com> X=1",
        "MAIL FROM:<a@example.com>",
    ]
    commands += ["MAIL FROM:<>", "RCPT TO:<c@example.org>", "RCPT TO:<b@example.org>", "DATA", ".", "QUIT"]

    replies = [await peer.ask(command) for command in commands]

    numbered = [reply for reply in replies if not reply.startswith("354")]
    assert [] == [reply for reply in numbered if not re.match(r"([245])\d\d \1\.\d\.\d{1,2} \S", reply)]


async def test_unexpected_exception_is_451_without_its_text(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug is answered 451 4.3.0 with the id; its text reaches neither client nor log (S-42)."""
    edge.line.failures = {"data": ValueError(f"{MARKER}\r\n250 injected \xfc")}
    peer = await edge.start()
    with caplog.at_level(logging.DEBUG):
        reply = await send_message(peer)

    assert re.fullmatch(r"451 4\.3\.0 .*\(\w{8}-1\)", reply)
    assert MARKER not in caplog.text and "ValueError" in caplog.text
    assert ("unexpected", "ValueError") == (
        edge.journal.events[-1][0],
        edge.journal.events[-1][1]["exception"],
    )
    assert "reset" == edge.line.calls[-1]
    edge.line.failures = {}
    assert (await send_message(peer)).startswith("250")


@pytest.mark.parametrize("command", ["mail", "rcpt:bob@example.org"])
async def test_unexpected_exception_ends_the_transaction(edge: Edge, command: str) -> None:
    """After a bug in any call the session goes on with a new transaction."""
    edge.line.failures = {command: TimeoutError(MARKER)}
    peer = await edge.start()
    await peer.begin()
    edge.line.failures = {}

    assert "503 5.5.1 Send MAIL first" == await peer.ask("RCPT TO:<bob@example.org>")
    assert (await send_message(peer)).startswith("250")


async def test_reply_has_no_non_ascii_without_smtputf8(make_edge: MakeEdge) -> None:
    """Only a client that said SMTPUTF8 reads non-ASCII in a reply (S-31)."""
    line = RecordingLine(Offers(smtputf8=True))
    line.failures = {"data": KeyMissing(recipient="böb@example.org", rule="r")}
    peer = await make_edge(line=line).start()
    plain = await send_message(peer)
    await peer.ask("MAIL FROM:<> SMTPUTF8")
    await peer.ask("RCPT TO:<böb@example.org>")
    await peer.ask("DATA")
    utf8 = await peer.ask(".")
    later = await peer.ask("MAIL FROM:<@example.net:böb@example.org>")

    assert "böb@example.org" in utf8
    assert (True, True) == (plain.isascii(), later.isascii())


async def test_helo_name_is_sanitised(edge: Edge) -> None:
    """What goes into Received holds nothing but a host name's characters."""
    peer = await edge.start()
    await peer.ask("EHLO a b(c)<d>\te\xe9;[127.0.0.1]" + "x" * 300)
    await peer.ask("MAIL FROM:<>")

    helo = edge.line.clients[0].helo
    assert ("a?b?c??d??e??[127.0.0.1]", 255) == (helo[:24], len(helo))


async def test_ids_name_connection_and_transaction(edge: Edge) -> None:
    """The id of a transaction is that of its connection with a number, and stands in the final reply."""
    peer = await edge.start()
    replies = [await send_message(peer), await send_message(peer)]

    connection = edge.line.clients[0].id
    assert [f"{connection}-1", f"{connection}-2"] == edge.line.ids
    assert [f"250 2.0.0 Message accepted (id {id})" for id in edge.line.ids] == replies


# --------------------------------------------------------------------------- limits


async def test_recipients_over_the_limit_are_deferred(edge: Edge) -> None:
    """The 101st recipient gets 452 4.5.3, and the message still goes to the hundred (S-37)."""
    peer = await edge.start()
    await peer.ask("MAIL FROM:<>")
    replies = [await peer.ask(f"RCPT TO:<b{number}@example.org>") for number in range(101)]

    assert ["250 2.1.5 Recipient OK"] * 100 == replies[:100]
    assert replies[100].startswith("452 4.5.3 ")
    assert (await peer.ask("DATA")).startswith("354")


async def test_refused_recipients_are_limited_too(make_edge: MakeEdge) -> None:
    """A client cannot make the relay look up keys without end in one transaction."""
    edge = make_edge(limits=Limits(recipients=1))
    edge.line.failures = {"rcpt:b@example.org": KeyMissing(recipient="b@example.org", rule="r")}
    peer = await edge.start()
    await peer.ask("MAIL FROM:<>")
    replies = [(await peer.ask("RCPT TO:<b@example.org>"))[:3] for _ in range(11)]

    assert ["550"] * 10 + ["452"] == replies


async def test_message_over_the_limit_is_refused_and_the_session_goes_on(edge: Edge) -> None:
    """A message over the limit is read to its end, answered 552 5.3.4, and its rest is no command."""
    peer = await edge.start()
    await peer.begin()
    reply = await peer.ask("x" * 150_000 + "\r\nMAIL FROM:<evil@example.com>\r\n.")

    assert re.fullmatch(r"552 5\.3\.4 .*100000 bytes.*", reply)
    assert "503 5.5.1 Send MAIL first" == await peer.ask("RCPT TO:<b@example.org>")
    assert "data" not in edge.line.calls


async def test_endless_message_is_cut_after_the_drain(edge: Edge) -> None:
    """Past twice the limit there is a 552 and the connection closes, without the end of the message."""
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"x" * 200_010)

    assert (await peer.reply()).startswith("552 5.3.4 ")
    assert await peer.closed()


async def test_message_over_the_memory_budget_is_deferred(make_edge: MakeEdge) -> None:
    """What does not fit into memory is 452 4.3.1, at SIZE and at DATA, and nothing stays reserved."""
    edge = make_edge(budget=Budget(40_000))
    peer = await edge.start()
    declared = await peer.ask("MAIL FROM:<> SIZE=20000")
    await peer.begin()
    sent = await peer.ask("x" * 20_000 + "\r\n.")
    await peer.begin()
    fits = await peer.ask("x" * 9_000 + "\r\n.")

    assert ["452 4.3.1", "452 4.3.1", "250 2.0.0"] == [declared[:9], sent[:9], fits[:9]]
    edge.budget.reserve(10_000).release()


async def test_mail_alone_holds_no_memory(make_edge: MakeEdge) -> None:
    """A client that announces a size and sends nothing takes nothing from the others."""
    edge = make_edge(budget=Budget(40_000))
    idle = await edge.start()
    assert (await idle.ask("MAIL FROM:<> SIZE=10000")).startswith("250")

    edge.budget.reserve(10_000).release()


async def test_memory_that_went_away_before_data_is_452_to_data(make_edge: MakeEdge) -> None:
    """The client hears it before it sends the content, and may try again."""
    edge = make_edge(budget=Budget(40_000))
    peer = await edge.start()
    await peer.ask("MAIL FROM:<> SIZE=10000")
    await peer.ask("RCPT TO:<bob@example.org>")
    taken = edge.budget.reserve(10_000)
    refused = await peer.ask("DATA")
    taken.release()
    await peer.begin()

    assert "452 4.3.1" == refused[:9]


async def free(budget: Budget, *, is_free: bool) -> None:
    """Until 10 000 bytes of message fit into the budget, or do not."""
    async with asyncio.timeout(5):
        while True:
            await asyncio.sleep(0)
            try:
                budget.reserve(10_000).release()
            except OverMemory:
                if not is_free:
                    return
            else:
                if is_free:
                    return


async def test_refused_upload_gives_its_memory_back_at_once(make_edge: MakeEdge) -> None:
    """While a message that did not fit is read to its end, others have its memory."""
    edge = make_edge(budget=Budget(40_000))
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"x" * 6_000)
    await free(edge.budget, is_free=False)
    await peer.send(b"x" * 6_000)

    await free(edge.budget, is_free=True)


class BrokenBudget:
    """A budget with a bug in the middle of an upload."""

    def reserve(self, message_bytes: int) -> BrokenBudget:
        return self

    def grow(self, message_bytes: int) -> None:
        raise ValueError(MARKER)

    def release(self) -> None:
        pass


async def test_bug_in_the_middle_of_an_upload_ends_the_connection(make_edge: MakeEdge) -> None:
    """Where the end of a message was not seen, what follows is never a command."""
    edge = make_edge(budget=BrokenBudget())
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"a\r\nRSET\r\nMAIL FROM:<evil@example.com>\r\n.\r\n")

    assert (await peer.reply()).startswith("451 4.3.0 ")
    assert await peer.closed()
    assert "mail:evil@example.com" not in edge.line.calls


@pytest.mark.parametrize("end", ["RSET", "EHLO x", "QUIT", None])
async def test_reservation_ends_with_its_transaction(make_edge: MakeEdge, end: str | None) -> None:
    """However a transaction ends, its memory is given back."""
    edge = make_edge(budget=Budget(40_000))
    peer = await edge.start()
    await peer.ask("MAIL FROM:<> SIZE=10000")
    if end:
        await peer.ask(end)
        await edge.line.until("close" if end == "QUIT" else "reset")
    else:
        peer.cut()
        await edge.line.until("close")

    edge.budget.reserve(10_000).release()


async def test_connections_per_client_are_limited(make_edge: MakeEdge) -> None:
    """One client too many gets 421 4.7.0, and a place that was left is free again."""
    edge = make_edge(limits=Limits(connections_per_client=1))
    port = await edge.listen()
    first = await edge.dial(port)
    await first.reply()
    second = await edge.dial(port)

    assert re.fullmatch(r"421 4\.7\.0 .*", await second.reply())
    assert await second.closed()
    await first.ask("QUIT")
    await edge.line.until("close")
    assert (await (await edge.dial(port)).reply()).startswith("220")


async def test_connections_in_all_are_limited(make_edge: MakeEdge) -> None:
    """Past the limit of all clients there is 421 4.3.2, and nothing but a close under implicit TLS."""
    edge = make_edge(limits=Limits(connections=1))
    port, secure = await edge.listen(), await edge.listen(Tls.IMPLICIT)
    await (await edge.dial(port)).reply()

    assert re.fullmatch(r"421 4\.3\.2 .*", await (await edge.dial(port)).reply())
    assert await (await edge.dial(secure)).closed()
    assert ["connection_refused"] * 2 == edge.journal.names()


async def test_too_many_errors_end_the_connection(make_edge: MakeEdge) -> None:
    """Broken rules are counted, and unknown commands alone do not close at once (S-28, S-43)."""
    edge = make_edge(limits=Limits(errors=3))
    peer = await edge.start()
    replies = [await peer.ask("XYZZY") for _ in range(4)]

    assert ["500", "500", "500", "421"] == [reply[:3] for reply in replies]
    assert await peer.closed()


async def test_accepted_message_forgives_errors(make_edge: MakeEdge) -> None:
    """A connection that works for days is not closed for a few errors."""
    edge = make_edge(limits=Limits(errors=1, message_bytes=100_000))
    peer = await edge.start()
    for _ in range(3):
        await peer.ask("XYZZY")

        assert (await send_message(peer)).startswith("250")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"NOOP " + b"x" * 2041, "250 2.0.0"),
        (b"NOOP " + b"x" * 2042, "500 5.5.2"),
        (b"NOOP " + b"x" * 20_000, "500 5.5.2"),
        (b"NOOP " + b"x" * 300_000, "500 5.5.2"),
        (b"AUTH PLAIN " + b"x" * 20_000, "500 5.5.6"),
        (b"auth plain " + b"x" * 12_276, "500 5.5.6"),
        (b"AUTH PLAIN " + b"x" * 12_275, "501 5.5.2"),
    ],
)
async def test_long_command_line(edge: Edge, line: bytes, status: str) -> None:
    """Commands may have 2048 octets, AUTH 12288; a longer line is skipped to its end (S-14)."""
    peer = await edge.start(Tls.IMPLICIT, auth=True)
    await peer.send(line + b"\r\n")

    assert status == (await peer.reply())[:9]
    assert (await peer.ask("NOOP")).startswith("250")


async def test_long_auth_response(edge: Edge) -> None:
    """An answer to a challenge may have 12288 octets, too (S-14)."""
    peer = await edge.start(Tls.IMPLICIT, auth=True)
    await peer.ask("AUTH PLAIN")
    long = await peer.ask("x" * 12_287)
    await peer.ask("AUTH PLAIN")
    fits = await peer.ask("x" * 12_286)

    assert ["500 5.5.6", "501 5.5.2"] == [long[:9], fits[:9]]


async def test_endless_command_line_is_cut(edge: Edge) -> None:
    """A line without an end costs no memory and ends the connection."""
    peer = await edge.start()
    with pytest.raises(ConnectionError):
        for _ in range(1000):
            await peer.send(b"x" * 65_536)

    assert await peer.closed()


# --------------------------------------------------------------------------- logins


async def test_login_unavailable_is_454(edge: Edge) -> None:
    """A login that cannot be judged is temporary and does not count (S-15)."""
    edge.line.failures = {"login": LoginUnavailable()}
    peer = await edge.start(Tls.IMPLICIT, auth=True)
    replies = [await peer.ask(PLAIN) for _ in range(5)]

    assert ["454 4.7.0"] * 5 == [reply[:9] for reply in replies]
    assert 5 == len(edge.line.asked)


async def test_fourth_failed_login_is_not_asked(edge: Edge) -> None:
    """After three failures the edge answers 454 4.7.0 itself, even to the right password."""
    edge.line.logins = {"alice": "other"}
    peer = await edge.start(Tls.IMPLICIT, auth=True)
    guesses = ["AGFsaWNlAGE=", "AGFsaWNlAGI=", "AGFsaWNlAGM="]
    replies = [await peer.ask(f"AUTH PLAIN {guess}") for guess in guesses]
    edge.line.logins = {"alice": "s3cret"}

    assert ["535 5.7.8"] * 3 == [reply[:9] for reply in replies]
    assert "454 4.7.0" == (await peer.ask(PLAIN))[:9]
    assert 3 == len(edge.line.asked)
    edge.clock.advance(601)
    assert "235 2.7.0" == (await peer.ask(PLAIN))[:9]


# --------------------------------------------------------------------------- time


async def test_idle_client_is_closed_with_421(make_edge: MakeEdge) -> None:
    """Silence between commands ends in 421 4.4.2 (S-28)."""
    peer = await make_edge(timers=Timers(command_seconds=0.2)).start()

    assert (await peer.reply()).startswith("421 4.4.2 ")
    assert await peer.closed()


async def test_dripping_command_line_is_closed(make_edge: MakeEdge) -> None:
    """The limit is for the whole line: single octets do not prolong it."""
    peer = await make_edge(timers=Timers(command_seconds=0.3)).start()

    async def drip() -> None:
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.02)

    task = asyncio.create_task(drip())
    try:
        assert (await peer.reply()).startswith("421 4.4.2 ")
    finally:
        task.cancel()


async def test_silent_auth_challenge_is_closed(make_edge: MakeEdge) -> None:
    """A challenge that is not answered ends in 421."""
    peer = await make_edge(timers=Timers(challenge_seconds=0.1)).start(Tls.IMPLICIT, auth=True)
    await peer.ask("AUTH PLAIN")

    assert (await peer.reply()).startswith("421 4.4.2 ")


async def test_slow_upload_with_progress_succeeds(make_edge: MakeEdge) -> None:
    """Progress restarts the timer of DATA: an upload may take many times as long (S-26)."""
    peer = await make_edge(timers=Timers(block_seconds=0.2, command_seconds=0.2)).start()
    await peer.begin()
    for _ in range(10):
        await peer.send(b"x")
        await asyncio.sleep(0.05)

    assert (await peer.ask("\r\n.")).startswith("250")


async def test_stalled_upload_is_closed(make_edge: MakeEdge) -> None:
    """An upload without progress ends in 421, and what follows is no command."""
    edge = make_edge(timers=Timers(block_seconds=0.1))
    peer = await edge.start()
    await peer.begin()

    assert (await peer.reply()).startswith("421 4.4.2 ")
    assert await peer.closed()
    assert "data" not in edge.line.calls


async def test_long_work_is_not_timed(make_edge: MakeEdge) -> None:
    """The time that the relay itself takes counts against nobody (S-26)."""
    edge = make_edge(timers=Timers(block_seconds=0.1, command_seconds=0.1, reply_seconds=0.1))
    edge.line.hold = asyncio.Event()
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"a\r\n.\r\n")
    await edge.line.holding.wait()
    await asyncio.sleep(0.3)
    edge.line.hold.set()

    assert (await peer.reply()).startswith("250")


async def test_client_that_does_not_read_is_cut(make_edge: MakeEdge) -> None:
    """Replies that nobody reads do not keep a connection for ever."""
    edge = make_edge(timers=Timers(reply_seconds=0.2, close_seconds=0.1))
    port = await edge.listen()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, ("127.0.0.1", port))
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(8):
                await loop.sock_sendall(sock, b"HELP\r\n" * 2_000_000)

    await edge.line.until("close")


# --------------------------------------------------------------------------- the client goes away


async def test_disconnect_in_data_relays_nothing(edge: Edge) -> None:
    """Without the final dot there is no message."""
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"Subject: x\r\n\r\nbody\r\n.\r")
    peer.cut()
    await edge.line.until("close")

    assert [] == edge.line.messages


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS])
async def test_disconnect_after_the_dot_lets_the_message_finish(edge: Edge, tls: Tls) -> None:
    """The client's disconnect neither cancels the message nor confirms its reply (S-27)."""
    edge.line.hold = asyncio.Event()
    peer = await edge.start(tls)
    await peer.begin()
    await peer.send(b"a\r\n.\r\n")
    await edge.line.holding.wait()
    peer.cut()
    await edge.line.until("gone")
    edge.line.hold.set()
    await edge.line.until("close")

    assert ["data", "gone", "accepted", "close"] == edge.line.calls[-4:]
    # Without TLS a client that only ends its side cannot be told from one that has gone.
    assert (tls is Tls.STARTTLS) is ("reply_lost" in edge.journal.names())


async def test_disconnect_before_the_message_runs_is_told_when_it_does(edge: Edge) -> None:
    """A client that left before its message was under way is known to be gone as soon as it is."""
    edge.line.hold = asyncio.Event()
    peer = await edge.start()
    session = next(iter(edge.server._sessions))
    await peer.begin()
    session.data_received(b"a\r\n.\r\n")  # the dot and the end arrive in one turn of the loop
    session.eof_received()
    await edge.line.until("gone")

    assert ["data", "gone"] == edge.line.calls[-2:]
    edge.line.hold.set()


async def test_disconnect_of_an_idle_client_concerns_no_message(edge: Edge) -> None:
    """A client that leaves after its reply is not reported as gone."""
    peer = await edge.start()
    await send_message(peer)
    peer.cut()
    await edge.line.until("close")

    assert ["accepted", "close"] == edge.line.calls[-2:]


async def test_half_close_after_the_dot_still_gets_the_reply(edge: Edge) -> None:
    """A client that will only read gets its 250."""
    edge.line.hold = asyncio.Event()
    peer = await edge.start()
    await peer.begin()
    await peer.send(b"a\r\n.\r\n")
    await edge.line.holding.wait()
    peer.writer.write_eof()
    await edge.line.until("gone")
    edge.line.hold.set()

    assert (await peer.reply()).startswith("250")
    await edge.line.until("close")
    assert "confirm" not in edge.line.calls


async def test_reset_instead_of_quit_leaves_nothing_behind(edge: Edge) -> None:
    """A TCP reset at any time ends the session quietly."""
    peer = await edge.start(Tls.IMPLICIT)
    sock = peer.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.cut()
    await edge.line.until("close")

    assert [] == edge.journal.events


@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS, Tls.IMPLICIT])
async def test_orderly_disconnect_is_quiet(edge: Edge, tls: Tls, caplog: pytest.LogCaptureFixture) -> None:
    """A client that closes without QUIT leaves no warning behind."""
    peer = await edge.start(tls)
    peer.writer.close()
    await peer.writer.wait_closed()
    await edge.line.until("close")

    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_next_command_confirms_the_reply(edge: Edge) -> None:
    """Only something that came after the final reply shows that it arrived (RFC 1047)."""
    peer = await edge.start()
    await send_message(peer)
    before = "confirm" in edge.line.calls
    await peer.ask("NOOP")

    assert (False, 1) == (before, edge.line.calls.count("confirm"))


async def test_refused_message_resets_its_transaction(edge: Edge) -> None:
    """A message that was refused leaves no transaction, and its reply is the error's with the id."""
    edge.line.failures = {"data": NextHopUnavailable("host.internal said no")}
    peer = await edge.start()
    reply = await send_message(peer)

    assert re.fullmatch(r"451 4\.4\.1 .*\(\w{8}-1\)", reply) and "internal" not in reply
    assert ["data", "reset"] == edge.line.calls[-2:]


# --------------------------------------------------------------------------- logs and plumbing


async def test_nothing_of_the_client_is_logged_at_debug(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    """Neither content nor credentials reach a log, whatever the level of the application (O-01)."""
    logging.getLogger("mail.log").setLevel(logging.DEBUG)
    edge.line.logins = {"alice": MARKER}
    with caplog.at_level(logging.DEBUG):
        peer = await edge.start(Tls.STARTTLS, auth=True)
        await peer.ask("AUTH LOGIN")
        await peer.ask("YWxpY2U=")
        await peer.ask(MARKER)
        await peer.ask("AUTH PLAIN AGFsaWNlAHMzY3JldA==")
        await peer.ask(f"X{MARKER}")
        await send_message(peer, f"Subject: {MARKER}\r\n\r\n{MARKER}")

    assert logging.WARNING == logging.getLogger("mail.log").level
    assert [] == [word for word in (MARKER, "AGFsaWNlAHMzY3JldA==", "s3cret") if word in caplog.text]
    assert MARKER not in repr(edge.journal.events)


async def test_unix_socket_is_served(edge: Edge, tmp_path: object) -> None:
    """A unix socket is a listener like any other, with a client without an address."""
    from relay.server.settings import Endpoint

    path = f"{tmp_path}/relay.sock"
    await edge.server.open(Endpoint(path=path, tls=Tls.NONE, auth=False))
    peer = Peer(*await asyncio.open_unix_connection(path))
    await peer.reply()
    await peer.ask("EHLO x")

    assert (await send_message(peer)).startswith("250")
    assert "" == edge.line.clients[0].ip
    await peer.ask("QUIT")
    peer.cut()
