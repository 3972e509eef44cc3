"""The choices and numbers that the edge works with, apart from where they are configured."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Tls(StrEnum):
    """When a listener's connections are encrypted."""

    IMPLICIT = "implicit"
    """From the first octet (RFC 8314 §3.3)."""
    STARTTLS = "starttls"
    """After STARTTLS, before which nothing else is answered (RFC 3207 §4)."""
    NONE = "none"
    """Never: for loopback and unix sockets."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one listener listens and what it demands."""

    host: str = ""
    port: int = 0
    path: str = ""
    """Of a unix socket; takes the place of host and port."""
    tls: Tls = Tls.IMPLICIT
    auth: bool = True
    """Whether MAIL needs a login."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, and all of them, may use."""

    message_bytes: int = 52_428_800
    recipients: int = 100
    """Per message; RFC 5321 §4.5.3.1.8 asks for 100 at least."""
    connections: int = 1000
    connections_per_client: int = 50
    """Per IPv4 address or IPv6 /64; unix sockets have one peer and are not counted."""
    errors: int = 20
    """Broken protocol rules on one connection, since the last accepted message, before 421."""


@dataclass(frozen=True, slots=True)
class Timers:
    """How long the edge waits for a client, in seconds. Its own work is never timed here."""

    command_seconds: float = 300.0
    """For a whole command line (RFC 5321 §4.5.3.2.7)."""
    block_seconds: float = 180.0
    """For the next octets of DATA (RFC 5321 §4.5.3.2.5); any progress starts it again."""
    challenge_seconds: float = 120.0
    """For the answer to an AUTH challenge."""
    reply_seconds: float = 120.0
    """For a client that does not read its replies."""
    handshake_seconds: float = 30.0
    close_seconds: float = 5.0
    """Between closing a connection and cutting it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every listener."""

    hostname: str
    limits: Limits = field(default_factory=Limits)
    timers: Timers = field(default_factory=Timers)
