"""Makes the signer that the configuration asks for, and opens the keys that its rules name.

A key that is nowhere, or that its password does not open, stops the start, as any other mistake in the
configuration does. What concerns the key alone does not: one that has expired, was revoked or is locked is
reported, and refuses the mail of the senders who need it, until it can sign.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from relay.clock import SystemClock
from relay.config import Config, GnupgKeys, KeyFile, SecretKeySettings
from relay.openpgp.engine import EngineUnavailable
from relay.openpgp.signing import gnupg, keyfile
from relay.openpgp.signing.registry import KeyProblem, SecretKeys, Store

if TYPE_CHECKING:
    from relay.policy import Policy
    from relay.seams import Clock, Journal


async def make(config: Config, scratch: Path, clock: Clock, journal: Journal) -> SecretKeys | None:
    """The signer with its keys opened; None where no rule signs.

    Args:
        scratch: a private directory for GnuPG's.

    Raises:
        ValueError: a key that a rule names is nowhere, or does not open; the text says which and why.
        OSError, EngineUnavailable: a place with keys cannot be used.
    """
    wanted = tuple(_wanted(config.policy))
    if not wanted:
        return None
    signer = SecretKeys(await _stores(config, scratch), clock)
    try:
        problems = await signer.open(wanted)
        _refuse(problems)
    except BaseException:
        await signer.close()
        raise
    for problem in problems:
        event = "signing_key_unavailable" if problem.is_temporary else "signing_key_unusable"
        journal.record(event, problem=problem.sentence)
    for warning in config.warnings:
        if warning.path.startswith("secret_keys."):
            journal.record("secret_keys_warning", setting=warning.path, problem=warning.message)
    return signer


async def problems(config: Config) -> tuple[KeyProblem, ...]:
    """What is wrong with the keys that rules name, for `relay check`."""
    scratch = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="relay-")
    try:
        signer = SecretKeys(await _stores(config, Path(scratch.name)), SystemClock())
        try:
            return await signer.open(_wanted(config.policy))
        finally:
            await signer.close()
    except (OSError, ValueError, EngineUnavailable) as exc:
        return (KeyProblem("", f"secret_keys cannot be used: {exc}", is_temporary=False, is_mistake=True),)
    finally:
        await asyncio.to_thread(scratch.cleanup)


def _wanted(policy: Policy) -> Iterator[str]:
    """The fingerprints that sender entries name."""
    for entry in policy.senders.all():
        if entry.signing and entry.signing.key:
            yield entry.signing.key


async def _stores(config: Config, scratch: Path) -> list[Store]:
    """Raises OSError, ValueError or EngineUnavailable; then nothing of them is left."""
    stores: list[Store] = []
    try:
        for name, settings in config.secret_keys.items():
            password = config.secret_key_passwords.get(name)
            stores.append(await asyncio.to_thread(_store, name, settings, password, scratch))
    except BaseException:
        for store in stores:
            await store.close()
        raise
    return stores


def _store(name: str, settings: SecretKeySettings, password: str | None, scratch: Path) -> Store:
    """Blocks. Raises OSError, ValueError or EngineUnavailable."""
    match settings:
        case GnupgKeys():
            return gnupg.GnupgHome(name, settings.home, scratch)
        case KeyFile():
            return keyfile.KeyFile.of(name, settings.path, password)


def _refuse(found: tuple[KeyProblem, ...]) -> None:
    mistakes = [problem.sentence for problem in found if problem.is_mistake]
    if mistakes:
        raise ValueError("; ".join(mistakes))
