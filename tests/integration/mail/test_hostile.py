"""Messages that could be read in two ways, or that cannot be relayed, get the documented refusal."""

from __future__ import annotations

import pytest

from relay.errors import RelayError
from tests import corpus
from tests.integration.mail.journeys import outgoing

pytestmark = pytest.mark.system

HOSTILE = {name: (content, expected) for name, content, expected in corpus.hostile()}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_message_gets_the_documented_refusal(name: str) -> None:
    """The reply is the one of the `.expected` file beside the message, and nothing leaves."""
    content, expected = HOSTILE[name]

    with pytest.raises(RelayError) as refused:
        outgoing(content)

    reply = refused.value.reply()
    assert expected == f"{reply.code} {reply.code // 100}.{reply.status} {reply.text}"
