"""One client connection as the edge sees the line: login, then one transaction after the other.

It also keeps the book on what the client can know: a message whose reply may not have reached the client is
remembered, so that the retry is answered without sending it twice (RFC 1047).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from relay import senders
from relay.errors import DeliveryIncomplete, RelayError
from relay.message import Address, Client, Login, MailOptions, Offers
from relay.pipeline import Transaction
from relay.threads import aside

if TYPE_CHECKING:
    from relay.outcomes import Outcomes
    from relay.parts import Ground, Parts


class Pipeline:
    """Serves all connections.

    Args:
        parts: what the configuration chose; assign a new value to reload.
        ground: what lives as long as the process.
    """

    def __init__(self, parts: Parts, ground: Ground) -> None:
        self.parts = parts
        self.ground = ground

    def connect(self, client: Client) -> Conversation:
        """The line for one client connection; no I/O happens before a command."""
        return Conversation(self, client)


_IDENTIFYING_FIELDS = (b"\r\nmessage-id:", b"\r\ndate:")


class Conversation:
    """What the edge calls for one client connection (its `Conversation` Protocol)."""

    def __init__(self, line: Pipeline, client: Client) -> None:
        self._line = line
        self._outcomes = line.ground.outcomes
        self._authenticator = line.parts.authenticator
        self._next_hop = line.parts.next_hop
        self._session = line.parts.next_hop.session(client)
        self._transaction: Transaction | None = None
        self._delivery: _Delivery | None = None

    @property
    def offers(self) -> Offers:
        """What the next hop can."""
        return self._next_hop.offers

    async def login(self, username: str, password: str) -> Login:
        """Who the client is. Raises LoginRefused or LoginUnavailable."""
        return await self._authenticator.verify(self._session, username, password)

    async def mail(self, client: Client, id: str, sender: Address | None, options: MailOptions) -> None:
        """Opens a transaction here and on the next hop, whose refusal is the client's. Raises RelayError."""
        await self.reset()
        try:
            senders.check_sender(client.login, sender)
            front = await self._session.start(sender)
        except RelayError as refusal:
            self._record_refusal("sender_refused", id, refusal, sender=str(sender or "<>"))
            raise
        self._transaction = Transaction(
            self._line.parts, self._line.ground, client, id, sender, options, self._session, front
        )

    async def rcpt(self, recipient: Address) -> None:
        """Admits one recipient; raises RelayError for it alone."""
        await self._open().admit(recipient)

    def foresee(self, recipients: Iterable[Address]) -> None:
        """The client has sent RCPT for these as well, and they are next: what takes long may begin."""
        self._open().foresee(recipients)

    def turned_away(self, recipient: Address | None) -> None:
        """The edge refused this recipient (None: who can tell?) before its rule was looked at."""
        self._open().turned_away(recipient)

    async def data(self, content: bytes) -> None:
        """Relays the message. Returning means: everybody has it, or a DSN tells the sender who has not.

        Raises:
            RelayError: the client must keep the message.
        """
        transaction = self._open()
        self._transaction = None
        self._delivery = delivery = _Delivery(self._outcomes, _is_identified(content))
        try:
            key = await aside(len(content), self._key, transaction, content)
            earlier = await delivery.begin(key)
            await transaction.relay(content, earlier)
            delivery.succeeded(admission.recipient for admission in transaction.admissions)
            await transaction.learn()  # not before: cancelled there, the success would be forgotten
        except RelayError as refusal:
            if isinstance(refusal, DeliveryIncomplete):
                delivery.incomplete(refusal.delivered)
            self._record_refusal("message_refused", transaction.id, refusal, bytes=len(content))
            raise
        finally:
            delivery.ended()
            await transaction.end()

    def _key(self, transaction: Transaction, content: bytes) -> bytes:
        login = transaction.client.login.name if transaction.client.login else ""
        return self._outcomes.key(login, transaction.sender.key if transaction.sender else "", content)

    def gone(self) -> None:
        """The client vanished while `data` runs: its retry shall wait for the outcome."""
        if self._delivery:
            self._delivery.orphaned()

    def confirm(self) -> None:
        """The client went on after the reply, so it knows the outcome."""
        if self._delivery:
            self._delivery.known()
            self._delivery = None

    async def reset(self) -> None:
        """Drops the transaction, if there is one; never raises."""
        transaction, self._transaction = self._transaction, None
        if transaction:
            await transaction.end()

    async def close(self) -> None:
        """The connection is over; never raises."""
        if self._delivery:
            self._delivery.unknown()
        await self.reset()
        await self._session.close()

    def _record_refusal(self, event: str, id: str, refusal: RelayError, **facts: str | int) -> None:
        """What the client reads names no library and no host; the log does."""
        reply = refusal.reply()
        self._line.ground.journal.record(
            event,
            id=id,
            reply=f"{reply.code} {reply.enhanced}",
            error=type(refusal).__name__,
            detail=refusal.detail,
            **facts,
        )

    def _open(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("the edge opens a transaction first")
        return self._transaction


def _is_identified(content: bytes) -> bool:
    """Whether the client itself gave Message-ID and Date, so that a retry can be told from a new message."""
    header = b"\r\n" + content[: content.find(b"\r\n\r\n") + 2].lower()
    return all(name in header for name in _IDENTIFYING_FIELDS)


class _Delivery:
    """The book on one message: what was delivered, and whether the client can know it."""

    def __init__(self, outcomes: Outcomes, is_identified: bool) -> None:
        self._outcomes = outcomes
        self._is_identified = is_identified
        self._key: bytes | None = None
        self._recipients: frozenset[str] = frozenset()
        self._is_orphaned = False
        self._end: asyncio.Event | None = None

    async def begin(self, key: bytes) -> frozenset[str]:
        """Who has this message from an earlier try; waits for one that still runs."""
        earlier = await self._outcomes.delivered(key)
        self._key = key
        if self._is_orphaned:
            self.orphaned()
        return earlier

    def orphaned(self) -> None:
        """The client is gone; a retry of it waits from now on."""
        self._is_orphaned = True
        if self._is_identified and self._key is not None and self._end is None:
            self._end = self._outcomes.begin_orphaned(self._key)

    def succeeded(self, recipients: Iterable[Address]) -> None:
        """Everybody was served."""
        self._recipients = frozenset(recipient.key for recipient in recipients)

    def incomplete(self, delivered: Iterable[Address]) -> None:
        """Some were served and the client is told 451: the retry is for the others, whatever it knows."""
        if self._key is not None:
            self._outcomes.remember(self._key, (recipient.key for recipient in delivered))

    def ended(self) -> None:
        """The delivery is over; whoever waits for it goes on."""
        if self._end:
            self.unknown()
            self._end.set()

    def known(self) -> None:
        """The reply reached the client. A success is closed; after a 451 the partial outcome stays."""
        if self._key is not None and self._recipients:
            self._outcomes.forget(self._key)

    def unknown(self) -> None:
        """The client may not have read the reply: a success is remembered for its retry."""
        if self._key is not None and self._recipients and self._is_identified:
            self._outcomes.remember(self._key, self._recipients)
