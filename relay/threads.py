"""Runs pure work on the event loop, or in a thread where a message is large enough to hold others up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_LARGE_BYTES = 256 * 1024
"""Above this, slicing and checking leave the event loop."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def aside(size_bytes: int, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """What `work` returns.

    Args:
        size_bytes: how much it has to read.
    """
    if size_bytes <= _LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
