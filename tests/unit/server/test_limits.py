from __future__ import annotations

import asyncio

import pytest

from relay.errors import LoginRefused, LoginUnavailable, RelayError
from relay.server import limits
from relay.server.limits import Connections, Logins, client_key
from relay.server.refusals import ServerBusy, TooManyConnections, TooManyLogins
from relay.server.settings import Limits
from tests.fakes import FixedClock


@pytest.mark.parametrize(
    ("ip", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_client_key_is_one_for_one_client(ip: str, key: str) -> None:
    """An IPv6 client cannot become many by changing its host part."""
    assert key == client_key(ip)


def test_connections_are_limited_per_client_and_in_all() -> None:
    """Both limits hold, a refused connection is not counted, and leaving makes room."""
    connections, chosen = Connections(), Limits(connections=3, connections_per_client=2)
    connections.enter("a", chosen)
    connections.enter("a", chosen)
    with pytest.raises(TooManyConnections):
        connections.enter("a", chosen)
    connections.enter("b", chosen)
    with pytest.raises(ServerBusy):
        connections.enter("c", chosen)
    connections.leave("a")

    connections.enter("c", chosen)


def test_connections_of_unix_sockets_share_no_client_limit() -> None:
    """All peers of a unix socket look the same: only the limit in all counts."""
    connections, chosen = Connections(), Limits(connections=3, connections_per_client=1)

    for _ in range(3):
        connections.enter("", chosen)


async def attempt(
    logins: Logins, client: str, user: str, password: str, right: str = "right"
) -> type[RelayError] | None:
    """What one attempt ends in; None is a login. The server behind it knows one password."""
    try:
        async with logins.attempt(client, user, password):
            if password != right:
                raise LoginRefused
    except RelayError as error:
        return type(error)
    return None


@pytest.mark.parametrize(
    ("client", "user"), [("c0", "u9"), ("c9", "u0")], ids=["one client, many users", "one user, many clients"]
)
async def test_logins_stop_after_three_failures(client: str, user: str) -> None:
    """Three failures of a client or of a user name stop the next attempt, even with the right password."""
    logins = Logins(FixedClock())
    for number in range(3):
        same_client = client == "c0"
        name = f"u{number}" if same_client else "u0"
        assert LoginRefused is await attempt(
            logins, "c0" if same_client else f"c{number}", name, f"wrong{number}"
        )

    assert TooManyLogins is await attempt(logins, client, user, "right")
    assert None is await attempt(logins, "c8", "u8", "right")


async def test_logins_open_again_after_ten_minutes() -> None:
    """Failures count for ten minutes each, not from the last one."""
    clock = FixedClock()
    logins = Logins(clock)
    for number in range(3):
        await attempt(logins, "c", "u", f"wrong{number}")
        clock.advance(199)

    assert TooManyLogins is await attempt(logins, "c", "u", "right")
    clock.advance(3)
    assert None is await attempt(logins, "c", "u", "right")
    assert LoginRefused is await attempt(logins, "c", "u", "wrong9")
    assert TooManyLogins is await attempt(logins, "c", "u", "right")


async def test_logins_letter_case_of_the_name_gives_no_further_attempts() -> None:
    """Servers fold user names, so does the count."""
    logins = Logins(FixedClock())
    for number, name in enumerate(("bob", "BOB", "Bob")):
        await attempt(logins, f"c{number}", name, "wrong")

    assert TooManyLogins is await attempt(logins, "c9", "bOb", "right")


async def test_logins_known_wrong_password_is_not_tried_and_not_counted() -> None:
    """A device with an old password asks nobody and locks nobody out, for ten minutes."""
    clock = FixedClock()
    logins = Logins(clock)
    await attempt(logins, "c", "u", "old", right="new")
    for _ in range(10):
        assert LoginRefused is await attempt(logins, "c", "u", "old", right="old")
    assert None is await attempt(logins, "c", "u", "new", right="new")
    clock.advance(600)

    assert None is await attempt(logins, "c", "u", "old", right="old")


async def test_logins_passwords_are_not_kept() -> None:
    """What is remembered of a wrong password is a keyed hash."""
    logins = Logins(FixedClock())
    await attempt(logins, "c", "u", "hunter2")

    assert "hunter2" not in repr(vars(logins))


async def test_logins_unavailable_and_unexpected_do_not_count() -> None:
    """Only a judgement of the login is a failure."""
    logins = Logins(FixedClock())
    for error in [LoginUnavailable(), ValueError()] * 3:
        with pytest.raises(type(error)):
            async with logins.attempt("c", "u", "right"):
                raise error

    assert None is await attempt(logins, "c", "u", "right")


async def test_logins_at_once_do_not_exceed_three_attempts() -> None:
    """Guesses on many connections at the same time get no more than three answers."""
    logins = Logins(FixedClock())
    asked = 0

    async def guess(number: int) -> None:
        nonlocal asked
        async with logins.attempt("c", "u", f"guess{number}"):
            asked += 1
            await asyncio.sleep(0)
            raise LoginRefused

    results = await asyncio.gather(*(guess(number) for number in range(20)), return_exceptions=True)

    assert 3 == asked
    assert 17 == sum(isinstance(result, TooManyLogins) for result in results)


async def test_logins_at_once_with_the_right_password_all_succeed() -> None:
    """A busy honest client waits for its own attempts and is never refused."""
    logins = Logins(FixedClock())

    async def login() -> None:
        async with logins.attempt("c", "u", "right"):
            await asyncio.sleep(0.001)

    await asyncio.gather(*(login() for _ in range(20)))


async def test_logins_waiting_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """If attempts do not end, the next one is 454, and a cancelled one leaves no trace."""
    monkeypatch.setattr(limits, "_PATIENCE_SECONDS", 0.05)
    logins = Logins(FixedClock())

    async def hang() -> None:
        async with logins.attempt("c", "u", "right"):
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hang()) for _ in range(3)]
    await asyncio.sleep(0)

    assert LoginUnavailable is await attempt(logins, "c", "u", "right")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert None is await attempt(logins, "c", "u", "right")


async def test_logins_tables_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many names and clients fail, what is kept has a limit."""
    monkeypatch.setattr(limits, "_MAX_ENTRIES", 5)
    logins = Logins(FixedClock())
    for number in range(20):
        await attempt(logins, f"c{number}", f"u{number}", "wrong")

    tables = [table for table in vars(logins).values() if isinstance(table, dict)]
    assert [] == [table for table in tables if len(table) > 5]
