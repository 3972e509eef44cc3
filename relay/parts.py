"""What the line is made of: parts that the configuration chose, and ground that lives with the process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.lookup import LOOKUP_SECONDS
from relay.mime.wishes import Wishes

if TYPE_CHECKING:
    from relay.budget import Budget
    from relay.lookup import KeyFinder
    from relay.outcomes import Outcomes
    from relay.policy import Policy
    from relay.seams import Authenticator, Clock, Engine, Journal, KeyLearner, NextHop, Signer


class Uses:
    """Counts the transactions that use some parts: what a reload replaced is closed after the last one."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    def begin(self) -> None:
        """A transaction begins."""
        self._count += 1
        self._none.clear()

    def end(self) -> None:
        """It is over; once for each `begin`."""
        self._count -= 1
        if not self._count:
            self._none.set()

    async def over(self) -> None:
        """Returns when no transaction is left."""
        await self._none.wait()


@dataclass(frozen=True, slots=True)
class Parts:
    """What the configuration chose. A reload replaces it whole; a running transaction keeps its own."""

    hostname: str
    policy: Policy
    finder: KeyFinder
    engine: Engine
    next_hop: NextHop
    authenticator: Authenticator
    connections_per_message: int = 1
    """Copies of one message that may be on their way to the next hop side by side."""
    learner: KeyLearner | None = None
    """None where no source learns keys from messages."""
    wishes: Wishes = field(default_factory=Wishes)
    signer: Signer | None = None
    """None where no secret keys are configured."""
    lookup_seconds: float = LOOKUP_SECONDS
    """How long a client waits for the key lookups of one message, all together."""
    uses: Uses = field(default_factory=Uses)


@dataclass(frozen=True, slots=True)
class Ground:
    """What lives as long as the process."""

    budget: Budget
    outcomes: Outcomes
    journal: Journal
    clock: Clock
