"""The schema of the configuration: every setting with its type and default. Public: extend, never rename.

What a setting does is documented in `config/README.md`. Whether settings fit each other and the machine is
asked in `relay/config/checks.py`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from relay.config.fields import (
    Count,
    Duration,
    EncryptWord,
    Endpoint,
    FilePath,
    Fingerprint,
    Flag,
    FlagNotBuilt,
    HostAddress,
    HostName,
    ListenAddress,
    NotBuilt,
    Size,
    words,
)

LATER_SOURCES = ("wkd", "dane", "vks", "hkps", "ldap")
"""Types of key source that the schema knows and no code serves yet."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, arbitrary_types_allowed=True)


TlsMode = Annotated[Literal["implicit", "starttls", "none"], words("implicit", "starttls", "none")]


class Listener(_Section):
    """One element of `listen`."""

    address: ListenAddress
    tls: TlsMode
    protocol: Annotated[Literal["smtp"], words("smtp", later=("lmtp",))] = "smtp"
    proxy_protocol: FlagNotBuilt = False


_DEFAULT_LISTENERS = (
    Listener(address=Endpoint("0.0.0.0", 465), tls="implicit"),  # noqa: S104 - a mail server is there for others
    Listener(address=Endpoint("0.0.0.0", 587), tls="starttls"),  # noqa: S104 - as above
)


class TlsFiles(_Section):
    """`tls`: the relay's own certificate, for its listeners."""

    certificate: FilePath
    key: FilePath


class UsersFile(_Section):
    """`auth.users`."""

    file: FilePath


class Auth(_Section):
    """`auth`: how clients prove who they are."""

    type: Annotated[
        Literal["next-hop", "users", "none"], words("next-hop", "users", "none", later=("dovecot",))
    ] = "next-hop"
    users: UsersFile | None = None
    dovecot: NotBuilt = None


class NextHop(_Section):
    """`next_hop`: the server that takes the mail."""

    address: HostAddress
    tls: TlsMode = "implicit"
    ca_file: FilePath | None = None
    xclient: Annotated[Literal["never"], words("never", later=("auto",))] = "never"
    username: str | None = None
    password_file: FilePath | None = None
    connections_per_message: Annotated[Count, Field(ge=1, le=20)] = 1
    connections: Annotated[Count, Field(ge=1, le=10_000)] = 40


class GnupgSource(_Section):
    """A key source of type `gnupg`: a GnuPG home directory."""

    type: Literal["gnupg"]
    home: FilePath
    unreachable_means: NotBuilt = None


class DirectorySource(_Section):
    """A key source of type `directory`: files with certificates."""

    type: Literal["directory"]
    path: FilePath
    unreachable_means: NotBuilt = None


KeySourceSettings = GnupgSource | DirectorySource


class EntrySettings(_Section):
    """One entry of `policy`; what is None is inherited."""

    encrypt: EncryptWord | None = None
    keys: tuple[str, ...] | None = None
    certificates: tuple[Fingerprint, ...] | None = None
    mixed: Annotated[Literal["refuse", "split"] | None, words("refuse", "split")] = None
    unusable_key: Annotated[Literal["refuse", "release"] | None, words("refuse", "release")] = None
    lookup_failure: Annotated[Literal["defer", "refuse"] | None, words("defer", "refuse")] = None
    lookup_patience: Duration | None = None
    address_routing: Annotated[Literal["refuse", "allow"] | None, words("refuse", "allow")] = None
    accept_encrypted: Flag | None = None


class SenderSettings(EntrySettings):
    """One entry of `policy.senders`."""

    override: Flag = False


class PolicySettings(_Section):
    """`policy`, as written."""

    default: EntrySettings = EntrySettings()
    domains: dict[str, EntrySettings] = {}
    addresses: dict[str, EntrySettings] = {}
    senders: dict[str, SenderSettings] = {}


class Log(_Section):
    """`log`."""

    format: Annotated[Literal["text", "json"], words("text", "json")] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], words("debug", "info", "warning", "error")
    ] = "info"


class Limits(_Section):
    """`limits`."""

    message_bytes: Annotated[Size, Field(ge=1 << 16)] = 52_428_800
    memory_bytes: Annotated[Size, Field(ge=1 << 20)] = 1_073_741_824
    recipients: Annotated[Count, Field(ge=1, le=10_000)] = 100
    connections: Annotated[Count, Field(ge=1, le=100_000)] = 1000
    connections_per_client: Annotated[Count, Field(ge=1, le=100_000)] = 50
    drain_seconds: Annotated[Duration, Field(ge=1, le=3600)] = 30


class Settings(_Section):
    """The whole file."""

    hostname: HostName | None = None
    listen: tuple[Listener | None, ...] = _DEFAULT_LISTENERS
    """None stands for an element that was found wrong."""
    tls: TlsFiles | None = None
    auth: Auth = Auth()
    next_hop: NextHop | None = None
    keys: dict[str, Annotated[KeySourceSettings, Field(discriminator="type")]] = {}
    policy: PolicySettings = PolicySettings()
    engine: Annotated[Literal["sequoia", "gnupg"], words("sequoia", "gnupg")] = "sequoia"
    log: Log = Log()
    limits: Limits = Limits()
