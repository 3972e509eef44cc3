"""Tests of `relay/message.py`: the few things that values know about themselves."""

from __future__ import annotations

import pytest

from relay.address import parse_mailbox
from relay.message import Admission, Answer, Certificate, Lookup, LookupResult, Released, Reply, Verdict
from relay.rule import Rule

BOB = parse_mailbox("bob@example.com")
USABLE = Verdict(Certificate(b"x", "A" * 40, (), "folder"), True, "usable")
EXPIRED = Verdict(Certificate(b"x", "B" * 40, (), "folder"), False, "expired on 2024-03-01")


def test_released_without_a_rule_cannot_be_made() -> None:
    """Plaintext carries the name of the rule that released it, or does not exist."""
    with pytest.raises(ValueError, match="rule"):
        Released(b"", b"", (BOB,), rule="")


def test_reply_of_several_lines_has_code_and_status_on_each() -> None:
    """RFC 2034 §4 wants the enhanced status on every line."""
    assert b"250-2.1.0 one\r\n250-2.1.0 two\r\n250 2.1.0 three\r\n" == (
        Reply(250, "1.0", "three", ("one", "two")).encode()
    )


def test_reply_without_status_has_none() -> None:
    """Greeting and EHLO replies have no enhanced status (RFC 2034 §4)."""
    assert (b"220 hello\r\n", "") == (Reply(220, "", "hello").encode(), Reply(220, "", "hello").enhanced)


@pytest.mark.parametrize(("result", "chosen"), [(LookupResult.USABLE, ()), (LookupResult.NONE, (USABLE,))])
def test_lookup_chooses_exactly_when_usable(result: LookupResult, chosen: tuple[Verdict, ...]) -> None:
    """`usable` with nothing to encrypt to would be a recipient in clear under any rule."""
    with pytest.raises(ValueError, match="chosen"):
        Lookup(result, chosen)


def test_lookup_sentence_holds_the_verdicts_that_matter() -> None:
    """A reply about an unusable key tells why, not what was fine."""
    lookup = Lookup(LookupResult.UNUSABLE, verdicts=(EXPIRED, USABLE))

    assert "expired on 2024-03-01" == lookup.sentence


def test_lookup_failed_source_is_the_one_with_a_failure() -> None:
    """The reply names the source that was down, not one that answered."""
    answers = (Answer("folder", found=1), Answer("keyring", failure="no such home"))

    assert "keyring" == Lookup(LookupResult.UNAVAILABLE, answers=answers).failed_source
    assert "" == Lookup(LookupResult.NONE, answers=answers[:1]).failed_source


def test_admission_without_a_lookup_has_chosen_nothing() -> None:
    """Where the rule asks for no key there is none to encrypt to."""
    assert () == Admission(BOB, Rule("policy.default")).chosen
    assert (USABLE,) == Admission(BOB, Rule("r"), Lookup(LookupResult.USABLE, (USABLE,))).chosen
