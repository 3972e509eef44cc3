"""Tests of `relay/key_commands/rows.py`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from relay.key_commands import rows

NAMES = ("address", "pinned", "new", "source")
BOB = ("bob@partner.example", "A" * 40, "B" * 40, "web")
CAROL = ("carol@partner.example", "C" * 64, "-", "dns")


def _shown(width: int, *entries: tuple[str, ...], is_terminal: bool = True) -> list[str]:
    out = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=is_terminal,
        color_system=None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    rows.show(out, NAMES, entries)
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100])
def test_show_on_a_narrow_terminal_is_a_block_for_each_entry(width: int) -> None:
    """Every cell is there, in one piece, with its name."""
    assert [
        "address  bob@partner.example",
        f"pinned   {'A' * 40}",
        f"new      {'B' * 40}",
        "source   web",
        "",
        "address  carol@partner.example",
        f"pinned   {'C' * 64}",
        "new      -",
        "source   dns",
        "",
    ] == _shown(width, BOB, CAROL)


def test_show_on_a_wide_terminal_is_a_table() -> None:
    """A line for each entry, below a ruled head."""
    lines = _shown(160, BOB, CAROL)

    assert [list(BOB), list(CAROL)] == [line.split() for line in lines[3:5]]
    assert list(NAMES) == lines[1].split()


def test_show_takes_the_table_as_soon_as_it_fits() -> None:
    """One column less, and it is blocks: nothing is cut at the border."""
    widths = [width for width in range(80, 200) if "address  bob@partner.example" not in _shown(width, BOB)]

    assert list(range(widths[0], 200)) == widths
    assert list(BOB) == _shown(widths[0], BOB)[3].split()


def test_show_in_a_pipe_is_always_a_table() -> None:
    """For programs: one line for each entry, however long."""
    lines = _shown(10_000, BOB, ("x" * 300, "-", "-", "-"), is_terminal=False)

    assert [list(NAMES), list(BOB), ["x" * 300, "-", "-", "-"]] == [line.split() for line in lines]


def test_show_gives_text_of_strangers_no_effect() -> None:
    """Neither escapes nor markup."""
    for width in (80, 160):
        lines = "\n".join(_shown(width, ("\x1b[31m[bold]bob", "-", "-", "-")))
        assert "\N{REPLACEMENT CHARACTER}[31m[bold]bob" in lines
