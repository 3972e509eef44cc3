"""Tests of `relay/decision.py`: every cell of the tables of lookup results and of mixed recipients."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from relay import decision
from relay.errors import (
    CalendarRefused,
    KeyChangeHeld,
    KeyLookupFailed,
    KeyLookupGaveUp,
    KeyMissing,
    KeyUnusable,
    MixedRefused,
    ReaderKeyMissing,
    RelayError,
)
from relay.merging import Entry
from relay.message import (
    Address,
    Admission,
    Answer,
    Certificate,
    Lookup,
    LookupResult,
    PinConflict,
    Verdict,
)
from relay.mime.wishes import Wish
from relay.policy import Policy
from relay.remembered import Pin, Trust
from relay.rule import Calendar, Encrypt, Exemption, KeyChange, Mixed, Rule

BOB = Address("bob@example.com", "bob", "example.com")
CAROL = Address("carol@example.com", "carol", "example.com")
DAVE = Address("dave@example.com", "dave", "example.com")
USABLE = Verdict(Certificate(b"x", "A" * 40, (), "keyring"), True, "usable", reduced=b"x")
EXPIRED = Verdict(Certificate(b"x", "B" * 40, (), "keyring"), False, "expired on 2024-03-01")

LOOKUPS = {
    LookupResult.USABLE: Lookup(LookupResult.USABLE, (USABLE,), (USABLE,)),
    LookupResult.NONE: Lookup(LookupResult.NONE, answers=(Answer("keyring"),)),
    LookupResult.UNUSABLE: Lookup(LookupResult.UNUSABLE, verdicts=(EXPIRED,)),
    LookupResult.UNAVAILABLE: Lookup(
        LookupResult.UNAVAILABLE, answers=(Answer("keyring", failure="no such home"),)
    ),
}

RULE = Rule("policy.default", keys=("keyring",))

# The table of design: rule × lookup result → what happens to a message in clear. None: it may go.
TABLE: dict[tuple[Encrypt, LookupResult], type[RelayError] | None] = {
    (Encrypt.ALWAYS, LookupResult.USABLE): None,
    (Encrypt.ALWAYS, LookupResult.NONE): KeyMissing,
    (Encrypt.ALWAYS, LookupResult.UNUSABLE): KeyUnusable,
    (Encrypt.ALWAYS, LookupResult.UNAVAILABLE): KeyLookupFailed,
    (Encrypt.WHEN_POSSIBLE, LookupResult.USABLE): None,
    (Encrypt.WHEN_POSSIBLE, LookupResult.NONE): None,
    (Encrypt.WHEN_POSSIBLE, LookupResult.UNUSABLE): KeyUnusable,
    (Encrypt.WHEN_POSSIBLE, LookupResult.UNAVAILABLE): KeyLookupFailed,
}

CODES = {KeyMissing: (550, "5.7.1"), KeyUnusable: (550, "5.7.1"), KeyLookupFailed: (451, "4.7.5")}


@pytest.mark.parametrize(("encrypt", "result"), list(TABLE))
def test_refusal_of_every_cell(encrypt: Encrypt, result: LookupResult) -> None:
    """Each rule and lookup result has the outcome and the class of reply that the table promises."""
    refusal = decision.refusal_of(BOB, replace(RULE, encrypt=encrypt), LOOKUPS[result])

    expected = TABLE[encrypt, result]
    assert expected is (type(refusal) if refusal else None)
    if refusal:
        assert CODES[type(refusal)] == (refusal.reply().code, refusal.reply().enhanced)
        assert "bob@example.com" in refusal.reply().text


def test_refusal_under_never_asks_for_no_key() -> None:
    """`encrypt: never` needs no lookup."""
    assert decision.refusal_of(BOB, replace(RULE, encrypt=Encrypt.NEVER), None) is None


def test_none_that_no_source_answered_releases_nothing() -> None:
    """A rule without sources has asked nobody: that is not an answer, and `when-possible` needs one."""
    rule = replace(RULE, encrypt=Encrypt.WHEN_POSSIBLE, keys=())

    assert isinstance(decision.refusal_of(BOB, rule, Lookup(LookupResult.NONE)), KeyMissing)


def test_refusal_without_a_lookup_is_temporary() -> None:
    """A rule that demands a key and was not looked up never ends in clear text."""
    refusal = decision.refusal_of(BOB, RULE, None)

    assert isinstance(refusal, KeyLookupFailed)


def test_unusable_released_only_where_the_rule_says_so() -> None:
    """`unusable_key: release` counts under `when-possible` and never under `always`."""
    lookup = LOOKUPS[LookupResult.UNUSABLE]
    lax = replace(RULE, encrypt=Encrypt.WHEN_POSSIBLE, release_unusable=True)

    assert decision.refusal_of(BOB, lax, lookup) is None
    assert isinstance(decision.refusal_of(BOB, replace(lax, encrypt=Encrypt.ALWAYS), lookup), KeyUnusable)


def test_unusable_reply_carries_the_verdict() -> None:
    """The sender reads why the key cannot be used."""
    refusal = decision.refusal_of(BOB, RULE, LOOKUPS[LookupResult.UNUSABLE])

    assert refusal is not None
    assert "expired on 2024-03-01" in refusal.reply().text


@pytest.mark.parametrize(
    ("rule", "failing_seconds", "expected"),
    [
        (RULE, 0.0, KeyLookupFailed),
        (RULE, 86_399.0, KeyLookupFailed),
        (RULE, 86_400.0, KeyLookupGaveUp),
        (replace(RULE, lookup_patience_seconds=60), 61.0, KeyLookupGaveUp),
        (replace(RULE, refuse_on_failure=True), 0.0, KeyLookupGaveUp),
        (replace(RULE, encrypt=Encrypt.WHEN_POSSIBLE), 86_400.0, KeyLookupGaveUp),
    ],
)
def test_unavailable_is_deferred_until_the_patience_ends(
    rule: Rule, failing_seconds: float, expected: type[RelayError]
) -> None:
    """An outage is 451 for the patience of the rule, then 550; it is never clear text."""
    lookup = replace(LOOKUPS[LookupResult.UNAVAILABLE], failing_seconds=failing_seconds)

    assert expected is type(decision.refusal_of(BOB, rule, lookup))


def test_unavailable_shows_the_source_and_hides_the_reason() -> None:
    """The reply names the source; paths and library words stay in the log."""
    refusal = decision.refusal_of(BOB, RULE, LOOKUPS[LookupResult.UNAVAILABLE])

    assert refusal is not None
    assert "keyring" in refusal.reply().text
    assert "no such home" not in refusal.reply().text
    assert "no such home" == refusal.detail


@pytest.mark.parametrize("result", list(LookupResult))
def test_accept_encrypted_waits_for_data_unless_unavailable(result: LookupResult) -> None:
    """`accept_encrypted` postpones "no usable key" to DATA, never "cannot tell"."""
    rule = replace(RULE, accept_encrypted=True)

    refusal = decision.refusal_at_rcpt(BOB, rule, LOOKUPS[result])

    assert (result is LookupResult.UNAVAILABLE) == (refusal is not None)


def test_plan_refuses_a_plain_message_that_was_waited_for() -> None:
    """A recipient who waited for an encrypted message never gets a plain one."""
    rule = replace(RULE, accept_encrypted=True)

    with pytest.raises(KeyMissing):
        decision.plan([Admission(BOB, rule, LOOKUPS[LookupResult.NONE])], ())


@pytest.mark.parametrize(
    ("fields", "is_null_sender", "waits"),
    [
        ({"exempt": frozenset({Exemption.DSN})}, True, True),
        ({"exempt": frozenset({Exemption.DSN})}, False, False),
        ({"exempt": frozenset({Exemption.MDN})}, False, True),
        ({"exempt": frozenset({Exemption.LIST})}, False, True),
        ({"calendar": Calendar.CLEAR}, False, True),
        ({"allow_lower": True}, False, True),
        ({}, True, False),
    ],
)
def test_refusal_at_rcpt_waits_where_the_content_may_make_up_for_the_key(
    fields: dict[str, Any], is_null_sender: bool, waits: bool
) -> None:
    """What only the null sender sends is not waited for from anybody else; an outage never waits."""
    rule = replace(RULE, **fields)
    refusals = [
        decision.refusal_at_rcpt(BOB, rule, LOOKUPS[result], is_null_sender=is_null_sender)
        for result in (LookupResult.NONE, LookupResult.UNAVAILABLE)
    ]

    assert [not waits, True] == [refusal is not None for refusal in refusals]


# --------------------------------------------------------------------------- exemptions and wishes

KINDS = frozenset(Exemption)


@pytest.mark.parametrize("kind", Exemption)
def test_exempted_only_what_the_rule_names(kind: Exemption) -> None:
    """A message of every kind is exempt under a rule that names one of them, and for nobody else."""
    calendar = Calendar.CLEAR if kind is Exemption.CALENDAR else Calendar.ENCRYPT
    rule = replace(RULE, exempt=frozenset({kind}) - {Exemption.CALENDAR}, calendar=calendar)
    admissions = [Admission(BOB, rule), Admission(CAROL, RULE)]

    assert {BOB: frozenset({kind})} == decision.exempted(admissions, KINDS, frozenset())
    assert {} == decision.exempted(admissions, KINDS - {kind}, frozenset())


def test_exempted_list_traffic_is_not_what_names_the_recipient() -> None:
    """Who stands in To or Cc is written to by the author, not served by a list (D-17)."""
    admissions = [Admission(BOB, replace(RULE, exempt=frozenset({Exemption.LIST})))]

    assert {} == decision.exempted(admissions, KINDS, frozenset({BOB.key}))


def test_refuse_calendar_names_the_recipient_and_the_rule() -> None:
    """`calendar: refuse` says so to the sender; other rules do not mind."""
    refusing = Admission(BOB, replace(RULE, calendar=Calendar.REFUSE))
    decision.refuse_calendar([Admission(CAROL, RULE)])
    with pytest.raises(CalendarRefused) as caught:
        decision.refuse_calendar([Admission(CAROL, RULE), refusing])

    assert {"<bob@example.com>", "policy.default;"} <= set(caught.value.reply().text.split())


def test_plan_exempted_recipient_leaves_in_clear_and_the_other_is_encrypted_apart() -> None:
    """The exempted copy needs no key; beside another `always` it still is a clear copy, and refused."""
    exempt = Admission(BOB, RULE, LOOKUPS[LookupResult.NONE])
    split = Admission(CAROL, replace(RULE, mixed=Mixed.SPLIT), LOOKUPS[LookupResult.USABLE])
    strict = Admission(CAROL, RULE, LOOKUPS[LookupResult.USABLE])
    named = {BOB: frozenset({Exemption.MDN})}

    assert decision.Plan((split,), (), (exempt,)) == decision.plan([exempt, split], (), named)
    assert decision.Plan((), (), (exempt,)) == decision.plan([exempt], (), named)
    for admissions, refused in (([exempt, strict], ()), ([exempt], (DAVE,))):
        with pytest.raises(MixedRefused):
            decision.plan(admissions, refused, named)


@pytest.mark.parametrize("encrypt", Encrypt)
def test_wished_raise_always_counts_and_lower_only_where_the_rule_says_so(encrypt: Encrypt) -> None:
    """A message can demand more than its rule, and less only with `wish_to_lower: allow`."""
    rule = replace(RULE, encrypt=encrypt, exempt=frozenset({Exemption.MDN}), calendar=Calendar.CLEAR)
    raised = decision.wished(rule, Wish.RAISE)

    assert (Encrypt.ALWAYS, frozenset()) == (raised.encrypt, raised.exemptions)
    assert rule == decision.wished(rule, Wish.LOWER)
    assert Encrypt.NEVER is decision.wished(replace(rule, allow_lower=True), Wish.LOWER).encrypt


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (LookupResult.USABLE, None),
        (LookupResult.NONE, ReaderKeyMissing),
        (LookupResult.UNUSABLE, ReaderKeyMissing),
        (LookupResult.UNAVAILABLE, KeyLookupFailed),
    ],
)
def test_refusal_of_reader_of_every_result(result: LookupResult, expected: type[RelayError] | None) -> None:
    """Nothing leaves that a reader of `also_encrypt_to` could not open; an outage is temporary."""
    refusal = decision.refusal_of_reader(CAROL, replace(RULE, encrypt=Encrypt.WHEN_POSSIBLE), LOOKUPS[result])

    assert (type(refusal) if refusal else None) == expected


POLICY = Policy.build(Entry(name="policy.default", keys=("keyring",), key_change=KeyChange.REFUSE))


def test_readers_to_find_by_hand_needs_neither_user_id_nor_trust() -> None:
    """A fingerprint was chosen by the administrator; the sender's key is looked up like a recipient's."""
    rule = replace(
        RULE, certificates=("C" * 40,), min_trust=Trust.MANUAL, also_encrypt_to=("sender", "A" * 40)
    )
    (sender, own), (_, by_hand) = decision.readers_to_find(rule, BOB, POLICY)

    assert (BOB, (), Trust.MANUAL) == (sender, own.certificates, own.min_trust)
    assert (("A" * 40,), min(Trust)) == (by_hand.certificates, by_hand.min_trust)
    assert [by_hand] == [asked for _, asked in decision.readers_to_find(rule, None, POLICY)]


def test_readers_to_find_pin_of_the_sender_is_judged_by_the_rule_for_mail_to_the_sender() -> None:
    """Writing to somebody whose rule takes every new key must not change the sender's own pin."""
    rule = replace(RULE, key_change=KeyChange.ACCEPT, use_missing_pin=True, also_encrypt_to=("sender",))
    [(_, asked)] = decision.readers_to_find(rule, BOB, POLICY)

    assert (KeyChange.REFUSE, False) == (asked.key_change, asked.use_missing_pin)


def test_refusal_of_reader_whose_key_changed_is_what_it_would_be_for_a_recipient() -> None:
    """A held change is temporary, and the administrator reads which key waits."""
    pin = Pin(CAROL.key, "B" * 40, "wkd", Trust.WKD, b"x", datetime(2026, 1, 1, tzinfo=UTC))
    held = Lookup(
        LookupResult.UNUSABLE, verdicts=(EXPIRED,), pin=pin, conflict=PinConflict.HELD, contender="C" * 40
    )
    refusal = decision.refusal_of_reader(CAROL, RULE, held)

    assert isinstance(refusal, KeyChangeHeld)
    assert refusal.is_temporary


# --------------------------------------------------------------------------- mixed recipients


def _admission(recipient: Address, encrypt: Encrypt, mixed: Mixed, result: LookupResult) -> Admission:
    rule = replace(RULE, encrypt=encrypt, mixed=mixed)
    return Admission(recipient, rule, None if encrypt is Encrypt.NEVER else LOOKUPS[result])


FIRST = [
    (Encrypt.ALWAYS, LookupResult.USABLE),
    (Encrypt.WHEN_POSSIBLE, LookupResult.USABLE),
    (Encrypt.WHEN_POSSIBLE, LookupResult.NONE),
    (Encrypt.NEVER, LookupResult.NONE),
]


@pytest.mark.parametrize(
    ("first", "second", "mixed", "refused_before"), list(product(FIRST, FIRST, Mixed, [False, True]))
)
def test_plan_of_every_mix(
    first: tuple[Encrypt, LookupResult],
    second: tuple[Encrypt, LookupResult],
    mixed: Mixed,
    refused_before: bool,
) -> None:
    """No copy leaves in clear beside an `always`, refused ones included, unless each of them says split."""
    admissions = [_admission(BOB, first[0], mixed, first[1]), _admission(CAROL, second[0], mixed, second[1])]
    refused = (DAVE,) if refused_before else ()
    in_clear = [entry for entry in admissions if not entry.chosen]
    has_always = any(entry.rule.encrypt is Encrypt.ALWAYS for entry in admissions)
    forbidden = bool(in_clear) and (refused_before or (has_always and mixed is Mixed.REFUSE))

    if forbidden:
        with pytest.raises(MixedRefused) as caught:
            decision.plan(admissions, refused)
        assert all(str(entry.recipient) in caught.value.reply().text for entry in in_clear)
    else:
        plan = decision.plan(admissions, refused)
        assert in_clear == list(plan.clear)
        assert {entry.recipient for entry in admissions} == {
            entry.recipient for entry in (*plan.clear, *plan.encrypted)
        }


def test_forbids_clear_only_under_always_without_split() -> None:
    """`mixed: split` and weaker rules do not bind the other recipients."""
    assert [True, False, False, False] == [
        decision.forbids_clear(replace(RULE, encrypt=encrypt, mixed=mixed))
        for encrypt, mixed in (
            (Encrypt.ALWAYS, Mixed.REFUSE),
            (Encrypt.ALWAYS, Mixed.SPLIT),
            (Encrypt.WHEN_POSSIBLE, Mixed.REFUSE),
            (Encrypt.NEVER, Mixed.REFUSE),
        )
    ]
