"""Tests of `relay/terminal.py`."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from relay.terminal import config_option, console, load_config


@click.command()
@config_option
def _show(config_file: Path) -> None:
    click.echo(config_file)


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ([], {}, "/etc/relay/relay.yaml"),
        ([], {"RELAY_CONFIG": "/b.yaml"}, "/b.yaml"),
        (["--config", "/a.yaml"], {"RELAY_CONFIG": "/b.yaml"}, "/a.yaml"),
    ],
)
def test_config_option_is_taken_in_order(
    arguments: list[str], environ: dict[str, str], expected: str
) -> None:
    """The argument counts before the environment, and that before the usual place."""
    result = CliRunner(env={"RELAY_CONFIG": None}).invoke(_show, arguments, env=environ)

    assert f"{expected}\n" == result.output


def test_load_config_of_a_bad_file_exits_with_its_problems(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All problems are printed and the exit code says so."""
    with pytest.raises(SystemExit) as left:
        load_config(tmp_path / "missing.yaml")

    assert 1 == left.value.code
    assert "missing.yaml" in capsys.readouterr().err


def test_console_in_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is coloured, folded or cut for a program."""
    line = "x" * 500 + " [red]:smile:[/red]"

    console().print(line, style="red")

    assert f"{line}\n" == capsys.readouterr().out
