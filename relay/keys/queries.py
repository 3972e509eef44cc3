"""Queries in flight: one per key however many wait for it, owned by nobody who waits.

A lookup that gives up leaves its query running, so that the answer is there for the next one. A query that
ends in a bug is reported, and for those who wait it is a source that could not be asked: never "no key".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from relay.errors import KeySourceUnavailable

if TYPE_CHECKING:
    from relay.seams import Journal

_CLOSING_SECONDS = 5.0
"""How long something that was cancelled may take to end."""

_T = TypeVar("_T")

_log = logging.getLogger("relay")


class Queries(Generic[_T]):
    """The queries of one source by their key, and other small work that nobody waits for.

    Shared between all messages, and used by one event loop only; no method awaits between looking for a query
    and beginning one.
    """

    def __init__(self, source: str, journal: Journal) -> None:
        self._source = source
        self._journal = journal
        self._flights: dict[str, asyncio.Task[_T]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def __contains__(self, key: str) -> bool:
        return key in self._flights

    async def joined(self, key: str, query: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """The outcome of the query in flight, or of the one that begins now; it outlives this wait.

        Raises:
            KeySourceUnavailable: as the query raised it, or because it ended in a bug or was ended.
        """
        self.begin(key, query)
        task = self._flights[key]
        await asyncio.wait({task})
        if task.cancelled():
            raise KeySourceUnavailable("the query was ended")
        error = task.exception()
        if isinstance(error, KeySourceUnavailable):
            raise type(error)(str(error)) from error  # one exception must not be raised in several tasks
        if error is not None:
            raise KeySourceUnavailable(f"asking it ended in {type(error).__name__}") from error
        return task.result()

    def begin(self, key: str, query: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        """Begins a query unless one is in flight. Raises KeySourceUnavailable after `close`."""
        if self._closed:
            raise KeySourceUnavailable("the source was closed")
        if key not in self._flights:
            task = self._flights[key] = self._own(query())
            task.add_done_callback(lambda _: self._flights.pop(key))

    async def over(self, key: str) -> None:
        """Returns when the query that is in flight now has ended, however it did."""
        if key in self._flights:
            await asyncio.wait({self._flights[key]})

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begins small work; does nothing after `close`."""
        if not self._closed:
            self._own(work())

    async def close(self) -> None:
        """Ends everything; never raises."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSING_SECONDS)

    def _own(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        # Not a TaskGroup: a query belongs to all who wait for it, and outlives those who do not.
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Reports a bug: where and what class, never its message, which may quote what a stranger sent."""
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, KeySourceUnavailable):
            self._journal.record("unexpected", source=self._source, exception=type(error).__name__)
            _log.error("unexpected", exc_info=error)
