"""Where the database is: reads the URL of the configuration and refuses what would not be safe or not last.

Nothing here connects, and no library is loaded, so that the configuration can check itself quickly.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

_TIMEOUT_SECONDS = 5.0
"""For one use of the database, waiting for its turn and for a connection included."""


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """A database in one file of this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A database of a PostgreSQL server."""

    host: str
    """A name, an address, or the folder of a UNIX socket."""
    port: int
    user: str
    database: str

    @property
    def is_local(self) -> bool:
        """Whether nobody can listen on the way: a UNIX socket, or loopback (RFC 6761 §6.3 for the name)."""
        if self.host.startswith("/") or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.database} on {self.host}"


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """The section `store` of the configuration.

    Raises:
        ValueError: the URL is none that the relay can use; the text says why and what would be.
    """

    url: str
    """`sqlite:////var/lib/relay/relay.db`, `postgresql://relay@db.example.com/relay`."""
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """PEM file with the CAs that may vouch for the server; None: those of the system. A server on this
    machine is spoken to with TLS only if there is such a file."""
    timeout_seconds: float = _TIMEOUT_SECONDS

    def __post_init__(self) -> None:
        place = self.place
        if isinstance(place, SqliteFile) and (self.password is not None or self.ca_file):
            raise ValueError("a password or CA file is for PostgreSQL; an SQLite file has none")

    @property
    def place(self) -> SqliteFile | PostgresServer:
        """The database that the URL names."""
        parts = urlsplit(self.url)
        if parts.scheme == "sqlite":
            return _sqlite(parts)
        if parts.scheme == "postgresql":
            return _postgres(parts)
        raise ValueError("the URL of the store begins with sqlite:/// or postgresql://")


def _sqlite(parts: SplitResult) -> SqliteFile:
    if parts.netloc or parts.query or parts.fragment:
        raise ValueError("the URL of an SQLite file is sqlite:////absolute/path or sqlite:///relative/path")
    path = unquote(parts.path.removeprefix("/"))
    if not path or path == ":memory:" or path.endswith("/"):
        raise ValueError("the URL of the store names no file; without one nothing would be remembered")
    return SqliteFile(Path(path))


def _postgres(parts: SplitResult) -> PostgresServer:
    if parts.password is not None:
        raise ValueError("the URL of the store must not hold a password; write it to the password_file")
    host = unquote(parts.hostname or "") or _socket_folder(parts.query)
    database = unquote(parts.path.removeprefix("/"))
    if not host or not parts.username or not database:
        raise ValueError(
            "the URL of the store needs a user, a host and a database: postgresql://relay@host/relay"
        )
    if (parts.hostname and parts.query) or parts.fragment or "," in host:
        raise ValueError("the URL of the store has one host and no options")
    return PostgresServer(host, _port(parts), unquote(parts.username), database)


def _port(parts: SplitResult) -> int:
    try:
        return parts.port or 5432
    except ValueError:
        # The original words quote what stands there, which may be a part of a password.
        raise ValueError("the port of the store is not a number below 65536") from None


def _socket_folder(query: str) -> str:
    """The folder in `?host=/run/postgresql`, as libpq spells a UNIX socket."""
    options = parse_qs(query)
    folder = options.get("host", [""])[0]
    if options.keys() - {"host"} or (folder and not folder.startswith("/")):
        raise ValueError(
            "the only option in the URL of the store is the folder of a socket: ?host=/run/postgresql"
        )
    return folder
