"""What would happen to a recipient, and why: the rule, the sources, every certificate, the reply.

It asks the same policy, the same key finder and the same decisions as a real message, so that what it says is
what happens. It cannot know what depends on the content, or on what the next hop says.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from relay import decision
from relay.address import has_routing
from relay.errors import BadAddress, MixedRefused, RelayError
from relay.lookup import LOOKUP_SECONDS
from relay.message import Address, Answer, Lookup, LookupResult, PinConflict, Reply
from relay.remembered import Trust
from relay.rule import Encrypt, Rule

if TYPE_CHECKING:
    from relay.lookup import KeyFinder, Listed
    from relay.policy import Policy
    from relay.seams import Clock

NULL_SENDER = Address("<>", "", "")
"""Asks about `MAIL FROM:<>`, which has rules of its own."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that was decided about one recipient."""

    sender: Address | None
    """None: a sender that no entry names."""
    recipient: Address
    rule: Rule
    lookup: Lookup | None
    """None where the rule asks for no key, or the address was refused before."""
    refusal: RelayError | None
    """What a plaintext message for this recipient is refused with."""
    at_rcpt: bool
    """Whether the refusal comes at RCPT; else it waits for the content, which may make up for the key."""
    readers: tuple[tuple[Address, Lookup], ...] = ()
    """What was found for each of `also_encrypt_to`."""
    trusts: Mapping[str, Trust] = field(default_factory=dict)
    """Name of each configured source → its trust."""
    at: datetime | None = None
    """When it was explained (UTC), for the age of kept answers; None: no ages are told."""

    @property
    def outcome(self) -> str:
        """`encrypt`, `clear`, `needs-encrypted`, `refuse` (5xx) or `defer` (4xx)."""
        if self.refusal is None:
            return "encrypt" if self.lookup and self.lookup.chosen else "clear"
        if not self.at_rcpt:
            return "needs-encrypted"
        return "defer" if self.refusal.is_temporary else "refuse"

    @property
    def sentence(self) -> str:
        """The outcome for people."""
        match self.outcome:
            case "encrypt":
                chosen = self.lookup.chosen if self.lookup else ()
                names = " and ".join(verdict.certificate.fingerprint for verdict in chosen)
                return f"encrypted to {names}{self._unknown_reader()}"
            case "clear":
                return (
                    f"sent in clear, because {self._why_clear()}; refused where the message also has a"
                    " recipient whose rule demands encryption"
                )
            case "needs-encrypted":
                return f"accepted only if {' or '.join(self._healed())}"
            case "defer":
                return "not accepted now; the sender's program keeps the message and tries again"
            case _:
                return "refused; nothing is sent"

    def _unknown_reader(self) -> str:
        if decision.THE_SENDER not in self.rule.also_encrypt_to or self.sender is not None:
            return ""
        return ", and to the sender, who needs a key (--sender says who)"

    def _healed(self) -> list[str]:
        """What about a message makes up for the missing key."""
        rule, ways = self.rule, []
        if rule.accept_encrypted:
            ways.append("the sender's program has encrypted the message itself")
        if rule.exemptions:
            ways.append(
                f"the message is of a kind that {rule.name} exempts ({', '.join(sorted(rule.exemptions))})"
            )
        if rule.allow_lower:
            ways.append("the message itself asks to leave in clear")
        return ways

    def _why_clear(self) -> str:
        if self.rule.encrypt is Encrypt.NEVER:
            return f"{self.rule.name} says never"
        if self.lookup and self.lookup.result is LookupResult.UNUSABLE:
            return f"no certificate is usable and {self.rule.name} says unusable_key: release"
        return f"no source has a key and {self.rule.name} says when-possible"

    @property
    def advice(self) -> tuple[str, ...]:
        """Where a pin stands against the answers: what it means, and the commands to choose from."""
        lookup = self.lookup
        if lookup is None or lookup.conflict is None:
            return ()
        return _advice(lookup.conflict, shlex.quote(str(self.recipient)), lookup.contender)

    @property
    def reply(self) -> Reply | None:
        """What the client gets to read instead of a 250; a real one also has the log id."""
        return self.refusal.reply(utf8=not self.recipient.is_ascii) if self.refusal else None


def _advice(conflict: PinConflict, address: str, contender: str) -> tuple[str, ...]:
    forget = f"to start anew with the next key that is found: relay keys forget {address}"
    if conflict is PinConflict.MISSING:
        return (
            "the key that was used before is gone from its source; ask the recipient why",
            f"to go on with it: relay keys export {address} | relay keys import --into SOURCE -",
            forget,
        )
    approve = f"to take the new key: relay keys approve {address} {contender}"
    if conflict is PinConflict.REFUSED:
        return (
            "the new key was rejected, or the rule takes no other key than the pinned one",
            approve,
            forget,
        )
    return (
        "the new key waits, from the first message on, until you have compared it with the recipient",
        approve,
        f"to refuse it: relay keys reject {address} {contender}",
    )


async def explain(
    policy: Policy,
    finder: KeyFinder,
    sender: Address | None,
    recipient: Address,
    *,
    sources: Mapping[str, Listed] | None = None,
    clock: Clock | None = None,
    seconds: float = LOOKUP_SECONDS,
) -> Explanation:
    """Decides about one recipient as the relay does at RCPT. Sends and pins nothing, raises nothing of ours.

    Args:
        sources: those of `finder`, to tell how far each is believed.
        clock: to tell how old kept answers are.
        seconds: how long the lookup may take.
    """
    is_null = sender is NULL_SENDER
    rule = policy.rule_for_null_sender(recipient) if is_null else policy.rule_for(sender, recipient)
    if has_routing(recipient) and not rule.allow_routing:
        return Explanation(sender, recipient, rule, None, BadAddress(address=recipient), at_rcpt=True)
    lookup = None
    if rule.encrypt is not Encrypt.NEVER:
        lookup = await finder.find(recipient, rule, seconds=seconds, explaining=True)
    at_rcpt = decision.refusal_at_rcpt(recipient, rule, lookup, is_null_sender=is_null)
    meant = decision.readers_to_find(rule, None if is_null else sender, policy) if _is_sealed(lookup) else []
    readers = tuple(
        [
            (reader, await finder.find(reader, asked, seconds=seconds, explaining=True))
            for reader, asked in meant
        ]
    )
    unreadable = (decision.refusal_of_reader(reader, rule, found) for reader, found in readers)
    at_rcpt = at_rcpt or next(filter(None, unreadable), None)
    refusal = at_rcpt or decision.refusal_of(recipient, rule, lookup)
    trusts = {name: listed.trust for name, listed in (sources or {}).items()}
    at = clock.now() if clock else None
    return Explanation(
        sender,
        recipient,
        rule,
        lookup,
        refusal,
        at_rcpt=at_rcpt is not None,
        readers=readers,
        trusts=trusts,
        at=at,
    )


def _is_sealed(lookup: Lookup | None) -> bool:
    return lookup is not None and bool(lookup.chosen)


def together(explanations: Iterable[Explanation]) -> RelayError | None:
    """Why the recipients, although each is accepted alone, may not share one message; None if they may."""
    everyone = tuple(explanations)
    clear = [each.recipient for each in everyone if each.outcome == "clear"]
    strict = [each.recipient for each in everyone if decision.forbids_clear(each.rule)]
    return MixedRefused(strict=strict, clear=clear) if clear and strict else None


def answers(explanation: Explanation) -> list[tuple[str, Answer | None]]:
    """Every source of the rule with its answer, and the store where that failed.

    Those behind a failed one have none.
    """
    given = {answer.source: answer for answer in explanation.lookup.answers} if explanation.lookup else {}
    others = [name for name in given if name not in explanation.rule.keys]
    return [(name, given.get(name)) for name in (*explanation.rule.keys, *others)]


def age_seconds(explanation: Explanation, answer: Answer) -> float | None:
    """How long ago a source outside of this machine answered; None for local files."""
    if explanation.at is None or answer.asked_at is None:
        return None
    return max((explanation.at - answer.asked_at).total_seconds(), 0.0)


def missing_pin_word(rule: Rule) -> str:
    """`pinned_key_missing` as it stands in the configuration."""
    return "use-pin" if rule.use_missing_pin else "refuse"


def needs_attention(explanations: Sequence[Explanation]) -> bool:
    """Whether some recipient would not simply be accepted, alone or together."""
    return any(each.refusal for each in explanations) or together(explanations) is not None
