"""relay.store.tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from relay.errors import StoreUnavailable
from relay.store.tables import MAX_BYTES, UtcTime, bounded, pack, unpack

DIALECT = sqlite.dialect()


@given(st.lists(st.binary(max_size=50)))
def test_unpack_after_pack_is_the_same(certificates: list[bytes]) -> None:
    """Whatever the certificates hold, also none and empty ones, they come back."""
    assert tuple(certificates) == unpack(pack(certificates))


@given(st.lists(st.binary(max_size=20), min_size=1), st.integers(min_value=1, max_value=3))
def test_unpack_cut_off_value_is_refused(certificates: list[bytes], missing: int) -> None:
    """A value that lost its end is damaged; it is never read as fewer certificates."""
    with pytest.raises(ValueError, match="cut off"):
        unpack(pack(certificates)[:-missing])


@given(st.binary(max_size=40))
def test_unpack_garbage_is_refused_or_exact(data: bytes) -> None:
    """Nothing is read out of garbage that is not in it."""
    try:
        found = unpack(data)
    except ValueError:
        return
    assert data == pack(found)


def test_bounded_at_the_limit_passes_and_beyond_is_refused() -> None:
    """The limit is the last size that is kept."""
    assert MAX_BYTES == len(bounded(b"x" * MAX_BYTES))
    with pytest.raises(StoreUnavailable, match="too large"):
        bounded(b"x" * (MAX_BYTES + 1))


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=-30))])))
def test_utc_time_comes_back_exactly(moment: datetime) -> None:
    """Every time of the calendar comes back as the same moment."""
    column = UtcTime()

    assert moment == column.process_result_value(column.process_bind_param(moment, DIALECT), DIALECT)


def test_utc_time_without_zone_is_an_error() -> None:
    """A time of which nobody knows the zone is not kept."""
    with pytest.raises(TypeError):
        UtcTime().process_bind_param(datetime(2026, 6, 1), DIALECT)
