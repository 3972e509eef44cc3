"""Tests of `relay/authenticators.py`."""

from __future__ import annotations

import pytest

from relay.authenticators import FileAuth, NextHopAuth, NoAuth
from relay.errors import LoginRefused, LoginUnavailable
from relay.message import Login
from tests.fakes import ScriptedSession


class OneUser:
    """A file of users with one login."""

    async def verify(self, username: str, password: str) -> Login:
        if (username, password) != ("alice", "right"):
            raise LoginRefused
        return Login("alice", ("alice@example.com",))


async def test_next_hop_auth_uses_the_session_that_then_serves_the_client() -> None:
    """The login is tried on the client's own next hop session; the next hop decides about senders."""
    session = ScriptedSession()

    login = await NextHopAuth().verify(session, "alice", "secret")

    assert Login("alice", None) == login
    assert ["login"] == session.dialogue


@pytest.mark.parametrize("error", [LoginRefused(), LoginUnavailable()])
async def test_next_hop_auth_passes_the_answer_on(error: Exception) -> None:
    """Refused and unavailable stay what they are."""
    with pytest.raises(type(error)):
        await NextHopAuth().verify(ScriptedSession({"login": [error]}), "alice", "secret")


async def test_file_auth_never_asks_the_next_hop() -> None:
    """The client's password is not sent anywhere."""
    session = ScriptedSession()

    login = await FileAuth(OneUser()).verify(session, "alice", "right")

    assert ("alice", ("alice@example.com",), []) == (login.name, login.senders, session.dialogue)


async def test_no_auth_lets_nobody_in() -> None:
    """Where nobody has to log in, nobody can."""
    with pytest.raises(LoginUnavailable):
        await NoAuth().verify(ScriptedSession(), "alice", "right")
