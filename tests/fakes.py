"""Small real programs that stand in for the relay's surroundings: clocks, servers, sources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from relay.message import Address, MailOptions, Outgoing


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

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)


class ListJournal:
    """A journal that keeps its events (`relay.pipeline.Journal`)."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, *, id: str = "", **fields: str | int | float | bool) -> None:
        self.events.append((event, {"id": id, **fields}))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


class ScriptedSession:
    """A next hop in memory (`relay.pipeline.HopSession`) that refuses what the script says.

    Args:
        script: for each call, in order, the errors to raise by command: `mail`, `rcpt:<address>`, `data`.
            Each list is used up from the front; None in it means that this time it goes well.
    """

    def __init__(self, script: dict[str, list[Exception | None]] | None = None) -> None:
        self._script = script or {}
        self.dialogue: list[str] = []
        self.taken: list[Outgoing] = []

    def step(self, command: str) -> None:
        self.dialogue.append(command)
        waiting = self._script.get(command)
        error = waiting.pop(0) if waiting else None
        if error:
            raise error

    async def login(self, username: str, password: str) -> None:
        self.step("login")

    async def start(self, sender: Address | None, options: MailOptions) -> ScriptedTransaction:
        self.step("mail")
        return ScriptedTransaction(self)

    async def close(self) -> None:
        self.dialogue.append("close")


class ScriptedTransaction:
    """One transaction of a `ScriptedSession` (`relay.pipeline.HopTransaction`)."""

    def __init__(self, session: ScriptedSession) -> None:
        self._session = session

    async def add(self, recipient: Address) -> None:
        self._session.step(f"rcpt:{recipient}")

    async def send(self, content: Outgoing) -> None:
        self._session.step("data")
        self._session.taken.append(content)

    async def abandon(self) -> None:
        self._session.dialogue.append("rset")
