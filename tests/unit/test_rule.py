"""Tests of `relay/rule.py`."""

from __future__ import annotations

import pytest

from relay.rule import Calendar, Exemption, Rule

MDN = frozenset({Exemption.MDN})


@pytest.mark.parametrize(
    ("calendar", "expected"),
    [
        (Calendar.ENCRYPT, MDN),
        (Calendar.REFUSE, MDN),
        (Calendar.CLEAR, MDN | {Exemption.CALENDAR}),
    ],
)
def test_exemptions_calendar_is_one_where_it_leaves_in_clear(
    calendar: Calendar, expected: frozenset[Exemption]
) -> None:
    """`calendar` has a word of its own and counts among the exemptions only with `clear`."""
    assert expected == Rule("r", exempt=MDN, calendar=calendar).exemptions


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("r"), False),
        (Rule("r", exempt=MDN), True),
        (Rule("r", calendar=Calendar.REFUSE), True),
        (Rule("r", calendar=Calendar.CLEAR), True),
    ],
)
def test_looks_at_kind_where_something_depends_on_it(rule: Rule, expected: bool) -> None:
    """Most rules never take a message apart to see what it is."""
    assert expected == rule.looks_at_kind
