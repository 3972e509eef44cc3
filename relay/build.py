"""Builds every part from the configuration; decides nothing and starts nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from relay.authenticators import FileAuth, NextHopAuth, NoAuth
from relay.config import Config, DirectorySource, GnupgSource
from relay.keys import directory, gnupg
from relay.message import Certificate
from relay.nexthop.hop import SmtpNextHop
from relay.nexthop.settings import NextHopSettings
from relay.nexthop.settings import Tls as HopTls
from relay.openpgp.choosing import ByKey
from relay.openpgp.gnupg import GnupgEngine
from relay.openpgp.sequoia import SequoiaEngine
from relay.seams import Authenticator, Clock, Engine, Journal, KeySource
from relay.server import users
from relay.server.tls import ReloadingContext


class LoadedSource(KeySource, Protocol):
    """A key source of this version: it can be read again and listed."""

    async def load(self) -> None:
        """Reads everything anew. Raises KeySourceUnavailable."""

    async def all(self) -> list[Certificate]:
        """Every certificate. Raises KeySourceUnavailable."""


class ClosingEngine(Engine, Protocol):
    """An engine with processes behind it."""

    async def close(self) -> None:
        """Ends them."""


def build_keys(config: Config, clock: Clock, journal: Journal) -> dict[str, LoadedSource]:
    """Every key source on this machine by its name; nothing is read yet. `sources.py` makes all of them."""
    sources: dict[str, LoadedSource] = {}
    for name, settings in config.keys.items():
        match settings:
            case DirectorySource():
                sources[name] = directory.DirectorySource(name, settings.path, clock, journal)
            case GnupgSource():
                sources[name] = gnupg.GnupgSource(name, settings.home, clock, journal)
    return sources


def build_engine(config: Config, scratch: Path) -> ClosingEngine:
    """The engine; `scratch` is a private directory for GnuPG's."""
    return ByKey(GnupgEngine(scratch), SequoiaEngine()) if config.engine == "gnupg" else SequoiaEngine()


def build_next_hop(config: Config, clock: Clock, journal: Journal) -> SmtpNextHop:
    """The next hop; nothing is connected yet."""
    return SmtpNextHop(next_hop_settings(config), journal, clock)


def next_hop_settings(config: Config) -> NextHopSettings:
    """What the next hop needs to know; two equal ones need no new connection."""
    hop, login = config.next_hop, config.next_hop_login
    return NextHopSettings(
        host=hop.address.host,
        port=hop.address.port,
        hostname=config.hostname,
        tls=HopTls(hop.tls),
        ca_file=hop.ca_file,
        username=login.username if login else None,
        password=login.password if login else None,
        client_login=config.auth.type == "next-hop",
        connections_per_message=hop.connections_per_message,
        max_connections=hop.connections,
    )


def build_authenticator(config: Config) -> Authenticator:
    """Who judges logins. Raises OSError or ValueError for a bad users file."""
    if config.auth.type == "next-hop":
        return NextHopAuth()
    if config.auth.type == "users" and config.auth.users:
        return FileAuth(users.load(config.auth.users.file))
    return NoAuth()


@dataclass(frozen=True, slots=True)
class FromFiles:
    """The parts that read files or start programs when they are made: not on the event loop."""

    engine: ClosingEngine
    authenticator: Authenticator
    context: ReloadingContext | None
    """None where no listener uses TLS."""


def build_from_files(config: Config, scratch: Path, journal: Journal) -> FromFiles:
    """Blocks. Raises OSError, ValueError or EngineUnavailable; then nothing is left running."""
    context = ReloadingContext(config.tls.certificate, config.tls.key, journal) if config.tls else None
    return FromFiles(
        authenticator=build_authenticator(config), context=context, engine=build_engine(config, scratch)
    )
