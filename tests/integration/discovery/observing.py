"""What can be seen of a relay from outside: replies, everything that arrives, explanations."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.clients import Answer
from tests.integration.conftest import SENDER, Dialogue, Site
from tests.integration.discovery.people import letter
from tests.postfix import Delivered, Postfix

_PATIENCE_SECONDS = 20.0
_EXPLAIN_SECONDS = 60


def reply(site: Site, recipient: str, content: bytes | None = None) -> Answer:
    """The reply to a message: to its content, or to the recipient where that was refused."""
    return site.submit(content or letter(recipient), recipient).answers[-1][1]


def replies(site: Site, contents: Mapping[str, bytes]) -> dict[str, Answer]:
    """The replies to messages for one recipient each, on one connection."""
    client = Dialogue(site)
    client.log_in()
    found = {}
    for recipient, content in contents.items():
        client.say("RSET")
        client.say(f"MAIL FROM:<{SENDER}>")
        answer = client.say(f"RCPT TO:<{recipient}>")
        if answer.startswith("250"):
            client.say("DATA")
            answer = client.say(f"{content.decode()}.")
        code, status, text = answer.split(" ", 2)
        found[recipient] = Answer(int(code), text, status)
    client.vanish()
    return found


def reply_when(site: Site, recipient: str, code: int) -> Answer:
    """The reply that has this code at last, because what was kept is over; each message tries anew."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (answer := reply(site, recipient)).code != code:
        assert time.monotonic() < deadline, answer
    return answer


def everything(hop: Postfix) -> list[Delivered]:
    """All that the next hop was ever given. It has answered for each message, so its queue is complete."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not hop.is_idle():
        assert time.monotonic() < deadline, hop.log()
        time.sleep(0.02)
    return hop.delivered()


def explained(config: Path, *addresses: str) -> dict[str, str]:
    """What `relay explain` prints about each address, with single spaces."""
    command = [sys.executable, "-m", "relay", "explain", "--config", str(config), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_EXPLAIN_SECONDS, check=False)
    assert "" == done.stderr
    blocks = [" ".join(block.split()) for block in done.stdout.split("\nrecipient ")]
    return dict(zip(addresses, blocks, strict=True))
