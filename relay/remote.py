"""Makes the key sources that lie outside of this machine, and the store behind them.

It stands apart from `sources.py` because the libraries for DNS, HTTP, LDAP and the database take time and
memory, which a relay with keys of its own alone does not pay.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from relay.config import (
    AutocryptSource,
    Config,
    DaneSource,
    HkpsSource,
    KeySourceSettings,
    LdapSource,
    VksSource,
    WkdSource,
)
from relay.keys.autocrypt import LearnedSource, Learner
from relay.keys.cached import CachedKeys
from relay.keys.dane import DaneKeys
from relay.keys.entries import CacheTimes
from relay.keys.keyservers import HkpsSource as HkpsKeys
from relay.keys.keyservers import VksSource as VksKeys
from relay.keys.names import Names
from relay.keys.origins import CacheByOrigin
from relay.keys.web import HTTPS_PORT, WebClient, https_port, tls_context
from relay.keys.wkd import WkdSource as WkdKeys
from relay.store.database import Store
from relay.store.settings import StoreSettings

if TYPE_CHECKING:
    from relay.message import Certificate
    from relay.openpgp.judge import Judge
    from relay.seams import Clock, Journal, KeyCache, KeyDiscovery, KeyLearner

_SAYING_NOTHING_OF_ANSWERS = frozenset(
    {"trust", "unreachable_means", "allow_networks", "trusted_network", "password_file"}
)
"""Settings of a source that may change while what it has answered stays its answer."""

_LONG_AGO = datetime.fromtimestamp(0, UTC)


def make_store(config: Config, clock: Clock, journal: Journal) -> Store:
    """The database; not opened yet."""
    return Store(StoreSettings(config.store.url, config.store_password, config.store.ca_file), clock, journal)


def make_cache(config: Config, store: Store) -> KeyCache:
    """Where the answers of the configured sources are kept: a source that became another one has none."""
    return CacheByOrigin(store.cache, {name: _origin(settings) for name, settings in config.keys.items()})


def _origin(settings: KeySourceSettings) -> str:
    """What the source is, in a few characters; what was left to its default is not a part of it."""
    told = settings.model_dump(exclude=set(_SAYING_NOTHING_OF_ANSWERS), exclude_defaults=True)
    text = "\n".join(f"{name}={told[name]}" for name in sorted(told))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


async def make_remote(
    config: Config, store: Store, judge: Judge, clock: Clock, journal: Journal
) -> dict[str, CachedKeys | LearnedSource]:
    """Every source outside of this machine by its name. Raises OSError or ValueError for a bad file."""
    times = CacheTimes(
        config.cache.keep, config.cache.keep_none, config.cache.retry_failed, config.cache.stale_if_error
    )
    cache = make_cache(config, store)
    found: dict[str, CachedKeys | LearnedSource] = {}
    for name, settings in config.keys.items():
        if isinstance(settings, AutocryptSource):
            found[name] = LearnedSource(name, store.learned)
        elif settings.discovered:
            # Loading the authorities takes 22 ms.
            discovery = await asyncio.to_thread(_discovery, config, name, settings, clock)
            found[name] = CachedKeys(
                discovery, cache, clock, journal, times, pins=store.pins, expires=_Expires(judge, clock)
            )
    return found


def _discovery(config: Config, name: str, settings: KeySourceSettings, clock: Clock) -> KeyDiscovery:
    match settings:
        case WkdSource():
            return WkdKeys(name, _web(config, settings, clock))
        case VksSource():
            return VksKeys(name, _web(config, settings, clock), clock, settings.url)
        case HkpsSource():
            return HkpsKeys(name, _web(config, settings, clock), clock, settings.url)
        case DaneSource():
            resolver = settings.resolver
            return DaneKeys(name, resolver.host, resolver.port, signed_name=settings.signed_name)
        case LdapSource():
            return _ldap(config, name, settings)
    raise ValueError(f"keys.{name} is no source outside of this machine")


def _web(config: Config, settings: WkdSource | VksSource | HkpsSource, clock: Clock) -> WebClient:
    return WebClient(
        Names(str(config.dns.resolver) if config.dns.resolver else None),
        tls_context(settings.ca_file),
        clock,
        allow_networks=settings.allow_networks,
        port=HTTPS_PORT if isinstance(settings, WkdSource) else https_port(settings.url),
    )


def _ldap(config: Config, name: str, settings: LdapSource) -> KeyDiscovery:
    from relay.keys.ldap import LdapKeys, LdapSettings  # its library takes 60 ms, and few have a directory

    server = LdapSettings(
        settings.url,
        settings.base,
        settings.filter,
        settings.attribute,
        settings.bind_dn or "",
        config.key_passwords.get(name, ""),
        settings.ca_file,
    )
    return LdapKeys(name, server)


@dataclass(frozen=True, slots=True)
class _Expires:
    """When the first of some certificates ends that could be used now; long ago where none of them can be."""

    judge: Judge
    clock: Clock

    def __call__(self, certificates: list[Certificate]) -> datetime | None:
        verdicts = self.judge.judge(certificates, None, self.clock.now())
        usable = [verdict for verdict in verdicts if verdict.usable]
        return min(
            (verdict.expires for verdict in usable if verdict.expires), default=None if usable else _LONG_AGO
        )


def make_learner(
    config: Config, store: Store, judge: Judge, clock: Clock, journal: Journal
) -> KeyLearner | None:
    """What learns keys from messages, if a source of the configuration gives them."""
    names = [name for name, settings in config.keys.items() if isinstance(settings, AutocryptSource)]
    if not names:
        return None
    return Learner(names[0], store.learned, store.pins, judge, clock=clock, journal=journal)
