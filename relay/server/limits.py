"""How much a client may use before anybody is asked: connections, and failed logins.

Every table is bounded, because what fills it comes from outside.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from relay.errors import LoginRefused, LoginUnavailable
from relay.seams import Clock
from relay.server.refusals import ServerBusy, TooManyConnections, TooManyLogins
from relay.server.settings import Limits

_K = TypeVar("_K")
_V = TypeVar("_V")

_WINDOW_SECONDS = 600.0
_MAX_FAILURES = 3
_MAX_ENTRIES = 10_000
_PATIENCE_SECONDS = 60.0


def client_key(ip: str) -> str:
    """What counts as one client: an IPv4 address or an IPv6 /64, in which every host has 2^64 addresses.

    Empty for a unix socket.
    """
    if not ip:
        return ""
    address = ipaddress.ip_address(ip.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))


class Connections:
    """Counts open connections, all together and per client."""

    def __init__(self) -> None:
        self._per_client: Counter[str] = Counter()

    def enter(self, client: str, limits: Limits) -> None:
        """Counts one more; every successful call is followed by `leave`.

        Raises:
            ServerBusy, TooManyConnections: not counted.
        """
        if self._per_client.total() >= limits.connections:
            raise ServerBusy
        if client and self._per_client[client] >= limits.connections_per_client:
            raise TooManyConnections
        self._per_client[client] += 1

    def leave(self, client: str) -> None:
        """Counts one less."""
        self._per_client[client] -= 1
        if not self._per_client[client]:
            del self._per_client[client]


class Logins:
    """Keeps failed logins away from whoever judges them, who may ban the relay for guessing.

    After 3 failures within 10 minutes, of one user name or of one client, nobody is asked for either. A
    password that failed is not tried again in that time; it is kept as a hash with a secret of this process.
    Being told again that a known password is wrong does not count: a phone with an old password must not lock
    its owner out. Attempts that could become the failure too many wait for those that are under way.

    Args:
        clock: measures the 10 minutes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        self._failures: dict[str, deque[float]] = {}
        self._wrong: dict[bytes, float] = {}
        self._under_way: Counter[str] = Counter()
        self._ended = asyncio.Event()

    @asynccontextmanager
    async def attempt(self, client: str, username: str, password: str) -> AsyncIterator[None]:
        """Surrounds one attempt; LoginRefused raised inside counts as a failure, nothing else does.

        Raises:
            TooManyLogins: nobody may be asked now.
            LoginRefused: this password is known to be wrong.
            LoginUnavailable: too many attempts are under way.
        """
        # Servers fold the letter case of user names: counting by case would give one name many attempts.
        keys = [f"user {username.casefold()}", *([f"client {client}"] if client else [])]
        mark = hashlib.blake2b(f"{username}\0{password}".encode(), key=self._secret).digest()
        await self._enter(keys, mark)
        try:
            yield
        except LoginRefused:
            self._fail(keys, mark)
            raise
        finally:
            self._under_way.subtract(keys)
            self._under_way += Counter()  # forgets zeros
            self._ended.set()
            self._ended = asyncio.Event()

    async def _enter(self, keys: list[str], mark: bytes) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while self._is_open(keys, mark):
                    await self._ended.wait()
        except TimeoutError as exc:
            raise LoginUnavailable("other attempts did not end in time") from exc
        self._under_way.update(keys)

    def _is_open(self, keys: list[str], mark: bytes) -> bool:
        """Whether the outcome of attempts under way decides on this one; raises what is already decided."""
        if self._clock.monotonic() - self._wrong.get(mark, float("-inf")) < _WINDOW_SECONDS:
            raise LoginRefused("this password failed before")
        failures = {key: self._recent(key) for key in keys}
        if any(count >= _MAX_FAILURES for count in failures.values()):
            raise TooManyLogins
        return any(count + self._under_way[key] >= _MAX_FAILURES for key, count in failures.items())

    def _recent(self, key: str) -> int:
        """How many failures of the last 10 minutes are known; older ones are forgotten."""
        times = self._failures.get(key, deque())
        while times and self._clock.monotonic() - times[0] >= _WINDOW_SECONDS:
            times.popleft()
        if not times:
            self._failures.pop(key, None)
        return len(times)

    def _fail(self, keys: list[str], mark: bytes) -> None:
        now = self._clock.monotonic()
        for key in keys:
            times = self._failures.pop(key, deque())
            self._failures[key] = deque([*times, now], maxlen=_MAX_FAILURES)
        self._wrong.pop(mark, None)
        self._wrong[mark] = now
        _forget_oldest(self._failures)
        _forget_oldest(self._wrong)
        while now - next(iter(self._wrong.values())) >= _WINDOW_SECONDS:
            del self._wrong[next(iter(self._wrong))]


def _forget_oldest(table: dict[_K, _V]) -> None:
    """Keeps a table bounded: the entry that was written longest ago goes."""
    while len(table) > _MAX_ENTRIES:
        del table[next(iter(table))]
