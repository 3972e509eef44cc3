"""The way of one message, read downwards: admit each recipient, then plan, protect and forward.

This module knows no library and no server. What it needs from them stands in `relay/seams.py`; what the
results mean is decided in `relay/decision.py`; how copies reach the next hop is in `relay/forward.py`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from relay import decision, senders
from relay.address import has_routing
from relay.errors import BadAddress, DeliveryIncomplete, NotEncryptedForRecipient, RelayError
from relay.forward import Forwarded, Forwarder
from relay.lookup import MessageLookups
from relay.message import (
    Address,
    Admission,
    Client,
    Encrypt,
    KeyChange,
    Lookup,
    MailOptions,
    Outgoing,
    Rule,
    Sealed,
    Verdict,
)
from relay.mime import (
    authors,
    autocrypt,
    checks,
    complete,
    copies,
    detect,
    dsn,
    headers,
    pgpmime,
    selfcheck,
    trace,
)

if TYPE_CHECKING:
    from datetime import datetime

    from relay.mime.headers import Message
    from relay.mime.packets import EncryptedMessage
    from relay.parts import Ground, Parts
    from relay.seams import HopSession, HopTransaction

_ADDRESS_WORK = 64
"""Reading fields with addresses or keys takes about that many times as long, octet for octet, as slicing the
message."""

_KEYS_ARE_FRESH_SECONDS = 300.0
"""An upload may take an hour. A key that was chosen longer ago at RCPT is looked up again before use."""

_SOMEBODY = Address("an address that could not be read", "", "")
"""Stands for a recipient that was refused for its syntax; only `policy.default` covers it."""

_LARGE_BYTES = 256 * 1024
"""Above this, slicing and checking leave the event loop for a thread."""


@dataclass(slots=True)
class Transaction:
    """One message on its way, from MAIL to the reply after its content."""

    parts: Parts
    ground: Ground
    client: Client
    id: str
    """Log id; it also stands in the replies."""
    sender: Address | None
    options: MailOptions
    session: HopSession
    front: HopTransaction
    """The next hop's transaction that mirrors the client's MAIL and RCPT commands."""
    admissions: list[Admission] = field(default_factory=list)
    strict_refusals: list[Address] = field(default_factory=list)
    """Refused recipients whose rule forbids clear copies of this message to anybody."""
    looked_up: float = 0.0
    """When the first of the admissions was made, on the monotonic clock."""
    lesson: tuple[autocrypt.Header, datetime | None, KeyChange] | None = None
    """The author's key that the message brings, its date, and what the rule says of another key."""
    lookups: MessageLookups = field(init=False)
    named: frozenset[str] = frozenset()
    """`Address.key` of everybody in To and Cc; read once, because a long field takes seconds."""

    def __post_init__(self) -> None:
        self.parts.uses.begin()
        self.lookups = MessageLookups(self.parts.finder, self.ground.clock, self.parts.lookup_seconds)

    # ----------------------------------------------------------------------- admit

    async def admit(self, recipient: Address) -> None:
        """Accepts one recipient, or raises the RelayError that refuses it."""
        rule = self._rule_for(recipient)
        try:
            lookup = await self._look_up(recipient, rule)
            await self.front.add(recipient)
        except RelayError as refusal:
            if decision.forbids_clear(rule):
                self.strict_refusals.append(recipient)
            self._record_refusal(recipient, rule, refusal)
            raise
        self.looked_up = self.looked_up or self.ground.clock.monotonic()
        self.admissions.append(Admission(recipient, rule, lookup))
        self._record_admission(self.admissions[-1])

    def _rule_for(self, recipient: Address) -> Rule:
        policy = self.parts.policy
        if self.sender is None:
            return policy.rule_for_null_sender(recipient)
        return policy.rule_for(self.sender, recipient)

    def turned_away(self, recipient: Address | None) -> None:
        """Remembers a recipient that the edge refused, if its rule forbids clear copies to the others.

        Args:
            recipient: None where it could not be read at all: then the default rule says what may be.
        """
        meant = recipient or _SOMEBODY
        if not self.strict_refusals and decision.forbids_clear(self._rule_for(meant)):
            self.strict_refusals.append(meant)  # one is enough, and clients may repeat RCPT for ever

    def foresee(self, recipients: Iterable[Address]) -> None:
        """Begins the lookups of recipients whose RCPT commands wait in line, to run side by side."""
        for recipient in recipients:
            rule = self._rule_for(recipient)
            if rule.encrypt is not Encrypt.NEVER and (rule.allow_routing or not has_routing(recipient)):
                self.lookups.begin(recipient, rule)

    async def _look_up(self, recipient: Address, rule: Rule) -> Lookup | None:
        """The keys of the recipient; raises what no content can heal."""
        if has_routing(recipient) and not rule.allow_routing:
            raise BadAddress(address=recipient)
        if rule.encrypt is Encrypt.NEVER:
            return None
        return _accepted(recipient, rule, await self.lookups.find(recipient, rule))

    async def _look_up_again(self) -> None:
        """Keys that expired, were revoked or removed while the message arrived; raises the refusal."""
        if self.ground.clock.monotonic() - self.looked_up <= _KEYS_ARE_FRESH_SECONDS:
            return
        found = await self.lookups.find_again(
            {entry.recipient: entry.rule for entry in self.admissions if entry.lookup}
        )
        self.admissions = [
            replace(entry, lookup=_accepted(entry.recipient, entry.rule, found.get(entry.recipient)))
            for entry in self.admissions
        ]

    # ----------------------------------------------------------------------- relay

    async def relay(self, content: bytes, delivered: frozenset[str] = frozenset()) -> Forwarded:
        """Plans, protects, forwards; all ciphertexts exist before any content leaves.

        Args:
            content: header and body, CRLF, dot-unstuffed.
            delivered: keys of recipients who have it from an earlier try of the client.

        Raises:
            RelayError: the client keeps the message; `DeliveryIncomplete` if some recipients have it.
        """
        message = await aside(len(content), self._examined, content)
        self.lesson = await aside(_lesson_bytes(message) * _ADDRESS_WORK, self._lesson, message)
        await self._look_up_again()
        header_bytes = len(content) - len(message.body)
        self.named = await aside(header_bytes * _ADDRESS_WORK, authors.recipients_named, message)
        shares = await self._plan(message, delivered)
        async with self.ground.budget.encrypting(len(content), len(shares)):
            outgoing = tuple([await self._protect(message, share) for share in shares])
            forwarded = await self._forward(outgoing)
        if forwarded.failures:
            await self._tell_sender(forwarded)
        return forwarded

    def _examined(self, content: bytes) -> Message:
        """The message as it will be protected; raises what makes it unfit for every recipient."""
        message = headers.parse(content)
        checks.examine(message)
        login = self.client.login
        if login and login.senders is not None:
            senders.check_authors(login, authors.author(message))
        return complete.complete(message, message_id=self._message_id(), date=self._date())

    def _lesson(self, message: Message) -> tuple[autocrypt.Header, datetime | None, KeyChange] | None:
        header = autocrypt.taught(message, self.client.login) if self.parts.learner else None
        if header is None:
            return None
        rule = self.parts.policy.rule_for(None, header.addr)
        return header, autocrypt.sent_at(message), rule.key_change

    async def _plan(self, message: Message, delivered: frozenset[str]) -> list[copies.Share]:
        """Who shares a copy, and how each copy leaves."""
        encrypted = await aside(len(message.body), detect.already_encrypted, message)
        if encrypted:
            self._require_covered(encrypted)
            return copies.owed(
                [copies.Share(copies.Treatment.KEEP, tuple(self.admissions), encrypted)], delivered
            )
        plan = decision.plan(self.admissions, tuple(self.strict_refusals))
        if plan.clear:
            await aside(len(message.body), checks.check_clear, message)
        groups = copies.plan(plan.encrypted, self.named)
        sealed = [copies.Share(copies.Treatment.SEAL, group) for group in groups]
        return copies.owed([*sealed, copies.Share(copies.Treatment.RELEASE, plan.clear)], delivered)

    def _require_covered(self, encrypted: EncryptedMessage) -> None:
        """What the client encrypted must be readable for every recipient whose key is known (D-08)."""
        for admission in self.admissions:
            lookup = admission.lookup
            known = _acceptable(lookup) if lookup else ()
            ids = frozenset(subkey.key_id for verdict in known for subkey in verdict.subkeys)
            is_known = ids or (lookup and lookup.conflict)
            if is_known and not detect.covers(encrypted, ids):
                raise NotEncryptedForRecipient(recipient=admission.recipient)

    # ----------------------------------------------------------------------- protect

    async def _protect(self, message: Message, share: copies.Share) -> Outgoing:
        """One copy, ready to leave. The only ways out are ciphertext that was checked and a released rule."""
        size = _octets(message)
        await asyncio.sleep(0)  # a copy that is made on the loop never waits; others have to be served
        recipients = tuple(admission.recipient for admission in share.admissions)
        received = self._received(recipients)
        match share.treatment:
            case copies.Treatment.SEAL:
                return await self._seal(message, share.admissions, recipients, received)
            case copies.Treatment.KEEP:
                return await aside(
                    size,
                    detect.pass_through,
                    message,
                    received=received,
                    recipients=recipients,
                    key_ids=share.encrypted.pkesk_ids if share.encrypted else (),
                    smtputf8=self.options.smtputf8,
                )
            case copies.Treatment.RELEASE:
                return await aside(
                    size,
                    pgpmime.release,
                    message,
                    received=received,
                    recipients=recipients,
                    rule=", ".join(dict.fromkeys(admission.rule.name for admission in share.admissions)),
                    smtputf8=self.options.smtputf8,
                )

    async def _seal(
        self, message: Message, group: tuple[Admission, ...], recipients: tuple[Address, ...], received: bytes
    ) -> Sealed:
        """Encrypts, and checks what came back, whoever made it."""
        size = _octets(message)
        message = complete.strip(message, sealed=True)
        keys = _distinct(verdict for admission in group for verdict in admission.chosen)
        armored = await self.parts.engine.encrypt(await aside(size, pgpmime.payload, message), keys)
        header, body = await aside(
            size, pgpmime.wrap, message, armored, boundary=pgpmime.new_boundary(), received=received
        )
        return await aside(
            size,
            selfcheck.seal,
            header,
            body,
            message=message,
            expected_ids=tuple(subkey.key_id for verdict in keys for subkey in verdict.subkeys),
            recipients=recipients,
            received=received,
            smtputf8=self.options.smtputf8,
        )

    def _message_id(self) -> str:
        return f"<{secrets.token_hex(16)}@{self.parts.hostname}>"

    def _date(self) -> str:
        return format_datetime(self.ground.clock.now())

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
                smtputf8=self.options.smtputf8,
            ),
            tls=self.client.tls,
            id=self.id,
            date=self._date(),
            recipient=visible,
        )

    # ----------------------------------------------------------------------- forward

    async def _forward(self, outgoing: tuple[Outgoing, ...]) -> Forwarded:
        if not outgoing:  # an earlier try of the client reached everybody
            return Forwarded(())
        accepted = frozenset(admission.recipient for admission in self.admissions)
        return await self._forwarder().forward(self.sender, outgoing, accepted)

    async def _tell_sender(self, forwarded: Forwarded) -> None:
        """A DSN for the copies that failed after others were taken (RFC 5321 §4.4).

        Raises:
            DeliveryIncomplete: nobody could be told; the client must try again.
        """
        if self.sender is None:  # RFC 3461 §6.1: never about a message from the null sender
            raise DeliveryIncomplete(forwarded.delivered)
        notice = dsn.failure(
            sender=self.sender,
            failed=[entry for failure in forwarded.failures for entry in failure.entries],
            outer_header=forwarded.failures[0].copy.header,
            hostname=self.parts.hostname,
            id=self.id,
            date=self._date(),
            message_id=self._message_id(),
        )
        try:
            await self._forwarder().send(None, notice)
        except RelayError as exc:
            raise DeliveryIncomplete(forwarded.delivered) from exc

    def _forwarder(self) -> Forwarder:
        return Forwarder(
            self.session,
            self.front,
            self.ground.clock,
            self.ground.journal,
            id=self.id,
            at_once=self.parts.connections_per_message,
        )

    async def learn(self) -> None:
        """Keeps what the message taught, after it was sent; never raises."""
        if self.parts.learner and self.lesson:
            await self.parts.learner.hear(*self.lesson, id=self.id)

    async def end(self) -> None:
        """Gives the next hop's transaction back, however this one ended; once, and never raises."""
        try:
            await self.lookups.end()
            await self.front.abandon()
        finally:
            self.parts.uses.end()

    # ----------------------------------------------------------------------- explain

    def _record_admission(self, admission: Admission) -> None:
        self.ground.journal.record(
            "recipient_accepted",
            id=self.id,
            sender=str(self.sender or "<>"),
            recipient=str(admission.recipient),
            rule=admission.rule.name,
            encrypt=admission.rule.encrypt.value,
            result=admission.lookup.result.value if admission.lookup else "not asked",
            source=", ".join(verdict.certificate.source for verdict in admission.chosen),
            certificate=", ".join(verdict.certificate.fingerprint for verdict in admission.chosen),
        )

    def _record_refusal(self, recipient: Address, rule: Rule, refusal: RelayError) -> None:
        self.ground.journal.record(
            "recipient_refused",
            id=self.id,
            recipient=str(recipient),
            rule=rule.name,
            encrypt=rule.encrypt.value,
            error=type(refusal).__name__,
            detail=refusal.detail,
        )


def _accepted(recipient: Address, rule: Rule, lookup: Lookup | None) -> Lookup | None:
    """The lookup, or raises what its result means under the rule."""
    refusal = decision.refusal_at_rcpt(recipient, rule, lookup)
    if refusal:
        raise refusal
    return lookup


def _acceptable(lookup: Lookup) -> tuple[Verdict, ...]:
    """The keys that a client may have encrypted to: not only what we would choose, but nothing in doubt."""
    if lookup.conflict is None:
        return lookup.verdicts
    pinned = lookup.pin.fingerprint if lookup.pin else ""  # the other key was not approved
    return tuple(verdict for verdict in lookup.verdicts if verdict.certificate.fingerprint == pinned)


def _distinct(verdicts: Iterable[Verdict]) -> tuple[Verdict, ...]:
    """Each certificate once, in the order of the recipients."""
    return tuple({verdict.certificate.fingerprint: verdict for verdict in verdicts}.values())


def _lesson_bytes(message: Message) -> int:
    """How much has to be read to learn a key: of a few kilobytes a stranger can make thousands of packets."""
    return sum(len(field.raw) for name in ("autocrypt", "from") for field in message.get(name))


def _octets(message: Message) -> int:
    return len(message.body) + sum(len(field.raw) for field in message.fields)


_P = ParamSpec("_P")
_T = TypeVar("_T")


async def aside(size_bytes: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Runs pure work on the loop, or in a thread where the message is large enough to hold others up."""
    if size_bytes <= _LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
