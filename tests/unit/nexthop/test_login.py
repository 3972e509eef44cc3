"""One attempt per login, and a long pause after the relay's own login was refused."""

from __future__ import annotations

import asyncio
from base64 import b64decode

import pytest

from relay.errors import LoginRefused
from relay.nexthop.login import Credentials, LoginPause, mechanism_of
from relay.nexthop.replies import HopFailure, Reason
from tests.fakes import FixedClock


@pytest.mark.parametrize(
    ("username", "password"),
    [("", "x"), ("x", ""), ("a\0b", "x"), ("a", "x\0y"), ("\udc80", "x"), ("a", "\ud800")],
)
def test_credentials_that_plain_cannot_carry_are_refused(username: str, password: str) -> None:
    """NUL separates the fields of PLAIN: such a name would log in as somebody else (RFC 4616 §2)."""
    with pytest.raises(LoginRefused):
        Credentials(username, password)


def test_credentials_show_neither_name_nor_password() -> None:
    """They cannot get into a log by accident."""
    assert repr(Credentials("alice", "s3cret")) == "Credentials()"


def test_credentials_plain_is_utf8_without_authorisation_identity() -> None:
    """The form of RFC 4616."""
    assert b64decode(Credentials("jösé", "pässword").plain()) == "\0jösé\0pässword".encode()


@pytest.mark.parametrize(
    ("offered", "expected"),
    [(("LOGIN", "PLAIN"), "PLAIN"), (("CRAM-MD5", "LOGIN"), "LOGIN"), (("PLAIN",), "PLAIN")],
)
def test_mechanism_of_prefers_plain(offered: tuple[str, ...], expected: str) -> None:
    """One mechanism is chosen."""
    assert mechanism_of(offered) == expected


@pytest.mark.parametrize("offered", [(), ("CRAM-MD5", "XOAUTH2")])
def test_mechanism_of_nothing_usable_raises(offered: tuple[str, ...]) -> None:
    """A missing mechanism is no wrong password."""
    with pytest.raises(HopFailure) as caught:
        mechanism_of(offered)

    assert caught.value.reason is Reason.LOGIN


async def refuse(pause: LoginPause) -> None:
    with pytest.raises(HopFailure):
        async with pause.attempt():
            raise LoginRefused("535")


async def test_pause_grows_with_each_refusal_up_to_a_day() -> None:
    """15 minutes, then four times as long each, at most a day: under six attempts in the first day."""
    clock = FixedClock()
    pause = LoginPause(clock)
    lengths = []
    for _ in range(6):
        await refuse(pause)
        start = clock.monotonic()
        while True:
            try:
                pause.check()
                break
            except HopFailure:
                clock.advance(300)
        lengths.append(clock.monotonic() - start)

    assert lengths == [900, 3600, 14400, 57600, 86400, 86400]


async def test_pause_after_a_success_starts_small_again() -> None:
    """A success ends the doubt."""
    clock = FixedClock()
    pause = LoginPause(clock)
    await refuse(pause)
    clock.advance(900)
    async with pause.attempt():
        pass
    await refuse(pause)
    clock.advance(900)

    pause.check()


async def test_pause_of_parallel_attempts_lets_one_fail() -> None:
    """A password that has become wrong is tried once, not on each of many connections."""
    pause = LoginPause(FixedClock())
    tried = []

    async def attempt() -> None:
        with pytest.raises(HopFailure):
            async with pause.attempt():
                tried.append(1)
                await asyncio.sleep(0)
                raise LoginRefused("535")

    await asyncio.gather(*(attempt() for _ in range(20)))

    assert len(tried) == 1


async def test_pause_ignores_what_is_no_refusal() -> None:
    """454, a lost connection or a time-out says nothing about the password."""
    pause = LoginPause(FixedClock())
    for reason in (Reason.REFUSED, Reason.LOST, Reason.TIMEOUT):
        with pytest.raises(HopFailure):
            async with pause.attempt():
                raise HopFailure(reason, "x")

    pause.check()
