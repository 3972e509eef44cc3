"""relay.store.failures."""

from __future__ import annotations

import contextlib
import sqlite3
import ssl
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from relay.store.failures import FAILURES, complaint
from relay.store.settings import PostgresServer, SqliteFile

FILE = SqliteFile(Path("/var/lib/relay/relay.db"))
SERVER = PostgresServer("db.example.com", 5432, "relay", "keys")


def _sqlite_error(path: Path, *statements: str) -> sqlite3.Error:
    """What SQLite itself raises for the last statement."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        try:
            for statement in statements:
                connection.execute(statement)
        except sqlite3.Error as exc:
            return exc
    raise AssertionError("nothing was raised")


def _wrapped(error: Exception) -> DBAPIError:
    return DBAPIError("INSERT INTO pins VALUES (?)", ("bob@example.org",), error)


def test_complaint_full_disk_says_to_make_room(tmp_path: Path) -> None:
    """The administrator reads which file and what to do."""
    error = _sqlite_error(
        tmp_path / "x", "PRAGMA max_page_count = 2", "CREATE TABLE a (b)", "CREATE TABLE c (d)"
    )

    assert (
        "the database /var/lib/relay/relay.db cannot grow (database or disk is full);"
        " make room on its disk" == complaint(_wrapped(error), FILE)
    )


def test_complaint_damaged_file_says_to_restore(tmp_path: Path) -> None:
    """A file that is no database is named as that."""
    (tmp_path / "x").write_bytes(b"garbage" * 1000)
    text = complaint(_wrapped(_sqlite_error(tmp_path / "x", "SELECT * FROM a")), FILE)

    assert "the database /var/lib/relay/relay.db is damaged or no database" in text
    assert "move the file away and restore it from a backup" in text


def test_complaint_missing_folder_says_so(tmp_path: Path) -> None:
    """A file that cannot be opened is a matter of folders and owners."""
    error = sqlite3.OperationalError("unable to open database file")
    error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN_ISDIR

    assert "its folder must exist" in complaint(_wrapped(error), FILE)


def test_complaint_value_that_cannot_be_decoded_is_damage() -> None:
    """What the relay did not write so is damage, whatever the database thinks."""
    assert "is damaged (a kept certificate is cut off)" in complaint(
        ValueError("a kept certificate is cut off"), FILE
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), "did not answer in time"),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "cannot be used: ConnectionRefusedError: Connection refused",
        ),
        (asyncpg.InvalidPasswordError("no"), "refused the login (no); check the user and password_file"),
        (
            ssl.SSLCertVerificationError(1, "self-signed"),
            "has no TLS that can be trusted (self-signed); check its certificate and ca_file",
        ),
        (PoolTimeout("QueuePool limit"), "cannot be used: TimeoutError: QueuePool limit"),
    ],
)
def test_complaint_of_a_server_names_server_and_reason(error: Exception, expected: str) -> None:
    """One line that says which database and what is wrong."""
    assert f"the database keys on db.example.com {expected}" == complaint(error, SERVER)


def test_complaint_holds_neither_statement_nor_values() -> None:
    """Further lines of drivers quote rows, and SQLAlchemy adds statement and parameters: neither is shown."""
    error = asyncpg.UniqueViolationError("duplicate key\nDETAIL: Key (address_key)=(bob@example.org)\x1b[0m")

    assert (
        "the database keys on db.example.com cannot be used: UniqueViolationError: duplicate key"
        == complaint(_wrapped(error), SERVER)
    )


def test_complaint_strange_text_is_printable_and_short() -> None:
    """A server's own words cannot forge lines of the log."""
    text = complaint(OSError("\x1b[31m\r" + "é" * 5000), SERVER)

    assert text.isascii() and text.isprintable() and len(text) < 300


@pytest.mark.parametrize(
    "error",
    [
        *(OSError, TimeoutError, ssl.SSLError, EOFError, sqlite3.DatabaseError, PoolTimeout),
        *(asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError),
    ],
)
def test_failures_hold_what_libraries_raise(error: type[Exception]) -> None:
    """Each way in which a database is not there is a failure of the store."""
    assert issubclass(error, FAILURES)
