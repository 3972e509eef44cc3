"""The command `relay`: run, demo, check, explain, passwd; `keys` stands in `relay/key_commands`.

It turns arguments into calls and results into text and exit codes; it decides nothing itself. What a command
needs is imported inside it, so that `relay --help` answers at once.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

import relay
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from relay.config import Config
    from relay.explain import Explanation
    from relay.message import Address

_HELP = """The encrypting mail relay.

It takes mail from mail programs on ports 465 and 587, encrypts it with OpenPGP for every recipient, and hands
it to the next mail server. Start with `relay demo`, which needs no configuration.

\b
Examples:
  relay check /etc/relay/relay.yaml      all problems of a configuration at once
  relay run                              serve, with /etc/relay/relay.yaml
  relay explain bob@example.com          would mail to Bob be encrypted, and why
  relay keys import bob.asc --into team  add Bob's certificate to the key source "team"
  relay keys list                        every certificate and whether it is usable
  relay keys lookup bob@example.com      ask every key source about Bob now
  relay keys pending                     keys that changed and wait for you
  relay passwd users.passwd alice@example.com

\b
The configuration is --config, else $RELAY_CONFIG, else /etc/relay/relay.yaml.

\b
Exit codes:
  0  fine
  1  problems were found: they are printed
  2  the command was not used as `--help` says
"""


@click.group(help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(relay.__version__, "-V", "--version", prog_name="relay")
def main() -> None:
    """The console script."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Strangers' names may hold what the terminal's character set lacks; standard error escapes by itself.
        sys.stdout.reconfigure(errors="backslashreplace")


# --------------------------------------------------------------------------- run, demo, check


@main.command()
@config_option
def run(config_file: Path) -> None:
    """Serve until SIGTERM or SIGINT.

    SIGTERM stops after the messages under way. SIGHUP reads configuration, keys and TLS files again without
    dropping a connection; a configuration with problems is refused and the old one stays. Exits with 1 if the
    configuration has problems or a port cannot be opened.
    """
    from relay import app
    from relay.config import ConfigInvalid

    try:
        sys.exit(app.run(config_file))
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(str(problem), err=True)
        sys.exit(1)


@main.command()
@click.option("--once", is_flag=True, help="End after the first message instead of serving on.")
def demo(once: bool) -> None:
    """Show the whole thing on this machine, with keys and servers of its own.

    Starts the relay and a next hop on loopback ports, sends a message through TLS and a login, shows what
    arrived and what the recipient reads, then serves on and tells how to point a mail program at it. Needs
    GnuPG. Nothing of it stays.
    """
    from relay import demo as demonstration

    sys.exit(demonstration.run(once=once))


@main.command()
@click.argument("config_file", type=click.Path(path_type=Path), envvar="RELAY_CONFIG", required=False)
def check(config_file: Path | None) -> None:
    """Find every problem of a configuration.

    Prints one line for each, `file:line: setting: what is wrong`, and exits with 1. Files and key sources
    that the configuration names are read as well, so run it as the relay's user. Of other servers only the
    database of the store is connected to, if the configuration needs one; no port is opened. What works but
    deserves a look is printed as a warning, with exit code 0.
    """
    from relay import signers
    from relay.config import ConfigInvalid, load
    from relay.key_commands.opening import clean, unreadable_sources

    try:
        config = load(config_file or Path("/etc/relay/relay.yaml"), os.environ)
    except ConfigInvalid as exc:
        for problem in exc.problems:
            click.echo(str(problem))
        sys.exit(1)
    unfit = asyncio.run(signers.problems(config))
    lasting = [problem.sentence for problem in unfit if not problem.is_temporary]
    for sentence in lasting:
        click.echo(f"{config.file}: policy.senders: {clean(sentence)}")
    if lasting:
        sys.exit(1)
    passing = [problem.sentence for problem in unfit if problem.is_temporary]
    for warning in [*map(str, config.warnings), *passing, *asyncio.run(unreadable_sources(config))]:
        click.echo(f"warning: {clean(warning)}")
    click.echo(f"{config.file}: in order; {_checked(config)}")


def _checked(config: Config) -> str:
    listeners = ", ".join(str(listener.address) for listener in config.listen)
    sources = ", ".join(config.keys) or "none"
    return (
        f"checked: syntax, every setting, the files it names. It listens on {listeners}, "
        f"sends to {config.next_hop.address}, has the key sources {sources}"
    )


# --------------------------------------------------------------------------- explain


def _address(_context: click.Context, _parameter: click.Parameter, value: str) -> Address | None:
    """An address of the command line; None where none was given."""
    from relay.address import parse_mailbox

    if not value:
        return None
    try:
        return parse_mailbox(value)
    except ValueError as exc:
        raise click.BadParameter(f"{value!r} is not a mail address: {exc}") from exc


def _sender(context: click.Context, parameter: click.Parameter, value: str) -> Address | None:
    """An address, or `<>`."""
    from relay.explain import NULL_SENDER

    return NULL_SENDER if value == "<>" else _address(context, parameter, value)


@main.command()
@config_option
@click.option(
    "--sender",
    callback=_sender,
    default="",
    metavar="ADDRESS",
    help="Envelope sender, for rules under policy.senders; '<>' is the null sender of bounces."
    " Without it: a sender that no entry names.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object with stable keys.")
@click.argument("recipients", nargs=-1, required=True, metavar="RECIPIENT...")
def explain(config_file: Path, sender: Address | None, as_json: bool, recipients: tuple[str, ...]) -> None:
    """Say what would happen to mail for RECIPIENT, and why.

    Shows the rule that is in force and what it matched, what every key source answered, each certificate
    with its verdict, the key that was used before, and the outcome with the reply that a mail program would
    get. Several recipients are explained as recipients of one message. Nothing is sent or pinned.

    \b
    Examples:
      relay explain bob@example.com
      relay explain --sender hr@example.com bob@example.com carol@partner.example
      relay explain --json bob@example.com | jq -r '.recipients[].outcome'

    \b
    outcome is one of: encrypt, clear, needs-encrypted, refuse, defer.
    Exits with 1 if a recipient, or all of them together, would not simply be accepted; with 2 if one is no
    mail address, after the others were explained.
    """
    from relay.explain import needs_attention
    from relay.key_commands.opening import clean, run

    config = load_config(config_file)
    addresses, invalid = _parsed(recipients)
    explanations = run(_explain(config, sender, addresses)) if addresses else []
    if as_json:
        click.echo(_explanations_as_json(explanations, invalid))
    else:
        _show_explanations(explanations)
    for text, reason in invalid.items():
        click.echo(clean(f"Error: {text!r} is not a mail address: {reason}"), err=True)
    sys.exit(2 if invalid else 1 if needs_attention(explanations) else 0)


def _parsed(recipients: tuple[str, ...]) -> tuple[list[Address], dict[str, str]]:
    """The addresses, and why each of the others is none."""
    from relay.address import parse_mailbox

    found, invalid = [], {}
    for text in recipients:
        try:
            found.append(parse_mailbox(text))
        except ValueError as exc:
            invalid[text] = str(exc)
    return found, invalid


async def _explain(config: Config, sender: Address | None, recipients: list[Address]) -> list[Explanation]:
    """Side by side, as the recipients of a message are looked up."""
    from relay.clock import SystemClock
    from relay.explain import explain
    from relay.key_commands.opening import judge_of, opened_sources
    from relay.lookup import KeyFinder

    clock, seconds = SystemClock(), float(config.limits.lookup_seconds)
    async with opened_sources(config) as sources:
        finder = KeyFinder(sources.listed, judge_of(config), clock, pins=sources.pins)
        explanations = (
            explain(
                config.policy,
                finder,
                sender,
                recipient,
                sources=sources.listed,
                clock=clock,
                seconds=seconds,
            )
            for recipient in recipients
        )
        return await asyncio.gather(*explanations)


def _explanations_as_json(explanations: list[Explanation], invalid: dict[str, str]) -> str:
    from relay.explain import as_dict, reply_as_dict, together

    refusal = together(explanations)
    return json.dumps(
        {
            "recipients": [as_dict(explanation) for explanation in explanations],
            "together": reply_as_dict(refusal.reply() if refusal else None),
            "invalid": [{"recipient": text, "reason": reason} for text, reason in invalid.items()],
        },
        indent=2,
    )


def _show_explanations(explanations: list[Explanation]) -> None:
    from relay.explain import as_table, plain, reply_text, together

    out = console()
    for explanation in explanations:
        out.print(as_table(explanation))
        out.print()
    if refusal := together(explanations):
        out.print("As one message to all of them: refused, because a copy would leave in clear.")
        out.print(plain(reply_text(refusal.reply())))


# --------------------------------------------------------------------------- passwd


@main.command()
@click.option(
    "--sender",
    "senders",
    multiple=True,
    metavar="PATTERN",
    help="An address, *@domain, or * for any, that this login may send as. Repeat for more.",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("login")
def passwd(file: Path, login: str, senders: tuple[str, ...]) -> None:
    """Set the password of LOGIN in FILE, for `auth: {type: users}`.

    Asks for the password, or reads one line from standard input where that is not a terminal. FILE is made,
    with mode 0600, where there is none; other lines of it stay as they are. A running relay sees the change.

    Without --sender a known login keeps its senders, and a new one that is an address may send only as
    itself; any other new login needs --sender.

    \b
    Examples:
      relay passwd users.passwd alice@example.com
      relay passwd users.passwd shop --sender orders@example.com --sender '*@shop.example.com'
      pwgen 32 1 | relay passwd users.passwd ticket-system --sender '*'
    """
    from relay.server import users

    try:
        users.write(file, login, _password(), senders)
    except (OSError, ValueError) as exc:
        raise click.ClickException(f"{file}: {exc}") from exc
    click.echo(f"{file}: the password of {login} is set", err=True)


def _password() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if not password:
        raise ValueError("an empty password; nothing was changed")
    return password


# --------------------------------------------------------------------------- keys


@main.group()
def keys() -> None:
    """Find, watch, decide about and publish certificates.

    The key sources are those of the configuration, under `keys`. Every command can be used while the relay
    runs; both share the store.
    """


def _add_key_commands() -> None:
    from relay.key_commands import COMMANDS

    for command in COMMANDS:
        keys.add_command(command)


_add_key_commands()
