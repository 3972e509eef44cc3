"""Who judges a client's login, as the configuration's `auth.type` says (`relay.seams.Authenticator`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from relay.errors import LoginUnavailable
from relay.message import Login

if TYPE_CHECKING:
    from relay.seams import HopSession


class NextHopAuth:
    """`next-hop`: whoever may log in there may log in here, on a connection that then serves this client."""

    async def verify(self, session: HopSession, username: str, password: str) -> Login:
        """Asks the next hop, which also decides what this login may send as."""
        await session.login(username, password)
        return Login(username)


class UserFile(Protocol):
    """A file of logins."""

    async def verify(self, username: str, password: str) -> Login:
        """The login. Raises LoginRefused or LoginUnavailable."""


class FileAuth:
    """`users`: a file of logins with argon2 hashes."""

    def __init__(self, users: UserFile) -> None:
        self._users = users

    async def verify(self, session: HopSession, username: str, password: str) -> Login:
        """Asks the file; the next hop gets the relay's own login."""
        return await self._users.verify(username, password)


class NoAuth:
    """`none`: on loopback, where the edge does not even offer AUTH."""

    async def verify(self, session: HopSession, username: str, password: str) -> Login:
        """Never lets anybody in: there is nothing to compare with."""
        raise LoginUnavailable("auth is none")
