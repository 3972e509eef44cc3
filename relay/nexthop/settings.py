"""What the next hop needs to know: where it is, how it is protected, who logs in, and every time-out.

Values only; they are checked here as far as they can be checked without a network.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Tls(StrEnum):
    """How the connection is protected. There is no opportunistic mode: it can be stripped (RFC 3207 §6)."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"
    """Required: a next hop that does not offer STARTTLS gets no mail."""
    NONE = "none"
    """For loopback addresses only."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Every time-out of the next hop, in seconds.

    RFC 5321 §4.5.3.2 gives minimums for a queue that nobody waits for. Here a client waits and wants a reply
    within two minutes (RFC 6409 §5.3), so the first three stay below that together; what follows the content
    keeps the RFC's values, because giving up there risks a second delivery (RFC 1047).
    """

    slot_seconds: float = 20.0
    """Waiting for one of the `max_connections`."""
    open_seconds: float = 45.0
    """Connect, greeting, TLS, EHLO and AUTH together."""
    command_seconds: float = 50.0
    """Each reply to MAIL, RCPT, RSET."""
    data_seconds: float = 120.0
    """From DATA to its 354."""
    block_seconds: float = 180.0
    """Progress: each 64 KiB block of content must be taken within this time."""
    final_seconds: float = 600.0
    """From the final dot to the reply; it starts after the upload, however long that took."""


@dataclass(frozen=True, slots=True)
class NextHopSettings:
    """Where mail goes and how. Raises ValueError for what can never work."""

    host: str
    """Name or address; the certificate must carry it."""
    port: int
    hostname: str
    """The relay's own name, for EHLO."""
    tls: Tls = Tls.IMPLICIT
    ca_file: Path | None = None
    """PEM file of the trusted CAs; None: those of the system."""
    username: str | None = None
    """The relay's own login; None: no login."""
    password: str | None = field(default=None, repr=False)
    client_login: bool = False
    """`auth: next-hop`: every session must log in as its client before it sends."""
    connections_per_message: int = 1
    """How many transactions of one message may run at once; the caller of `start` keeps to it."""
    max_connections: int = 40
    """All connections together. Postfix takes 50 from one address (smtpd_client_connection_count_limit)."""
    idle_seconds: float = 120.0
    """An idle connection that is older is not used again; Postfix closes it after 300 s."""
    messages_per_connection: int = 100
    """Then a new connection is made, so that a next hop behind a load balancer is balanced."""
    timeouts: Timeouts = field(default_factory=Timeouts)

    def __post_init__(self) -> None:
        if self.tls is Tls.NONE and not may_be_loopback(self.host):
            raise ValueError("tls: none is for loopback addresses only")
        if not self.hostname.isascii() or not self.hostname or any(char <= " " for char in self.hostname):
            raise ValueError("hostname must be a domain in ASCII (A-labels)")
        if self.client_login and self.username is not None:
            raise ValueError("either the client's login or the relay's own, not both")
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        if any(
            value is not None and (not value or "\0" in value) for value in (self.username, self.password)
        ):
            raise ValueError("username and password may not be empty or hold NUL")


def may_be_loopback(host: str) -> bool:
    """Whether this names loopback; a name is looked at again when it has become an address."""
    return host == "localhost" or is_loopback(host)


def is_loopback(address: str) -> bool:
    """Whether this is an IP address of this machine's loopback network."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
