"""The tables, and how times and certificates are kept in them. The same on SQLite and PostgreSQL.

A time is an integer, the microseconds since 1970 in UTC: exact, comparable in SQL, and without the time zones
that either database would add or lose.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    TypeDecorator,
)

from relay.errors import StoreUnavailable

MAX_BYTES = 2 * 1024 * 1024
"""Certificates in one row. A source gives 1 MiB at most, so more is a mistake of ours."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LENGTH = struct.Struct(">I")


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime; comes back in UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> int | None:
        """Microseconds since 1970. A naive datetime is an error."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Any) -> datetime | None:
        """The moment in UTC."""
        return None if value is None else _EPOCH + timedelta(microseconds=value)


metadata = MetaData()

schema_version = Table(
    "schema_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)
"""One row."""

cache_entries = Table(
    "cache_entries",
    metadata,
    Column("source", String, nullable=False),
    Column("key", String, nullable=False),
    Column("address", String, nullable=False),
    # `key` may keep the letter case (DANE), so what the administrator names is a column of its own.
    Column("address_key", String, nullable=False, index=True),
    Column("certificates", LargeBinary, nullable=False),
    # 1 or 0; so that addresses without a key, which may be most, do not stand before the others in `due`.
    Column("has_key", SmallInteger, nullable=False),
    Column("answered_at", UtcTime),
    Column("fresh_until", UtcTime, nullable=False),
    Column("usable_until", UtcTime, nullable=False),
    Column("failure", String, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("used_at", UtcTime),
    PrimaryKeyConstraint("source", "key"),
    # `used_at` stands in it so that rows which nobody uses are passed over without being read.
    Index("cache_entries_due", "source", "has_key", "fresh_until", "used_at"),
)

pins = Table(
    "pins",
    metadata,
    Column("address_key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("source", String, nullable=False),
    Column("trust", SmallInteger, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("revocations", LargeBinary, nullable=False),
)

pending_keys = Table(
    "pending_keys",
    metadata,
    Column("address_key", String, nullable=False),
    Column("fingerprint", String, nullable=False),
    Column("source", String, nullable=False),
    Column("trust", SmallInteger, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("since", UtcTime, nullable=False),
    Column("state", String, nullable=False),
    PrimaryKeyConstraint("address_key", "fingerprint"),
)

seen_addresses = Table("seen_addresses", metadata, Column("address_key", String, primary_key=True))
"""For which a source outside of this machine once had a certificate; rows are never deleted."""

learned_keys = Table(
    "learned_keys",
    metadata,
    Column("address_key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("effective_at", UtcTime, nullable=False),
    Column("learned_at", UtcTime, nullable=False),
)

changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("address_key", String, nullable=False),
    Column("at", UtcTime, nullable=False),
    # Without it SQLite would give the id of a deleted row again.
    sqlite_autoincrement=True,
)
"""What other processes must notice; see `relay/store/changes.py`."""


def pack(certificates: Sequence[bytes]) -> bytes:
    """Certificates as one value, each behind its length. Raises StoreUnavailable for too many octets."""
    packed = b"".join(_LENGTH.pack(len(each)) + each for each in certificates)
    return bounded(packed)


def bounded(data: bytes) -> bytes:
    """The value itself. Raises StoreUnavailable if it is too large to be kept."""
    if len(data) > MAX_BYTES:
        raise StoreUnavailable(f"certificates of {len(data)} octets are too large to be kept")
    return data


def unpack(data: bytes) -> tuple[bytes, ...]:
    """What `pack` was given. Raises ValueError for anything else."""
    certificates = []
    position = 0
    while position < len(data):
        start = position + _LENGTH.size
        if start > len(data):
            raise ValueError("the length of a kept certificate is cut off")
        position = start + _LENGTH.unpack_from(data, start - _LENGTH.size)[0]
        if position > len(data):
            raise ValueError("a kept certificate is cut off")
        certificates.append(data[start:position])
    return tuple(certificates)
