"""Tests of `relay/parts.py`: who still uses what a reload has replaced."""

from __future__ import annotations

import asyncio

from relay.parts import Uses


async def test_over_without_a_use_returns_at_once() -> None:
    """What nobody uses can be closed."""
    await asyncio.wait_for(Uses().over(), 1)


async def test_over_waits_for_the_last_use() -> None:
    """Two transactions: the first end is not enough."""
    uses = Uses()
    uses.begin()
    uses.begin()
    waiting = asyncio.create_task(uses.over())
    uses.end()
    await asyncio.sleep(0)
    was_over = waiting.done()
    uses.end()
    await asyncio.wait_for(waiting, 1)

    assert not was_over
