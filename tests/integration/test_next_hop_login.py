"""`auth: next-hop` against a real Postfix whose logins a real Dovecot checks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clients, postfix
from tests.integration.conftest import Site, entity, make_site, sequoia_decrypt
from tests.network import Authority
from tests.postfix import LOGINS, Postfix

pytestmark = pytest.mark.system

RECIPIENT = "curve25519@example.com"
(ALICE, ALICES_PASSWORD), (BOB, _) = LOGINS.items()
CONTENT = f"From: {ALICE}\r\nTo: {RECIPIENT}\r\nContent-Type: text/plain\r\n\r\nhello\r\n".encode()


@pytest.fixture(scope="module")
def mail_server(authority: Authority) -> Iterator[Postfix]:
    with postfix.running(authority, login=True) as running:
        yield running


@pytest.fixture(params=["implicit", "starttls"])
def site(
    request: pytest.FixtureRequest, tmp_path: Path, authority: Authority, mail_server: Postfix
) -> Iterator[Site]:
    port = mail_server.tls_port if request.param == "implicit" else mail_server.starttls_port

    def change(text: str) -> str:
        before, _, rest = text.partition("auth: ")
        return before + "auth: {type: next-hop}\n" + rest.partition("\n")[2]

    found = make_site(tmp_path, authority, f"localhost:{port}", next_hop_tls=request.param, change=change)
    mail_server.clear()
    with found.relay:
        yield found


@pytest.mark.parametrize("client", [clients.submit, clients.swaks])
def test_login_of_the_mail_server_sends_encrypted(client: object, site: Site, mail_server: Postfix) -> None:
    """The client's own login opens the next hop; what arrives there is ciphertext."""
    outcome = site.submit(CONTENT, RECIPIENT, client=client, sender=ALICE, login=(ALICE, ALICES_PASSWORD))

    assert outcome.is_accepted, outcome
    (delivered,) = mail_server.wait_for(1)
    assert entity(CONTENT) == sequoia_decrypt("curve25519", delivered.content)
    assert b"ESMTPSA" in delivered.received


def test_wrong_password_is_535_and_sends_nothing(site: Site, mail_server: Postfix) -> None:
    """The mail server's judgement of the login reaches the client."""
    outcome = site.submit(CONTENT, RECIPIENT, sender=ALICE, login=(BOB, "wrong"))

    assert (535, "5.7.8") == (outcome.final.code, outcome.final.status)
    assert not mail_server.delivered()
