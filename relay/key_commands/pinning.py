"""`relay keys pending`, `approve`, `reject` and `forget`: what the administrator says about changed keys.

They write to the store, where a running relay reads before it decides against a key; nothing has to be told
to it.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from relay.key_commands import arguments, rows
from relay.key_commands.opening import clean, judge_of, opened_sources, remark, run, without_store
from relay.terminal import config_option, console, load_config

if TYPE_CHECKING:
    from relay.config import Config
    from relay.message import Address
    from relay.remembered import PendingKey, PendingState, Pin
    from relay.seams import PinBook
    from relay.sources import Sources

_Row = tuple["PendingKey", "Pin | None"]
"""A key that would replace a pinned one, and that one."""

_COLUMNS = ("address", "pinned", "new", "source", "trust", "since", "state")

# --------------------------------------------------------------------------- pending


@click.command()
@config_option
@arguments.as_json
def pending(config_file: Path, as_json: bool) -> None:
    """List the keys that would take the place of one that was used before.

    `waiting` ones are not used until you approve or reject them, and mail is held back while the sources give
    nothing else; `approved` ones are used from the next message on, and leave the list then; `rejected` ones
    stay, and mail is refused while the sources give nothing else.

    \b
    Compare the new fingerprint with its owner, over the telephone for instance, and then type:
      relay keys show FINGERPRINT
      relay keys approve ADDRESS FINGERPRINT
      relay keys reject ADDRESS FINGERPRINT
    """
    from relay.remembered import PendingState

    config = load_config(config_file)
    found = run(_pending(config)) if config.needs_store else []
    if as_json:
        click.echo(json.dumps({"pending": [row_as_dict(key, pin) for key, pin in found]}, indent=2))
    elif found:
        rows.show(console(), _COLUMNS, [_cells(key, pin) for key, pin in found])
        if any(key.state is PendingState.WAITING for key, _ in found):
            remark("Compare the new fingerprint with its owner, then: relay keys approve ADDRESS FINGERPRINT")
    else:
        remark("no key waits for you")


async def _pending(config: Config) -> list[_Row]:
    async with opened_sources(config) as sources:
        return await rows_of(sources.book) if sources.book else []


async def rows_of(book: PinBook) -> list[_Row]:
    """Every pending key with the pin that it would replace. Raises StoreUnavailable."""
    keys = sorted(await book.pending(), key=lambda key: (key.address_key, key.since))
    return [(key, await book.pin_of(key.address_key)) for key in keys]


def row_as_dict(key: PendingKey, pin: Pin | None) -> dict[str, object]:
    """For JSON; the keys are public and stay."""
    return {
        "address": key.address_key,
        "pinned": pin.fingerprint if pin else None,
        "fingerprint": key.fingerprint,
        "source": key.source,
        "trust": key.trust.word,
        "since": key.since.isoformat(),
        "state": key.state.value,
    }


def _cells(key: PendingKey, pin: Pin | None) -> tuple[str, ...]:
    pinned = pin.fingerprint if pin else "-"
    since = f"{key.since:%Y-%m-%dT%H:%MZ}"
    return key.address_key, pinned, key.fingerprint, key.source, key.trust.word, since, key.state.value


# --------------------------------------------------------------------------- approve and reject


@click.command()
@config_option
@click.argument("address", callback=arguments.address)
@click.argument("fingerprint", callback=arguments.fingerprint)
def approve(config_file: Path, address: Address, fingerprint: str) -> None:
    """Let the key FINGERPRINT take the place of the one that was used for ADDRESS before.

    Compare the full fingerprint with its owner first. A running relay uses the key from the next message on,
    if a source of the rule still gives it and it is usable; a key from an Autocrypt header, from the next
    message on that its owner sends. Exits with 1 if there is no such pending key.
    """
    from relay.remembered import PendingState

    _decide(config_file, address, fingerprint, PendingState.APPROVED)


@click.command()
@config_option
@click.argument("address", callback=arguments.address)
@click.argument("fingerprint", callback=arguments.fingerprint)
def reject(config_file: Path, address: Address, fingerprint: str) -> None:
    """Never let the key FINGERPRINT take the place of the one that was used for ADDRESS before.

    Mail to ADDRESS is refused (550) while its source gives this key and nothing better. Exits with 1 if there
    is no such pending key.
    """
    from relay.remembered import PendingState

    _decide(config_file, address, fingerprint, PendingState.REJECTED)


def _decide(config_file: Path, address: Address, fingerprint: str, state: PendingState) -> None:
    config = load_config(config_file)
    if not config.needs_store:
        without_store()
    key, pin = run(_decided(config, address, fingerprint, state))
    if key is None:
        raise click.ClickException(
            clean(
                f"{fingerprint} is no key that waits for {address}; `relay keys pending` lists them, and a"
                " key comes there with the first message that is held back"
            )
        )
    _show(config, address, pin, key, state)


async def _decided(
    config: Config, address: Address, fingerprint: str, state: PendingState
) -> tuple[PendingKey | None, Pin | None]:
    async with opened_sources(config) as sources:
        return await decide(sources.book, address, fingerprint, state) if sources.book else (None, None)


async def decide(
    book: PinBook, address: Address, fingerprint: str, state: PendingState
) -> tuple[PendingKey | None, Pin | None]:
    """The key that was decided about and the pin; no key where none of that name waits.

    Raises:
        StoreUnavailable: whether it was decided is not known.
    """
    known = {key.fingerprint: key for key in await book.pending(address.key)}
    pin = await book.pin_of(address.key)
    if fingerprint not in known or not await book.decide(address.key, fingerprint, state):
        return None, pin
    return known[fingerprint], pin


def _show(config: Config, address: Address, pin: Pin | None, key: PendingKey, state: PendingState) -> None:
    from relay import explain

    table = explain.two_columns()
    explain.add_row(table, "address", str(address))
    explain.add_row(table, "pinned", explain.pin_text(pin) if pin else "nothing")
    explain.add_row(table, state.value, f"{key.fingerprint}, from {key.source} (trust {key.trust.word})")
    explain.add_row(table, "verdict", _verdict_text(config, address, key))
    console().print(table)


def _verdict_text(config: Config, address: Address, key: PendingKey) -> str:
    """Whether mail could be encrypted to it: an approved key that is not usable helps nobody."""
    from relay.clock import SystemClock
    from relay.explain import verdict_text
    from relay.message import Certificate

    certificate = Certificate(key.certificate, key.fingerprint, (), key.source)
    verdicts = judge_of(config).judge([certificate], address, SystemClock().now())
    return "; ".join(verdict_text(verdict) for verdict in verdicts)


# --------------------------------------------------------------------------- forget


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was dropped about one address."""

    entries: int
    """Cached answers."""
    learned: bool
    """Whether there was a key from a message."""
    pin: Pin | None
    pending: tuple[PendingKey, ...]

    def __bool__(self) -> bool:
        return bool(self.entries or self.learned or self.pin or self.pending)


@click.command()
@config_option
@click.argument("address", callback=arguments.address)
def forget(config_file: Path, address: Address) -> None:
    """Drop all that is remembered about ADDRESS: cached answers, learned, pinned and pending keys.

    The next key that is found is trusted as the first one was. It is the way out if the recipient has lost
    the old key and has a new one; `approve` is the narrower one. Local sources are not touched. Exits with 1
    if nothing was remembered.
    """
    config = load_config(config_file)
    if not config.needs_store:
        without_store()
    dropped = run(_forget(config, address))
    if not dropped:
        raise click.ClickException(clean(f"nothing is remembered about {address}"))
    _tell(address, dropped)


async def _forget(config: Config, address: Address) -> Forgotten:
    async with opened_sources(config) as sources:
        return await drop(sources, address)


async def drop(sources: Sources, address: Address) -> Forgotten:
    """Drops it. The pin goes last: if the store fails in between, too much is remembered and not too little.

    Raises:
        StoreUnavailable: not everything was dropped.
    """
    pin = await sources.book.pin_of(address.key) if sources.book else None
    waiting = await sources.book.pending(address.key) if sources.book else []
    entries = await sources.cache.forget(address.key) if sources.cache else 0
    learned = await sources.learned.forget(address.key) if sources.learned else False
    if sources.book:
        await sources.book.forget_pin(address.key)
    return Forgotten(entries, learned, pin, tuple(waiting))


def _tell(address: Address, dropped: Forgotten) -> None:
    from relay.explain import pin_text, plain

    out = console()
    if dropped.pin:
        out.print(plain(f"forgot the pinned key {pin_text(dropped.pin)}"))
    for key in dropped.pending:
        out.print(plain(f"forgot the {key.state.value} key {key.fingerprint} from {key.source}"))
    if dropped.learned:
        out.print("forgot the key that was learned from a message")
    if dropped.entries:
        out.print(f"forgot {dropped.entries} cached answer{'s' if dropped.entries > 1 else ''}")
    out.print(
        plain(
            f"The next key that is found for {address} is trusted anew; see it first with:"
            f" relay keys lookup {shlex.quote(str(address))}"
        )
    )
