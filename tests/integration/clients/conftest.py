"""Mail clients of recipients behind the relay: each holds what arrived, and the reader's secret key."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clients, neomutt, notmuch, thunderbird
from tests.integration.clients import letters
from tests.integration.clients.letters import Letter
from tests.integration.conftest import make_site
from tests.mailbox import MailClient
from tests.network import Authority
from tests.postfix import Delivered, Postfix
from tests.programs import require


@pytest.fixture(scope="session")
def sent(recipients_home: Path) -> tuple[Letter, ...]:
    """All letters, the signed ones too."""
    return (
        *letters.LETTERS,
        letters.signed(recipients_home),
        letters.signed_with_header(recipients_home),
    )


@pytest.fixture(scope="session")
def arrived(
    sent: tuple[Letter, ...],
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    next_hop: Postfix,
) -> list[Delivered]:
    """What the running relay made of the letters that swaks submitted, as Postfix delivered it."""
    next_hop.clear()
    site = make_site(tmp_path_factory.mktemp("site"), authority, f"localhost:{next_hop.starttls_port}")
    with site.relay:
        for letter in sent:
            outcome = site.submit(
                letter.content, letters.READER_ADDRESS, client=clients.swaks, sender=letters.AUTHOR
            )
            assert outcome.is_accepted, outcome
        return next_hop.wait_for(len(sent))


@pytest.fixture(scope="session")
def maildrop(arrived: list[Delivered]) -> list[bytes]:
    return [message.content for message in arrived]


def _armored(gnupg: Path, export: str, name: str) -> str:
    command = [require("gpg"), "--homedir", str(gnupg), "--batch", "--armor", export, f"{name}@example.com"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def opened_by_thunderbird(
    maildrop: list[bytes], recipients_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MailClient]:
    secret = _armored(recipients_home, "--export-secret-keys", letters.READER)
    signer = _armored(recipients_home, "--export", letters.SIGNER)
    home = tmp_path_factory.mktemp("thunderbird")
    with thunderbird.running(home, maildrop, secret=secret, signers=[signer]) as client:
        yield client


@pytest.fixture(scope="session")
def opened_by_neomutt(
    maildrop: list[bytes], recipients_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> MailClient:
    return neomutt.make(tmp_path_factory.mktemp("neomutt"), maildrop, recipients_home)


@pytest.fixture(scope="session")
def opened_by_notmuch(
    maildrop: list[bytes], recipients_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> MailClient:
    return notmuch.make(tmp_path_factory.mktemp("notmuch"), maildrop, recipients_home, letters.READER_ADDRESS)
