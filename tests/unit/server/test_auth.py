from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import LoginRefused
from relay.server.auth import Credentials, initial_response, login, plain
from relay.server.refusals import AuthCancelled, BadCredentials

FIELD = st.text(
    st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs", "C", "Z"]), min_size=1, max_size=60
)


class Answers:
    """A client that answers challenges."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)
        self.challenges: list[bytes] = []

    async def __call__(self, challenge: bytes) -> bytes:
        self.challenges.append(challenge)
        return self.answers.pop(0)


@settings(max_examples=50, deadline=None)
@given(FIELD, FIELD, st.booleans())
async def test_plain_takes_what_the_client_sent(username: str, password: str, authorize: bool) -> None:
    """User name and password arrive unchanged; naming oneself as authorization identity is no request."""
    message = b64encode(f"{username if authorize else ''}\0{username}\0{password}".encode())

    assert Credentials(username, password) == await plain(message, Answers())
    assert Credentials(username, password) == await plain(None, Answers(message))


async def test_plain_takes_fields_of_255_octets() -> None:
    """RFC 4616 §2 asks for that much."""
    message = b64encode(b"\0" + b"u" * 255 + b"\0" + b"p" * 255)

    assert Credentials("u" * 255, "p" * 255) == await plain(message, Answers())


@pytest.mark.parametrize("message", [b"u\0p", b"\0u\0p\0x", b"", b"\0\xff\0p", b"u"])
async def test_plain_malformed_is_refused(message: bytes) -> None:
    """Anything but three fields of UTF-8 is 501."""
    with pytest.raises(BadCredentials):
        await plain(b64encode(message), Answers())


@pytest.mark.parametrize(
    "message", [b"admin\0u\0p", b"U\0u\0p", b"\0\0p", b"\0u\0", b"\0u\r\0p", b"\0u\0p\r\n"]
)
async def test_plain_login_that_nobody_may_be_asked(message: bytes) -> None:
    """Another identity (S-16), an empty password, and control characters are 535 without asking."""
    with pytest.raises(LoginRefused):
        await plain(b64encode(message), Answers())


@pytest.mark.parametrize(
    "line", [b"YQ", b"YQ=", b"YQ===", b"Y Q=", b" YQ==", b"YQ==\t", b"Y-_=", b"=", b"YQ==YQ=="]
)
async def test_base64_is_strict(line: bytes) -> None:
    """Alphabet and padding are those of RFC 4648 §4, nothing around them (S-12)."""
    with pytest.raises(BadCredentials):
        await login(line, Answers(b"cA=="))


async def test_login_asks_for_both_or_takes_the_first() -> None:
    """LOGIN works with and without an initial response."""
    both, one = Answers(b"dQ==", b"cA=="), Answers(b"cA==")

    assert Credentials("u", "p") == await login(None, both) == await login(b"dQ==", one)
    assert [b"VXNlcm5hbWU6", b"UGFzc3dvcmQ6"] == both.challenges


@pytest.mark.parametrize("answers", [(b"*",), (b"dQ==", b"*")])
async def test_login_is_cancelled_by_a_star(answers: tuple[bytes, ...]) -> None:
    """`*` ends the exchange at every challenge (RFC 4954 §4)."""
    with pytest.raises(AuthCancelled):
        await login(None, Answers(*answers))


@pytest.mark.parametrize(("argument", "response"), [("", None), ("=", b""), ("YQ==", b"YQ==")])
def test_initial_response_equals_sign_is_empty(argument: str, response: bytes | None) -> None:
    """No initial response and an empty one differ (S-11)."""
    assert response == initial_response(argument)


def test_credentials_do_not_print_the_password() -> None:
    """A password cannot reach a log by way of repr."""
    assert "hunter2" not in repr(Credentials("u", "hunter2"))
