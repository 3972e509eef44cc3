"""What a lookup result means under a rule: the table of the four results, and mixed recipients. Pure.

Here stands the promise "no key and cannot tell are different": unavailable is temporary under every rule and
releases nothing. Clear text comes of `never`; of `none`, or `unusable` with `unusable_key: release`, under
`when-possible`; of an exemption that the rule names; and of a wish that it allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from relay.errors import (
    CalendarRefused,
    KeyChangeHeld,
    KeyChangeRefused,
    KeyLookupFailed,
    KeyLookupGaveUp,
    KeyMissing,
    KeyUnusable,
    MixedRefused,
    PinnedKeyMissing,
    ReaderKeyMissing,
    RelayError,
)
from relay.message import Address, Admission, Lookup, LookupResult, PinConflict
from relay.mime.exempt import is_list_traffic_for
from relay.mime.wishes import Wish
from relay.policy import Policy
from relay.remembered import Trust
from relay.rule import Calendar, Encrypt, Exemption, Mixed, Rule


@dataclass(frozen=True, slots=True)
class Plan:
    """How the recipients of one message are served."""

    encrypted: tuple[Admission, ...]
    clear: tuple[Admission, ...]
    exempted: tuple[Admission, ...]


THE_SENDER = "sender"
"""Of `also_encrypt_to`: the sender of the message."""


def refusal_at_rcpt(
    recipient: Address, rule: Rule, lookup: Lookup | None, *, is_null_sender: bool = False
) -> RelayError | None:
    """Why this recipient is refused at RCPT, or None.

    A rule waits for DATA where the content may yet make up for a missing key. An unavailable source does not
    wait: nobody could tell whether a client that encrypts the message itself did so for the right key.
    """
    refusal = refusal_of(recipient, rule, lookup)
    if isinstance(refusal, _HEALED_BY_CONTENT) and _waits(rule, is_null_sender=is_null_sender):
        return None
    return refusal


_HEALED_BY_CONTENT = (KeyMissing, KeyUnusable, PinnedKeyMissing, KeyChangeHeld, KeyChangeRefused)
"""What does not matter for a message that needs no key of ours."""
_FROM_NOBODY = frozenset({Exemption.DSN, Exemption.NULL_SENDER})
"""Kinds of message that only the null sender sends. Mail programs send receipts, and name their user."""


def _waits(rule: Rule, *, is_null_sender: bool) -> bool:
    exemptions = rule.exemptions if is_null_sender else rule.exemptions - _FROM_NOBODY
    return rule.accept_encrypted or rule.allow_lower or bool(exemptions)


def wished(rule: Rule, wish: Wish) -> Rule:
    """The rule as a message changes it: it may always raise, and lower only where the rule allows that."""
    if wish is Wish.RAISE:
        calendar = Calendar.ENCRYPT if rule.calendar is Calendar.CLEAR else rule.calendar
        name = rule.name if rule.encrypt is Encrypt.ALWAYS else f"{rule.name} (raised by the message)"
        return replace(rule, name=name, encrypt=Encrypt.ALWAYS, exempt=frozenset(), calendar=calendar)
    if not rule.allow_lower or rule.encrypt is Encrypt.NEVER:
        return rule
    return replace(rule, name=f"{rule.name} (lowered by the message)", encrypt=Encrypt.NEVER)


def exempted(
    admissions: Iterable[Admission], kinds: frozenset[Exemption], named: frozenset[str]
) -> dict[Address, frozenset[Exemption]]:
    """For whom a message of these kinds leaves as it is.

    Args:
        kinds: of which the message is.
        named: `Address.key` of everybody in To and Cc: who stands there is not served by a list.
    """
    granted = {}
    for entry in admissions:
        is_for_them = is_list_traffic_for(entry.recipient, named)
        found = entry.rule.exemptions & (kinds if is_for_them else kinds - {Exemption.LIST})
        if found and entry.rule.encrypt is not Encrypt.NEVER:
            granted[entry.recipient] = found
    return granted


def refuse_calendar(admissions: Iterable[Admission]) -> None:
    """A message that holds a calendar; raises CalendarRefused for the first rule that refuses these."""
    for entry in admissions:
        if entry.rule.calendar is Calendar.REFUSE:
            raise CalendarRefused(recipient=entry.recipient, rule=entry.rule.name)


def _reader_to_find(reader: str, rule: Rule, sender: Address | None, policy: Policy) -> tuple[Address, Rule]:
    """Whose certificate `also_encrypt_to` means, and the rule to look it up with.

    It is looked for where the rule looks. What becomes of the sender's pin is the business of the rule for
    mail to the sender, not of the one for mail to somebody else.

    Args:
        reader: `sender`, or the fingerprint of a certificate that an administrator has chosen.
    """
    plain = replace(rule, encrypt=Encrypt.ALWAYS, certificates=())
    if reader == THE_SENDER and sender is not None:
        own = policy.rule_for(None, sender)
        trust = max(rule.min_trust, own.min_trust)
        change, missing = own.key_change, own.use_missing_pin
        return sender, replace(plain, min_trust=trust, key_change=change, use_missing_pin=missing)
    by_hand = replace(plain, certificates=(reader,), min_trust=min(Trust))
    return Address(reader, reader, ""), by_hand


def readers_to_find(rule: Rule, sender: Address | None, policy: Policy) -> list[tuple[Address, Rule]]:
    """The same for everybody in `also_encrypt_to`; nobody where the sender is meant and there is none."""
    return [
        _reader_to_find(reader, rule, sender, policy)
        for reader in rule.also_encrypt_to
        if reader != THE_SENDER or sender is not None
    ]


def refusal_of_reader(reader: Address, rule: Rule, lookup: Lookup) -> RelayError | None:
    """Why nothing may be encrypted that `also_encrypt_to` wants this reader to open, or None."""
    match lookup.result:
        case LookupResult.USABLE:
            return None
        case LookupResult.UNAVAILABLE:
            return _unavailable(reader, rule, lookup)
        case _ if lookup.conflict and lookup.pin:
            return _conflict(reader, rule, lookup, lookup.pin.fingerprint, lookup.pin.source)
        case _:
            verdict = lookup.sentence or "none is known"
            return ReaderKeyMissing(recipient=reader, rule=rule.name, verdict=verdict)


def refusal_of(recipient: Address, rule: Rule, lookup: Lookup | None) -> RelayError | None:
    """Why a message that is not yet encrypted may not go to this recipient, or None."""
    if rule.encrypt is Encrypt.NEVER:
        return None
    if lookup is None:  # a rule that demands a key and was not looked up is a bug: never clear text
        return KeyLookupFailed("no lookup was made", recipient=recipient, source="none")
    match lookup.result:
        case LookupResult.USABLE:
            return None
        case LookupResult.UNAVAILABLE:
            return _unavailable(recipient, rule, lookup)
        case LookupResult.UNUSABLE:
            return _unusable(recipient, rule, lookup)
        case LookupResult.NONE:
            return _none(recipient, rule, lookup)


def _unavailable(recipient: Address, rule: Rule, lookup: Lookup) -> RelayError:
    source = lookup.failed_source
    detail = "; ".join(answer.failure for answer in lookup.answers if answer.failure)
    if rule.refuse_on_failure or lookup.failing_seconds >= rule.lookup_patience_seconds:
        return KeyLookupGaveUp(detail, recipient=recipient, source=source, rule=rule.deferral)
    return KeyLookupFailed(detail, recipient=recipient, source=source)


def _unusable(recipient: Address, rule: Rule, lookup: Lookup) -> RelayError | None:
    """Where a key was used before, nothing is released: its replacement by garbage must not lead there."""
    if lookup.conflict and lookup.pin:
        return _conflict(recipient, rule, lookup, lookup.pin.fingerprint, lookup.pin.source)
    if rule.encrypt is Encrypt.WHEN_POSSIBLE and rule.release_unusable and lookup.pin is None:
        return None
    return KeyUnusable(recipient=recipient, verdict=lookup.sentence, rule=rule.name)


def _conflict(recipient: Address, rule: Rule, lookup: Lookup, pinned: str, source: str) -> RelayError:
    match lookup.conflict:
        case PinConflict.HELD:
            return KeyChangeHeld(recipient=recipient, fingerprint=lookup.contender)
        case PinConflict.REFUSED:
            return KeyChangeRefused(recipient=recipient, fingerprint=lookup.contender, rule=rule.name)
        case _:
            return PinnedKeyMissing(recipient=recipient, fingerprint=pinned, source=source)


def _none(recipient: Address, rule: Rule, lookup: Lookup) -> RelayError | None:
    """Only a source that was asked can have answered none; nobody's silence releases anything."""
    if rule.encrypt is Encrypt.WHEN_POSSIBLE and lookup.answers and lookup.pin is None:
        return None
    return KeyMissing(recipient=recipient, rule=rule.name)


def forbids_clear(rule: Rule) -> bool:
    """Whether a recipient under this rule, refused or not, forbids clear copies of the message to others."""
    return rule.encrypt is Encrypt.ALWAYS and rule.mixed is Mixed.REFUSE


def plan(
    admissions: Iterable[Admission],
    strict_refusals: tuple[Address, ...],
    exempted: Mapping[Address, frozenset[Exemption]] | None = None,
) -> Plan:
    """Divides the recipients of a message that the client has not encrypted.

    Args:
        strict_refusals: refused recipients whose rule forbids clear copies to the others.
        exempted: recipients whose rule exempts this kind of message.

    Raises:
        KeyMissing, KeyUnusable: a recipient waited for an encrypted message and this is none.
        MixedRefused: a clear copy would leave beside a recipient whose rule forbids it.
    """
    everyone = tuple(admissions)
    exempt = tuple(entry for entry in everyone if exempted and entry.recipient in exempted)
    admitted = tuple(entry for entry in everyone if entry not in exempt)
    for admission in admitted:
        refusal = refusal_of(admission.recipient, admission.rule, admission.lookup)
        if refusal:
            raise refusal
    encrypted = tuple(admission for admission in admitted if admission.chosen)
    clear = tuple(admission for admission in admitted if not admission.chosen)
    _refuse_mixed(admitted, clear + exempt, strict_refusals)
    return Plan(encrypted, clear, exempt)


def _refuse_mixed(
    admitted: tuple[Admission, ...], clear: tuple[Admission, ...], refused: tuple[Address, ...]
) -> None:
    strict = [*refused, *(entry.recipient for entry in admitted if forbids_clear(entry.rule))]
    if clear and strict:
        raise MixedRefused(strict=strict, clear=[entry.recipient for entry in clear])
