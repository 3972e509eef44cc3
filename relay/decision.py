"""What a lookup result means under a rule: the table of the four results, and mixed recipients. Pure.

Here stands the promise "no key and cannot tell are different": unavailable is temporary under every rule,
and nothing but `none` under `when-possible` (or `never`) ends in clear text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.errors import (
    KeyChangeHeld,
    KeyChangeRefused,
    KeyLookupFailed,
    KeyLookupGaveUp,
    KeyMissing,
    KeyUnusable,
    MixedRefused,
    PinnedKeyMissing,
    RelayError,
)
from relay.message import Address, Admission, Encrypt, Lookup, LookupResult, Mixed, PinConflict, Rule


@dataclass(frozen=True, slots=True)
class Plan:
    """How the recipients of one message are served."""

    encrypted: tuple[Admission, ...]
    clear: tuple[Admission, ...]


def refusal_at_rcpt(recipient: Address, rule: Rule, lookup: Lookup | None) -> RelayError | None:
    """Why this recipient is refused at RCPT, or None.

    A rule with `accept_encrypted` waits for DATA, because the client may have encrypted the message itself;
    an unavailable source does not wait: nobody could tell whether it did so for the right key.
    """
    refusal = refusal_of(recipient, rule, lookup)
    if rule.accept_encrypted and isinstance(refusal, _HEALED_BY_THE_CLIENT):
        return None
    return refusal


_HEALED_BY_THE_CLIENT = (KeyMissing, KeyUnusable, PinnedKeyMissing, KeyChangeHeld, KeyChangeRefused)
"""What does not matter if the client itself has encrypted the message: no key of ours is needed then."""


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


def plan(admissions: Iterable[Admission], strict_refusals: tuple[Address, ...]) -> Plan:
    """Divides the recipients of a message that the client has not encrypted.

    Raises:
        KeyMissing, KeyUnusable: a recipient waited for an encrypted message and this is none.
        MixedRefused: a clear copy would leave beside a recipient whose rule forbids it.
    """
    admitted = tuple(admissions)
    for admission in admitted:
        refusal = refusal_of(admission.recipient, admission.rule, admission.lookup)
        if refusal:
            raise refusal
    encrypted = tuple(admission for admission in admitted if admission.chosen)
    clear = tuple(admission for admission in admitted if not admission.chosen)
    _refuse_mixed(admitted, clear, strict_refusals)
    return Plan(encrypted, clear)


def _refuse_mixed(
    admitted: tuple[Admission, ...], clear: tuple[Admission, ...], refused: tuple[Address, ...]
) -> None:
    strict = [*refused, *(entry.recipient for entry in admitted if forbids_clear(entry.rule))]
    if clear and strict:
        raise MixedRefused(strict=strict, clear=[entry.recipient for entry in clear])
