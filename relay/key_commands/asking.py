"""`relay keys lookup`: asks every source about one address, now, and shows what each of them says.

Nothing is pinned and no mail is held back by it. What sources outside of this machine answer is kept, as it
would be for a message.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import arguments
from relay.key_commands.opening import finish, judge_of, opened_sources, run
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from rich.table import Table

    from relay.config import Config
    from relay.explain import Explanation
    from relay.lookup import Listed
    from relay.message import Address, Certificate, Verdict
    from relay.policy import Policy
    from relay.remembered import Pin, Trust
    from relay.seams import Clock, KeyJudge
    from relay.sources import Sources


@dataclass(frozen=True, slots=True)
class Said:
    """What one source says."""

    name: str
    trust: Trust
    milliseconds: int
    verdicts: tuple[Verdict, ...] = ()
    """Empty where it has no certificate, and where it failed."""
    failure: str = ""
    """Why it cannot be asked."""


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that `lookup` shows."""

    said: list[Said]
    explanation: Explanation | None
    """What the default rule makes of it; None where only some sources were asked."""
    pin: Pin | None
    problems: list[str]
    """What else could not be found out."""


@click.command()
@config_option
@click.option(
    "--source", "names", multiple=True, metavar="NAME", help="Ask this source only. Repeat for more."
)
@arguments.as_json
@click.argument("address", callback=arguments.address)
def lookup(config_file: Path, names: tuple[str, ...], as_json: bool, address: Address) -> None:
    """Ask every key source about ADDRESS now, whatever is kept, and show what each one says.

    All are asked side by side, also those behind a source that has a key, and those that no rule names. Then
    it is said what the rule for ADDRESS would choose, as `relay explain` does, and which key was used before.
    Nothing is pinned. Sources outside of this machine learn that you ask.

    \b
    Examples:
      relay keys lookup bob@partner.example
      relay keys lookup --source wkd bob@partner.example
      relay keys lookup --json bob@partner.example | jq '.sources[] | {name, found, failure}'

    Exits with 1 if a source cannot be asked; the others are shown all the same. That there is no key is an
    answer.
    """
    config = load_config(config_file)
    if unknown := [name for name in names if name not in config.keys]:
        raise click.UsageError(
            f"there is no key source {unknown[0]}; the configuration has: {', '.join(config.keys) or 'none'}"
        )
    found = run(_lookup(config, names, address))
    if as_json:
        click.echo(json.dumps(as_dict(address, found), indent=2))
    else:
        _show(found)
    finish(
        [f"{said.name} cannot be asked: {said.failure}" for said in found.said if said.failure]
        + found.problems
    )


async def _lookup(config: Config, names: tuple[str, ...], address: Address) -> Found:
    from relay.clock import SystemClock

    seconds = float(config.limits.lookup_seconds)
    async with opened_sources(config) as sources:
        return await look_up(
            sources, config.policy, judge_of(config), SystemClock(), address, names=names, seconds=seconds
        )


async def look_up(
    sources: Sources,
    policy: Policy,
    judge: KeyJudge,
    clock: Clock,
    address: Address,
    *,
    names: tuple[str, ...] = (),
    seconds: float,
) -> Found:
    """Asks all sources, or those that are named, and then what the default rule says."""
    from relay.explain import explain
    from relay.lookup import KeyFinder

    asked = {name: listed for name, listed in sources.listed.items() if not names or name in names}
    said = await ask_everyone(asked, judge, clock, address, seconds)
    explanation = None
    if not names:
        finder = KeyFinder(sources.listed, judge, clock, pins=sources.pins)
        explanation = await explain(
            policy, finder, None, address, sources=sources.listed, clock=clock, seconds=seconds
        )
    pin, problems = await _pin(sources, address)
    return Found(said, explanation, pin, problems)


async def _pin(sources: Sources, address: Address) -> tuple[Pin | None, list[str]]:
    from relay.errors import StoreUnavailable

    try:
        return await sources.book.pin_of(address.key) if sources.book else None, []
    except StoreUnavailable as exc:
        return None, [f"which key was used before is not known: the store cannot be read: {exc}"]


async def ask_everyone(
    listed: Mapping[str, Listed], judge: KeyJudge, clock: Clock, address: Address, seconds: float
) -> list[Said]:
    """What each source says, asked side by side; judged one after the other, as the judge needs it."""
    from relay.lookup import judge_aside

    answers = await asyncio.gather(*(_ask(each, clock, address, seconds) for each in listed.values()))
    said = []
    for (name, each), (certificates, failure, milliseconds) in zip(listed.items(), answers, strict=True):
        verdicts = await judge_aside(judge, certificates, address, clock.now()) if certificates else []
        said.append(Said(name, each.trust, milliseconds, tuple(verdicts), failure))
    return said


async def _ask(
    listed: Listed, clock: Clock, address: Address, seconds: float
) -> tuple[list[Certificate], str, int]:
    """Certificates, or why there is no answer, and how long it took."""
    from relay.errors import KeySourceUnavailable

    began = clock.monotonic()
    certificates, failure = [], ""
    try:
        async with asyncio.timeout(seconds):
            ask = listed.cached.refresh if listed.cached else listed.source.find
            certificates = await ask(address)
    except TimeoutError:
        failure = f"no answer within {seconds:g} seconds"
    except KeySourceUnavailable as exc:
        failure = str(exc) or "unavailable"
    return certificates, failure, round((clock.monotonic() - began) * 1000)


# --------------------------------------------------------------------------- showing


def as_dict(address: Address, found: Found) -> dict[str, object]:
    """For JSON; the keys are public and stay."""
    from relay import explain

    return {
        "address": str(address),
        "sources": [_said_as_dict(said) for said in found.said],
        "pin": explain.pin_as_dict(found.pin),
        "explanation": explain.as_dict(found.explanation) if found.explanation else None,
        "problems": found.problems,
    }


def _said_as_dict(said: Said) -> dict[str, object]:
    from relay.explain import verdict_as_dict

    return {
        "name": said.name,
        "trust": said.trust.word,
        "milliseconds": said.milliseconds,
        "found": len(said.verdicts),
        "failure": said.failure,
        "certificates": [verdict_as_dict(verdict, said.trust) for verdict in said.verdicts],
    }


def _show(found: Found) -> None:
    from relay import explain

    out = console()
    for said in found.said:
        table = explain.two_columns()
        explain.add_row(table, "source", _heading(found, said), "bold")
        explain.add_row(table, "answer", _answer(said), "red" if said.failure else "")
        for verdict in said.verdicts:
            explain.add_verdict(table, verdict)
        out.print(table)
        out.print()
    out.print(_decision(found))


def _heading(found: Found, said: Said) -> str:
    """A key in a source that the rule leaves out encrypts nothing: that is told where it is shown."""
    is_left_out = found.explanation and said.name not in found.explanation.rule.keys
    note = "; the rule does not name it" if is_left_out else ""
    return f"{said.name} (trust {said.trust.word}, {said.milliseconds} ms{note})"


def _decision(found: Found) -> Table:
    """The pin, whoever knows of it, and what the default rule makes of the answers."""
    from relay import explain

    table, explanation = explain.two_columns(), found.explanation
    is_told = bool(explanation and explanation.lookup and explanation.lookup.pin)
    if found.pin and not is_told:
        explain.add_row(table, "pin", explain.pin_text(found.pin))
    if explanation:
        explain.add_row(table, "rule", explanation.rule.name)
        explain.add_row(table, "because", explanation.rule.because)
        explain.add_decision(table, explanation)
    return table


def _answer(said: Said) -> str:
    if said.failure:
        return f"cannot be asked: {said.failure}"
    return {0: "no certificate", 1: "1 certificate"}.get(
        len(said.verdicts), f"{len(said.verdicts)} certificates"
    )
