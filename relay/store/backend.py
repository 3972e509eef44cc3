"""The two kinds of database: how each is connected to, and what a write begins with.

Everything that blocks (files, CA certificates) is in `make`, which is to be called in a thread.
"""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from relay.store.settings import PostgresServer, SqliteFile, StoreSettings

_CONNECTIONS = 4
"""For each relay. Uses take milliseconds; the memory in front of the cache answers what is asked often."""

_CREATION_LOCK = 0x72656C6179
"""`relay` as the number of PostgreSQL's advisory lock, so that two relays do not create tables at once."""


@dataclass(frozen=True, slots=True)
class Backend:
    """An engine, and what differs between the two kinds."""

    writer: AsyncEngine
    reader: AsyncEngine
    """The same connections without transactions: a read is one statement."""
    one_writer: bool
    """Whether writers wait for each other in any case: then better in a fair queue than by polling."""
    prepare: tuple[str, ...]
    """Statements before the tables are looked at, outside of a transaction."""
    begin: str
    """Statement at the start of each write, or empty where the driver begins."""
    lock: str
    """Statement that lets one process create the tables at a time, or empty where `begin` does."""


def make(settings: StoreSettings) -> Backend:
    """Blocks: prepares the file, or the TLS context; connects to nothing. Raises OSError."""
    place = settings.place
    if isinstance(place, SqliteFile):
        return _sqlite(place, settings)
    return _postgres(place, settings)


# --------------------------------------------------------------------------- SQLite


def _sqlite(place: SqliteFile, settings: StoreSettings) -> Backend:
    _prepare_file(place.path)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(place.path)),
        connect_args={
            # The module's own transactions begin late and read before they lock; `begin` does it right.
            "isolation_level": None,
            # SQLite's own wait ends first, so that a time-out has the better text and frees its thread.
            "timeout": settings.timeout_seconds * 0.8,
        },
        **_pool(settings),
    )
    event.listen(engine.sync_engine, "connect", _set_up_sqlite)
    return Backend(
        writer=engine,
        reader=engine,
        one_writer=True,
        # Readers and the writer do not wait for each other. The file keeps this mode.
        prepare=("PRAGMA journal_mode = WAL",),
        # A transaction that reads first and writes later could fail in the middle, with no wait helping.
        begin="BEGIN IMMEDIATE",
        lock="",
    )


def _set_up_sqlite(connection: Any, record: object) -> None:
    cursor = connection.cursor()
    try:
        # NORMAL would lose the last commits in a power failure: a pin that is forgotten is mail in clear.
        cursor.execute("PRAGMA synchronous = FULL")
        # What stands in the file is data: a view or trigger that somebody put there runs no functions.
        cursor.execute("PRAGMA trusted_schema = OFF")
        cursor.execute("PRAGMA cell_size_check = ON")
        cursor.close()
    except BaseException:
        connection.close()
        raise


def _prepare_file(path: Path) -> None:
    """Creates the file, or takes away what others may do with it; SQLite's two other files take its mode.

    Made by root in the folder of a user, it becomes that user's, who could not open it otherwise; SQLite
    gives its other files to the same one. A file that exists is not opened here: closing it would drop the
    locks that SQLite holds on it in this process (fcntl(2)).
    """
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if os.geteuid() == 0:
                folder = path.parent.stat()
                os.chown(made, folder.st_uid, folder.st_gid)
        finally:
            os.close(made)
    except FileExistsError:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise OSError(None, "it is not a regular file") from None
        if mode & 0o077:
            path.chmod(stat.S_IMODE(mode) & 0o700)


# --------------------------------------------------------------------------- PostgreSQL


def _postgres(place: PostgresServer, settings: StoreSettings) -> Backend:
    engine = create_async_engine(
        URL.create("postgresql+asyncpg"), connect_args=_connect_args(place, settings), **_pool(settings)
    )
    return Backend(
        writer=engine,
        reader=engine.execution_options(isolation_level="AUTOCOMMIT"),
        one_writer=False,
        prepare=(),
        begin="",
        lock=f"SELECT pg_advisory_xact_lock({_CREATION_LOCK})",
    )


def _connect_args(place: PostgresServer, settings: StoreSettings) -> dict[str, object]:
    milliseconds = str(int(settings.timeout_seconds * 1000))
    return {
        # Every one is named: asyncpg would take what is missing from PGHOST, PGSSLMODE or ~/.pgpass.
        "host": place.host,
        "port": place.port,
        "user": place.user,
        "database": place.database,
        "password": settings.password or "",
        "ssl": _tls(place, settings.ca_file),
        "timeout": settings.timeout_seconds,
        # A relay that dies in a transaction must not stop the others, and none may last longer than
        # `changes.py` looks back.
        "server_settings": {
            "application_name": "encrypting-relay",
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
        },
    }


def _tls(place: PostgresServer, ca_file: Path | None) -> ssl.SSLContext | bool:
    """A context that verifies chain and name, or no TLS where nobody can listen.

    Given a context, asyncpg ends the connection if the server has no TLS (`sslmode=require`), before it sends
    anything else.
    """
    if place.is_local and ca_file is None:
        return False
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    return context


def _pool(settings: StoreSettings) -> dict[str, Any]:
    return {
        "pool_size": _CONNECTIONS,
        "max_overflow": 0,
        "pool_timeout": settings.timeout_seconds,
        # A server that was restarted is noticed before the connection is used. A file does not go away.
        "pool_pre_ping": not isinstance(settings.place, SqliteFile),
        # Parameters are certificates and addresses: they do not belong into the text of an error.
        "hide_parameters": True,
    }
