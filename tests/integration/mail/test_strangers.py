"""Messages that others collected, many of them broken, arrive unchanged or are refused."""

from __future__ import annotations

import pytest

from relay.errors import LoopDetected, MessageRefused, RelayError
from tests import corpus
from tests.integration.mail.journeys import send

pytestmark = pytest.mark.system

REFUSALS = (MessageRefused, LoopDetected)
REFUSED = {
    *("basic-plain-with-bad-header-separator", "hdr-fakeout", "jt-0498", "mp-msg-rfc822", "multi-bad"),
    *("malformedHeader-nocrlfcrlf", "malformedHeader-noheader", "malformedHeaderStartsBody-nocrlfcrlf"),
    *("malformedHeaderStartsBody-noheader", "obsolete", "twopart", "uu-junk"),
}
"""A line of their header is no field (`From ` of a mailbox file, a blank, a text), or one stands twice."""


def test_messages_of_others_arrive_or_are_refused() -> None:
    """Each arrives byte for byte, or is refused as a message that could be read in two ways."""
    outcomes = {name: _outcome(content) for name, content in corpus.strangers()}
    expected = {name: "refused" if name in REFUSED else "arrived" for name in outcomes}

    assert expected == outcomes


def _outcome(content: bytes) -> str:
    try:
        copy = send(content)
    except REFUSALS:
        return "refused"
    except RelayError as refusal:
        return f"refused with {type(refusal).__name__}"
    return "arrived" if copy.child.endswith(corpus.entity(content)) else "changed"
