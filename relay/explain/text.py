"""Explanations, certificates and pins for people: rows of two columns, without effect on the terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from relay.explain.outcome import Explanation, age_seconds, answers, missing_pin_word
from relay.explain.shape import as_words
from relay.message import Answer, Reply, Verdict
from relay.remembered import Pin, Trust
from relay.rule import Encrypt, Rule

_STYLES = {
    "encrypt": "green",
    "clear": "yellow",
    "needs-encrypted": "yellow",
    "refuse": "red",
    "defer": "red",
}


def as_table(explanation: Explanation) -> Table:
    """The explanation as two columns, the outcome last, where a reader of a terminal finds it."""
    table = two_columns()
    add_row(table, "recipient", str(explanation.recipient), "bold")
    if explanation.sender is not None:
        add_row(table, "sender", str(explanation.sender))
    add_row(table, "rule", explanation.rule.name)
    add_row(table, "because", explanation.rule.because)
    _add_rule(table, explanation.rule)
    for name, answer in answers(explanation) if explanation.lookup else ():
        text = f"{name}: {_answer_text(answer)}{_answer_notes(explanation, name, answer)}"
        add_row(table, "source", text, "red" if answer and answer.failure else "")
    for verdict in explanation.lookup.verdicts if explanation.lookup else ():
        trusts = explanation.lookup.trusts if explanation.lookup else {}
        add_verdict(table, verdict, trusts.get(verdict.certificate.fingerprint))
    for reader, lookup in explanation.readers:
        names = [verdict.certificate.fingerprint for verdict in lookup.chosen]
        add_row(
            table, "readable for", f"{reader}: {', '.join(names) or lookup.sentence or lookup.result.value}"
        )
    add_decision(table, explanation)
    return table


def add_decision(table: Table, explanation: Explanation) -> None:
    """The rows of the pin, of a conflict with it, and of the outcome."""
    if explanation.lookup and explanation.lookup.pin:
        add_row(table, "pin", pin_text(explanation.lookup.pin))
    for name, text in zip(("conflict", "  either", "  or"), explanation.advice, strict=False):
        add_row(table, name, text, "red" if name == "conflict" else "")
    add_row(table, "outcome", explanation.sentence, _STYLES[explanation.outcome])
    if explanation.reply:
        add_row(table, "reply", reply_text(explanation.reply))


def _add_rule(table: Table, rule: Rule) -> None:
    """What the rule demands; where it looks for keys, also which ones it takes."""
    add_row(table, "encrypt", rule.encrypt.value)
    if rule.encrypt is not Encrypt.NEVER:
        add_row(table, "min_trust", rule.min_trust.word)
        add_row(table, "key_change", rule.key_change.value)
        add_row(table, "pinned_key_missing", missing_pin_word(rule))
        for name, words in as_words(rule).items():
            add_row(table, name, words)


def two_columns() -> Table:
    """An empty table for names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def add_verdict(table: Table, verdict: Verdict, trust: Trust | None = None) -> None:
    """The rows of one certificate. Its User IDs are text of strangers, and are shown without effect.

    Args:
        trust: of the best source that gave it; None where no rule is asked.
    """
    certificate = verdict.certificate
    add_row(table, "certificate", certificate.fingerprint or "(no fingerprint)")
    add_row(table, "  from", certificate.source)
    if trust:
        add_row(table, "  trust", trust.word)
    for user_id in certificate.user_ids:
        add_row(table, "  user id", user_id)
    if verdict.created:
        add_row(table, "  created", f"{verdict.created:%Y-%m-%d}")
    if verdict.expires:
        add_row(table, "  expires", f"{verdict.expires:%Y-%m-%d}")
    add_row(table, "  verdict", verdict_text(verdict), "green" if verdict.usable else "red")
    for subkey in verdict.subkeys:
        add_row(table, "  subkey", f"{subkey.fingerprint} {subkey.algorithm}")
    for warning in verdict.warnings:
        add_row(table, "  warning", warning, "yellow")


def verdict_text(verdict: Verdict) -> str:
    """`usable`, or the sentence that says why not."""
    return "usable" if verdict.usable else f"not usable: {verdict.sentence}"


def pin_text(pin: Pin) -> str:
    """The key that was used before, since when, and where it was found."""
    return f"{pin.fingerprint}, since {pin.since:%Y-%m-%d}, from {pin.source} (trust {pin.trust.word})"


def reply_text(reply: Reply) -> str:
    """The reply as a mail program shows it."""
    return f"{reply.code} {reply.enhanced} {reply.text}"


def plain(text: str) -> Text:
    """Text of strangers: neither markup nor control characters have an effect on the terminal."""
    return Text("".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text))


def add_row(table: Table, name: str, value: str, style: str = "") -> None:
    """One name and its value, which may be text of strangers."""
    cell = plain(value)
    cell.stylize(style)
    table.add_row(name, cell)


def _answer_text(answer: Answer | None) -> str:
    if answer is None:
        return "not asked, because a source before it cannot be asked"
    if answer.failure:
        return f"cannot be asked: {answer.failure}"
    if answer.waived:
        return f"cannot be asked, which counts as no certificate (unreachable_means: none): {answer.waived}"
    count = {0: "no certificate", 1: "1 certificate"}.get(answer.found, f"{answer.found} certificates")
    if answer.asked:
        return count
    known = f"; {count} known from earlier" if answer.found else ""
    return f"not asked: a key was found before{known}"


def _answer_notes(explanation: Explanation, name: str, answer: Answer | None) -> str:
    trust, age = explanation.trusts.get(name), age_seconds(explanation, answer) if answer else None
    notes = [f"trust {trust.word}"] if trust else []
    if age is not None:
        notes.append(f"it answered {_ago(age)} ago")
    return f" ({', '.join(notes)})" if notes else ""


def _ago(seconds: float) -> str:
    """A time that has passed, in one unit."""
    for unit, length, most in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if seconds < length * most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
