"""The real time (`relay.seams.Clock`)."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime


class SystemClock:
    """The clock of the machine; tests use one that stands still."""

    def now(self) -> datetime:
        """The current time in UTC, aware."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Lets that much time pass."""
        await asyncio.sleep(seconds)
