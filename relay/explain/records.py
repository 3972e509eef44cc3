"""Explanations, certificates and pins for programs: what becomes JSON. Its keys are public and stay."""

from __future__ import annotations

from relay.explain.outcome import Explanation, age_seconds, answers, missing_pin_word
from relay.explain.shape import as_settings
from relay.message import Answer, Lookup, Reply, Verdict
from relay.remembered import Pin, Trust
from relay.rule import Rule


def as_dict(explanation: Explanation) -> dict[str, object]:
    """For JSON; the keys are public and stay."""
    return {
        "recipient": str(explanation.recipient),
        "sender": None if explanation.sender is None else str(explanation.sender),
        "outcome": explanation.outcome,
        "sentence": explanation.sentence,
        "reply": reply_as_dict(explanation.reply),
        "rule": _rule_as_dict(explanation.rule),
        "sources": [_answer_as_dict(explanation, name, answer) for name, answer in answers(explanation)],
        "certificates": certificates_as_dicts(explanation.lookup),
        "also_encrypted_to": certificates_as_dicts(*(lookup for _, lookup in explanation.readers)),
        "pin": pin_as_dict(explanation.lookup.pin if explanation.lookup else None),
        "conflict": _conflict_as_dict(explanation),
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
        "key_change": rule.key_change.value,
        "pinned_key_missing": missing_pin_word(rule),
        "min_trust": rule.min_trust.word,
        **as_settings(rule),
    }


def _answer_as_dict(explanation: Explanation, name: str, answer: Answer | None) -> dict[str, object]:
    known = answer or Answer(name, asked=False)
    trust, age = explanation.trusts.get(name), age_seconds(explanation, known)
    return {
        "name": name,
        "asked": known.asked,
        "found": known.found,
        "failure": known.failure,
        "trust": trust.word if trust else None,
        "milliseconds": round(known.seconds * 1000),
        "answered_at": known.asked_at.isoformat() if known.asked_at else None,
        "age_seconds": None if age is None else round(age),
        "waived_failure": known.waived,
    }


def pin_as_dict(pin: Pin | None) -> dict[str, object] | None:
    """The key that was used before."""
    if pin is None:
        return None
    return {
        "fingerprint": pin.fingerprint,
        "source": pin.source,
        "trust": pin.trust.word,
        "since": pin.since.isoformat(),
    }


def _conflict_as_dict(explanation: Explanation) -> dict[str, object] | None:
    lookup = explanation.lookup
    if lookup is None or lookup.conflict is None:
        return None
    return {
        "kind": lookup.conflict.value,
        "contender": lookup.contender or None,
        "advice": list(explanation.advice),
    }


def certificates_as_dicts(*lookups: Lookup | None) -> list[dict[str, object]]:
    """Every certificate that was found, with its verdict."""
    return [
        {
            **verdict_as_dict(verdict, lookup.trusts.get(verdict.certificate.fingerprint)),
            "chosen": verdict in lookup.chosen,
        }
        for lookup in lookups
        if lookup
        for verdict in lookup.verdicts
    ]


def verdict_as_dict(verdict: Verdict, trust: Trust | None) -> dict[str, object]:
    """A certificate with what the judge says of it.

    Args:
        trust: of the best source that gave it.
    """
    return {
        "fingerprint": verdict.certificate.fingerprint,
        "source": verdict.certificate.source,
        "user_ids": list(verdict.certificate.user_ids),
        "usable": verdict.usable,
        "sentence": verdict.sentence,
        "warnings": list(verdict.warnings),
        "trust": trust.word if trust else None,
        "created": verdict.created.isoformat() if verdict.created else None,
        "expires": verdict.expires.isoformat() if verdict.expires else None,
        "subkeys": [
            {"fingerprint": subkey.fingerprint, "key_id": subkey.key_id, "algorithm": subkey.algorithm}
            for subkey in verdict.subkeys
        ],
    }
