"""What the commands share: the option `--config`, loading it, and a console for people and for pipes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from relay.config import Config

_PIPE_COLUMNS = 10_000
"""Nothing is folded or cut for a program that reads the output."""

config_option = click.option(
    "-c",
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    envvar="RELAY_CONFIG",
    default=Path("/etc/relay/relay.yaml"),
    show_default=True,
    show_envvar=True,
    metavar="FILE",
    help="The configuration.",
)


def load_config(path: Path) -> Config:
    """The configuration; prints every problem of a bad one and exits with 1."""
    from relay.config import ConfigInvalid, load

    try:
        return load(path, os.environ)
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)


def console() -> Console:
    """Standard output: coloured and as wide as the terminal; plain and unbounded in a pipe."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    return Console(
        file=sys.stdout,
        width=_PIPE_COLUMNS,
        color_system=None,
        force_terminal=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
