"""Tests of `relay/remembered.py`: what the values of memory know about themselves."""

from __future__ import annotations

from relay.remembered import Trust


def test_trust_is_ordered_as_documented() -> None:
    """`manual > dnssec > wkd > third-party > learned`: the words of the configuration, best first."""
    words = [trust.word for trust in sorted(Trust, reverse=True)]

    assert ["manual", "dnssec", "wkd", "third-party", "learned"] == words
