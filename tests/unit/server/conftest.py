from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import trustme

from tests.unit.server.edge import Edge

MakeEdge = Callable[..., Edge]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_context(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    from relay.server.tls import load_context

    issued = authority.issue_cert("relay.example")
    folder = tmp_path_factory.mktemp("tls")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    for pem in issued.cert_chain_pems:
        pem.write_to_path(str(folder / "cert.pem"), append=True)
    return load_context(folder / "cert.pem", folder / "key.pem")


@pytest.fixture(scope="session")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def make_edge(
    server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> AsyncIterator[MakeEdge]:
    edges: list[Edge] = []

    def make(**changes: Any) -> Edge:
        edges.append(Edge(server_context, client_context, **changes))
        return edges[-1]

    yield make
    for edge in edges:
        await edge.stop()


@pytest.fixture
def edge(make_edge: MakeEdge) -> Edge:
    return make_edge()
