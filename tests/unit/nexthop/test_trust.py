"""One verifying TLS context for all connections, made again when the CA file changes."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from relay.nexthop.replies import HopFailure
from relay.nexthop.trust import Trust, client_context
from tests.fakes import ListJournal
from tests.unit.nexthop.conftest import server_context


async def test_context_unchanged_file_is_shared(ca_file: Path, journal: ListJournal) -> None:
    """Loading the CA store costs 22 ms: it happens once."""
    trust = Trust(ca_file, journal)

    assert await trust.context() is await trust.context()


async def test_context_of_system_store_is_shared(journal: ListJournal) -> None:
    """Without a CA file as well."""
    trust = Trust(None, journal)

    assert await trust.context() is await trust.context()


async def test_context_changed_file_is_read_again(tmp_path: Path, journal: ListJournal) -> None:
    """A renewed CA is believed, and the old one is not any more, without a restart."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    trust = Trust(path, journal)
    before = await trust.context()
    trustme.CA(organization_name="another").cert_pem.write_to_path(path)

    assert (await trust.context()).get_ca_certs() != before.get_ca_certs()


async def test_context_broken_file_keeps_the_old_one_and_says_so(
    tmp_path: Path, journal: ListJournal
) -> None:
    """A half-written file stops no mail."""
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    trust = Trust(path, journal)
    before = await trust.context()
    path.write_text("half")

    assert await trust.context() is before
    assert journal.names() == ["nexthop_ca_file_unreadable"]


@pytest.mark.parametrize("content", [None, "", "no certificate"])
async def test_context_never_readable_file_raises(
    tmp_path: Path, journal: ListJournal, content: str | None
) -> None:
    """A missing CA file is never answered with the system's store or with no verification."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    with pytest.raises(HopFailure):
        await Trust(path, journal).context()


@pytest.mark.parametrize(
    ("certified", "name", "expected"),
    [
        ("mail.example.test", "mail.example.test", True),
        ("MAIL.example.test", "mail.EXAMPLE.test", True),
        ("*.example.test", "mail.example.test", True),
        ("*.example.test", "a.mail.example.test", False),
        ("*.example.test", "example.test", False),
        ("*.test", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("::1", "::1", True),
    ],
)
def test_client_context_name_must_be_in_the_certificate(
    authority: trustme.CA, ca_file: Path, certified: str, name: str, expected: bool
) -> None:
    """A wildcard stands for one whole label (RFC 9525 §6.3); addresses match as addresses."""
    assert shakes_hands(authority.issue_cert(certified), client_context(ca_file), name) is expected


def shakes_hands(cert: trustme.LeafCert, context: ssl.SSLContext, name: str) -> bool:
    """A TLS handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_context(cert).wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True


def test_client_context_verifies_chain_and_name_with_tls_12() -> None:
    """Nothing is left to defaults that could change."""
    context = client_context(None)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not context.hostname_checks_common_name
