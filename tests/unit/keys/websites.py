"""Web servers of strangers for the tests of `web` and `wkd`: a real nginx behind a real knot, on loopback."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from relay.keys.names import Names
from relay.keys.networks import IPNetwork
from relay.keys.web import WebClient, tls_context
from tests import nameserver, nginx
from tests.fakes import FixedClock
from tests.network import Authority, make_authority

LOOPBACK: tuple[IPNetwork, ...] = (IPv4Network("127.0.0.0/8"),)


@dataclass(frozen=True, slots=True)
class Sites:
    """The servers, and clients for them."""

    web: nginx.Web
    resolver: str
    authority: Authority

    def client(
        self, *, allow_networks: tuple[IPNetwork, ...] = LOOPBACK, timeout_seconds: float = 20
    ) -> WebClient:
        """A client that believes the tests' CA and asks the tests' name server."""
        return client(self.authority, self.resolver, self.web.port, allow_networks, timeout_seconds)


def client(
    authority: Authority,
    resolver: str,
    port: int,
    allow_networks: tuple[IPNetwork, ...] = LOOPBACK,
    timeout_seconds: float = 20,
) -> WebClient:
    """A client for a server at any port."""
    return WebClient(
        Names(resolver),
        tls_context(authority.ca_file),
        FixedClock(),
        allow_networks=allow_networks,
        port=port,
        timeout_seconds=timeout_seconds,
    )


@contextmanager
def serving(
    folder: Path, records: str, hosts: tuple[str, ...], behaviours: Mapping[str, str]
) -> Iterator[Sites]:
    """Starts both servers.

    Args:
        records: of the zone `test.`.
        hosts: names for the servers' certificate.
        behaviours: nginx directives by host.
    """
    for name in ("ca", "knot", "nginx"):
        (folder / name).mkdir()
    authority = make_authority(folder / "ca", *hosts)
    with (
        nameserver.running(folder / "knot", records) as resolver,
        nginx.running(folder / "nginx", authority, behaviours) as web,
    ):
        yield Sites(web, resolver, authority)
