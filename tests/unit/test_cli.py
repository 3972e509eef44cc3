"""Tests of `relay/cli.py`: arguments, output and exit codes of the real commands on real files."""

from __future__ import annotations

import asyncio
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from relay.cli import main
from relay.key_commands import COMMANDS
from tests.unit.key_commands.desk import Desk
from tests.unit.keys.certs import cert, fingerprint

_CONFIG = """\
hostname: relay.example.com
listen:
  - {address: "127.0.0.1:0", tls: none}
auth: {type: none}
next_hop: {address: "127.0.0.1:2525", tls: none}
keys:
  folder: {type: directory, path: keys}
policy:
  default: {encrypt: always, keys: [folder]}
  domains:
    lists.example.org: {encrypt: never}
  senders:
    "*@hr.example.com": {encrypt: always}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A good configuration with one source and one certificate in it."""
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "bob.pgp").write_bytes(cert("Bob <bob@example.com>"))
    path = tmp_path / "relay.yaml"
    path.write_text(_CONFIG)
    return path


def _run(*arguments: str | Path, stdin: str = "") -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.mark.parametrize(
    "command",
    [
        *("", "run", "demo", "check", "explain", "passwd", "keys"),
        *(f"keys {command.name}" for command in COMMANDS),
    ],
)
def test_help_of_every_command_teaches(command: str) -> None:
    """Every command explains itself with exit code 0."""
    result = _run(*command.split(), "--help")

    assert 0 == result.exit_code
    assert "Usage:" in result.output


def test_help_names_examples_and_exit_codes() -> None:
    """The first page has examples and says what exit codes mean."""
    result = _run("--help")

    assert "relay explain bob@example.com" in result.output
    assert "Exit codes:" in result.output


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["explain"], ["check", "--nonsense"], ["passwd", "file"]]
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    """A command that was typed wrongly is told apart from a problem that was found."""
    assert 2 == _run(*arguments).exit_code


def test_module_is_the_same_command() -> None:
    """`python -m relay` works where the console script is not in PATH."""
    done = subprocess.run(
        [sys.executable, "-m", "relay", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout.startswith("relay, version ")


@pytest.mark.parametrize("arguments", [["keys", "wkd-hash"], ["explain"]])
def test_output_that_the_terminal_cannot_show_is_escaped(config: Path, arguments: list[str]) -> None:
    """A name that its character set lacks is no reason to end with a trace."""
    environ = {"RELAY_CONFIG": str(config)}
    result = CliRunner(charset="iso8859-15", env=environ).invoke(main, [*arguments, "łukasz@example.com"])

    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "\\u0142ukasz@example.com" in result.stdout


# --------------------------------------------------------------------------- check and run


def test_check_of_a_good_file_says_what_it_checked(config: Path) -> None:
    """Exit code 0, and a sentence with the listeners, the next hop and the sources."""
    result = _run("check", config)

    assert 0 == result.exit_code, result.output
    assert f"{config}: in order" in result.output
    assert "127.0.0.1:2525" in result.output
    assert "folder" in result.output


def test_check_of_a_bad_file_prints_all_problems_with_lines(config: Path) -> None:
    """Every problem on a line of its own, with file, line and setting; exit code 1."""
    text = _CONFIG.replace("encrypt: always, keys: [folder]", "encrypt: sometimes, keys: [wrong]")
    config.write_text(text.replace("tls: none}\nkeys", "tls: plain}\nkeys"))

    result = _run("check", config)

    lines = result.output.splitlines()
    assert 1 == result.exit_code
    assert 3 == len(lines), result.output
    assert all(line.startswith(f"{config}:") for line in lines)
    assert "next_hop.tls" in lines[0]
    assert "policy.default" in lines[1]


def test_check_of_an_unreadable_source_warns(config: Path) -> None:
    """A key file that cannot be read is told, with exit code 0: the relay would start."""
    (config.parent / "keys" / "carol.asc").write_bytes(b"garbage")

    result = _run("check", config)

    assert 0 == result.exit_code
    assert "warning: keys.folder: " in result.stdout
    assert "carol.asc" in result.stdout


def test_check_of_a_missing_file_exits_with_1(tmp_path: Path) -> None:
    """A file that is not there is a problem that was found, not a crash."""
    result = _run("check", tmp_path / "missing.yaml")

    assert 1 == result.exit_code
    assert "missing.yaml" in result.output


def test_run_with_a_bad_file_prints_its_problems(tmp_path: Path) -> None:
    """Nothing is opened; the problems are printed as `check` prints them."""
    result = _run("run", "--config", tmp_path / "missing.yaml")

    assert 1 == result.exit_code
    assert "missing.yaml" in result.stderr


# --------------------------------------------------------------------------- explain


def test_explain_shows_rule_certificate_and_outcome(config: Path) -> None:
    """People read why, what was found and what happens; a recipient that is served exits with 0."""
    result = _run("explain", "--config", config, "bob@example.com")

    assert 0 == result.exit_code, result.output
    for part in ("policy.default", "folder: 1 certificate", "usable", "encrypted to"):
        assert part in result.output


def test_explain_of_a_refused_recipient_exits_with_1(config: Path) -> None:
    """The reply that a client would get is shown, and the exit code tells a script."""
    result = _run("explain", "--config", config, "nobody@example.com")

    assert 1 == result.exit_code
    assert "550 5.7.1 No encryption key is known for <nobody@example.com>" in result.output


def test_explain_as_json_has_every_recipient(config: Path) -> None:
    """One object with the recipients in order, and why they may not share a message."""
    result = _run(
        "explain", "--json", "--config", config, "--sender", "a@hr.example.com",
        "bob@example.com", "list@lists.example.org",
    )  # fmt: skip

    found = json.loads(result.stdout)
    assert ["bob@example.com", "list@lists.example.org"] == [
        each["recipient"] for each in found["recipients"]
    ]
    assert ["encrypt", "refuse"] == [each["outcome"] for each in found["recipients"]]
    assert {"a@hr.example.com"} == {each["sender"] for each in found["recipients"]}
    assert found["together"] is None
    assert 1 == result.exit_code


def test_explain_of_a_mixed_message_says_so(config: Path) -> None:
    """Two recipients that are fine alone are explained as recipients of one message."""
    result = _run("explain", "--config", config, "bob@example.com", "list@lists.example.org")

    assert 1 == result.exit_code
    assert "As one message to all of them: refused" in result.output
    assert "550 5.7.1 This message has recipients that demand encryption" in result.output


def test_explain_looks_up_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a message's recipients are: neither answer comes before both were asked for."""
    desk = Desk(tmp_path)
    monkeypatch.setattr("relay.sources.opened", desk.opened)
    desk.web.meets = asyncio.Barrier(2)

    result = _run("explain", "--config", desk.config, "bob@example.com", "carol@example.com")

    assert ["bob@example.com", "carol@example.com"] == sorted(desk.web.asked)
    assert 2 == result.output.count("No encryption key is known for")


def test_explain_without_a_store_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No trace of Python, and nothing that looks like an answer."""
    desk = Desk(tmp_path, broken="connection refused")
    monkeypatch.setattr("relay.sources.opened", desk.opened)

    result = _run("explain", "--config", desk.config, "bob@example.com")

    assert (1, "") == (result.exit_code, result.stdout)
    assert "Error: the store cannot be used: connection refused\n" == result.stderr


def test_explain_of_a_bad_address_among_good_ones_explains_the_others(config: Path) -> None:
    """Everything that can be said is said; the bad one is named, and the exit code is that of a wrong use."""
    arguments = ["--config", config, "bob", "bob@example.com", "\x1b[31m@"]

    result, parsed = _run("explain", *arguments), json.loads(_run("explain", "--json", *arguments).stdout)

    assert 2 == result.exit_code
    assert "encrypted to" in result.stdout
    assert [
        "Error: 'bob' is not a mail address: it has no domain after an @",
        "Error: '\\x1b[31m@' is not a mail address: it holds a control character or an invisible one",
    ] == result.stderr.splitlines()
    assert ["bob@example.com"] == [each["recipient"] for each in parsed["recipients"]]
    assert ["bob", "\x1b[31m@"] == [each["recipient"] for each in parsed["invalid"]]


@pytest.mark.parametrize("arguments", [["bob"], [""], ["--sender", "x", "bob@example.com"]])
def test_explain_of_no_address_exits_with_2(config: Path, arguments: list[str]) -> None:
    """What is no mail address is a wrong use of the command."""
    assert 2 == _run("explain", "--config", config, *arguments).exit_code


# --------------------------------------------------------------------------- passwd


def test_passwd_makes_a_private_file_that_lets_the_login_in(tmp_path: Path) -> None:
    """The file has mode 0600 and the format that the server reads; the password is nowhere in it."""
    from relay.server import users

    file = tmp_path / "users.passwd"

    result = _run("passwd", file, "alice@example.com", stdin="correct horse\n")

    assert 0 == result.exit_code, result.output
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert "correct horse" not in file.read_text() + result.output
    loaded = users.load(file)
    assert 1 == len(loaded)
    loaded.close()


def test_passwd_with_senders_writes_them(tmp_path: Path) -> None:
    """Patterns are given one by one; without them a later change of password keeps them."""
    file = tmp_path / "users.passwd"

    _run("passwd", file, "shop", "--sender", "a@b.example", "--sender", "*@shop.example", stdin="one\n")
    before = file.read_text()
    _run("passwd", file, "shop", stdin="two\n")

    assert before.endswith(":a@b.example,*@shop.example\n")
    assert file.read_text().endswith(":a@b.example,*@shop.example\n")
    assert before != file.read_text()


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [(["shop"], "secret\n"), (["shop", "--sender", "nonsense"], "secret\n"), (["a@b.example"], "\n")],
)
def test_passwd_that_cannot_be_right_changes_nothing(
    tmp_path: Path, arguments: list[str], stdin: str
) -> None:
    """A login without senders, a bad pattern and an empty password are refused; no file is made."""
    result = _run("passwd", tmp_path / "users.passwd", *arguments, stdin=stdin)

    assert 1 == result.exit_code
    assert [] == list(tmp_path.iterdir())


# --------------------------------------------------------------------------- keys


def test_keys_commands_are_there(config: Path) -> None:
    """`keys list`, `show` and `import` hang below `relay keys`."""
    data = cert("carol@example.com")
    (config.parent / "carol.pgp").write_bytes(data)

    imported = _run("keys", "import", "--config", config, config.parent / "carol.pgp")
    listed = _run("keys", "list", "--config", config)
    shown = _run("keys", "show", "--config", config, "carol@example.com")

    assert [0, 0, 0] == [imported.exit_code, listed.exit_code, shown.exit_code]
    assert all(fingerprint(data) in result.output for result in (imported, listed, shown))
