"""What the tests of the store share: an empty database of each kind, and stores over it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.store.database import Store
from relay.store.settings import StoreSettings
from tests import postgres as postgresql
from tests.fakes import FixedClock, ListJournal
from tests.network import Authority
from tests.postgres import Postgres


@pytest.fixture(scope="session")
def postgres(authority: Authority) -> Iterator[Postgres]:
    """One server for all tests; each has its own database. It runs again after a test that stopped it."""
    with postgresql.running(authority) as server:
        yield server


@pytest.fixture
def postgres_settings(postgres: Postgres) -> StoreSettings:
    """An empty database of the server."""
    return StoreSettings(postgres.create_database(), password=postgresql.PASSWORD)


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> StoreSettings:
    """A file that does not exist yet."""
    return StoreSettings(f"sqlite:///{tmp_path}/relay.db")


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgres", marks=pytest.mark.system)])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of database in turn; of session scope, so that the server starts before the test."""
    if request.param == "postgres":
        request.getfixturevalue("postgres")
    return str(request.param)


@pytest.fixture
def settings(request: pytest.FixtureRequest, kind: str) -> StoreSettings:
    """An empty database of this kind."""
    settings = request.getfixturevalue(f"{kind}_settings")
    assert isinstance(settings, StoreSettings)
    return settings


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def journal() -> ListJournal:
    return ListJournal()


@pytest.fixture
async def store(settings: StoreSettings, clock: FixedClock, journal: ListJournal) -> AsyncIterator[Store]:
    async with Store(settings, clock, journal) as store:
        yield store


@pytest.fixture
async def other(store: Store, settings: StoreSettings, clock: FixedClock) -> AsyncIterator[Store]:
    """The store of another process: its own connections to the same database."""
    async with Store(settings, clock, ListJournal()) as other:
        yield other
