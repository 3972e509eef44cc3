"""Faults at every step behind the relay: no content in clear, no 250 without delivery, the right class."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay import app, config
from tests import clients
from tests.clients import Outcome
from tests.fakes import FakeNextHop, Fault, HopStep
from tests.integration.conftest import Dialogue, Site, make_site
from tests.network import HOST, Authority

MARKER = b"kX7pQv2mZt9LrB4sWc8N"
NAMED, BCC = "curve25519@example.com", "p256@example.com"
CONTENT = f"From: a@example.com\r\nTo: {NAMED}\r\nSubject: x\r\n\r\n".encode() + MARKER + b"\r\n"
LOGIN = ("alice@example.com", "right")


@pytest.fixture
async def hop(authority: Authority) -> AsyncIterator[FakeNextHop]:
    """A next hop with TLS and one login."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    async with FakeNextHop(tls="implicit", context=context, logins=dict([LOGIN])) as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, authority: Authority, hop: FakeNextHop) -> AsyncIterator[Site]:
    """A relay in this process whose logins are those of the next hop."""

    def change(text: str) -> str:
        before, _, rest = text.partition("auth: ")
        text = before + "auth: {type: next-hop}\n" + rest.partition("\n")[2]
        return text.replace("next_hop: {", "next_hop: {connections_per_message: 3, ")

    def configure() -> tuple[Site, config.Config]:
        place = f"{HOST}:{hop.port}"
        found = make_site(tmp_path, authority, place, next_hop_tls="implicit", change=change)
        found.relay.path.write_text(found.relay.config)
        return found, config.load(found.relay.path, os.environ)

    found, loaded = await asyncio.to_thread(configure)
    async with app.running(loaded):
        yield found


async def _submit(site: Site, *recipients: str, login: tuple[str, str] = LOGIN) -> Outcome:
    return await asyncio.to_thread(
        site.submit, CONTENT, *recipients, sender="a@example.com", login=login, tls=clients.Tls.IMPLICIT
    )


FAULTS: list[tuple[str, HopStep, int]] = [
    # What judges this message keeps its class; what does not is tried again once, or 451.
    ("MAIL", b"450 4.7.1 greylisted\r\n", 450),
    ("MAIL", b"550 5.7.1 no\r\n", 550),
    ("MAIL", b"530 5.7.0 log in\r\n", 250),  # on a new connection
    ("MAIL", b"421 4.3.2 going down\r\n", 250),
    ("RCPT", b"450 4.2.1 busy\r\n", 450),
    ("RCPT", b"550 5.1.1 unknown\r\n", 550),
    ("RCPT", Fault.DROP, 250),
    ("DATA", b"554 5.7.1 no\r\n", 554),
    ("DATA", b"451 4.3.0 later\r\n", 451),
    ("DATA", b"503 5.5.1 what\r\n", 451),
    ("CONTENT", Fault.DROP, 451),
    ("DOT", b"554 5.7.1 spam\r\n", 554),
    ("DOT", b"452 4.3.1 full\r\n", 452),
    ("DOT", b"421 4.3.2 going down\r\n", 451),
    ("DOT", Fault.DROP, 451),
    ("DOT", b"garbage\r\n", 451),
]


@pytest.mark.parametrize("several", [False, True], ids=["one-copy", "bcc-too"])
@pytest.mark.parametrize("fault", FAULTS)
async def test_fault_of_the_next_hop_has_the_right_class_and_leaks_nothing(
    fault: tuple[str, HopStep, int], several: bool, site: Site, hop: FakeNextHop
) -> None:
    """Each command fails once in each way: the client hears it, and only ciphertext was ever sent."""
    verb, step, code = fault
    hop.on(verb, step)

    outcome = await _submit(site, NAMED, *([BCC] if several else []))

    assert MARKER not in hop.received
    replies = [answer.code for command, answer in outcome.answers if command[:4] in ("MAIL", "RCPT", ".")]
    assert code in replies or (several and verb == "DATA" and code == 451)
    delivered = [recipient for mail in hop.mails for recipient in mail.rcpts]
    accepted = [answer.code for answer in outcome.to("RCPT")].count(250) if outcome.is_accepted else 0
    assert accepted == len(delivered) or not outcome.is_accepted


@pytest.mark.parametrize(
    ("verb", "step", "code"),
    [
        ("CONNECT", b"554 5.3.2 no\r\n", 454),
        ("CONNECT", Fault.DROP, 454),
        ("EHLO", b"421 4.3.2 busy\r\n", 454),
        ("EHLO", Fault.DROP, 454),
        ("AUTH", b"454 4.7.0 later\r\n", 454),
        ("AUTH", Fault.DROP, 454),
        ("AUTH", b"535 5.7.8 no\r\n", 535),
    ],
)
async def test_fault_during_login_is_not_a_wrong_password(
    verb: str, step: HopStep, code: int, site: Site, hop: FakeNextHop
) -> None:
    """Only a judgement of this login is 535; a next hop that cannot be asked is 454 (RFC 4954 §6)."""
    hop.on(verb, *[step] * 3)

    outcome = await _submit(site, NAMED)

    assert code == outcome.final.code
    assert not hop.received


async def test_wrong_passwords_are_not_all_passed_on(site: Site, hop: FakeNextHop) -> None:
    """After three failures the relay itself answers 454, before the next hop bans its address."""
    codes = [(await _submit(site, NAMED, login=(LOGIN[0], f"wrong {n}"))).final.code for n in range(6)]

    assert [535, 535, 535, 454, 454, 454] == codes
    assert 3 == hop.verbs().count("AUTH")


async def test_connection_that_died_during_the_upload_is_made_again(site: Site, hop: FakeNextHop) -> None:
    """Postfix hangs up after 300 s: the relay connects, logs in and has its recipients accepted again."""

    client = await asyncio.to_thread(Dialogue, site)
    await asyncio.to_thread(client.to_data, NAMED, LOGIN)
    await hop.hang_up()

    client.socket.sendall(CONTENT + b".\r\n")
    reply = await asyncio.to_thread(client.reply)

    await asyncio.to_thread(client.vanish)
    assert reply.startswith("250")
    assert ["AUTH", "MAIL", "RCPT", "DATA"] == [v for v in hop.verbs() if v not in ("EHLO", "QUIT")][-4:]
    assert 1 == len(hop.mails)


async def test_copies_for_bcc_use_as_many_connections_as_configured(site: Site, hop: FakeNextHop) -> None:
    """With the client's own login on each of them; every copy arrives once."""
    hidden = ["p256@example.com", "rsa3072@example.com", "rsa2048@example.com", "two-subkeys@example.com"]

    outcome = await _submit(site, NAMED, *hidden)

    assert outcome.is_accepted
    assert sorted([NAMED, *hidden]) == sorted(mail.rcpts[0].decode().strip("<>") for mail in hop.mails)
    assert {LOGIN[0]} == {mail.login for mail in hop.mails}
    assert 1 < hop.most <= 3
