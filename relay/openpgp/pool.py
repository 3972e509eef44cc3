"""Worker processes for large messages: started when needed, used again, replaced when one dies.

The plaintext travels through a socket pair that only the relay and one worker hold: never through a file, an
argument or the environment. A worker that was left in the middle of a message, for whatever reason, is killed
and never used again, so that no answer can be taken for that of another message.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import relay
from relay.errors import EncryptionFailed
from relay.openpgp.engine import MAX_WAITING, TIMEOUT_SECONDS, Turns
from relay.openpgp.worker import LENGTH, REPLY, REQUEST

_CHUNK_OCTETS = 1 << 18


class WorkerPool:
    """Encrypts in other processes.

    Args:
        workers: how many run at the same time; None: one per processor.
        max_waiting: how many messages may wait for one.
        timeout_seconds: for one message, waiting included; past it the worker is killed.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        max_waiting: int = MAX_WAITING,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self._turns = Turns(workers or os.cpu_count() or 1, max_waiting, timeout_seconds)
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._ended: list[_Worker] = []
        self._starting: set[asyncio.Task[_Worker]] = set()
        self._closed = False

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the running workers."""
        return tuple(worker.pid for worker in self._workers)

    async def encrypt(self, plaintext: bytes, certificates: Sequence[bytes], *, allows_v2: bool) -> bytes:
        """The armoured message, encrypted to these binary certificates.

        Args:
            allows_v2: whether version 2 of encrypted data may be written.

        Raises:
            EncryptionFailed: refused, crashed, too slow, or too many messages wait.
        """
        async with self._turns.take():
            worker = await self._take()
            try:
                return await worker.encrypt(plaintext, certificates, allows_v2=allows_v2)
            finally:
                self._give_back(worker)

    async def close(self) -> None:
        """Ends every worker; messages in them fail."""
        self._closed = True
        await asyncio.gather(*self._starting, return_exceptions=True)
        for worker in self._idle:
            worker.hang_up()
        for worker in list(self._workers):
            self._end(worker)
        for worker in self._ended:
            await asyncio.to_thread(worker.wait)
        self._ended.clear()

    async def _take(self) -> _Worker:
        if self._closed:
            raise EncryptionFailed("the engine is closed")
        self._ended = [worker for worker in self._ended if worker.is_alive]  # asking also reaps
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            self._end(worker)
            worker.hang_up()
        return await self._start()

    async def _start(self) -> _Worker:
        """A new worker, started in a thread; if nobody waits for it any more, it is for the next message."""
        task = asyncio.create_task(asyncio.to_thread(_Worker))
        self._starting.add(task)
        task.add_done_callback(self._started)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(self._keep)
            raise

    def _started(self, task: asyncio.Task[_Worker]) -> None:
        self._starting.discard(task)
        if not task.cancelled() and not task.exception():
            self._workers.append(task.result())

    def _keep(self, task: asyncio.Task[_Worker]) -> None:
        if not task.cancelled() and not task.exception():
            self._give_back(task.result())

    def _give_back(self, worker: _Worker) -> None:
        if worker.is_clean and not self._closed:
            self._idle.append(worker)
        else:
            self._end(worker)
            worker.hang_up()

    def _end(self, worker: _Worker) -> None:
        """Kills it; its corpse is reaped later, because a large process takes a while to die."""
        worker.kill()
        if worker in self._workers:
            self._workers.remove(worker)
            self._ended.append(worker)


class _Worker:
    """One process and our end of its socket.

    Raises:
        EncryptionFailed: no process could be started.
    """

    def __init__(self) -> None:
        self.is_clean = True
        """Whether it stands between two messages."""
        self._channel, theirs = socket.socketpair()
        self._channel.setblocking(False)
        try:
            self._process = _start(theirs)
        except OSError as exc:
            self._channel.close()
            raise EncryptionFailed(f"no worker process could be started: {exc}") from exc
        finally:
            theirs.close()
        self.pid = self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def encrypt(self, plaintext: bytes, certificates: Sequence[bytes], *, allows_v2: bool) -> bytes:
        """One request and its answer. Raises EncryptionFailed."""
        self.is_clean = False
        try:
            worked, octets = await self._ask(plaintext, certificates, allows_v2)
        except (OSError, EOFError) as exc:
            raise EncryptionFailed("the worker process ended in the middle of a message") from exc
        self.is_clean = True
        if not worked:
            raise EncryptionFailed(octets.decode("utf-8", "replace"))
        return octets

    def kill(self) -> None:
        """Ends it at once; whoever waits for its answer gets an error."""
        self._process.kill()

    def hang_up(self) -> None:
        """Closes our end; nobody may be waiting on it, or he would wait for ever."""
        self._channel.close()

    def wait(self) -> None:
        """Blocks until the process is gone."""
        self._process.wait()

    async def _ask(
        self, plaintext: bytes, certificates: Sequence[bytes], allows_v2: bool
    ) -> tuple[bool, bytes]:
        loop = asyncio.get_running_loop()
        head = REQUEST.pack(allows_v2, len(certificates), len(plaintext))
        parts = [part for octets in certificates for part in (LENGTH.pack(len(octets)), octets)]
        await loop.sock_sendall(self._channel, b"".join([head, *parts]))
        await loop.sock_sendall(self._channel, plaintext)
        worked, length = REPLY.unpack(await self._receive(REPLY.size))
        return worked, await self._receive(length)

    async def _receive(self, length: int) -> bytes:
        """Exactly that many octets; raises EOFError."""
        loop = asyncio.get_running_loop()
        received = BytesIO()  # gives its buffer away without copying it
        while missing := length - received.tell():
            octets = await loop.sock_recv(self._channel, min(missing, _CHUNK_OCTETS))
            if not octets:
                raise EOFError
            received.write(octets)
            await asyncio.sleep(0)  # sock_recv does not yield while octets are at hand
        return received.getvalue()


def _start(channel: socket.socket) -> subprocess.Popen[bytes]:
    """A worker whose standard input is the socket and whose output nobody sees."""
    return subprocess.Popen(
        # -P and PYTHONPATH: it runs this very package, whatever lies in the working directory
        [sys.executable, "-P", "-m", "relay.openpgp.worker"],
        stdin=channel.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """Ours, and a fixed threshold that makes glibc give freed buffers back to the system at once."""
    root = str(Path(relay.__file__).parent.parent)
    return {**os.environ, "PYTHONPATH": root, "MALLOC_MMAP_THRESHOLD_": str(1 << 18)}
