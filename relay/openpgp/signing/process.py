"""Runs programs, bounded in time, with what they get on their standard input and nowhere else.

Whatever becomes of the one who waits, no process stays behind: its whole process group is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

_CHUNK_OCTETS = 1 << 18

_Process = asyncio.subprocess.Process


class ProgramFailed(Exception):
    """It could not be started or did not end in time; the text is for the log."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended."""

    exit_status: int
    """Negative: the signal that ended it."""
    output: bytes
    complaint: str
    """The standard error; nothing of ours writes content or secrets there."""


class Programs:
    """Whatever runs now, so that it can be ended."""

    def __init__(self) -> None:
        self._running: set[_Process] = set()
        self._closed = False

    async def run(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *stdin: bytes,
        timeout_seconds: float,
    ) -> Finished:
        """Waits until it is done. Raises ProgramFailed.

        Args:
            stdin: what it reads, one part after the other; a part is never copied as a whole.
        """
        if self._closed:
            raise ProgramFailed("the signer is closed")
        try:
            async with asyncio.timeout(timeout_seconds), self._process(arguments, environment) as process:
                output, complaint = await _converse(process, stdin)
        except TimeoutError as exc:
            raise ProgramFailed(f"{arguments[0]} took longer than {timeout_seconds} seconds") from exc
        except OSError as exc:
            raise ProgramFailed(f"{arguments[0]} cannot be run: {exc}") from exc
        return Finished(process.returncode or 0, output, complaint.decode("utf-8", "replace"))

    async def close(self) -> None:
        """Kills what still runs; whoever waits for it sees it fail."""
        self._closed = True
        for process in list(self._running):
            _kill(process)

    @contextlib.asynccontextmanager
    async def _process(
        self, arguments: Sequence[str], environment: Mapping[str, str]
    ) -> AsyncIterator[_Process]:
        """A process in a group of its own, which never outlives the block."""
        process = await _start(arguments, environment)
        self._running.add(process)
        if self._closed:  # while it was being started
            _kill(process)
        try:
            yield process
        finally:
            self._running.discard(process)
            _kill(process)
            await process.wait()


async def _converse(process: _Process, stdin: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Output and complaint. `communicate` would hold two further copies of all that goes in and comes out."""
    assert process.stdin and process.stdout and process.stderr
    async with asyncio.TaskGroup() as group:
        group.create_task(_feed(process.stdin, stdin))
        output = group.create_task(_read(process.stdout))
        complaint = group.create_task(_read(process.stderr))
    await process.wait()
    return output.result(), complaint.result()


async def _feed(stream: asyncio.StreamWriter, parts: Sequence[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended: its exit status says why
        for part in parts:
            for start in range(0, len(part), _CHUNK_OCTETS):
                stream.write(part[start : start + _CHUNK_OCTETS])
                await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader) -> bytes:
    received = BytesIO()  # gives its buffer away without copying it
    while octets := await stream.read(_CHUNK_OCTETS):
        received.write(octets)
    return received.getvalue()


async def _start(arguments: Sequence[str], environment: Mapping[str, str]) -> _Process:
    """Whoever is cancelled meanwhile leaves nothing: asyncio itself would end the process, not its group."""
    pipe = asyncio.subprocess.PIPE
    start = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment), start_new_session=True
        )
    )
    try:
        return await asyncio.shield(start)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            process = await start
            _kill(process)
            await process.wait()
        raise


def _kill(process: _Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
