"""What would happen to a recipient, and why: the rule, the sources, every certificate, the reply.

It asks the same policy, the same key finder and the same decisions as a real message, so that what it says is
what happens. It cannot know what depends on the content, or on what the next hop says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from relay import decision
from relay.address import has_routing
from relay.errors import BadAddress, MixedRefused, RelayError
from relay.message import Address, Answer, Encrypt, Lookup, LookupResult, Reply, Rule, Verdict

if TYPE_CHECKING:
    from relay.lookup import KeyFinder
    from relay.policy import Policy

_STYLES = {
    "encrypt": "green",
    "clear": "yellow",
    "needs-encrypted": "yellow",
    "refuse": "red",
    "defer": "red",
}


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
    """Whether the refusal comes at RCPT; else it waits for the content (`accept_encrypted`)."""

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
                return f"encrypted to {names}"
            case "clear":
                return (
                    f"sent in clear, because {self._why_clear()}; refused where the message also has a"
                    " recipient whose rule demands encryption"
                )
            case "needs-encrypted":
                return "accepted only if the sender's program has encrypted the message itself"
            case "defer":
                return "not accepted now; the sender's program keeps the message and tries again"
            case _:
                return "refused; nothing is sent"

    def _why_clear(self) -> str:
        if self.rule.encrypt is Encrypt.NEVER:
            return f"{self.rule.name} says never"
        if self.lookup and self.lookup.result is LookupResult.UNUSABLE:
            return f"no certificate is usable and {self.rule.name} says unusable_key: release"
        return f"no source has a key and {self.rule.name} says when-possible"

    @property
    def reply(self) -> Reply | None:
        """What the client gets to read instead of a 250; a real one also has the log id."""
        return self.refusal.reply(utf8=not self.recipient.is_ascii) if self.refusal else None


async def explain(
    policy: Policy, finder: KeyFinder, sender: Address | None, recipient: Address
) -> Explanation:
    """Decides about one recipient as the relay does at RCPT. Sends nothing, raises nothing of ours."""
    is_null = sender is NULL_SENDER
    rule = policy.rule_for_null_sender(recipient) if is_null else policy.rule_for(sender, recipient)
    if has_routing(recipient) and not rule.allow_routing:
        return Explanation(sender, recipient, rule, None, BadAddress(address=recipient), at_rcpt=True)
    lookup = None if rule.encrypt is Encrypt.NEVER else await finder.find(recipient, rule)
    at_rcpt = decision.refusal_at_rcpt(recipient, rule, lookup)
    refusal = at_rcpt or decision.refusal_of(recipient, rule, lookup)
    return Explanation(sender, recipient, rule, lookup, refusal, at_rcpt=at_rcpt is not None)


def together(explanations: Iterable[Explanation]) -> RelayError | None:
    """Why the recipients, although each is accepted alone, may not share one message; None if they may."""
    everyone = tuple(explanations)
    clear = [each.recipient for each in everyone if each.outcome == "clear"]
    strict = [each.recipient for each in everyone if decision.forbids_clear(each.rule)]
    return MixedRefused(strict=strict, clear=clear) if clear and strict else None


# --------------------------------------------------------------------------- for programs


def as_dict(explanation: Explanation) -> dict[str, object]:
    """For JSON; the keys are public and stay."""
    return {
        "recipient": str(explanation.recipient),
        "sender": None if explanation.sender is None else str(explanation.sender),
        "outcome": explanation.outcome,
        "sentence": explanation.sentence,
        "reply": reply_as_dict(explanation.reply),
        "rule": _rule_as_dict(explanation.rule),
        "sources": [_answer_as_dict(name, answer) for name, answer in _answers(explanation)],
        "certificates": certificates_as_dicts(explanation.lookup),
    }


def reply_as_dict(reply: Reply | None) -> dict[str, object] | None:
    """An SMTP reply for JSON; None where the client gets a 250."""
    return None if reply is None else {"code": reply.code, "enhanced": reply.enhanced, "text": reply.text}


def _rule_as_dict(rule: Rule) -> dict[str, object]:
    return {
        "name": rule.name,
        "because": rule.because,
        "encrypt": rule.encrypt.value,
        "keys": list(rule.keys),
        "certificates": list(rule.certificates),
        "mixed": rule.mixed.value,
        "unusable_key": "release" if rule.release_unusable else "refuse",
        "lookup_failure": "refuse" if rule.refuse_on_failure else "defer",
        "lookup_patience_seconds": rule.lookup_patience_seconds,
        "address_routing": "allow" if rule.allow_routing else "refuse",
        "accept_encrypted": rule.accept_encrypted,
    }


def _answers(explanation: Explanation) -> list[tuple[str, Answer | None]]:
    """Every source of the rule with its answer; those behind a failed one were not asked."""
    given = {answer.source: answer for answer in explanation.lookup.answers} if explanation.lookup else {}
    return [(name, given.get(name)) for name in explanation.rule.keys]


def _answer_as_dict(name: str, answer: Answer | None) -> dict[str, object]:
    found, failure = (answer.found, answer.failure) if answer else (0, "")
    return {"name": name, "asked": answer is not None, "found": found, "failure": failure}


def certificates_as_dicts(lookup: Lookup | None) -> list[dict[str, object]]:
    """Every certificate that was found, with its verdict."""
    if lookup is None:
        return []
    return [{**_verdict_as_dict(verdict), "chosen": verdict in lookup.chosen} for verdict in lookup.verdicts]


def _verdict_as_dict(verdict: Verdict) -> dict[str, object]:
    return {
        "fingerprint": verdict.certificate.fingerprint,
        "source": verdict.certificate.source,
        "user_ids": list(verdict.certificate.user_ids),
        "usable": verdict.usable,
        "sentence": verdict.sentence,
        "warnings": list(verdict.warnings),
        "created": verdict.created.isoformat() if verdict.created else None,
        "subkeys": [
            {"fingerprint": subkey.fingerprint, "key_id": subkey.key_id, "algorithm": subkey.algorithm}
            for subkey in verdict.subkeys
        ],
    }


# --------------------------------------------------------------------------- for people


def as_table(explanation: Explanation) -> Table:
    """The explanation as two columns, the outcome last, where a reader of a terminal finds it."""
    table = two_columns()
    _row(table, "recipient", str(explanation.recipient), "bold")
    if explanation.sender is not None:
        _row(table, "sender", str(explanation.sender))
    _row(table, "rule", explanation.rule.name)
    _row(table, "because", explanation.rule.because)
    _row(table, "encrypt", explanation.rule.encrypt.value)
    for name, answer in _answers(explanation) if explanation.lookup else ():
        _row(table, "source", f"{name}: {_answer_text(answer)}", "red" if answer and answer.failure else "")
    for verdict in explanation.lookup.verdicts if explanation.lookup else ():
        add_verdict(table, verdict)
    _row(table, "outcome", explanation.sentence, _STYLES[explanation.outcome])
    if explanation.reply:
        _row(table, "reply", reply_text(explanation.reply))
    return table


def two_columns() -> Table:
    """An empty table for names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def add_verdict(table: Table, verdict: Verdict) -> None:
    """The rows of one certificate. Its User IDs are text of strangers, and are shown without effect."""
    certificate = verdict.certificate
    _row(table, "certificate", certificate.fingerprint or "(no fingerprint)")
    _row(table, "  from", certificate.source)
    for user_id in certificate.user_ids:
        _row(table, "  user id", user_id)
    if verdict.created:
        _row(table, "  created", f"{verdict.created:%Y-%m-%d}")
    _row(table, "  verdict", verdict_text(verdict), "green" if verdict.usable else "red")
    for subkey in verdict.subkeys:
        _row(table, "  subkey", f"{subkey.fingerprint} {subkey.algorithm}")
    for warning in verdict.warnings:
        _row(table, "  warning", warning, "yellow")


def verdict_text(verdict: Verdict) -> str:
    """`usable`, or the sentence that says why not."""
    return "usable" if verdict.usable else f"not usable: {verdict.sentence}"


def reply_text(reply: Reply) -> str:
    """The reply as a mail program shows it."""
    return f"{reply.code} {reply.enhanced} {reply.text}"


def plain(text: str) -> Text:
    """Text of strangers: neither markup nor control characters have an effect on the terminal."""
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def _row(table: Table, name: str, value: str, style: str = "") -> None:
    cell = plain(value)
    cell.stylize(style)
    table.add_row(name, cell)


def _answer_text(answer: Answer | None) -> str:
    if answer is None:
        return "not asked, because a source before it cannot be asked"
    if answer.failure:
        return f"cannot be asked: {answer.failure}"
    return {0: "no certificate", 1: "1 certificate"}.get(answer.found, f"{answer.found} certificates")


def needs_attention(explanations: Sequence[Explanation]) -> bool:
    """Whether some recipient would not simply be accepted, alone or together."""
    return any(each.refusal for each in explanations) or together(explanations) is not None
