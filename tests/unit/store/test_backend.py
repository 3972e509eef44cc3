"""relay.store.backend: the file on disk, and TLS to a server."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from relay.errors import StoreUnavailable
from relay.store.backend import make
from relay.store.database import Store
from relay.store.settings import StoreSettings
from tests import postgres as postgresql
from tests.fakes import FixedClock, ListJournal
from tests.network import Authority, make_authority
from tests.postgres import Postgres
from tests.programs import unavailable
from tests.unit.store.values import entry


def _mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


async def _use(settings: StoreSettings) -> None:
    async with Store(settings, FixedClock(), ListJournal()) as store:
        await store.cache.put(entry())


# --------------------------------------------------------------------------- SQLite


async def test_sqlite_files_are_for_the_owner_alone(sqlite_settings: StoreSettings, tmp_path: Path) -> None:
    """Who writes to whom is nobody else's business: the database and SQLite's other files have mode 0600."""
    async with Store(sqlite_settings, FixedClock(), ListJournal()) as store:
        await store.cache.put(entry())
        modes = {path.name: _mode(path) for path in tmp_path.iterdir()}

    assert {"relay.db": "0o600", "relay.db-wal": "0o600", "relay.db-shm": "0o600"} == modes


async def test_sqlite_file_made_by_root_belongs_to_the_owner_of_its_folder(
    sqlite_settings: StoreSettings, tmp_path: Path
) -> None:
    """A relay that was started once by hand, as root, does not lock the service out."""
    if os.geteuid() != 0:
        unavailable("only root can give a folder to somebody")
    os.chown(tmp_path, 12345, 23456)
    async with Store(sqlite_settings, FixedClock(), ListJournal()) as store:
        await store.cache.put(entry())
        owners = {(path.stat().st_uid, path.stat().st_gid) for path in tmp_path.iterdir()}

    assert {(12345, 23456)} == owners


@pytest.mark.parametrize("mode", [0o644, 0o666, 0o660, 0o755])
async def test_sqlite_open_file_is_closed_to_others(
    sqlite_settings: StoreSettings, tmp_path: Path, mode: int
) -> None:
    """A file that others could read, or write other pins into, is taken back."""
    await _use(sqlite_settings)
    (tmp_path / "relay.db").chmod(mode)
    await _use(sqlite_settings)

    assert oct(mode & 0o700) == _mode(tmp_path / "relay.db")


async def test_sqlite_settings_of_a_connection_are_the_safe_ones(sqlite_settings: StoreSettings) -> None:
    """A commit is on the disk (FULL), readers do not wait (WAL), the file's own functions do not run."""
    names = ("synchronous", "journal_mode", "trusted_schema", "busy_timeout")
    async with (
        Store(sqlite_settings, FixedClock(), ListJournal()) as store,
        store.connections.reading() as database,
    ):
        values = [(await database.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in names]

    assert [2, "wal", 0, 4000] == values


async def test_sqlite_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """A mistake in the path says so."""
    (tmp_path / "relay.db").mkdir()

    with pytest.raises(StoreUnavailable, match="not a regular file"):
        await _use(StoreSettings(f"sqlite:///{tmp_path}/relay.db"))


async def test_sqlite_missing_folder_is_refused(tmp_path: Path) -> None:
    """No folder is made: it would have the wrong owner."""
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        await _use(StoreSettings(f"sqlite:///{tmp_path}/missing/relay.db"))


# --------------------------------------------------------------------------- TLS


def _connect_values(url: str, ca_file: Path | None = None) -> dict[str, Any]:
    """What asyncpg would be told."""
    backend = make(StoreSettings(url, ca_file=ca_file))
    seen: dict[str, Any] = {}

    def capture(dialect: object, record: object, args: object, values: dict[str, Any]) -> None:
        seen.update(values)
        raise ConnectionRefusedError

    async def connect() -> None:
        with pytest.raises(ConnectionRefusedError):
            await backend.writer.connect()

    event.listen(backend.writer.sync_engine, "do_connect", capture)
    asyncio.run(connect())
    return seen


@pytest.mark.parametrize("with_ca", [False, True])
def test_postgres_over_the_network_is_verified(authority: Authority, with_ca: bool) -> None:
    """Chain and name are verified, with TLS 1.2 at least, with the CAs of a file or of the system."""
    ca_file = authority.ca_file if with_ca else None
    context = _connect_values("postgresql://relay@db.example.com/keys", ca_file)["ssl"]

    assert (ssl.CERT_REQUIRED, True) == (context.verify_mode, context.check_hostname)
    assert ssl.TLSVersion.TLSv1_2 == context.minimum_version
    assert with_ca == (len(context.get_ca_certs()) == 1)


@pytest.mark.parametrize("where", ["127.0.0.1/keys", "localhost/keys", "/keys?host=/run/postgresql"])
def test_postgres_on_this_machine_needs_no_tls(where: str) -> None:
    """Nobody can listen there."""
    assert False is _connect_values(f"postgresql://relay@{where}")["ssl"]


def test_postgres_takes_nothing_from_the_environment() -> None:
    """asyncpg would fill in what is None or missing: PGHOST, PGSSLMODE, PGPASSWORD, ~/.pgpass."""
    values = _connect_values("postgresql://relay@localhost:6000/keys")

    assert ("localhost", 6000, "relay", "keys", "", False) == tuple(
        values[name] for name in ("host", "port", "user", "database", "password", "ssl")
    )


@pytest.mark.system
async def test_postgres_with_the_right_ca_works(
    postgres: Postgres, postgres_settings: StoreSettings, authority: Authority
) -> None:
    """With a CA file the connection is TLS, on loopback too."""
    settings = StoreSettings(postgres_settings.url, postgresql.PASSWORD, authority.ca_file)
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    async with (
        Store(settings, FixedClock(), ListJournal()) as store,
        store.connections.reading() as database,
    ):
        assert (await database.exec_driver_sql(query)).scalar() is True


@pytest.mark.system
async def test_postgres_over_a_socket_works(postgres: Postgres, postgres_settings: StoreSettings) -> None:
    """A UNIX socket needs neither TLS nor a password."""
    name = postgres_settings.url.rpartition("/")[2]
    folder = str(postgres.folder)
    (postgres.folder / ".s.PGSQL.5432").unlink(missing_ok=True)
    (postgres.folder / ".s.PGSQL.5432").symlink_to(postgres.folder / f".s.PGSQL.{postgres.port}")

    await _use(StoreSettings(f"postgresql://relay@/{name}?host={folder}"))


@pytest.mark.system
async def test_postgres_of_another_ca_is_refused(postgres_settings: StoreSettings, tmp_path: Path) -> None:
    """A certificate that nobody vouches for ends the connection, before the password."""
    settings = StoreSettings(postgres_settings.url, postgresql.PASSWORD, make_authority(tmp_path).ca_file)

    with pytest.raises(StoreUnavailable, match="has no TLS that can be trusted"):
        await _use(settings)


@pytest.mark.system
async def test_postgres_with_a_wrong_password_says_so_without_it(postgres_settings: StoreSettings) -> None:
    """The administrator learns that the login failed; the password stands nowhere."""
    with pytest.raises(StoreUnavailable, match=r"refused the login .*password_file") as caught:
        await _use(StoreSettings(postgres_settings.url, "hunter2"))

    error: BaseException | None = caught.value
    while error:
        assert "hunter2" not in repr(error)
        error = error.__cause__


async def test_postgres_server_without_tls_never_gets_the_password(authority: Authority) -> None:
    """A server, or somebody on the way, that says it has no TLS hears nothing but the question for it."""
    heard = bytearray()
    gone = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.extend(await reader.read(8))
        writer.write(b"N")  # PostgreSQL protocol, SSLRequest: "unwilling to perform SSL"
        heard.extend(await reader.read())
        writer.close()
        gone.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = f"postgresql://relay@127.0.0.1:{port}/keys"
        with pytest.raises(StoreUnavailable):
            await _use(StoreSettings(url, "secret", authority.ca_file))
        await gone.wait()

    assert bytes.fromhex("00000008 04d2162f") == heard


async def test_postgres_unreadable_ca_file_is_refused(tmp_path: Path) -> None:
    """Without the CAs nothing can be verified, so nothing is connected to."""
    with pytest.raises(StoreUnavailable, match="No such file"):
        await _use(StoreSettings("postgresql://relay@db.example.com/keys", "secret", tmp_path / "missing"))
