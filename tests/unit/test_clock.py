"""Tests of `relay/clock.py`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.clock import SystemClock


def test_now_is_the_time_in_utc() -> None:
    """An aware time, so that it can be compared with the dates in certificates."""
    now = SystemClock().now()

    assert UTC is now.tzinfo
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)


async def test_sleep_lets_monotonic_advance() -> None:
    """The two agree about what a second is."""
    clock = SystemClock()
    before = clock.monotonic()

    await clock.sleep(0.01)

    assert clock.monotonic() - before >= 0.009
