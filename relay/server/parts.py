"""What the sessions work with."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from relay.seams import Journal
from relay.server.limits import Connections, Logins
from relay.server.line import Budget, Line
from relay.server.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """The surroundings of a session. `connections` and `logins` outlive a reload, the rest may change."""

    settings: Settings
    line: Line
    budget: Budget
    journal: Journal
    connections: Connections
    logins: Logins
    context: Callable[[], ssl.SSLContext] | None = None
    """The TLS context for a new connection; None where no listener has TLS."""
