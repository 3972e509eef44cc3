"""Tests of `relay/key_commands/arguments.py`."""

from __future__ import annotations

import click
import pytest

from relay.key_commands import arguments

_CONTEXT = click.Context(click.Command("test"))
_PARAMETER = click.Argument(["value"])


@pytest.mark.parametrize(
    "text", ["a" * 40, "A" * 40, f"0x{'a' * 40}", " ".join(["aaaa"] * 10), f"{'aaaa ' * 5} {'aaaa ' * 5}"]
)
def test_fingerprint_may_be_written_as_people_do(text: str) -> None:
    """Groups, letter case and `0x` do not matter."""
    assert "A" * 40 == arguments.fingerprint(_CONTEXT, _PARAMETER, text)


@pytest.mark.parametrize("text", ["", "A" * 16, "A" * 39, "A" * 63, "G" * 40, "\N{FULLWIDTH DIGIT ONE}" * 40])
def test_fingerprint_must_be_a_full_one(text: str) -> None:
    """A key ID can be made to fit."""
    with pytest.raises(click.BadParameter):
        arguments.fingerprint(_CONTEXT, _PARAMETER, text)


def test_addresses_are_parsed() -> None:
    """As everywhere else."""
    found = arguments.addresses(_CONTEXT, _PARAMETER, ("Bob@EXAMPLE.com", "c@d.example"))

    assert ["bob@example.com", "c@d.example"] == [address.key for address in found]


def test_domains_are_normalised_and_named_once() -> None:
    """Letter case and U-labels do not make another domain."""
    found = arguments.domains(_CONTEXT, _PARAMETER, ("Example.com", "example.com.", "bücher.example"))

    assert ("example.com", "xn--bcher-kva.example") == found


@pytest.mark.parametrize("text", ["", "example", "../etc", "a@b.example"])
def test_domains_of_anything_else_are_refused(text: str) -> None:
    """What becomes a folder is a domain."""
    with pytest.raises(click.BadParameter):
        arguments.domains(_CONTEXT, _PARAMETER, (text,))
