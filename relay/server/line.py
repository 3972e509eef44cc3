"""What the edge calls: the line that takes messages, and the memory budget."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from relay.message import Address, Client, Login, MailOptions, Offers


class Line(Protocol):
    """Takes the connections of clients."""

    def connect(self, client: Client) -> Conversation:
        """The line for one client connection; does no I/O."""


class Conversation(Protocol):
    """One client connection. Calls come one at a time, except `gone` and `confirm`, which are quick."""

    @property
    def offers(self) -> Offers:
        """What the next hop can, as far as it is known."""

    async def login(self, username: str, password: str) -> Login:
        """Who the client is. Raises LoginRefused or LoginUnavailable."""

    async def mail(self, client: Client, id: str, sender: Address | None, options: MailOptions) -> None:
        """Opens a transaction.

        Args:
            client: as it is known now, with name, login and TLS.
            id: log id of the transaction.

        Raises:
            RelayError: there is no transaction; `reset` is called.
        """

    async def rcpt(self, recipient: Address) -> None:
        """Adds a recipient; raises RelayError for this recipient alone."""

    def foresee(self, recipients: Iterable[Address]) -> None:
        """Says whose RCPT commands have arrived and will come next; only a hint."""

    def turned_away(self, recipient: Address | None) -> None:
        """The edge refuses this recipient itself; its rule may forbid clear copies to others all the same.

        Args:
            recipient: None where nobody can tell who was meant.
        """

    async def data(self, content: bytes) -> None:
        """Relays the message: returning means 250. It runs to its end even if the client disconnects.

        Raises:
            RelayError: the client keeps the message; `reset` is called.
        """

    def gone(self) -> None:
        """The client left, or will send no more, while `data` runs: it may miss the reply. Comes once."""

    def confirm(self) -> None:
        """The client sent something after the final reply, so that reply reached it."""

    async def reset(self) -> None:
        """Drops the transaction, if there is one; never raises."""

    async def close(self) -> None:
        """The connection is over; comes once, after everything else; never raises."""


class Reservation(Protocol):
    """Octets of the memory budget that one message holds."""

    def grow(self, message_bytes: int) -> None:
        """Makes room for more of the message; raises OverMemory."""

    def release(self) -> None:
        """Gives everything back; may be called more than once."""


class Budget(Protocol):
    """The memory budget over all messages in flight."""

    def reserve(self, message_bytes: int) -> Reservation:
        """Room for a message of the announced size, 0 if it was not announced; raises OverMemory."""
