"""Tests of `relay/threads.py`."""

from __future__ import annotations

import threading

import pytest

from relay.threads import aside


@pytest.mark.parametrize(("size_bytes", "on_the_loop"), [(256 * 1024, True), (256 * 1024 + 1, False)])
async def test_aside_takes_large_work_off_the_loop(size_bytes: int, on_the_loop: bool) -> None:
    """A large message holds no other client up; a small one does not pay for a thread."""
    ident = await aside(size_bytes, threading.get_ident)

    assert on_the_loop == (ident == threading.get_ident())
