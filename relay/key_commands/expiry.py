"""`relay keys expiring`: certificates that end soon, or have ended, before mail to somebody is refused."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import arguments
from relay.key_commands.collection import NO_ADDRESS, Judged, judged
from relay.key_commands.listing import everything
from relay.key_commands.opening import finish, judge_of, remark, run
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from datetime import datetime

    from relay.message import Verdict


_MAX_DAYS = 36_500
"""A hundred years; expiry dates of version 4 keys end in the year 2106."""


@click.command()
@config_option
@click.option(
    "--days",
    type=click.IntRange(0, _MAX_DAYS),
    default=30,
    show_default=True,
    help="How far to look ahead.",
)
@arguments.as_json
def expiring(config_file: Path, days: int, as_json: bool) -> None:
    """List certificates that end within so many days, and those that are not usable any more.

    Looks at all local sources and at everything that is kept of others; nobody is asked. A certificate that
    was replaced (another one of the same address is usable for longer) is left out once it is not usable
    itself: revoked ones stay in a keyring for good.

    Exits with 1 if there is any, or if a source cannot be read, so that cron sends a mail:

    \b
      0 7 * * 1  relay keys expiring --days 30
    """
    from relay.clock import SystemClock

    config = load_config(config_file)
    groups, failures = run(everything(config, with_cached=True))
    now = SystemClock().now()
    ending = ending_by(judged(groups, judge_of(config), now), now + timedelta(days=days))
    if as_json:
        click.echo(json.dumps(as_dict(days, ending, failures), indent=2))
    elif ending:
        _show(ending)
    else:
        remark(f"no known certificate ends within {days} days")
    finish(failures, found_problems=bool(ending))


def ending_by(entries: list[Judged], until: datetime) -> list[Judged]:
    """Those whose verdict ends by then, and the unusable ones of addresses without a better one."""
    lasting = {entry.address_key for entry in entries if _lasts(entry.verdict, until)} - {NO_ADDRESS}
    return [
        entry
        for entry in entries
        if not _lasts(entry.verdict, until) and (entry.verdict.usable or entry.address_key not in lasting)
    ]


def _lasts(verdict: Verdict, until: datetime) -> bool:
    return verdict.usable and (verdict.expires is None or verdict.expires > until)


def as_dict(days: int, ending: list[Judged], failures: list[str]) -> dict[str, object]:
    """For JSON; the keys are public and stay."""
    return {"days": days, "certificates": [_entry_as_dict(entry) for entry in ending], "failures": failures}


def _entry_as_dict(entry: Judged) -> dict[str, object]:
    verdict = entry.verdict
    return {
        "address": entry.address_key,
        "fingerprint": verdict.certificate.fingerprint,
        "sources": list(entry.sources),
        "usable": verdict.usable,
        "sentence": verdict.sentence,
        "expires": verdict.expires.isoformat() if verdict.expires else None,
    }


def _show(ending: list[Judged]) -> None:
    from relay.explain import plain

    out = console()
    for entry in ending:
        fingerprint = entry.verdict.certificate.fingerprint or "-"
        out.print(
            plain(f"{entry.address_key} {fingerprint} {','.join(entry.sources)}: {_text(entry.verdict)}")
        )


def _text(verdict: Verdict) -> str:
    if verdict.usable and verdict.expires:
        return f"expires on {verdict.expires:%Y-%m-%d}"
    return f"not usable: {verdict.sentence}"
