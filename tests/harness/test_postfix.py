"""The harness itself: a real Postfix gives back what real clients sent it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests import postfix
from tests.clients import Outcome, Tls, submit, swaks
from tests.network import Authority
from tests.postfix import LOGINS, Postfix

pytestmark = pytest.mark.system

Client = Callable[..., Outcome]
ODD = (
    b"From: a@example.test\r\nsubject:no space\r\nReferences: " + b"<x@y> " * 120 + b"\r\n"
    b"X-8bit: \xc3\xa4\r\n\r\n.\r\n..two\r\n \t trailing \r\n\xff\xfe latin\r\n"
    + b"l" * 5000
    + b"\r\n\r\n\r\nend\r\n"
)


@pytest.fixture(scope="module")
def hop(authority: Authority) -> Iterator[Postfix]:
    with postfix.running(authority, login=True, message_size_limit=50_000) as running:
        yield running


@pytest.fixture(autouse=True)
def _empty(hop: Postfix) -> None:
    hop.clear()


@pytest.mark.parametrize("client", [submit, swaks])
@pytest.mark.parametrize("tls", [Tls.NONE, Tls.STARTTLS, Tls.IMPLICIT])
def test_postfix_odd_content_comes_back_unchanged(hop: Postfix, client: Client, tls: Tls) -> None:
    """On every port, with every client, `Delivered.content` is what was sent, octet by octet."""
    user = "alice@example.test"
    port = {Tls.NONE: hop.plain_port, Tls.STARTTLS: hop.starttls_port, Tls.IMPLICIT: hop.tls_port}[tls]
    login = None if tls is Tls.NONE else (user, LOGINS[user])

    outcome = client(
        port,
        ODD,
        sender=user,
        recipients=["Bob@Any.example", "carol@other.example"],
        tls=tls,
        ca_file=hop.authority.ca_file,
        login=login,
    )

    assert outcome.is_accepted, outcome
    arrived = hop.wait_for(2)
    assert [ODD, ODD] == [mail.content for mail in arrived]
    assert {("alice@example.test", "Bob@Any.example"), ("alice@example.test", "carol@other.example")} == {
        (mail.sender, mail.recipient) for mail in arrived
    }


@pytest.mark.parametrize("client", [submit, swaks])
def test_postfix_refused_recipient_is_reported(hop: Postfix, client: Client) -> None:
    """The reject table answers per recipient, and the others still get the message."""
    outcome = client(
        hop.plain_port, ODD, sender="", recipients=["reject@a.example", "ok@a.example", "defer@b.example"]
    )

    assert [(550, "5.1.1"), (250, "2.1.5"), (450, "4.2.1")] == [
        (answer.code, answer.status) for answer in outcome.to("rcpt")
    ]
    assert [("", "ok@a.example")] == [(mail.sender, mail.recipient) for mail in hop.wait_for(1)]


@pytest.mark.parametrize("client", [submit, swaks])
def test_postfix_wrong_password_is_refused(hop: Postfix, client: Client) -> None:
    """Dovecot judges the login; a wrong one is 535 and ends the submission."""
    outcome = client(
        hop.tls_port,
        ODD,
        sender="bob@example.test",
        recipients=["ok@a.example"],
        tls=Tls.IMPLICIT,
        ca_file=hop.authority.ca_file,
        login=("bob@example.test", "wrong"),
    )

    assert (535, "5.7.8") == (outcome.final.code, outcome.final.status)
    assert not outcome.is_accepted


def test_postfix_without_login_refuses_on_tls_ports(hop: Postfix) -> None:
    """A login is needed where `login` was asked for: loopback alone opens nothing."""
    outcome = submit(
        hop.tls_port,
        ODD,
        sender="a@b.example",
        recipients=["ok@a.example"],
        tls=Tls.IMPLICIT,
        ca_file=hop.authority.ca_file,
    )

    assert [554] == [answer.code for answer in outcome.to("rcpt")]


def test_postfix_size_limit_is_enforced(hop: Postfix) -> None:
    """A message over the limit is refused with 552."""
    outcome = submit(
        hop.plain_port, b"X: y\r\n\r\n" + b"a" * 60_000, sender="a@b.example", recipients=["ok@a.example"]
    )

    assert (552, "5.3.4") == (outcome.final.code, outcome.final.status)


def test_postfix_bare_newline_is_refused(hop: Postfix) -> None:
    """Bare LF does not get in, so that turning LF into CRLF when reading loses nothing."""
    outcome = swaks(
        hop.plain_port, b"X: y\r\n\r\nbare\nnewline\r\n", sender="a@b.example", recipients=["ok@a.example"]
    )

    assert not outcome.is_accepted
