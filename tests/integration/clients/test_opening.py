"""What readers see of a message whose header is protected: one suite that every mail client passes.

A picture of every opened message is kept in `build/artefacts/clients`.
"""

from __future__ import annotations

import pytest

from tests.integration.clients import letters
from tests.integration.clients.letters import Letter
from tests.mailbox import MailClient, Shown
from tests.postfix import Delivered

pytestmark = [pytest.mark.system, pytest.mark.slow]

CLIENTS = ("neomutt", "thunderbird", "notmuch")

SIGNATURES = {
    ("neomutt", "signed"): "Good",
    ("neomutt", "signed with header"): "Good",
    # Thunderbird looks for a signature at the root alone; for one within it shows a hint.
    ("thunderbird", "signed"): "nested",
    ("thunderbird", "signed with header"): "verified",
    ("notmuch", "signed"): "good",
    ("notmuch", "signed with header"): "good",
}
"""What clients say of the author's signature, each in its own words."""

UNLISTED = {("notmuch", "signed with header")}
"""Shown where the message is opened; the list has the outer Subject."""


@pytest.fixture(scope="session", params=CLIENTS)
def name(request: pytest.FixtureRequest) -> str:
    """Each mail client in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def client(name: str, request: pytest.FixtureRequest) -> MailClient:
    found: MailClient = request.getfixturevalue(f"opened_by_{name}")
    return found


@pytest.mark.parametrize("letter", letters.LETTERS, ids=lambda letter: letter.name)
def test_client_shows_what_was_written(client: MailClient, letter: Letter) -> None:
    """Subject, text and names of attachments are those that the author wrote, in the list of messages too."""
    expected = Shown(letter.subject, letter.subject, letter.text, letter.attachments)

    assert expected == client.open(letter.message_id, expected)


@pytest.mark.parametrize("signed", ["signed", "signed with header"])
def test_client_shows_what_was_signed(
    name: str, client: MailClient, signed: str, sent: tuple[Letter, ...]
) -> None:
    """The protected Subject is shown beside a signature of the author, which is still the author's."""
    [letter] = [letter for letter in sent if letter.name == signed]
    listed = "[...]" if (name, signed) in UNLISTED else letter.subject
    expected = Shown(letter.subject, listed, letter.text, signature=SIGNATURES[name, signed])

    assert expected == client.open(letter.message_id, expected)


def test_subjects_are_not_seen_on_the_way(arrived: list[Delivered], sent: tuple[Letter, ...]) -> None:
    """Before it is opened, each of these messages says no more than that there is a Subject."""
    outside = [message.content.partition(b"\r\n\r\n")[0] for message in arrived]

    assert [1] * len(sent) == [header.count(b"\r\nSubject: [...]\r\n") for header in outside]
