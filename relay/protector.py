"""Makes the copies of one message ready to leave: encrypted, passed on, or released by a rule.

Who gets which copy is decided before (`relay/mime/copies.py`); how an encrypted one is made is in
`relay/sealing.py`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay import sealing
from relay.message import Address, Admission, Client, Outgoing, Released, Sealed
from relay.mime import complete, copies, detect, exempt, pgpmime, trace
from relay.mime.headers import Message
from relay.threads import aside

if TYPE_CHECKING:
    from relay.parts import Parts


@dataclass(frozen=True, slots=True)
class Protector:
    """What all copies of a message have in common."""

    parts: Parts
    client: Client
    id: str
    """Log id of the transaction, for `Received`."""
    date: str
    """As RFC 5322 §3.3 writes it."""
    smtputf8: bool
    """Whether the client asked for SMTPUTF8."""
    named: frozenset[str]
    """`Address.key` of everybody in To and Cc."""

    async def protect(self, message: Message, share: copies.Share) -> Outgoing:
        """One copy, ready to leave. The only ways out are ciphertext that was checked and a released rule.

        Raises:
            RelayError: it cannot be made; nothing was sent.
        """
        await asyncio.sleep(0)  # a copy that is made on the loop never waits; others have to be served
        match share.treatment:
            case copies.Treatment.SEAL:
                copy = sealing.Copy(share.admissions, self._received(share.recipients), self.smtputf8)
                return await sealing.seal(self.parts, message, copy)
            case copies.Treatment.KEEP:
                return await self._passed_through(message, share)
            case copies.Treatment.EXEMPT:
                return await self._released(await _reduced(message), share)
            case copies.Treatment.RELEASE:
                return await self._released(message, share)

    async def _passed_through(self, message: Message, share: copies.Share) -> Sealed:
        return await aside(
            len(message.body),
            detect.pass_through,
            message,
            received=self._received(share.recipients),
            recipients=share.recipients,
            key_ids=share.encrypted.pkesk_ids if share.encrypted else (),
            smtputf8=self.smtputf8,
        )

    async def _released(self, message: Message, share: copies.Share) -> Released:
        return await aside(
            len(message.body),
            pgpmime.release,
            message,
            received=self._received(share.recipients),
            recipients=share.recipients,
            rule=_rules(share.admissions),
            smtputf8=self.smtputf8,
        )

    def _received(self, recipients: tuple[Address, ...]) -> bytes:
        """The trace field of one copy; it never names a Bcc recipient (RFC 5321 §7.2)."""
        visible = recipients[0] if len(recipients) == 1 and recipients[0].key in self.named else None
        return trace.received(
            client_helo=self.client.helo,
            client_ip=self.client.ip,
            hostname=self.parts.hostname,
            protocol=trace.protocol_name(
                extended=self.client.extended,
                tls=bool(self.client.tls),
                login=bool(self.client.login),
                smtputf8=self.smtputf8,
            ),
            tls=self.client.tls,
            id=self.id,
            date=self.date,
            recipient=visible,
        )


async def _reduced(message: Message) -> Message:
    """The report without the message that comes back in it; signatures of servers no longer fit then."""
    reduced = await aside(len(message.body), exempt.reduced, message)
    return reduced if reduced is message else complete.strip(reduced, sealed=True)


def _rules(admissions: tuple[Admission, ...]) -> str:
    return ", ".join(dict.fromkeys(admission.rule.name for admission in admissions))
