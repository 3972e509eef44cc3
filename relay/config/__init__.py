"""The configuration: a YAML file becomes one frozen `Config`, or all of its problems with their lines.

`document` reads the file; `schema` knows every setting, `fields` and `places` their kinds of value.
`validate` finds all settings that are wrong, `rules` builds the policy; `checks`,
`sources` and `machine` ask whether the settings fit each other and this machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relay.config.checks import check
from relay.config.document import Document, read
from relay.config.fields import Endpoint
from relay.config.machine import read_password
from relay.config.problems import ConfigInvalid, Problem
from relay.config.rules import build_policy
from relay.config.schema import (
    Auth,
    AutocryptSource,
    Cache,
    DaneSource,
    DirectorySource,
    Dns,
    GnupgKeys,
    GnupgSource,
    HkpsSource,
    KeyFile,
    KeySourceSettings,
    LdapSource,
    Limits,
    Listener,
    Log,
    NextHop,
    SecretKeySettings,
    Settings,
    Store,
    TlsFiles,
    VksSource,
    WkdSource,
)
from relay.config.secrets import read_secret_key_passwords
from relay.config.sources import needs_store, read_source_passwords, read_store_password
from relay.config.validate import validate
from relay.mime.wishes import Wishes
from relay.policy import Policy

__all__ = [
    "Auth",
    "AutocryptSource",
    "Cache",
    "Config",
    "ConfigInvalid",
    "DaneSource",
    "DirectorySource",
    "Dns",
    "Endpoint",
    "GnupgKeys",
    "GnupgSource",
    "HkpsSource",
    "KeyFile",
    "KeySourceSettings",
    "LdapSource",
    "Limits",
    "Listener",
    "Log",
    "NextHop",
    "OwnLogin",
    "Problem",
    "SecretKeySettings",
    "Store",
    "TlsFiles",
    "VksSource",
    "WkdSource",
    "load",
]


@dataclass(frozen=True, slots=True)
class OwnLogin:
    """The relay's own login on the next hop."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that was configured, checked."""

    file: Path
    hostname: str
    listen: tuple[Listener, ...]
    tls: TlsFiles | None
    """None only where no listener uses TLS."""
    auth: Auth
    next_hop: NextHop
    next_hop_login: OwnLogin | None
    """None with `auth.type: next-hop`, and where the next hop wants no login."""
    keys: Mapping[str, KeySourceSettings]
    key_passwords: Mapping[str, str] = field(repr=False)
    """Of the key sources that log in, by their names."""
    secret_keys: Mapping[str, SecretKeySettings]
    secret_key_passwords: Mapping[str, str] = field(repr=False)
    """Of the key files that are protected, by the names of their entries."""
    dns: Dns
    store: Store
    store_password: str | None = field(repr=False)
    """None where the database wants none."""
    needs_store: bool
    """Whether the store is opened: a key source lies outside of this machine; or did before, and mail may
    leave in clear."""
    cache: Cache
    policy: Policy
    wishes: Wishes
    engine: Literal["sequoia", "gnupg"]
    log: Log
    limits: Limits
    warnings: tuple[Problem, ...] = ()
    """What works, but deserves a look, in the order of the lines."""


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in the file.

    Args:
        path: of the YAML file; relative paths in it start at its directory.
        environ: where `${NAME}` is looked up.

    Raises:
        ConfigInvalid: with every problem that was found.
    """
    document = read(path, environ)
    if document.problems and not document.data:
        raise ConfigInvalid(document.problems)  # not a mapping at all: nothing that could be checked
    settings = validate(document)
    policy = build_policy(document, settings.policy, settings.keys)
    check(document, settings)
    login = _own_login(document, settings)
    key_passwords = read_source_passwords(document, settings)
    secret_key_passwords = read_secret_key_passwords(document, settings)
    store_password = read_store_password(document, settings)
    if document.problems or settings.hostname is None or settings.next_hop is None:
        raise ConfigInvalid(document.problems)
    return Config(
        file=path,
        hostname=settings.hostname,
        listen=tuple(listener for listener in settings.listen if listener is not None),
        tls=settings.tls,
        auth=settings.auth,
        next_hop=settings.next_hop,
        next_hop_login=login,
        keys=settings.keys,
        key_passwords=key_passwords,
        secret_keys=settings.secret_keys,
        secret_key_passwords=secret_key_passwords,
        dns=settings.dns,
        store=settings.store,
        store_password=store_password,
        needs_store=needs_store(settings),
        cache=settings.cache,
        policy=policy,
        wishes=Wishes(**settings.wishes.model_dump()),
        engine=settings.engine,
        log=settings.log,
        limits=settings.limits,
        warnings=tuple(sorted(document.warnings)),
    )


def _own_login(document: Document, settings: Settings) -> OwnLogin | None:
    hop = settings.next_hop
    if hop is None or hop.username is None or hop.password_file is None:
        return None
    password = read_password(document, ("next_hop", "password_file"), hop.password_file)
    return None if password is None else OwnLogin(hop.username, password)
