"""What can go wrong with a database, in words for the administrator.

The words of drivers are cut to one printable line: their further lines quote values, and SQLAlchemy adds the
statement with its parameters.
"""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import Iterator

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from relay.store.settings import PostgresServer, SqliteFile

FAILURES = (
    SQLAlchemyError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    sqlite3.Error,
    OSError,  # TimeoutError and SSLError are kinds of it
    EOFError,
    ValueError,  # a stored value that cannot be decoded
)
"""Everything that means "could not be read or written"."""

_MAX_CHARS = 200

_SQLITE_ADVICE = {
    sqlite3.SQLITE_CORRUPT: "is damaged ({}); {}",
    sqlite3.SQLITE_NOTADB: "is damaged or no database ({}); {}",
    sqlite3.SQLITE_FULL: "cannot grow ({}); make room on its disk",
    sqlite3.SQLITE_READONLY: "cannot be written ({}); check the owner and mode of the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened ({}); its folder must exist and belong to the relay's user",
    sqlite3.SQLITE_BUSY: "is in use by another process for too long ({})",
}
_RESTORE = (
    "stop the relay, move the file away and restore it from a backup; without one the relay begins anew and"
    " forgets its pins"
)


def complaint(exc: BaseException, place: SqliteFile | PostgresServer) -> str:
    """Text for the log: which database, what is wrong, and what to do where that is known."""
    if isinstance(place, SqliteFile):
        return f"the database {place} {_sqlite(exc)}"
    return f"the database {place} {_postgres(exc)}"


def _sqlite(exc: BaseException) -> str:
    for cause in _causes(exc):
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(code, int) and (advice := _SQLITE_ADVICE.get(code & 0xFF)):
            return advice.format(_line(cause), _RESTORE)
    if isinstance(exc, ValueError):
        return f"is damaged ({_line(exc)}); {_RESTORE}"
    return _other(exc)


def _postgres(exc: BaseException) -> str:
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLError):
            return f"has no TLS that can be trusted ({_line(cause)}); check its certificate and ca_file"
        if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError):
            return f"refused the login ({_line(cause)}); check the user and password_file"
    return _other(exc)


def _other(exc: BaseException) -> str:
    if isinstance(exc, TimeoutError):
        return "did not answer in time"
    innermost = list(_causes(exc))[-1]
    return f"cannot be used: {type(innermost).__name__}: {_line(innermost)}"


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """The error and what caused it: SQLAlchemy keeps the driver's own in `orig` or as the cause."""
    following: BaseException | None = exc
    while following is not None:
        yield following
        following = getattr(following, "orig", None) or following.__cause__


def _line(exc: BaseException) -> str:
    text = str(getattr(exc, "strerror", None) or exc).strip().split("\n", 1)[0][:_MAX_CHARS]
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)
