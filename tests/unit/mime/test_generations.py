"""Who gets a copy apart because of the version of the encrypted data."""

from __future__ import annotations

import pytest

from relay.address import parse_mailbox
from relay.message import Admission, Certificate, Lookup, LookupResult, Verdict
from relay.mime.generations import split
from relay.rule import Rule


def _verdict(kind: str) -> Verdict:
    """Of an `old` key, a `new` one that can read version 2, or a `six` that needs it."""
    certificate = Certificate(b"x", kind, (), "test")
    return Verdict(certificate, True, "usable", reduced=b"x", allows_v2=kind != "old", needs_v2=kind == "six")


def _admission(name: str, *kinds: str, also: tuple[str, ...] = ()) -> Admission:
    chosen = tuple(_verdict(kind) for kind in kinds)
    lookup = Lookup(LookupResult.USABLE, chosen, chosen)
    address = parse_mailbox(f"{name}@b.example")
    return Admission(address, Rule("r"), lookup, tuple(_verdict(kind) for kind in also))


def _names(groups: tuple[tuple[Admission, ...], ...]) -> list[str]:
    return ["".join(entry.recipient.local for entry in group) for group in groups]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["old"], ["a"]),
        (["six"], ["a"]),
        (["old", "new"], ["ab"]),
        (["new", "old", "new"], ["abc"]),
        (["six", "new"], ["ab"]),
        (["old", "six"], ["b", "a"]),
        (["old", "six", "new", "old", "six"], ["bce", "ad"]),
    ],
)
def test_split_only_where_somebody_needs_it(kinds: list[str], expected: list[str]) -> None:
    """Who needs version 2 gets it with all who can read it; else nobody pays for a second copy (B-04)."""
    group = tuple(_admission(name, kind) for name, kind in zip("abcde", kinds, strict=False))

    assert expected == _names(split(group))


def test_split_several_keys_of_one_recipient_count_together() -> None:
    """A recipient with an old key beside the new one must be able to read with both."""
    group = (_admission("a", "six", "old"), _admission("b", "six"))

    assert ["b", "a"] == _names(split(group))


@pytest.mark.parametrize(
    ("also_a", "also_b", "expected"),
    [
        (("old",), ("old",), ["ab"]),
        (("new",), ("new",), ["a", "b"]),
        ((), ("six",), ["a", "b"]),
        (("old",), (), ["ab"]),
    ],
)
def test_split_other_readers_of_a_copy_count(
    also_a: tuple[str, ...], also_b: tuple[str, ...], expected: list[str]
) -> None:
    """P-17: whoever else can open the copy must be able to read it, the sender himself for example."""
    group = (_admission("a", "six", also=also_a), _admission("b", "old", also=also_b))

    assert expected == _names(split(group))


def test_split_nobody_is_lost() -> None:
    """An admission without any key stays where it was put; the engine refuses it, not this."""
    group = (Admission(parse_mailbox("a@b.example"), Rule("r")), _admission("b", "six"))

    assert ["ab"] == _names(split(group))
