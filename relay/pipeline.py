"""The way of one message, read downwards: admit each recipient, then plan, protect and forward.

This module knows no library and no server. What it needs from them stands in `relay/seams.py`; what the
results mean is decided in `relay/decision.py`; how copies reach the next hop is in `relay/forward.py`.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import format_datetime
from typing import TYPE_CHECKING

from relay import decision, senders
from relay.address import has_routing
from relay.errors import BadAddress, DeliveryIncomplete, NotEncryptedForRecipient, RelayError
from relay.forward import Forwarded, Forwarder
from relay.lookup import MessageLookups, Question, question
from relay.message import Address, Admission, Client, Lookup, MailOptions, Outgoing, Verdict
from relay.mime import (
    authors,
    autocrypt,
    checks,
    complete,
    copies,
    detect,
    dsn,
    exempt,
    generations,
    headers,
    wishes,
)
from relay.protector import Protector
from relay.rule import Calendar, Encrypt, Exemption, KeyChange, Rule
from relay.threads import aside

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
    readers: dict[Question, Lookup] = field(default_factory=dict)
    """What was found for those of `also_encrypt_to`."""
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
            also = await self._readers(rule) if lookup and lookup.chosen else ()
            await self.front.add(recipient)
        except RelayError as refusal:
            if decision.forbids_clear(rule):
                self.strict_refusals.append(recipient)
            self._record_refusal(recipient, rule, refusal)
            raise
        self.looked_up = self.looked_up or self.ground.clock.monotonic()
        self.admissions.append(Admission(recipient, rule, lookup, also))
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
        lookup = await self.lookups.find(recipient, rule)
        _raise(decision.refusal_at_rcpt(recipient, rule, lookup, is_null_sender=self.sender is None))
        return lookup

    async def _readers(self, rule: Rule) -> tuple[Verdict, ...]:
        """The certificates of `also_encrypt_to`; raises the refusal where one cannot be used."""
        readers = decision.readers_to_find(rule, self.sender, self.parts.policy)
        found = [await self._reader(meant, asked, rule) for meant, asked in readers]
        return tuple(verdict for verdicts in found for verdict in verdicts)

    async def _reader(self, meant: Address, asked: Rule, rule: Rule) -> tuple[Verdict, ...]:
        known = question(meant, asked)
        lookup = self.readers.get(known) or await self.lookups.find(meant, asked)
        _raise(decision.refusal_of_reader(meant, rule, lookup))
        self.readers[known] = lookup
        return lookup.chosen

    async def _look_up_again(self) -> None:
        """Keys that expired, were revoked or removed while the message arrived; raises the refusal."""
        if self.ground.clock.monotonic() - self.looked_up > _KEYS_ARE_FRESH_SECONDS:
            self.readers.clear()
            self.admissions = await self._looked_up([entry for entry in self.admissions if entry.lookup])

    async def _looked_up(self, stale: list[Admission]) -> list[Admission]:
        """The admissions, those in `stale` with new keys; raises the refusal."""
        found = await self.lookups.find_again({entry.recipient: entry.rule for entry in stale})
        return [await self._renewed(entry, found.get(entry.recipient)) for entry in self.admissions]

    async def _renewed(self, entry: Admission, lookup: Lookup | None) -> Admission:
        if lookup is None:
            return entry
        is_null = self.sender is None
        _raise(decision.refusal_at_rcpt(entry.recipient, entry.rule, lookup, is_null_sender=is_null))
        also = await self._readers(entry.rule) if lookup.chosen else ()
        return replace(entry, lookup=lookup, also=also)

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
        encrypted = await aside(len(message.body), detect.already_encrypted, message)
        header_work = (len(content) - len(message.body)) * _ADDRESS_WORK
        if not encrypted:
            await self._heed(await aside(header_work, wishes.wish_of, message, self.parts.wishes))
        message = await aside(header_work, wishes.without_wishes, message, self.parts.wishes)
        self.lesson = await aside(_lesson_bytes(message) * _ADDRESS_WORK, self._lesson, message)
        await self._look_up_again()
        self.named = await aside(header_work, authors.recipients_named, message)
        shares = await self._plan(message, encrypted, delivered)
        protector = self._protector()
        async with self.ground.budget.encrypting(len(content), len(shares)):
            outgoing = tuple([await protector.protect(message, share) for share in shares])
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

    async def _heed(self, wish: wishes.Wish | None) -> None:
        """Does what the message itself wishes, as far as the rules allow."""
        if wish is None:
            return
        before = [entry.rule for entry in self.admissions]
        self.admissions = [_under(decision.wished(entry.rule, wish), entry) for entry in self.admissions]
        keyless = [a for a in self.admissions if a.lookup is None and a.rule.encrypt is not Encrypt.NEVER]
        self.admissions = await self._looked_up(keyless)
        after = [entry.rule for entry in self.admissions]
        self._record_wish(wish, [new.name for old, new in zip(before, after, strict=True) if old != new])

    def _lesson(self, message: Message) -> tuple[autocrypt.Header, datetime | None, KeyChange] | None:
        header = autocrypt.taught(message, self.client.login) if self.parts.learner else None
        if header is None:
            return None
        rule = self.parts.policy.rule_for(None, header.addr)
        return header, autocrypt.sent_at(message), rule.key_change

    async def _plan(
        self, message: Message, encrypted: EncryptedMessage | None, delivered: frozenset[str]
    ) -> list[copies.Share]:
        """Who shares a copy, and how each copy leaves.

        Args:
            encrypted: what the client itself has encrypted the message to.
        """
        if encrypted:
            self._require_covered(encrypted)
            return copies.owed(
                [copies.Share(copies.Treatment.KEEP, tuple(self.admissions), encrypted)], delivered
            )
        exempted = await self._exempted(message)
        plan = decision.plan(self.admissions, tuple(self.strict_refusals), exempted)
        for recipient, granted in exempted.items():
            self._record_exemption(recipient, granted)
        if plan.clear:
            await aside(len(message.body), checks.check_clear, message)
        shared = copies.plan(plan.encrypted, self.named)
        groups = [group for everyone in shared for group in generations.split(everyone)]
        shares = [copies.Share(copies.Treatment.SEAL, group) for group in groups]
        shares.append(copies.Share(copies.Treatment.EXEMPT, _named_after(plan.exempted, exempted)))
        shares.append(copies.Share(copies.Treatment.RELEASE, plan.clear))
        return copies.owed(shares, delivered)

    async def _exempted(self, message: Message) -> Mapping[Address, frozenset[Exemption]]:
        """For whom this message leaves as it is, and as what; raises where a rule refuses its kind."""
        if not any(entry.rule.looks_at_kind for entry in self.admissions):
            return {}
        size = len(message.body)
        if any(entry.rule.calendar is Calendar.REFUSE for entry in self.admissions) and await aside(
            size, exempt.holds_calendar, message
        ):
            decision.refuse_calendar(self.admissions)
        kinds = await aside(size, exempt.exemptions, message, self.sender, self.named)
        return decision.exempted(self.admissions, kinds, self.named)

    def _require_covered(self, encrypted: EncryptedMessage) -> None:
        """What the client encrypted must be readable for every recipient whose key is known (D-08)."""
        for admission in self.admissions:
            lookup = admission.lookup
            known = _acceptable(lookup) if lookup else ()
            ids = frozenset(subkey.key_id for verdict in known for subkey in verdict.subkeys)
            is_known = ids or (lookup and lookup.conflict)
            if is_known and not detect.covers(encrypted, ids):
                raise NotEncryptedForRecipient(recipient=admission.recipient)

    def _protector(self) -> Protector:
        return Protector(self.parts, self.client, self.id, self._date(), self.options.smtputf8, self.named)

    def _message_id(self) -> str:
        return f"<{secrets.token_hex(16)}@{self.parts.hostname}>"

    def _date(self) -> str:
        return format_datetime(self.ground.clock.now())

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
            readers=", ".join(verdict.certificate.fingerprint for verdict in admission.also),
        )

    def _record_wish(self, wish: wishes.Wish, rules: list[str]) -> None:
        event = "wish_heeded" if rules else "wish_ignored"
        self.ground.journal.record(event, id=self.id, wish=wish.value, rules=", ".join(dict.fromkeys(rules)))

    def _record_exemption(self, recipient: Address, granted: frozenset[Exemption]) -> None:
        self.ground.journal.record(
            "recipient_exempted",
            id=self.id,
            recipient=str(recipient),
            kind=", ".join(sorted(granted)),
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


def _named_after(
    entries: tuple[Admission, ...], exempted: Mapping[Address, frozenset[Exemption]]
) -> tuple[Admission, ...]:
    """The recipients under rules whose names say what released the message."""
    kinds = [", ".join(sorted(exempted[entry.recipient])) for entry in entries]
    names = [f"{entry.rule.name} (exempt: {kind})" for entry, kind in zip(entries, kinds, strict=True)]
    return tuple(
        replace(entry, rule=replace(entry.rule, name=name))
        for entry, name in zip(entries, names, strict=True)
    )


def _under(rule: Rule, entry: Admission) -> Admission:
    """The recipient under another rule; a key that it does not ask for is not used."""
    if rule.encrypt is Encrypt.NEVER:
        return Admission(entry.recipient, rule)
    return replace(entry, rule=rule)


def _raise(refusal: RelayError | None) -> None:
    if refusal:
        raise refusal


def _acceptable(lookup: Lookup) -> tuple[Verdict, ...]:
    """The keys that a client may have encrypted to: not only what we would choose, but nothing in doubt."""
    if lookup.conflict is None:
        return lookup.verdicts
    pinned = lookup.pin.fingerprint if lookup.pin else ""  # the other key was not approved
    return tuple(verdict for verdict in lookup.verdicts if verdict.certificate.fingerprint == pinned)


def _lesson_bytes(message: Message) -> int:
    """How much has to be read to learn a key: of a few kilobytes a stranger can make thousands of packets."""
    return sum(len(field.raw) for name in ("autocrypt", "from") for field in message.get(name))
