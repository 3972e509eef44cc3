"""The schema of the configuration: every setting with its type and default. Public: extend, never rename.

What a setting does is documented in `config/README.md`. Whether settings fit each other and the machine is
asked in `relay/config/checks.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from relay.config.fields import (
    Count,
    Duration,
    EncryptWord,
    Endpoint,
    FieldName,
    FilePath,
    Fingerprint,
    Flag,
    FlagNotBuilt,
    HostAddress,
    HostName,
    ListenAddress,
    NotBuilt,
    Readers,
    Size,
    Tag,
    refused,
    trust_words,
    word_set,
    words,
)
from relay.config.places import (
    SQLITE,
    AllowedNetwork,
    DistinguishedName,
    DnsName,
    LdapAttribute,
    LdapFilter,
    LdapUrl,
    ResolverAddress,
    StoreUrl,
    WebUrl,
)
from relay.remembered import Trust
from relay.rule import Calendar, Exemption, Format, Headers


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


_LOCAL_FAILURE = Annotated[
    None,
    refused(
        "is for sources outside of this machine; a local one that cannot be read is repaired, never taken for"
        " the answer that there is no key"
    ),
]
_DANE_FAILURE = Annotated[
    None,
    refused("is not possible with dane: without a secure answer nothing may be sent (RFC 7929 §7.1)"),
]
_Failure = Annotated[Literal["none"] | None, words("none")]
"""`unreachable_means`."""


class GnupgSource(_Section):
    """A key source of type `gnupg`: a GnuPG home directory."""

    trust: ClassVar[Trust] = Trust.MANUAL
    discovered: ClassVar[bool] = False
    """Whether keys come from outside of this machine: they are kept in the store then, and pinned."""

    type: Literal["gnupg"]
    home: FilePath
    unreachable_means: _LOCAL_FAILURE = None


class DirectorySource(_Section):
    """A key source of type `directory`: files with certificates."""

    trust: ClassVar[Trust] = Trust.MANUAL
    discovered: ClassVar[bool] = False

    type: Literal["directory"]
    path: FilePath
    unreachable_means: _LOCAL_FAILURE = None


class _WebSource(_Section):
    discovered: ClassVar[bool] = True

    ca_file: FilePath | None = None
    allow_networks: tuple[AllowedNetwork, ...] = ()
    unreachable_means: _Failure = None


class WkdSource(_WebSource):
    """A key source of type `wkd`: the web server of the recipient's own domain."""

    trust: ClassVar[Trust] = Trust.WKD

    type: Literal["wkd"]


class VksSource(_WebSource):
    """A key source of type `vks`: a key server that has verified its addresses. A third party."""

    trust: ClassVar[Trust] = Trust.THIRD_PARTY

    type: Literal["vks"]
    url: WebUrl


class HkpsSource(_WebSource):
    """A key source of type `hkps`: a key server of the old kind. A third party."""

    trust: ClassVar[Trust] = Trust.THIRD_PARTY

    type: Literal["hkps"]
    url: WebUrl


class DaneSource(_Section):
    """A key source of type `dane`: OPENPGPKEY records (RFC 7929), through a resolver that validates."""

    trust: ClassVar[Trust] = Trust.DNSSEC
    discovered: ClassVar[bool] = True

    type: Literal["dane"]
    resolver: ResolverAddress = Endpoint("127.0.0.1", 53)
    trusted_network: Flag = False
    signed_name: DnsName = "."
    """A name whose zone is signed, to see whether the resolver validates."""
    unreachable_means: _DANE_FAILURE = None


class LdapSource(_Section):
    """A key source of type `ldap`: a directory server, over verified TLS."""

    discovered: ClassVar[bool] = True

    type: Literal["ldap"]
    url: LdapUrl
    base: DistinguishedName
    filter: LdapFilter = "(mail={address})"
    attribute: LdapAttribute = "pgpKey"
    bind_dn: DistinguishedName | None = None
    password_file: FilePath | None = None
    ca_file: FilePath | None = None
    trust: Annotated[Trust, trust_words(Trust.THIRD_PARTY, Trust.WKD, Trust.DNSSEC, Trust.MANUAL)] = (
        Trust.THIRD_PARTY
    )
    unreachable_means: _Failure = None


class AutocryptSource(_Section):
    """A key source of type `autocrypt`: what the relay has learned from messages that passed."""

    trust: ClassVar[Trust] = Trust.LEARNED
    discovered: ClassVar[bool] = True

    type: Literal["autocrypt"]
    unreachable_means: _LOCAL_FAILURE = None


KeySourceSettings = (
    GnupgSource
    | DirectorySource
    | WkdSource
    | DaneSource
    | VksSource
    | HkpsSource
    | LdapSource
    | AutocryptSource
)
"""Every member has `trust` and `discovered`."""


class GnupgKeys(_Section):
    """Secret keys of type `gnupg`: what the agent of a GnuPG home has, on a card or not."""

    type: Literal["gnupg"]
    home: FilePath


class KeyFile(_Section):
    """Secret keys of type `file`."""

    type: Literal["file"]
    path: FilePath
    password_file: FilePath | None = None


SecretKeySettings = GnupgKeys | KeyFile


class Dns(_Section):
    """`dns`: who is asked for the addresses of web servers."""

    resolver: ResolverAddress | None = None
    """None: the resolver of the system."""


class Store(_Section):
    """`store`: the database with answers and pins."""

    url: StoreUrl = f"{SQLITE}/var/lib/relay/relay.db"
    password_file: FilePath | None = None
    ca_file: FilePath | None = None

    @property
    def path(self) -> Path | None:
        """The file of an SQLite database; None for PostgreSQL."""
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None


class Cache(_Section):
    """`cache`: how long answers of sources outside of this machine are kept."""

    keep: Annotated[Duration, Field(ge=1, le=30 * 86_400)] = 86_400
    keep_none: Annotated[Duration, Field(ge=1, le=7 * 86_400)] = 3600
    retry_failed: Annotated[Duration, Field(ge=1, le=3600)] = 60
    stale_if_error: Annotated[Duration, Field(ge=0, le=90 * 86_400)] = 7 * 86_400


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
    key_change: Annotated[Literal["accept", "hold", "refuse"] | None, words("accept", "hold", "refuse")] = (
        None
    )
    pinned_key_missing: Annotated[Literal["refuse", "use-pin"] | None, words("refuse", "use-pin")] = None
    min_trust: Annotated[Trust | None, trust_words(*reversed(Trust))] = None
    headers: Annotated[Literal["protect", "keep", "keep-replies"] | None, words(*Headers)] = None
    format: Annotated[Literal["pgp-mime", "inline"] | None, words(*Format)] = None
    exempt: Annotated[tuple[str, ...] | None, word_set(*Exemption)] = None
    calendar: Annotated[Literal["encrypt", "clear", "refuse"] | None, words(*Calendar)] = None
    also_encrypt_to: Readers | None = None
    wish_to_lower: Annotated[Literal["refuse", "allow"] | None, words("refuse", "allow")] = None


class Sign(_Section):
    """`sign` of a sender entry."""

    key: Fingerprint
    autocrypt: Flag = False


def _sign(value: object) -> object:
    """`never` is a key that does not exist, so that it hides what a less exact entry says."""
    if value == "never":
        return Sign.model_construct(key="")
    if value is None or isinstance(value, dict | Sign):
        return value
    raise ValueError("must be {key: FINGERPRINT}, or never")


class SenderSettings(EntrySettings):
    """One entry of `policy.senders`."""

    override: Flag = False
    sign: Annotated[Sign | None, BeforeValidator(_sign)] = None


class PolicySettings(_Section):
    """`policy`, as written."""

    default: EntrySettings = EntrySettings()
    domains: dict[str, EntrySettings] = {}
    addresses: dict[str, EntrySettings] = {}
    senders: dict[str, SenderSettings] = {}


class Wishes(_Section):
    """`wishes`: how a message says that it wants more protection, or less."""

    header: FieldName | None = None
    always: Tag | None = None
    never: Tag | None = None


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
    lookup_seconds: Annotated[Duration, Field(ge=1, le=60)] = 8
    """For all lookups of one message; the client is answered within two minutes (RFC 6409 §5.3)."""


class Settings(_Section):
    """The whole file."""

    hostname: HostName | None = None
    listen: tuple[Listener | None, ...] = _DEFAULT_LISTENERS
    """None stands for an element that was found wrong."""
    tls: TlsFiles | None = None
    auth: Auth = Auth()
    next_hop: NextHop | None = None
    keys: dict[str, Annotated[KeySourceSettings, Field(discriminator="type")]] = {}
    secret_keys: dict[str, Annotated[SecretKeySettings, Field(discriminator="type")]] = {}
    dns: Dns = Dns()
    store: Store = Store()
    cache: Cache = Cache()
    policy: PolicySettings = PolicySettings()
    wishes: Wishes = Wishes()
    engine: Annotated[Literal["sequoia", "gnupg"], words("sequoia", "gnupg")] = "sequoia"
    log: Log = Log()
    limits: Limits = Limits()
