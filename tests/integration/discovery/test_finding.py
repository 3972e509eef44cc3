"""Keys that find themselves: the first mail to a stranger is encrypted, whatever place their key is in."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Site, entity
from tests.integration.discovery import world as worlds
from tests.integration.discovery.people import letter
from tests.integration.discovery.world import World
from tests.postfix import Postfix

pytestmark = pytest.mark.system


@pytest.mark.parametrize("domain", [worlds.WKD, worlds.DANE, worlds.VKS, worlds.LDAP])
def test_first_mail_to_a_stranger_is_encrypted(domain: str, world: World, site: Site, inbox: Postfix) -> None:
    """Nobody prepared anything: the key is found, and only its owner reads the message."""
    recipient = world.found[domain]
    content = letter(recipient.address)

    outcome = site.submit(content, recipient.address)

    assert outcome.is_accepted, outcome
    (delivered,) = inbox.wait_for(1)
    assert entity(content) == recipient.reads(delivered.content)
