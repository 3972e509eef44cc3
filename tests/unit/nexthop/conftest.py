"""What the tests of the next hop share: a small CA, settings for a fake hop, and the hop over it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from relay.message import Address, Client, Sealed
from relay.nexthop.hop import SmtpNextHop
from relay.nexthop.settings import NextHopSettings, Timeouts, Tls
from tests.fakes import FakeNextHop, FixedClock, ListJournal

ALICE = Address("alice@example.com", "alice", "example.com")
BOB = Address("bob@example.org", "bob", "example.org")
CAROL = Address("carol@example.org", "carol", "example.org")
JOSE = Address("josé@example.org", "josé", "example.org")
CLIENT = Client("c1", "192.0.2.7")

QUICK = Timeouts(
    slot_seconds=5, open_seconds=5, command_seconds=5, data_seconds=5, block_seconds=5, final_seconds=5
)
"""Long enough for a busy machine; a test that waits for one of them sets that one to a fraction."""


def sealed(
    *recipients: Address, body: bytes = b"body\r\n", header: bytes = b"Subject: ...\r\n", **more: Any
) -> Sealed:
    return Sealed(header, body, recipients or (BOB,), ("0123456789ABCDEF",), **more)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


def server_context(cert: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    cert.configure_cert(context)
    return context


@pytest.fixture(scope="session")
def good_context(authority: trustme.CA) -> ssl.SSLContext:
    return server_context(authority.issue_cert("127.0.0.1"))


@pytest.fixture
def journal() -> ListJournal:
    return ListJournal()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


def settings_for(fake: FakeNextHop, **more: Any) -> NextHopSettings:
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": fake.port,
        "hostname": "relay.test",
        "tls": Tls(fake.tls),
        "timeouts": QUICK,
    }
    return NextHopSettings(**(values | more))


HopMaker = Callable[..., SmtpNextHop]


@pytest.fixture
async def hop_for(journal: ListJournal, clock: FixedClock) -> AsyncIterator[HopMaker]:
    """Makes next hops over a fake and closes them afterwards."""
    made: list[SmtpNextHop] = []

    def make(fake: FakeNextHop, **more: Any) -> SmtpNextHop:
        made.append(SmtpNextHop(settings_for(fake, **more), journal, clock))
        return made[-1]

    yield make
    for hop in made:
        await hop.close()
