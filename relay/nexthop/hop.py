"""The next hop over SMTP: how sessions get their connections (`relay.seams.NextHop`, `HopSession`).

Either all sessions share the connections of the relay's own login (or of none), or each session has
connections on which its client's login was accepted. The client's credentials live in its session object and
nowhere else.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from relay.errors import LoginRefused, LoginUnavailable, NextHopUnavailable, RelayError
from relay.message import Address, Client, Offers
from relay.nexthop.connection import HopConnection
from relay.nexthop.login import Credentials, LoginPause
from relay.nexthop.pool import ConnectionPool, Parked
from relay.nexthop.replies import HopFailure, Reason
from relay.nexthop.settings import NextHopSettings, Tls
from relay.nexthop.transaction import SmtpTransaction
from relay.nexthop.trust import Trust

if TYPE_CHECKING:
    from relay.seams import Clock, Journal


class SmtpNextHop:
    """The configured next hop; make one per configuration."""

    def __init__(self, settings: NextHopSettings, journal: Journal, clock: Clock) -> None:
        self.settings = settings
        self.pool = ConnectionPool(settings, clock)
        self._journal = journal
        self._trust = Trust(settings.ca_file, journal)
        self._pause = LoginPause(clock)
        self._offers = Offers()
        self._own = (
            Credentials(settings.username, settings.password)
            if settings.username is not None and settings.password is not None
            else None
        )

    @property
    def offers(self) -> Offers:
        """What its last EHLO reply said; empty before the first connection."""
        return self._offers

    def session(self, client: Client) -> SmtpSession:
        """The next hop as one client connection uses it; costs nothing until it is used."""
        return SmtpSession(self, client)

    async def refresh(self) -> None:
        """Connects once, so that `offers` is known and a failure is in the journal; never raises."""
        try:
            async with self.pool.slot():
                connection = await self.open(None)
                if self.settings.client_login:
                    self.pool.drop(connection)
                else:
                    self.pool.park(connection, Parked.SHARED)
        except RelayError:
            return  # `open` has recorded it

    async def close(self) -> None:
        """Closes every idle connection now, and each of the others when its session is done with it."""
        self.pool.close()

    async def open(self, credentials: Credentials | None, id: str = "") -> HopConnection:
        """A new connection, logged in; the caller holds a slot.

        Args:
            credentials: of the client; None: the relay's own, if it has any.
            id: log id of the client connection.

        Raises:
            LoginRefused: the client's login was judged and refused.
            HopFailure: anything else, the relay's own login included.
        """
        try:
            connection = await self._opened(credentials)
        except RelayError as exc:
            reason = exc.reason if isinstance(exc, HopFailure) else "client login refused"
            self._journal.record("nexthop_failed", id=id, reason=str(reason), detail=exc.detail)
            raise
        self._offers = connection.offers
        self._journal.record("nexthop_connected", id=id, tls=connection.tls)
        return connection

    async def _opened(self, credentials: Credentials | None) -> HopConnection:
        if credentials is None and self._own is not None:
            self._pause.check()
        connection = self.pool.new()
        try:
            async with asyncio.timeout(self.settings.timeouts.open_seconds):
                context = None if self.settings.tls is Tls.NONE else await self._trust.context()
                await connection.open(context)
                await self._login(connection, credentials)
        except TimeoutError as exc:
            self.pool.drop(connection)
            raise HopFailure(Reason.TIMEOUT, "opening the connection") from exc
        except BaseException:
            self.pool.drop(connection)
            raise
        return connection

    async def _login(self, connection: HopConnection, credentials: Credentials | None) -> None:
        if credentials is not None:
            await connection.login(credentials)
        elif self._own is not None:
            async with self._pause.attempt():
                await connection.login(self._own)
            connection.asserts_null_auth = True


class SmtpSession:
    """Everything the next hop does for one connection of a client."""

    def __init__(self, hop: SmtpNextHop, client: Client) -> None:
        self.pool = hop.pool
        self._hop = hop
        self._client = client
        self._by_client = hop.settings.client_login
        self._credentials: Credentials | None = None
        self._connections: list[HopConnection] = []  # parked, with this client's login
        self._transactions: set[SmtpTransaction] = set()
        self._closed = False

    async def login(self, username: str, password: str) -> None:
        """Tries the client's login; later transactions of this session use it.

        Raises:
            LoginRefused: the next hop judged this login and refused it.
            LoginUnavailable: it could not be asked.
        """
        if not self._by_client or self._transactions:
            raise RuntimeError("a login of the client has no place here")
        self._forget()
        credentials = Credentials(username, password)
        try:
            async with self.pool.slot():
                connection = await self._hop.open(credentials, self._client.id)
                self._credentials = credentials
                self.give_back(connection)
        except NextHopUnavailable as exc:
            raise LoginUnavailable(exc.detail) from exc

    async def start(self, sender: Address | None) -> SmtpTransaction:
        """Opens a transaction with MAIL, which declares what `sender` needs.

        Raises:
            NextHopRefused, NextHopUnavailable, NeedsSmtpUtf8: there is no transaction.
        """
        if self._closed:
            raise RuntimeError("the session is closed")
        transaction = SmtpTransaction(self, sender)
        self._transactions.add(transaction)
        await transaction.begin()
        return transaction

    async def close(self) -> None:
        """Ends whatever the session holds, except a `send` that is under way; never raises."""
        self._closed = True
        for transaction in list(self._transactions):
            await transaction.abandon()
        self._forget_if_done()

    # ----------------------------------------------------------------- for its transactions, under a slot

    def take(self) -> HopConnection | None:
        """A connection of this session's login that is ready, or None."""
        if not self._by_client:
            return self.pool.take_shared()
        while self._connections:
            connection = self._connections.pop()
            if self.pool.reclaim(connection):
                return connection
        return None

    async def open(self) -> HopConnection:
        """A new connection with this session's login. Raises HopFailure."""
        if self._by_client and self._credentials is None:
            raise HopFailure(Reason.LOGIN, "the client is not logged in on the next hop (any more)")
        try:
            return await self._hop.open(self._credentials, self._client.id)
        except LoginRefused as exc:
            self._forget()  # changed since the client's AUTH: trying it again would only count as attacks
            raise HopFailure(Reason.LOGIN, exc.detail) from exc

    def give_back(self, connection: HopConnection) -> None:
        """For a connection that is fit for the next transaction."""
        if not self._by_client:
            self.pool.park(connection, Parked.SHARED)
        elif self._credentials is None:
            self.pool.drop(connection)
        else:
            self.pool.park(connection, Parked.SESSION)
            self._connections.append(connection)

    def ended(self, transaction: SmtpTransaction) -> None:
        """The transaction is over."""
        self._transactions.discard(transaction)
        self._forget_if_done()

    def _forget_if_done(self) -> None:
        if self._closed and not self._transactions:
            self._forget()

    def _forget(self) -> None:
        self._credentials = None
        for connection in self._connections:
            self.pool.drop(connection)
        self._connections.clear()
