"""Tests of `relay.mime.copies`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from relay.address import parse_mailbox
from relay.message import Admission, Certificate, Verdict
from relay.mime.copies import Share, Treatment, owed, plan
from relay.rule import Format, Headers, Rule, Signing


def _admissions(*addresses: str) -> tuple[Admission, ...]:
    return tuple(Admission(parse_mailbox(text), Rule("policy.default")) for text in addresses)


def _planned(addresses: list[str], named: set[str]) -> list[list[str]]:
    copies = plan(_admissions(*addresses), frozenset(named))
    return [[admission.recipient.text for admission in copy] for copy in copies]


def test_plan_named_recipients_share_one_copy() -> None:
    """Recipients in To and Cc get one ciphertext together (B-04)."""
    assert [["a@x.example", "b@x.example"]] == _planned(
        ["a@x.example", "b@x.example"], {"a@x.example", "b@x.example"}
    )


def test_plan_each_bcc_recipient_gets_a_copy_alone() -> None:
    """Who is not named shares a copy with nobody (B-02)."""
    assert [["b1@x.example"], ["a@x.example", "c@x.example"], ["b2@x.example"]] == _planned(
        ["b1@x.example", "a@x.example", "b2@x.example", "c@x.example"], {"a@x.example", "c@x.example"}
    )


def test_plan_two_spellings_of_one_mailbox_share_a_copy() -> None:
    """The same mailbox twice is one recipient of one copy."""
    assert [["B@x.example", "b@X.example"]] == _planned(["B@x.example", "b@X.example"], set())


@pytest.mark.parametrize(
    ("fields", "also"),
    [
        ({"headers": Headers.KEEP}, ()),
        ({"format": Format.INLINE}, ()),
        ({"signing": Signing("AA")}, ()),
        ({}, (Verdict(Certificate(b"", "AA", (), ""), False, ""),)),
    ],
)
def test_plan_who_differs_in_the_shape_of_the_copy_does_not_share_it(
    fields: dict[str, Any], also: tuple[Verdict, ...]
) -> None:
    """Settings that change what a copy looks like, or who can read it, keep recipients apart."""
    first, second = _admissions("a@x.example", "b@x.example")
    second = replace(second, rule=replace(second.rule, **fields), also=also)

    assert ((first,), (second,)) == plan((first, second), frozenset({"a@x.example", "b@x.example"}))


def test_plan_compares_addresses_not_text() -> None:
    """A Bcc in another spelling than in To is no Bcc (B-01)."""
    assert [["A@BÜCHER.example", "c@x.example"]] == _planned(
        ["A@BÜCHER.example", "c@x.example"], {"a@xn--bcher-kva.example", "c@x.example"}
    )


def test_plan_keeps_every_admission_once() -> None:
    """No recipient is lost and none gets two copies."""
    admissions = _admissions(*(f"u{number}@x.example" for number in range(50)))

    copies = plan(admissions, frozenset(f"u{number}@x.example" for number in range(0, 50, 2)))

    assert sorted(map(str, admissions)) == sorted(str(admission) for copy in copies for admission in copy)


def test_owed_leaves_out_who_has_the_message_and_empty_shares() -> None:
    """A retry makes copies for the rest only."""
    has, waits = (Admission(parse_mailbox(f"{name}@b.example"), Rule("r")) for name in ("has", "waits"))
    shares = [
        Share(Treatment.SEAL, (has,)),
        Share(Treatment.RELEASE, (has, waits)),
        Share(Treatment.SEAL, ()),
    ]

    left = owed(shares, frozenset({has.recipient.key}))

    assert [Share(Treatment.RELEASE, (waits,))] == left
