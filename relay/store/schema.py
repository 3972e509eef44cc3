"""Creates the tables, brings older ones up to date, and refuses those of a newer relay."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import Connection, insert, inspect, select, update

from relay.errors import StoreUnavailable
from relay.store.tables import metadata, schema_version

Step = Callable[[Connection], None]

STEPS: tuple[Step, ...] = ()
"""The first brings tables of version 1 to version 2, and so on; the last one makes what `tables.py` says."""


def prepare(connection: Connection, steps: Sequence[Step] = STEPS) -> None:
    """Makes the tables what this relay expects. Within one transaction that excludes other processes.

    Raises:
        StoreUnavailable: a newer relay made them.
    """
    known = 1 + len(steps)
    version = _version(connection)
    if version is None:
        metadata.create_all(connection)
        connection.execute(insert(schema_version).values(id=1, version=known))
        return
    if version > known:
        raise StoreUnavailable(
            f"the database was made by a newer relay (schema {version}, this one knows {known}): update this"
            " relay, or name another database in `store: url`"
        )
    for step in steps[version - 1 :]:
        step(connection)
    # Written also where it does not change: what cannot be written is noticed at the start. BEGIN IMMEDIATE
    # does not tell, because SQLite begins a transaction for reading where it can do no more.
    connection.execute(update(schema_version).values(version=known))


def _version(connection: Connection) -> int | None:
    """The version of the tables; None where there are none yet."""
    if not inspect(connection).has_table(schema_version.name):
        return None
    return connection.execute(select(schema_version.c.version)).scalar()
