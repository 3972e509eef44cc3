"""Small real programs that stand in for the relay's surroundings: clocks, servers, sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class FixedClock:
    """A clock that moves only when the test says so (`relay.pipeline.Clock`)."""

    def __init__(self, now: datetime = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds


class ListJournal:
    """A journal that keeps its events (`relay.pipeline.Journal`)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, *, id: str = "", **fields: str | int | float | bool) -> None:
        self.events.append((event, {"id": id, **fields}))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]
