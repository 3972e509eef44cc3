"""The commands of one connection and the state between them (RFC 5321 §4.1, RFC 6409).

A command that is refused raises a RelayError; `refuse` turns it into the reply. Nothing here knows sockets.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

from relay.address import parse_mailbox
from relay.errors import LoginRefused, OverMemory, RelayError
from relay.message import Address, Client, MailOptions, Reply
from relay.server import replies
from relay.server.auth import MECHANISMS, Credentials, initial_response
from relay.server.data import DataReader
from relay.server.limits import client_key
from relay.server.line import Conversation, Reservation
from relay.server.parameters import Accepted, meant_by, parse_command, parse_mail, parse_rcpt, refuse_argument
from relay.server.parts import Parts
from relay.server.pipelining import recipients_ahead
from relay.server.refusals import (
    AlreadyDone,
    AuthLineTooLong,
    BadArguments,
    CommandNotOffered,
    CommandUnknown,
    EncryptionNeeded,
    GreetingNeeded,
    LineTooLong,
    LoginNeeded,
    MailNeeded,
    MechanismUnknown,
    NeedsUtf8,
    ProtocolError,
    RcptNeeded,
    TooManyErrors,
    TooManyLogins,
    TooManyRecipients,
    TransactionOpen,
)
from relay.server.settings import Endpoint, Tls
from relay.server.stream import Disconnected, Stream

AUTH_LINE_OCTETS = 12_288
"""RFC 4954 §4."""

_ATTEMPTS = 10
"""RCPT commands per transaction, in multiples of the recipient limit: refused ones cost key lookups, too."""

_FIXED = {"NOOP": replies.OK, "HELP": replies.HELP, "VRFY": replies.NOT_VERIFIED}
_NOT_OFFERED = frozenset({"EXPN", "BDAT", "ETRN", "ATRN", "TURN"})
_BEFORE_TLS = frozenset({"EHLO", "HELO", "NOOP", "STARTTLS", "QUIT"})
_NOT_HELO = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_MAX_HELO_CHARS = 255


class Wire(Protocol):
    """The connection as the commands need it."""

    stream: Stream
    tls: str
    """Version and cipher; empty while the connection is not encrypted."""
    heard: bool
    """The client sent something since this was last set to false."""

    async def send(self, octets: bytes) -> None:
        """Writes to the client. Raises Disconnected."""

    async def start_tls(self) -> None:
        """Encrypts the connection and throws away what came before (RFC 3207 §4.2). Raises Disconnected."""


@dataclass(slots=True)
class _Transaction:
    options: MailOptions
    reservation: Reservation
    recipients: int = 0
    attempts: int = 0
    foreseen: int = 0
    """RCPT commands that have arrived and are still to be answered, as far as they were looked at."""


class Dialogue:
    """One client connection from its greeting on.

    Args:
        client: with id and address.
        conversation: of this connection alone.
    """

    def __init__(
        self,
        wire: Wire,
        client: Client,
        conversation: Conversation,
        endpoint: Endpoint,
        parts: Parts,
    ) -> None:
        self._wire = wire
        self._client = client
        self._conversation = conversation
        self._endpoint = endpoint
        self._settings = parts.settings
        self._budget = parts.budget
        self._logins = parts.logins
        self._journal = parts.journal
        self._extended = False
        self._transaction: _Transaction | None = None
        self._transactions = 0
        self._unconfirmed = self._relaying = self._gone = False
        self._utf8 = False
        self._errors = 0
        self.id = client.id
        """Log id of what is going on: of the transaction, else of the connection."""
        self.over = False
        """The connection is to be closed."""

    @property
    def idle(self) -> bool:
        """Whether no message is under way."""
        return self._transaction is None

    async def greet(self) -> None:
        """The first reply."""
        await self._reply(replies.greeting(self._settings.hostname))

    async def command(self, line: bytes) -> None:
        """Answers one command.

        Raises:
            RelayError: it is refused; for `refuse`.
            Disconnected: the client does not take the reply.
        """
        self._confirm()
        if self.idle:
            self.id, self._utf8 = self._client.id, False
        verb, argument = parse_command(line)
        if self._endpoint.tls is Tls.STARTTLS and not self._wire.tls and verb not in _BEFORE_TLS:
            raise EncryptionNeeded
        if verb in _FIXED:
            await self._reply(_FIXED[verb])
        elif verb in self._COMMANDS:
            await self._COMMANDS[verb](self, argument)
        else:
            raise CommandNotOffered if verb in _NOT_OFFERED else CommandUnknown

    async def refuse(self, error: RelayError) -> None:
        """Answers a command that failed; too many broken rules end the connection (S-43)."""
        if isinstance(error, ProtocolError | LoginRefused):
            self._errors += 1
            if self._errors > self._settings.limits.errors:
                error = TooManyErrors()
        if error.closes:
            self.over = True
            self._journal.record(
                "connection_closed", id=self.id, ip=self._client.ip, reason=type(error).__name__
            )
        # The id leads to the log, where broken protocol rules do not stand.
        id = "" if isinstance(error, ProtocolError) else self.id
        # RFC 6531 §3.7.4: non-ASCII only for a client that asked for it.
        await self._reply(error.reply(id, utf8=self._utf8))

    async def abandon(self) -> None:
        """Drops the transaction, if there is one."""
        if self._transaction:
            self._release()
            await self._conversation.reset()

    async def close(self) -> None:
        """After the last command, and after what it started has ended."""
        self._release()
        await self._conversation.close()

    def client_gone(self) -> None:
        """The client will send no more."""
        self._gone = True
        if self._relaying:
            self._conversation.gone()

    # ----------------------------------------------------------------------- greeting and TLS

    async def _ehlo(self, argument: str) -> None:
        await self._hello(argument, extended=True)
        offered = replies.offered(
            self._max_bytes(),
            smtputf8=self._conversation.offers.smtputf8,
            starttls=self._offers_starttls(),
            auth=tuple(MECHANISMS) if self._offers_auth() else (),
        )
        await self._reply(replies.ehlo(self._settings.hostname, offered))

    async def _helo(self, argument: str) -> None:
        await self._hello(argument, extended=False)
        await self._reply(replies.helo(self._settings.hostname))

    async def _hello(self, argument: str, *, extended: bool) -> None:
        """RFC 5321 §4.1.4: EHLO is a RSET as well."""
        if not argument:
            raise BadArguments(usage="EHLO hostname")
        await self.abandon()
        self._extended = extended
        helo = _NOT_HELO.sub("?", argument[:_MAX_HELO_CHARS])
        self._client = replace(self._client, helo=helo, extended=extended)

    async def _starttls(self, argument: str) -> None:
        refuse_argument(argument, "STARTTLS")
        if self._wire.tls:
            raise AlreadyDone
        if not self._offers_starttls():
            raise CommandNotOffered
        await self._reply(replies.STARTTLS)
        await self._wire.start_tls()
        # RFC 3207 §4.2: what was said in clear was perhaps not said by the client.
        self._extended = False
        self._client = replace(self._client, helo="", tls=self._wire.tls)

    def _offers_starttls(self) -> bool:
        return self._endpoint.tls is Tls.STARTTLS and not self._wire.tls

    # ----------------------------------------------------------------------- login

    def _offers_auth(self) -> bool:
        """Both mechanisms show the password to whoever listens (RFC 4954 §4)."""
        return self._endpoint.auth and bool(self._wire.tls)

    async def _auth(self, argument: str) -> None:
        if not self._offers_auth():
            raise CommandNotOffered
        if not self._extended:
            raise GreetingNeeded
        if self._client.login:
            raise AlreadyDone
        if self._transaction:
            raise TransactionOpen
        name, _, initial = argument.partition(" ")
        if not name or " " in initial:
            raise BadArguments(usage="AUTH mechanism [initial-response]")
        mechanism = MECHANISMS.get(name.upper())
        if mechanism is None:
            raise MechanismUnknown
        await self._login(await mechanism(initial_response(initial), self._ask))
        await self._reply(replies.LOGGED_IN)

    async def _ask(self, challenge: bytes) -> bytes:
        await self._wire.send(replies.challenge(challenge))
        try:
            return await self._wire.stream.line(AUTH_LINE_OCTETS, self._settings.timers.challenge_seconds)
        except LineTooLong as exc:
            raise AuthLineTooLong from exc

    async def _login(self, credentials: Credentials) -> None:
        name, password = credentials.username, credentials.password
        try:
            async with self._logins.attempt(client_key(self._client.ip), name, password):
                login = await self._conversation.login(name, password)
        except (LoginRefused, TooManyLogins) as exc:
            event = "login_refused" if isinstance(exc, LoginRefused) else "login_throttled"
            self._journal.record(event, id=self.id, ip=self._client.ip, login=_shown(name))
            raise
        self._client = replace(self._client, login=login)
        self._journal.record("login", id=self.id, ip=self._client.ip, login=login.name)

    # ----------------------------------------------------------------------- transaction

    async def _mail(self, argument: str) -> None:
        if not self._client.helo:
            raise GreetingNeeded
        if self._endpoint.auth and not self._client.login:
            raise LoginNeeded
        if self._transaction:
            raise TransactionOpen
        accepted = Accepted(self._extended, self._conversation.offers.smtputf8, self._max_bytes())
        with self._recording("sender_refused"):
            sender, options = parse_mail(argument, accepted)
            self._transactions += 1
            self.id = f"{self._client.id}-{self._transactions}"
            self._utf8 = options.smtputf8
            reservation = self._budget.reserve(options.size_bytes or 0)
            # There is room; it is taken at DATA, or MAIL commands without content could hold all of it.
            reservation.release()
            self._transaction = _Transaction(options, reservation)
        try:
            await self._conversation.mail(self._client, self.id, sender, options)
        except RelayError:
            await self.abandon()
            raise
        await self._reply(replies.SENDER_OK)

    async def _rcpt(self, argument: str) -> None:
        transaction = self._open_transaction()
        try:
            with self._recording("recipient_refused"):
                recipient = parse_rcpt(argument)
                self._check_rcpt(transaction, recipient)
        except RelayError:
            self._conversation.turned_away(meant_by(argument))
            raise
        transaction.attempts += 1
        self._look_ahead(transaction)
        await self._conversation.rcpt(recipient)
        transaction.recipients += 1
        await self._reply(replies.RECIPIENT_OK)

    def _look_ahead(self, transaction: _Transaction) -> None:
        """Tells the line who comes next, so that the lookups of a pipelined group run side by side."""
        if transaction.foreseen:
            transaction.foreseen -= 1
            return
        left = self._settings.limits.recipients - transaction.recipients - 1
        waiting = recipients_ahead(self._wire.stream, left)
        transaction.foreseen = len(waiting)
        self._conversation.foresee(waiting)

    def _check_rcpt(self, transaction: _Transaction, recipient: Address) -> None:
        if not recipient.is_ascii and not transaction.options.smtputf8:
            raise NeedsUtf8
        limit = self._settings.limits.recipients
        if transaction.recipients >= limit or transaction.attempts >= _ATTEMPTS * limit:
            raise TooManyRecipients

    async def _data(self, argument: str) -> None:
        refuse_argument(argument, "DATA")
        transaction = self._open_transaction()
        if not transaction.recipients:
            raise RcptNeeded
        try:
            with self._recording("message_refused"):
                transaction.reservation = self._budget.reserve(transaction.options.size_bytes or 0)
                await self._reply(replies.GO_AHEAD)
                content = await self._receive(transaction)
            await self._relay(content)
        except RelayError:
            await self.abandon()
            raise
        self._release()
        self._errors = 0
        self._unconfirmed, self._wire.heard = True, False
        try:
            await self._reply(replies.accepted(self.id))
        except Disconnected:
            self._journal.record("reply_lost", id=self.id)
            raise

    @contextmanager
    def _recording(self, event: str) -> Iterator[None]:
        """What the edge itself refuses stands in the log under the id that its reply names."""
        try:
            yield
        except RelayError as refusal:
            if not isinstance(refusal, ProtocolError):  # those carry no id
                reply = refusal.reply()
                self._journal.record(
                    event, id=self.id, reply=f"{reply.code} {reply.enhanced}", error=type(refusal).__name__
                )
            raise

    async def _receive(self, transaction: _Transaction) -> bytes:
        """The message, read to its end whatever is wrong with it."""
        # Until the end is found, nothing that follows may be taken for a command.
        self.over = True
        reader = DataReader(self._max_bytes())
        stream, seconds = self._wire.stream, self._settings.timers.block_seconds
        while not (reader.ended or reader.exhausted):
            kept = reader.feed(await stream.block(seconds))
            self._confirm()
            try:
                transaction.reservation.grow(kept)
            except OverMemory as exc:
                transaction.reservation.release()
                reader.refuse(exc)
        self.over = reader.exhausted
        stream.unread(reader.rest)
        return reader.content()

    async def _relay(self, content: bytes) -> None:
        self._relaying = True
        if self._gone:  # it left together with its final dot
            asyncio.get_running_loop().call_soon(self.client_gone)
        try:
            await self._conversation.data(content)
        finally:
            self._relaying = False

    def _confirm(self) -> None:
        """Something that the client sent after the final reply shows that it read it (RFC 1047)."""
        if self._unconfirmed and self._wire.heard:
            self._unconfirmed = False
            self._conversation.confirm()

    async def _rset(self, argument: str) -> None:
        refuse_argument(argument, "RSET")
        await self.abandon()
        await self._reply(replies.OK)

    def _open_transaction(self) -> _Transaction:
        if self._transaction is None:
            raise MailNeeded
        return self._transaction

    def _release(self) -> None:
        transaction, self._transaction = self._transaction, None
        if transaction:
            transaction.reservation.release()

    def _max_bytes(self) -> int:
        return replies.max_bytes(self._settings.limits.message_bytes, self._conversation.offers)

    # ----------------------------------------------------------------------- the rest

    async def _quit(self, argument: str) -> None:
        refuse_argument(argument, "QUIT")
        self.over = True
        await self._reply(replies.BYE)

    async def _reply(self, reply: Reply) -> None:
        await self._wire.send(reply.encode())

    _COMMANDS: ClassVar[dict[str, Callable[[Dialogue, str], Awaitable[None]]]] = {
        "EHLO": _ehlo,
        "HELO": _helo,
        "STARTTLS": _starttls,
        "AUTH": _auth,
        "MAIL": _mail,
        "RCPT": _rcpt,
        "DATA": _data,
        "RSET": _rset,
        "QUIT": _quit,
    }
    """Built once, not by inspection for each connection."""


def _shown(name: str) -> str:
    """A user name for the log if it is an address; anything else may be a password in the wrong field."""
    try:
        return parse_mailbox(name).key
    except ValueError:
        return ""
