"""The one way to the database: a time limit on every use, and every failure as StoreUnavailable.

    async with connections.reading() as database:
        row = (await database.execute(select(pins))).first()

Tables are created with the first use that succeeds, so a relay may start before its database.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from relay.errors import StoreUnavailable
from relay.store.backend import Backend, make
from relay.store.failures import FAILURES, complaint
from relay.store.schema import prepare

if TYPE_CHECKING:
    from relay.store.settings import StoreSettings

_CLEAN_UP_SECONDS = 2.5
"""What a use that was stopped may take to end its connection; asyncpg's own limit is two seconds."""

_TRIES = 100
"""To switch a new SQLite file to WAL while another process does the same: SQLite does not wait there."""


class Connections:
    """A pool of connections to one database."""

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._place = settings.place
        self._backend: Backend | None = None
        self._is_ready = self._is_closed = False
        self._preparing = asyncio.Lock()
        """Guards the three above."""
        self._uses = 0
        self._unused = asyncio.Event()
        """Set while `_uses` is 0."""
        self._unused.set()
        self._turn = asyncio.Lock()
        """Held by the one writer of a database that has one."""

    async def ready(self) -> None:
        """Connects and makes the tables, unless that was done. Raises StoreUnavailable."""
        async with self._limited():
            await self._get()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one statement that reads. Raises StoreUnavailable, also for what the body does."""
        async with self._limited():
            backend = await self._get()
            async with backend.reader.connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, committed at the end and rolled back if the body fails. Raises StoreUnavailable."""
        async with self._limited():
            backend = await self._get()
            turn = self._turn if backend.one_writer else contextlib.nullcontext()
            async with turn, _transaction(backend) as connection:
                yield connection

    async def close(self) -> None:
        """Ends every connection; never raises. Whatever comes later is StoreUnavailable.

        Waits for what is under way: a connection that is in use would come back to a pool that nobody closes.
        """
        self._is_closed = True
        with contextlib.suppress(StoreUnavailable):
            async with self._bounded():
                await self._unused.wait()
        with contextlib.suppress(StoreUnavailable):
            async with self._bounded(), self._preparing:
                if self._backend:
                    await self._backend.writer.dispose()

    @contextlib.asynccontextmanager
    async def _limited(self) -> AsyncIterator[None]:
        if self._is_closed:
            raise StoreUnavailable("the store is closed")
        self._uses += 1
        self._unused.clear()
        try:
            async with self._bounded():
                yield
        finally:
            self._uses -= 1
            if not self._uses:
                self._unused.set()

    @contextlib.asynccontextmanager
    async def _bounded(self) -> AsyncIterator[None]:
        """The border: limits the time and translates what libraries raise."""
        seconds = self._settings.timeout_seconds
        try:
            # The inner limit ends the use, the outer one the clean-up that follows.
            async with asyncio.timeout(seconds + _CLEAN_UP_SECONDS), asyncio.timeout(seconds):
                yield
        except FAILURES as exc:
            raise StoreUnavailable(complaint(exc, self._place)) from exc

    async def _get(self) -> Backend:
        """The backend with its tables made."""
        if self._is_ready and self._backend:
            return self._backend
        async with self._preparing:
            if self._backend is None:
                self._backend = await asyncio.to_thread(make, self._settings)
            if not self._is_ready:
                await _prepare(self._backend)
                self._is_ready = True
            return self._backend


async def _prepare(backend: Backend) -> None:
    for statement in backend.prepare:
        await _insist(backend.writer, statement)
    async with _transaction(backend) as connection:
        if backend.lock:
            await connection.exec_driver_sql(backend.lock)
        await connection.run_sync(prepare)


async def _insist(engine: AsyncEngine, statement: str) -> None:
    """Tries again while another process does the same."""
    for attempt in range(_TRIES):
        try:
            async with engine.connect() as connection:
                await connection.exec_driver_sql(statement)
                return
        except OperationalError as exc:
            if "locked" not in str(exc.orig) or attempt == _TRIES - 1:
                raise
        await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _transaction(backend: Backend) -> AsyncIterator[AsyncConnection]:
    async with backend.writer.connect() as connection:
        if backend.begin:
            await connection.exec_driver_sql(backend.begin)
        yield connection
        await connection.commit()


def insert_into(database: AsyncConnection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows ON CONFLICT, which SQLAlchemy has in each dialect only."""
    return sqlite.insert(table) if database.dialect.name == "sqlite" else postgresql.insert(table)
