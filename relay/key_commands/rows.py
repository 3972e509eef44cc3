"""Lists: a table in a pipe and where the terminal is wide enough, else a block of lines for each entry.

A cell is never cut, and never folded in a table: whoever compares or copies a fingerprint needs all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_UNBOUNDED = 100_000
"""Columns; wider than any table."""


def show(out: Console, names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints one entry for each row; the cells may be text of strangers."""
    from relay.explain import add_row, two_columns

    table = _table(names, rows, is_framed=out.is_terminal)
    if not out.is_terminal or _width(out, table) <= out.width:
        out.print(table)
        return
    for row in rows:
        block = two_columns()
        for name, cell in zip(names, row, strict=True):
            add_row(block, name, cell, "bold" if name == names[0] else "")
        out.print(block)
        out.print()


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], *, is_framed: bool) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from relay.explain import plain

    table = Table(box=SIMPLE_HEAD if is_framed else None, pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def _width(out: Console, table: Table) -> int:
    from rich.measure import Measurement

    return Measurement.get(out, out.options.update(width=_UNBOUNDED), table).maximum
