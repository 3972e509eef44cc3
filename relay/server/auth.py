"""AUTH PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), without I/O of its own.

User names and passwords are passed on as the client sent them: preparing them (SASLprep) is for whoever keeps
the passwords, and two preparations can disagree.
"""

from __future__ import annotations

import binascii
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from relay.errors import LoginRefused
from relay.server.refusals import AuthCancelled, BadCredentials

Ask = Callable[[bytes], Awaitable[bytes]]
"""Sends a challenge, already encoded, and returns the client's line."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the client says it is."""

    username: str
    password: str = field(repr=False)


async def plain(initial: bytes | None, ask: Ask) -> Credentials:
    """PLAIN: `authzid NUL authcid NUL password`.

    Raises:
        AuthCancelled, BadCredentials: the exchange failed.
        LoginRefused: it asks to act for somebody else, which nobody may (RFC 4616 §2).
    """
    message = _decode(await ask(b"") if initial is None else initial)
    fields = [_text(part) for part in message.split(b"\0")]
    if len(fields) != 3:
        raise BadCredentials("PLAIN message does not have three fields")
    authorization, username, password = fields
    if authorization not in ("", username):
        raise LoginRefused("authorization identity differs")
    return _credentials(username, password)


async def login(initial: bytes | None, ask: Ask) -> Credentials:
    """LOGIN: user name and password, each after a challenge. Raises as `plain`."""
    first = await ask(b64encode(b"Username:")) if initial is None else initial
    username = _text(_decode(first))
    password = _text(_decode(await ask(b64encode(b"Password:"))))
    return _credentials(username, password)


MECHANISMS: dict[str, Callable[[bytes | None, Ask], Awaitable[Credentials]]] = {
    "PLAIN": plain,
    "LOGIN": login,
}
"""What EHLO offers, in this order."""


def initial_response(argument: str) -> bytes | None:
    """The initial response of an AUTH command: None without one; `=` is an empty one (RFC 4954 §4)."""
    return b"" if argument == "=" else argument.encode() or None


def _decode(line: bytes) -> bytes:
    if line == b"*":
        raise AuthCancelled
    try:
        return binascii.a2b_base64(line, strict_mode=True)
    except binascii.Error as exc:
        raise BadCredentials("not base64") from exc


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as exc:
        raise BadCredentials("not UTF-8") from exc


def _credentials(username: str, password: str) -> Credentials:
    """Refuses what no server may be asked: an empty password is an anonymous bind to some directories."""
    if not username or not password or not username.isprintable() or any(c in password for c in "\r\n\0"):
        raise LoginRefused("empty or unprintable")
    return Credentials(username, password)
