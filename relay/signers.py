"""Makes the signer that the configuration asks for, and opens the keys that its rules name.

A key that can never sign stops the start, as any other mistake in the configuration does. One that only
cannot sign now (its agent is locked, its card is not there) is reported, and tried again with each message.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from relay.clock import SystemClock
from relay.config import Config, GnupgKeys, KeyFile
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
        ValueError: a key that a rule names can never sign; the text says which and why.
        OSError, EngineUnavailable: a place with keys cannot be used.
    """
    wanted = tuple(_wanted(config.policy))
    if not wanted:
        return None
    signer = SecretKeys(await asyncio.to_thread(_stores, config, scratch), clock)
    try:
        problems = await signer.open(wanted)
        _refuse(problems)
    except BaseException:
        await signer.close()
        raise
    for problem in problems:
        journal.record("signing_key_unavailable", problem=problem.sentence)
    return signer


async def problems(config: Config) -> tuple[KeyProblem, ...]:
    """What is wrong with the keys that rules name, for `relay check`."""
    scratch = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="relay-")
    try:
        signer = SecretKeys(await asyncio.to_thread(_stores, config, Path(scratch.name)), SystemClock())
        try:
            return await signer.open(_wanted(config.policy))
        finally:
            await signer.close()
    except (OSError, ValueError, EngineUnavailable) as exc:
        return (KeyProblem("", f"secret_keys cannot be used: {exc}", is_temporary=False),)
    finally:
        await asyncio.to_thread(scratch.cleanup)


def _wanted(policy: Policy) -> Iterator[str]:
    """The fingerprints that sender entries name."""
    for entry in policy.senders.all():
        if entry.signing and entry.signing.key:
            yield entry.signing.key


def _stores(config: Config, scratch: Path) -> list[Store]:
    """Blocks. Raises OSError, ValueError or EngineUnavailable."""
    stores: list[Store] = []
    for name, settings in config.secret_keys.items():
        match settings:
            case GnupgKeys():
                stores.append(gnupg.GnupgHome(name, settings.home, scratch))
            case KeyFile():
                octets = keyfile.read(settings.path)
                stores.append(keyfile.KeyFile(name, octets, config.secret_key_passwords.get(name)))
    return stores


def _refuse(found: tuple[KeyProblem, ...]) -> None:
    lasting = [problem.sentence for problem in found if not problem.is_temporary]
    if lasting:
        raise ValueError("; ".join(lasting))
