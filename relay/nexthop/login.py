"""Logging in to the next hop: credentials, the choice of one mechanism, and the pause after a refusal.

One attempt is one AUTH command. aiosmtplib's `login` tries every mechanism in turn with the same password,
which a server counts as several failures; docker-mailserver's fail2ban bans an address for a week after six.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relay.errors import LoginRefused
from relay.nexthop.replies import HopFailure, Reason

if TYPE_CHECKING:
    from relay.seams import Clock

_FIRST_PAUSE_SECONDS = 15 * 60.0
_LONGEST_PAUSE_SECONDS = 24 * 3600.0
_PAUSE_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user name and a password, checked to be what SASL PLAIN can carry (RFC 4616 §2).

    Raises LoginRefused if they are empty, hold NUL (which separates the fields of PLAIN, so a name with NUL
    would log in as somebody else than it says), or cannot be encoded.
    """

    username: str = field(repr=False)
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        for value in (self.username, self.password):
            if not value or "\0" in value or not _is_encodable(value):
                raise LoginRefused("empty, or not possible in SASL PLAIN; the next hop was not asked")

    def plain(self) -> bytes:
        """The initial response of AUTH PLAIN; no authorisation identity."""
        return base64.b64encode(f"\0{self.username}\0{self.password}".encode())

    def login(self) -> tuple[bytes, bytes]:
        """The two responses of AUTH LOGIN."""
        return base64.b64encode(self.username.encode()), base64.b64encode(self.password.encode())


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def mechanism_of(offered: tuple[str, ...]) -> str:
    """The one mechanism to use: PLAIN before LOGIN. Others protect nothing more inside TLS.

    Raises:
        HopFailure: neither is offered.
    """
    for mechanism in ("PLAIN", "LOGIN"):
        if mechanism in offered:
            return mechanism
    raise HopFailure(Reason.LOGIN, "neither AUTH PLAIN nor AUTH LOGIN is offered")


class LoginPause:
    """Keeps a wrong own login from being tried again and again.

    After a refusal no connection is made for 15 minutes, then one attempt; each further refusal makes the
    pause four times as long, up to a day. A success, or a new configuration, ends it. Attempts run one at a
    time (`_lock`), so that a password that becomes wrong is not tried on many connections at once.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._next_seconds = _FIRST_PAUSE_SECONDS

    def check(self) -> None:
        """Raises HopFailure during a pause."""
        left = self._until - self._clock.monotonic()
        if left > 0:
            raise HopFailure(
                Reason.LOGIN, f"the relay's own login was refused; not tried for {left:.0f} s more"
            )

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Around one AUTH with the relay's own login. Raises HopFailure instead of LoginRefused."""
        async with self._lock:
            self.check()
            try:
                yield
            except (LoginRefused, HopFailure) as exc:
                if isinstance(exc, HopFailure) and exc.reason is not Reason.LOGIN:
                    raise
                raise self._refused(exc.detail) from exc
            self._next_seconds = _FIRST_PAUSE_SECONDS

    def _refused(self, detail: str) -> HopFailure:
        pause, self._next_seconds = (
            self._next_seconds,
            min(self._next_seconds * _PAUSE_FACTOR, _LONGEST_PAUSE_SECONDS),
        )
        self._until = self._clock.monotonic() + pause
        return HopFailure(
            Reason.LOGIN, f"the relay's own login was refused ({detail}); not tried for {pause:.0f} s"
        )
