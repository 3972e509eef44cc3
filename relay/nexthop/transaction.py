"""One mail transaction on the next hop (`relay.seams.HopTransaction`), which survives a dead connection.

The transaction remembers its sender and its accepted recipients. Before each step the next hop must be in
the same state: if the connection has died, or the step needs a parameter that MAIL did not declare, MAIL and
every RCPT are sent again and must all be accepted before anything else happens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from relay.errors import NextHopRefused, OutcomeUnknown
from relay.message import Address, Outgoing
from relay.nexthop.connection import HopConnection
from relay.nexthop.pool import Parked
from relay.nexthop.replies import HopFailure, Reason
from relay.nexthop.wire import Needs, needs_of

if TYPE_CHECKING:
    from relay.nexthop.hop import SmtpSession

_Step = Callable[[HopConnection], Awaitable[None]]


class SmtpTransaction:
    """Made by `SmtpSession.start`; over after `send` or `abandon`."""

    def __init__(self, session: SmtpSession, sender: Address | None) -> None:
        self._session = session
        self._pool = session.pool
        self._sender = sender
        self._accepted: list[Address] = []
        self._needs = Needs(smtputf8=sender is not None and not sender.is_ascii)
        self._connection: HopConnection | None = None
        self._declared: Needs | None = None
        """What MAIL declared on `_connection`; None if its state there is not ours."""
        self._busy = self._abandoned = self._over = False

    async def begin(self) -> None:
        """MAIL. Raises as `SmtpSession.start`; the transaction is over then."""
        try:
            async with self._talking():
                self._connection = self._session.take()
                await self._mail_on_idle_or_fresh()
        except BaseException:
            self._end()
            raise

    async def _mail_on_idle_or_fresh(self) -> None:
        """A connection that had been idle may be dead in many ways: a fresh one then has the last word."""
        had_been_idle = self._connection is not None
        try:
            await self._catch_up(self._needs)
        except HopFailure:
            if not had_been_idle:
                raise
            self._drop()
            await self._catch_up(self._needs)

    async def add(self, recipient: Address) -> None:
        """RCPT. Raises NextHopRefused, NextHopUnavailable or NeedsSmtpUtf8; the transaction goes on."""
        self._require_open()
        needs = replace(self._needs, smtputf8=self._needs.smtputf8 or not recipient.is_ascii)
        refusal = await self._rcpt(recipient, needs)
        if refusal is not None:
            raise refusal
        self._needs = needs
        self._accepted.append(recipient)

    async def _rcpt(self, recipient: Address, needs: Needs) -> NextHopRefused | None:
        """The refusal of this recipient, if there is one; that of an earlier one is not this one's fault."""
        refusals: list[NextHopRefused] = []

        async def rcpt(connection: HopConnection) -> None:
            try:
                await connection.rcpt(recipient)
            except NextHopRefused as exc:
                refusals.append(exc)

        try:
            async with self._talking():
                await self._perform(needs, rcpt)
        except NextHopRefused as exc:
            raise HopFailure(Reason.REFUSED, f"when it was repeated: {exc.detail}") from exc
        return refusals[0] if refusals else None

    def check(self, content: Outgoing) -> None:
        """Raises NeedsSmtpUtf8, NeedsEightBit or MessageTooLarge; no I/O."""
        if self._connection is not None:
            self._connection.check(needs_of(content))

    async def send(self, content: Outgoing) -> str:
        """DATA; returns after the next hop's 250. The transaction is over afterwards, however it ended.

        Raises:
            NextHopRefused: it said no; nothing was taken.
            NeedsSmtpUtf8, NeedsEightBit, MessageTooLarge: the next hop does not take such a message.
            NextHopUnavailable: nothing was taken.
            OutcomeUnknown: the content was sent and no reply came.
        """
        self._require_open()
        try:
            needs = needs_of(content)
            self._require_same_recipients(content)
            needs = replace(needs, smtputf8=needs.smtputf8 or self._needs.smtputf8)
            async with self._talking():
                connection = await self._perform(needs, HopConnection.data)
                return await connection.transfer(content)
        finally:
            self._end()

    async def abandon(self) -> None:
        """Drops the transaction and gives its connection back; never raises. A `send` under way goes on.

        The RSET is sent by the next MAIL on that connection: nobody has to wait for it here.
        """
        self._abandoned = True
        if not self._busy:
            self._end()

    # ----------------------------------------------------------------- the state on the next hop

    async def _perform(self, needs: Needs, step: _Step) -> HopConnection:
        """Does one step with all earlier ones in force; a connection found dead is replaced once."""
        try:
            connection = await self._catch_up(needs)
            await step(connection)
        except HopFailure as failure:
            if failure.reason is not Reason.LOST:
                raise
            self._drop()
            connection = await self._catch_up(needs)
            await step(connection)
        return connection

    async def _catch_up(self, needs: Needs) -> HopConnection:
        """Brings the next hop to where this transaction stands, on a new connection if there is none."""
        if self._connection is None:
            self._declared = None
            self._connection = await self._session.open()
        connection = self._connection
        connection.check(needs)
        if self._declared is None or not needs.within(self._declared):
            self._declared = None
            await connection.mail(self._sender, needs)
            for recipient in self._accepted:
                await connection.rcpt(recipient)
            self._declared = needs
        return connection

    def _require_open(self) -> None:
        if self._over or self._busy:
            raise RuntimeError("the transaction is over, or in use")

    def _require_same_recipients(self, content: Outgoing) -> None:
        """The recipients that this content was made for are those that will get it: no more, no fewer."""
        accepted = {recipient.key for recipient in self._accepted}
        if not accepted or accepted != {recipient.key for recipient in content.recipients}:
            raise ValueError("the recipients of the content are not those of the transaction")

    # ----------------------------------------------------------------- its connection

    @asynccontextmanager
    async def _talking(self) -> AsyncIterator[None]:
        """A slot, this transaction's connection if it still lives, and the right end for it afterwards."""
        self._busy = True
        try:
            async with self._pool.slot():
                if self._connection is not None and not self._pool.reclaim(self._connection):
                    self._connection = None
                try:
                    yield
                except (HopFailure, OutcomeUnknown):
                    self._drop()
                    raise
                finally:
                    self._park()
        finally:
            self._busy = False
            if self._abandoned:
                self._end()

    def _park(self) -> None:
        """The pool closes it if a command was broken off (an error, a cancellation)."""
        if self._connection is not None:
            self._pool.park(self._connection, Parked.TRANSACTION)

    def _drop(self) -> None:
        if self._connection is not None:
            self._pool.drop(self._connection)
            self._connection = None

    def _end(self) -> None:
        if self._over:
            return
        self._over = True
        connection, self._connection = self._connection, None
        if connection is not None and self._pool.reclaim(connection):
            self._session.give_back(connection)
        self._session.ended(self)
