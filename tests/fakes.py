"""Small real programs that stand in for the relay's surroundings: clocks, servers, sources."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum

from relay.errors import LoginRefused, StoreUnavailable
from relay.message import Address, Client, Login, MailOptions, Offers, Outgoing
from relay.remembered import PendingKey, PendingState, Pin


class FixedClock:
    """A clock that moves only when the test says so (`relay.seams.Clock`)."""

    def __init__(self, now: datetime = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class ListJournal:
    """A journal that keeps its events (`relay.seams.Journal`)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, *, id: str = "", **fields: str | int | float | bool) -> None:
        self.events.append((event, {"id": id, **fields}))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class PinsInMemory:
    """A `relay.seams.PinBook` that forgets everything at the end, and can be taken down."""

    def __init__(self) -> None:
        self.pins: dict[str, Pin] = {}
        self.keys: dict[tuple[str, str], PendingKey] = {}
        self.seen: set[str] = set()
        self.down = False
        self.reads = 0
        """How often a pin was asked for."""

    def _check(self) -> None:
        if self.down:
            raise StoreUnavailable("the store is down")

    async def pin_of(self, address_key: str) -> Pin | None:
        self._check()
        self.reads += 1
        return self.pins.get(address_key)

    async def pin_first(self, pin: Pin) -> Pin:
        self._check()
        self.seen.add(pin.address_key)
        return self.pins.setdefault(pin.address_key, pin)

    async def replace_pin(self, old_fingerprint: str, pin: Pin) -> Pin:
        self._check()
        if self.pins[pin.address_key].fingerprint == old_fingerprint:
            self.pins[pin.address_key] = pin
            self.keys.pop((pin.address_key, pin.fingerprint), None)
        return self.pins[pin.address_key]

    async def pending(self, address_key: str = "") -> list[PendingKey]:
        self._check()
        return [key for key in self.keys.values() if address_key in ("", key.address_key)]

    async def add_pending(self, key: PendingKey) -> PendingKey:
        self._check()
        return self.keys.setdefault((key.address_key, key.fingerprint), key)

    async def decide(self, address_key: str, fingerprint: str, state: PendingState) -> bool:
        self._check()
        known = self.keys.get((address_key, fingerprint))
        if known:
            self.keys[address_key, fingerprint] = replace(known, state=state)
        return known is not None

    async def forget_pin(self, address_key: str) -> bool:
        self._check()
        self.keys = {place: key for place, key in self.keys.items() if place[0] != address_key}
        return self.pins.pop(address_key, None) is not None

    async def was_seen(self, address_key: str) -> bool:
        self._check()
        return address_key in self.seen

    async def mark_seen(self, address_key: str) -> None:
        self._check()
        self.seen.add(address_key)


class ScriptedSession:
    """A next hop in memory (`relay.seams.HopSession`) that refuses what the script says.

    Args:
        script: for each call, in order, the errors to raise by command: `mail`, `rcpt:<address>`, `data`.
            Each list is used up from the front; None in it means that this time it goes well.
    """

    def __init__(self, script: dict[str, list[Exception | None]] | None = None) -> None:
        self.script = script or {}
        self.dialogue: list[str] = []
        self.taken: list[Outgoing] = []
        self.unfit: dict[tuple[Address, ...], Exception] = {}
        """What `check` raises, by the recipients of the copy."""
        self.hold: asyncio.Event | None = None
        """While it is set to an event, DATA waits for it."""
        self.holding = asyncio.Event()
        """Set when DATA has begun to wait."""
        self.transaction = ScriptedTransaction
        """What `start` makes."""

    def step(self, command: str) -> None:
        self.dialogue.append(command)
        waiting = self.script.get(command)
        error = waiting.pop(0) if waiting else None
        if error:
            raise error

    async def login(self, username: str, password: str) -> None:
        self.step("login")

    async def start(self, sender: Address | None) -> ScriptedTransaction:
        self.step("mail")
        return self.transaction(self)

    async def close(self) -> None:
        self.dialogue.append("close")


class ScriptedTransaction:
    """One transaction of a `ScriptedSession` (`relay.seams.HopTransaction`)."""

    def __init__(self, session: ScriptedSession) -> None:
        self._session = session

    async def add(self, recipient: Address) -> None:
        self._session.step(f"rcpt:{recipient}")

    def check(self, content: Outgoing) -> None:
        if error := self._session.unfit.get(content.recipients):
            raise error

    async def send(self, content: Outgoing) -> str:
        if self._session.hold:
            self._session.holding.set()
            await self._session.hold.wait()
        self._session.step("data")
        self._session.taken.append(content)
        return f"2.0.0 queued as {len(self._session.taken)}"

    async def abandon(self) -> None:
        self._session.dialogue.append("rset")


class Fault(Enum):
    """What a `FakeNextHop` does instead of an answer."""

    DROP = "closes the connection"
    HANG = "never answers"


HopStep = bytes | Fault | Callable[[], Awaitable[bytes]] | None
"""One scripted answer: raw bytes, a fault, a coroutine that makes the answer, or None for the usual one."""


@dataclass
class HopMail:
    """One mail transaction that a `FakeNextHop` completed."""

    mail: bytes
    """The MAIL command."""
    rcpts: list[bytes]
    """The paths of the accepted RCPT commands, with angle brackets."""
    raw: bytes
    """Content as it stood on the wire: dots still doubled, without the final dot."""
    login: str
    connection: int
    """Number of the connection, from 1."""
    encrypted: bool

    @property
    def content(self) -> bytes:
        return (b"\r\n" + self.raw).replace(b"\r\n..", b"\r\n.")[2:]


class FakeNextHop:
    """An SMTP server on loopback that records everything and fails where the test says so.

    Use it with `async with`; `on` scripts the answers. It takes one command at a time, like a server without
    PIPELINING, and ends the content at the first CRLF.CRLF, whatever follows.

    Args:
        tls: `none`, `implicit` or `starttls`.
        context: the server's TLS context, for the latter two.
        offers: EHLO keywords; STARTTLS and AUTH are added as they fit.
        logins: user names with passwords; if there are any, MAIL needs a login.
    """

    def __init__(
        self,
        *,
        tls: str = "none",
        context: ssl.SSLContext | None = None,
        offers: tuple[str, ...] = ("SIZE 10485760", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"),
        logins: dict[str, str] | None = None,
    ) -> None:
        self.tls = tls
        self.context = context
        self.offers = offers
        self.mechanisms = "PLAIN LOGIN"
        self.logins = logins or {}
        self.port = 0
        self.mails: list[HopMail] = []
        self.lines: list[bytes] = []
        """Every command line of every connection, in order, without CRLF."""
        self.received = bytearray()
        """Every byte of content, also of transactions that were never completed."""
        self.connections = self.current = self.most = 0
        """Connections ever made, open now, and open at once."""
        self._script: dict[str, list[HopStep]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def on(self, verb: str, *steps: HopStep) -> FakeNextHop:
        """Scripts the next answers to a verb; afterwards it answers as usual.

        Beside commands there are CONNECT (greeting), DATA (its 354), CONTENT (after the first block of
        content; bytes are an early reply, after which it closes) and DOT (final reply). An answer that
        begins with 421 also closes the connection.
        """
        self._script.setdefault(verb, []).extend(steps)
        return self

    def next_step(self, verb: str) -> HopStep:
        steps = self._script.get(verb)
        return steps.pop(0) if steps else None

    def is_scripted(self, verb: str) -> bool:
        """Whether a scripted answer to this verb has not been given yet."""
        return bool(self._script.get(verb))

    def verbs(self) -> list[str]:
        """The first word of every command line."""
        return [line.split(b" ")[0].decode("latin-1").upper() for line in self.lines]

    async def __aenter__(self) -> FakeNextHop:
        context = self.context if self.tls == "implicit" else None
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def hang_up(self) -> None:
        """Closes every connection, as Postfix does after 300 s without a command."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.current += 1
        self.most = max(self.most, self.current)
        try:
            await _HopDialogue(self, reader, writer, self.connections).run()
        except (OSError, _Dropped, asyncio.CancelledError):
            pass
        finally:
            self.current -= 1
            self._tasks.discard(task)
            writer.transport.abort()


class _Dropped(Exception):
    """The dialogue is over."""


class _HopDialogue:
    """One connection of a `FakeNextHop`."""

    def __init__(
        self, hop: FakeNextHop, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._hop, self._reader, self._writer, self._number = hop, reader, writer, number
        self._encrypted = hop.tls == "implicit"
        self._login = ""
        self._unread = bytearray()
        self._reset()

    def _reset(self) -> None:
        self._mail = b""
        self._rcpts: list[bytes] = []

    async def run(self) -> None:
        await self._answer("CONNECT", b"220 hop.test ESMTP\r\n")
        while True:
            line = await self._line()
            self._hop.lines.append(line)
            verb = line.split(b" ")[0].decode("latin-1").upper()
            command = getattr(self, f"_on_{verb.lower()}", None)
            if command is None:
                await self._answer(verb, b"502 5.5.1 unknown command\r\n")
            else:
                await command(line)

    async def _answer(self, verb: str, usual: bytes) -> bool:
        """Says what the script or the usual answer is; whether that was a yes."""
        step = self._hop.next_step(verb)
        if step is Fault.DROP:
            raise _Dropped
        if step is Fault.HANG:
            await asyncio.Event().wait()
        reply = step if isinstance(step, bytes) else await step() if callable(step) else usual
        self._writer.write(reply)
        await self._writer.drain()
        if reply.startswith(b"421"):
            raise _Dropped
        return reply[:1] in (b"2", b"3")

    async def _read(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise _Dropped
        self._unread += data

    async def _line(self) -> bytes:
        while b"\r\n" not in self._unread:
            await self._read()
        line, _, rest = bytes(self._unread).partition(b"\r\n")
        self._unread = bytearray(rest)
        return line

    async def _on_ehlo(self, line: bytes) -> None:
        self._reset()
        words = list(self._hop.offers)
        if self._hop.tls == "starttls" and not self._encrypted:
            words.append("STARTTLS")
        elif self._hop.logins:
            words.append(f"AUTH {self._hop.mechanisms}")
        lines = "".join(f"250-{word}\r\n" for word in ["hop.test", *words])
        await self._answer("EHLO", lines.encode() + b"250 HELP\r\n")

    async def _on_starttls(self, line: bytes) -> None:
        if not await self._answer("STARTTLS", b"220 2.0.0 ready\r\n"):
            return
        assert self._hop.context is not None
        await self._writer.start_tls(self._hop.context)
        self._encrypted = True
        self._login = ""

    async def _on_auth(self, line: bytes) -> None:
        words = line.split(b" ")
        given = b64decode(words[2])
        if words[1].upper() == b"LOGIN":
            if not await self._answer("LOGIN", b"334 UGFzc3dvcmQ6\r\n"):
                return
            secret = await self._line()
            self._hop.lines.append(secret)
            given = b"\0" + given + b"\0" + b64decode(secret)
        _, username, password = given.decode().split("\0")
        right = self._hop.logins.get(username) == password
        usual = b"235 2.7.0 welcome\r\n" if right else b"535 5.7.8 authentication failed\r\n"
        if await self._answer("AUTH", usual):
            self._login = username

    async def _on_mail(self, line: bytes) -> None:
        usual = b"250 2.1.0 ok\r\n"
        if self._mail:
            usual = b"503 5.5.1 nested MAIL\r\n"
        elif self._hop.logins and not self._login:
            usual = b"530 5.7.0 authentication required\r\n"
        if await self._answer("MAIL", usual):
            self._mail = line

    async def _on_rcpt(self, line: bytes) -> None:
        if await self._answer("RCPT", b"250 2.1.5 ok\r\n" if self._mail else b"503 5.5.1 no MAIL\r\n"):
            self._rcpts.append(line.partition(b":")[2].split(b"> ")[0])

    async def _on_data(self, line: bytes) -> None:
        if not await self._answer("DATA", b"354 go\r\n" if self._rcpts else b"503 5.5.1 no RCPT\r\n"):
            return
        raw = await self._content()
        if await self._answer("DOT", b"250 2.0.0 queued\r\n"):
            self._hop.mails.append(
                HopMail(self._mail, self._rcpts, raw, self._login, self._number, self._encrypted)
            )
        self._reset()

    async def _content(self) -> bytes:
        content = bytearray(b"\r\n")
        step = self._hop.next_step("CONTENT")
        if step is Fault.HANG:
            await asyncio.Event().wait()
        while (end := content.find(b"\r\n.\r\n", max(0, len(content) - 65536 - 5))) < 0:
            if not self._unread:
                await self._read()
            content += self._unread
            self._hop.received += self._unread
            self._unread.clear()
            if step is not None:
                await self._early(step)
        self._unread = content[end + 5 :]
        return bytes(content[2 : end + 2])

    async def _early(self, step: HopStep) -> None:
        """A reply within the content, then reading on without keeping it until the peer has gone."""
        if isinstance(step, bytes):
            self._writer.write(step)
            await self._writer.drain()
            while await self._reader.read(65536):
                pass
        raise _Dropped

    async def _on_rset(self, line: bytes) -> None:
        if await self._answer("RSET", b"250 2.0.0 ok\r\n"):
            self._reset()

    async def _on_noop(self, line: bytes) -> None:
        await self._answer("NOOP", b"250 2.0.0 ok\r\n")

    async def _on_quit(self, line: bytes) -> None:
        await self._answer("QUIT", b"221 2.0.0 bye\r\n")
        raise _Dropped


class RecordingLine:
    """What the edge calls, as a list of calls (`relay.server.line.Line`): one conversation per connection.

    Set `failures` to make calls raise: the key is a method name, or `rcpt:` with the recipient; `logins` are
    the user names with their passwords; `hold` lets `data` wait until it is set.
    """

    def __init__(self, offers: Offers | None = None) -> None:
        self.offers = offers or Offers()
        self.logins = {"alice": "s3cret"}
        self.failures: dict[str, BaseException] = {}
        self.calls: list[str] = []
        self.clients: list[Client] = []
        self.options: list[MailOptions] = []
        self.ids: list[str] = []
        self.messages: list[bytes] = []
        self.asked: list[tuple[str, str]] = []
        self.hold: asyncio.Event | None = None
        self.holding = asyncio.Event()
        self._called = asyncio.Event()

    def note(self, call: str) -> None:
        self.calls.append(call)
        self._called.set()

    async def until(self, call: str) -> None:
        """Until the edge has made the call."""
        async with asyncio.timeout(10):
            while call not in self.calls:
                self._called.clear()
                await self._called.wait()

    def connect(self, client: Client) -> RecordingConversation:
        return RecordingConversation(self)


class RecordingConversation:
    """One connection of a `RecordingLine`."""

    def __init__(self, line: RecordingLine) -> None:
        self._line = line

    @property
    def offers(self) -> Offers:
        return self._line.offers

    def _call(self, call: str, *names: str) -> None:
        self._line.note(call)
        for name in names or (call,):
            if failure := self._line.failures.get(name):
                raise failure

    async def login(self, username: str, password: str) -> Login:
        self._line.asked.append((username, password))
        self._call("login")
        if self._line.logins.get(username) != password:
            raise LoginRefused
        return Login(username)

    async def mail(self, client: Client, id: str, sender: Address | None, options: MailOptions) -> None:
        self._line.clients.append(client)
        self._line.ids.append(id)
        self._line.options.append(options)
        self._call(f"mail:{sender or ''}", "mail")

    async def rcpt(self, recipient: Address) -> None:
        self._call(f"rcpt:{recipient}")

    def foresee(self, recipients: Iterable[Address]) -> None:
        names = ",".join(map(str, recipients))
        if names:
            self._line.note(f"foresee:{names}")

    def turned_away(self, recipient: Address | None) -> None:
        self._line.note(f"turned_away:{recipient}")

    async def data(self, content: bytes) -> None:
        self._line.messages.append(content)
        self._call("data")
        if self._line.hold:
            self._line.holding.set()
            await self._line.hold.wait()
        self._line.note("accepted")

    def gone(self) -> None:
        self._line.note("gone")

    def confirm(self) -> None:
        self._line.note("confirm")

    async def reset(self) -> None:
        self._line.note("reset")

    async def close(self) -> None:
        self._line.note("close")
