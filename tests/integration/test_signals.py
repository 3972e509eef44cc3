"""Signals and vanishing clients: the running relay drains, reloads, and keeps its promises meanwhile."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import SENDER, Dialogue, Site, make_site
from tests.network import HOST, Authority
from tests.postfix import Postfix

pytestmark = pytest.mark.system

RECIPIENT = "curve25519@example.com"
HEADER = f"From: {SENDER}\r\nTo: {RECIPIENT}\r\nSubject: x\r\n"
IDENTIFIED = "Message-ID: <1@example.com>\r\nDate: Mon, 01 Jun 2026 12:00:00 +0000\r\n"
CONTENT = f"{HEADER}{IDENTIFIED}Content-Type: text/plain\r\n\r\nhello\r\n".encode()


@pytest.fixture
def site(tmp_path: Path, authority: Authority, inbox: Postfix) -> Iterator[Site]:
    found = make_site(tmp_path, authority, f"{HOST}:{inbox.plain_port}", next_hop_tls="none")
    with found.relay:
        yield found


@pytest.fixture
def client(site: Site) -> Iterator[Dialogue]:
    """A client that is connected to the relay."""
    dialogue = Dialogue(site)
    yield dialogue
    dialogue.vanish()


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# --------------------------------------------------------------------------- TERM


def test_term_tells_idle_clients_and_ends_with_zero(client: Dialogue, site: Site) -> None:
    """A client between commands hears 421 and the process ends by itself."""
    client.log_in()

    assert 0 == site.relay.stop()

    assert client.reply().startswith("421 4.3.2")


def test_term_lets_a_message_under_way_finish(client: Dialogue, site: Site, inbox: Postfix) -> None:
    """A message whose content is arriving is taken, answered and delivered before the relay ends."""
    client.to_data(RECIPIENT)
    client.socket.sendall(CONTENT[:40])
    site.relay.process.terminate()
    site.relay.wait_for("stopping")

    client.socket.sendall(CONTENT[40:] + b".\r\n")

    assert client.reply().startswith("250 2.0.0")
    assert 0 == site.relay.process.wait(30)
    assert 1 == len(inbox.wait_for(1))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_another_signal_during_the_drain_cuts_nothing_off(
    number: signal.Signals, client: Dialogue, site: Site, inbox: Postfix
) -> None:
    """An impatient supervisor, or a reload that comes too late, does not kill the message under way."""
    client.to_data(RECIPIENT)
    site.relay.process.terminate()
    site.relay.wait_for("stopping")
    site.relay.process.send_signal(number)
    time.sleep(0.2)  # for the signal to arrive: nothing that could be waited for follows it

    client.socket.sendall(CONTENT + b".\r\n")

    assert client.reply().startswith("250 2.0.0")
    assert 0 == site.relay.process.wait(30)
    assert 1 == len(inbox.wait_for(1))


# --------------------------------------------------------------------------- HUP


def test_hup_takes_a_new_policy_without_dropping_a_connection(
    client: Dialogue, site: Site, inbox: Postfix
) -> None:
    """The next transaction of an open connection follows the new rules."""
    client.log_in()
    assert client.say(f"MAIL FROM:<{SENDER}>").startswith("250")
    assert client.say("RCPT TO:<nokey@new.example>").startswith("550 5.7.1")

    config = site.relay.config.replace("clear.example:", "new.example: {encrypt: never}\n    clear.example:")
    site.relay.reload(config)
    site.relay.wait_for("reloaded")

    assert client.say("RSET").startswith("250")
    assert client.say(f"MAIL FROM:<{SENDER}>").startswith("250")
    assert client.say("RCPT TO:<nokey@new.example>").startswith("250")


def test_hup_refuses_a_bad_configuration_and_keeps_the_old_one(site: Site, inbox: Postfix) -> None:
    """A mistake in the new file is reported with its line, and mail goes on as before."""
    site.relay.reload(site.relay.config.replace("encrypt: always", "encrypt: off"))
    site.relay.wait_for("config_refused")

    outcome = site.submit(CONTENT, RECIPIENT)

    assert outcome.is_accepted
    (refused,) = site.relay.events("config_refused")
    assert "relay.yaml:" in str(refused["problem"])
    assert "always, when-possible or never" in str(refused["problem"])
    assert not site.relay.events("reloaded")


def test_key_that_appears_in_the_folder_is_used_without_a_signal(site: Site, inbox: Postfix) -> None:
    """Dropping a file into the folder is enough."""
    key = site.relay.home / "keys" / "curve25519.pgp"
    data = key.read_bytes()
    key.unlink()
    time.sleep(1.1)  # the folder is looked at once a second at most
    assert not site.submit(CONTENT, RECIPIENT).is_accepted

    key.write_bytes(data)
    time.sleep(1.1)

    assert site.submit(CONTENT, RECIPIENT).is_accepted


# --------------------------------------------------------------------------- vanishing clients (RFC 1047)


def test_client_that_vanishes_after_the_dot_gets_one_delivery(
    client: Dialogue, site: Site, inbox: Postfix
) -> None:
    """The message is delivered although nobody waits, and the retry is answered without a second copy."""
    client.to_data(RECIPIENT)
    client.socket.sendall(CONTENT + b".\r\n")
    client.vanish()
    _until(lambda: bool(site.relay.events("copy_delivered")), "nothing was delivered")

    retry = site.submit(CONTENT, RECIPIENT)

    assert retry.is_accepted
    assert 0 == site.relay.stop()
    inbox.wait_for(1)
    _until(inbox.is_idle, "Postfix still works")
    assert 1 == len(inbox.delivered())


def test_client_that_vanishes_before_the_dot_gets_no_delivery(
    client: Dialogue, site: Site, inbox: Postfix
) -> None:
    """Without the final dot there is no message."""
    client.to_data(RECIPIENT)
    client.socket.sendall(CONTENT)
    client.vanish()

    assert 0 == site.relay.stop()

    assert not inbox.delivered()
    assert not site.relay.events("copy_delivered")


def test_identical_mails_sent_on_purpose_all_arrive(site: Site, inbox: Postfix) -> None:
    """A client that read its 250 and sends the same bytes again means it."""
    assert all(site.submit(CONTENT, RECIPIENT).is_accepted for _ in range(2))

    assert 2 == len(inbox.wait_for(2))
