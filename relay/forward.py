"""Hands the copies of one message to the next hop, and tells the sender when only some were taken.

The order is the promise: a refusal before the first accepted content refuses the whole message with nothing
sent. After it the message is on its way, so a copy that fails is retried within a short time, and then the
sender gets a DSN that the next hop itself has accepted; without that the client hears 451 and keeps the
message (RFC 5321 §4.4: no partial failure in the reply).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.errors import OutcomeUnknown, RelayError
from relay.message import Address, Outgoing, Released

if TYPE_CHECKING:
    from relay.seams import Clock, HopSession, HopTransaction, Journal

_RETRY_PAUSES_SECONDS = (2.0, 5.0, 10.0, 20.0)
"""A client waits at most two minutes for a reply (RFC 6409 §5.3); this leaves most of it to the next hop."""

_SHOWN_KEY_IDS = 20

_RETRY_SECONDS = 60.0
"""No new try of a copy after this time."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A copy that was not delivered although another one was."""

    copy: Outgoing
    error: RelayError

    @property
    def entries(self) -> list[tuple[Address, int, str]]:
        """Recipient, reply code and enhanced status, one for each recipient, as a DSN reports them."""
        reply = self.error.reply()
        return [(recipient, reply.code, reply.enhanced) for recipient in self.copy.recipients]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What became of the copies."""

    delivered: tuple[Address, ...]
    failures: tuple[Failure, ...] = ()


class Forwarder:
    """Sends copies on the connections of one client session.

    Args:
        session: where further transactions are opened.
        front: the transaction of the client's MAIL and RCPT; it carries `accepted`.
        at_once: copies that may be on their way side by side (`next_hop.connections_per_message`).
    """

    def __init__(
        self,
        session: HopSession,
        front: HopTransaction,
        clock: Clock,
        journal: Journal,
        *,
        id: str,
        at_once: int = 1,
    ) -> None:
        self._session = session
        self._front = front
        self._clock = clock
        self._journal = journal
        self._id = id
        self._at_once = at_once

    async def forward(
        self, sender: Address | None, copies: tuple[Outgoing, ...], accepted: frozenset[Address]
    ) -> Forwarded:
        """Sends every copy.

        Args:
            accepted: the recipients of the front transaction; it serves a single copy for all of them.

        Raises:
            RelayError: nothing was taken (or nobody can tell, `OutcomeUnknown`).
        """
        if len(copies) == 1 and frozenset(copies[0].recipients) == accepted:
            answer = await self._front.send(copies[0])
            self._record_delivered(sender, copies[0], answer)
            return Forwarded(copies[0].recipients)
        for copy in copies:  # what can be known before the first content leaves
            self._front.check(copy)
        await self._front.abandon()
        return await self._separately(sender, copies)

    async def _separately(self, sender: Address | None, copies: tuple[Outgoing, ...]) -> Forwarded:
        """The first copy alone: if it is refused, so is the message. Then the others, side by side."""
        first, *others = copies
        await self.send(sender, first)
        turns = asyncio.Semaphore(self._at_once)

        async def attempt(copy: Outgoing) -> Failure | None:
            try:
                await self._persist(sender, copy, turns)
            except RelayError as exc:
                self._record_failed(sender, copy, exc)
                return Failure(copy, exc)
            return None

        async with asyncio.TaskGroup() as tasks:
            attempts = [tasks.create_task(attempt(copy)) for copy in others]
        failures = tuple(failure for task in attempts if (failure := task.result()))
        failed = [failure.copy for failure in failures]
        delivered = [copy for copy in copies if not any(copy is other for other in failed)]
        return Forwarded(tuple(one for copy in delivered for one in copy.recipients), failures)

    async def _persist(self, sender: Address | None, copy: Outgoing, turns: asyncio.Semaphore) -> None:
        """One copy after others were taken: repeats temporary failures.

        It gives its turn away for the pauses, so that all copies wait at the same time: the client's patience
        is that of one message, not of each copy (RFC 6409 §5.3).
        """
        deadline = self._clock.monotonic() + _RETRY_SECONDS
        for pause_seconds in _RETRY_PAUSES_SECONDS:
            try:
                async with turns:
                    return await self.send(sender, copy)
            except RelayError as exc:
                # What may have arrived is not sent again: each try could be one more delivery (RFC 1047).
                if not exc.is_temporary or isinstance(exc, OutcomeUnknown):
                    raise
                if self._clock.monotonic() + pause_seconds > deadline:
                    raise
                self._journal.record("copy_retried", id=self._id, reason=type(exc).__name__)
            await self._clock.sleep(pause_seconds)
        async with turns:
            return await self.send(sender, copy)

    async def send(self, sender: Address | None, copy: Outgoing) -> None:
        """One transaction: every recipient is accepted before the content. Raises RelayError."""
        transaction = await self._session.start(sender)
        try:
            for recipient in copy.recipients:
                await transaction.add(recipient)
            answer = await transaction.send(copy)
            self._record_delivered(sender, copy, answer)
        finally:
            await transaction.abandon()

    def _record_delivered(self, sender: Address | None, copy: Outgoing, answer: str) -> None:
        """Who got it and how, never what; the answer usually holds the queue id of the next hop."""
        self._journal.record(
            "copy_delivered",
            id=self._id,
            sender=str(sender or "<>"),
            recipients=_names(copy),
            bytes=len(copy.header) + len(copy.body),
            treatment=_treatment(copy),
            rule=copy.rule if isinstance(copy, Released) else "",
            key_ids="" if isinstance(copy, Released) else _shortened(copy.key_ids),
            next_hop=answer,
        )

    def _record_failed(self, sender: Address | None, copy: Outgoing, error: RelayError) -> None:
        self._journal.record(
            "copy_failed",
            id=self._id,
            sender=str(sender or "<>"),
            recipients=_names(copy),
            error=type(error).__name__,
            detail=error.detail,
        )


def _names(copy: Outgoing) -> str:
    return " ".join(str(recipient) for recipient in copy.recipients)


def _treatment(copy: Outgoing) -> str:
    if isinstance(copy, Released):
        return "released"
    return "passed_through" if copy.passed_through else "encrypted"


def _shortened(key_ids: tuple[str, ...]) -> str:
    """What a client encrypted may name thousands of keys; a log line shows the first ones."""
    more = len(key_ids) - _SHOWN_KEY_IDS
    return " ".join(key_ids[:_SHOWN_KEY_IDS]) + (f" and {more} more" if more > 0 else "")
