"""Every situation under both policies that encrypt: the reply, what arrives, and the explanation.

The messages of all cells are sent once, side by side, and a message that is accepted behind them: when it has
arrived and Postfix has nothing left, nothing else will come.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import ChainMap
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from relay.message import LookupResult
from tests import keys
from tests.clients import Answer
from tests.integration.conftest import Site, entity
from tests.integration.discovery.observing import everything, explained, replies, reply
from tests.integration.discovery.people import letter
from tests.integration.discovery.situations import (
    NONE,
    SITUATIONS,
    UNAVAILABLE,
    UNUSABLE,
    USABLE,
    Situation,
    Stage,
)
from tests.integration.discovery.world import Settings
from tests.postfix import Postfix

pytestmark = pytest.mark.system

ALWAYS, WHEN_POSSIBLE = POLICIES = ("always", "when-possible")

_LOOKUP_SECONDS = 3
"""Two situations last as long."""

_CONNECTIONS = 4

_LAST = "rsa2048"
"""The fixture whose key is in the folder; the message behind all others is for it."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One cell."""

    reply: tuple[int, str, str]
    """Code, enhanced status and how the text begins."""
    arrives: str
    outcome: str
    """How the outcome begins in the explanation."""


_ENCRYPTED = Expected((250, "2.0.0", "Message accepted"), "for its owner", "encrypted to ")
_RELEASED = Expected(
    (250, "2.0.0", "Message accepted"), "in clear", "sent in clear, because no source has a key"
)
_REFUSED = Expected(
    (550, "5.7.1", "No encryption key is known for <{address}> and {rule} demands one"),
    "nothing",
    "refused; nothing is sent",
)
_CANNOT_BE_USED = Expected(
    (550, "5.7.1", "The encryption key of <{address}> cannot be used: {why}"),
    "nothing",
    "refused; nothing is sent",
)
_CANNOT_TELL = Expected(
    (451, "4.7.5", "The encryption key of <{address}> cannot be looked up now (source {source}); try again"),
    "nothing",
    "not accepted now",
)

CELLS: Mapping[LookupResult, Mapping[str, Expected]] = {
    USABLE: {ALWAYS: _ENCRYPTED, WHEN_POSSIBLE: _ENCRYPTED},
    NONE: {ALWAYS: _REFUSED, WHEN_POSSIBLE: _RELEASED},
    UNUSABLE: {ALWAYS: _CANNOT_BE_USED, WHEN_POSSIBLE: _CANNOT_BE_USED},
    UNAVAILABLE: {ALWAYS: _CANNOT_TELL, WHEN_POSSIBLE: _CANNOT_TELL},
}
"""What each of the four results means."""

each_policy = pytest.mark.parametrize("policy", POLICIES)
each_situation = pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.name)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one policy."""

    contents: Mapping[str, bytes]
    """What was sent, by recipient, as everything here."""
    replies: Mapping[str, Answer]
    arrived: Mapping[str, list[bytes]]
    """By recipient."""
    explanations: Mapping[str, str]
    """Of `relay explain`, by recipient."""


@pytest.fixture(scope="module")
def seen(stage: Stage, next_hop: Postfix, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Seen]:
    """Everything that happens, by policy."""
    found = {}
    for policy in POLICIES:
        next_hop.clear()
        with _relay(stage, policy, tmp_path_factory.mktemp(policy)) as site:
            found[policy] = _observe(site, next_hop)
    return found


@contextlib.contextmanager
def _relay(stage: Stage, policy: str, home: Path) -> Iterator[Site]:
    rules = [f"    {each.domain}: {{encrypt: {policy}, keys: [{each.source}]}}" for each in SITUATIONS]
    settings = Settings(
        policy="\n".join([*rules, "    example.com: {keys: [folder]}"]),
        limits=f"lookup_seconds: {_LOOKUP_SECONDS}s",
        keys=stage.sources,
        web_networks=stage.web_networks,
        validates_names=True,
    )
    site = stage.world.relay(home, settings)
    shutil.copy(keys.FOLDER / f"{_LAST}.pgp", home / "keys")
    with site.relay:
        yield site


def _observe(site: Site, next_hop: Postfix) -> Seen:
    contents = {each.address: letter(each.address) for each in SITUATIONS}
    answers = _answers(site, contents)
    assert 250 == reply(site, keys.fixture(_LAST).address.text).code
    arrived: dict[str, list[bytes]] = {}
    for message in everything(next_hop):
        arrived.setdefault(message.recipient, []).append(message.content)
    return Seen(contents, answers, arrived, explained(site.relay.path, *contents))


def _answers(site: Site, contents: Mapping[str, bytes]) -> dict[str, Answer]:
    """By recipient; on a few connections, so that the slow ones do not wait for each other."""
    names = list(contents)
    parts = [{to: contents[to] for to in names[start::_CONNECTIONS]} for start in range(_CONNECTIONS)]
    with ThreadPoolExecutor(_CONNECTIONS) as threads:
        return dict(ChainMap(*threads.map(lambda part: replies(site, part), parts)))


@each_policy
@each_situation
def test_reply_is_what_the_lookup_means(situation: Situation, policy: str, seen: Mapping[str, Seen]) -> None:
    """Code, status and text are those of the lookup's result, and name what failed."""
    code, status, beginning = CELLS[situation.result][policy].reply

    answer = seen[policy].replies[situation.address]

    assert (code, status) == (answer.code, answer.status)
    assert _filled(beginning, situation) in answer.text


@each_policy
@each_situation
def test_only_the_owner_or_nobody_can_read(
    situation: Situation, policy: str, seen: Mapping[str, Seen], stage: Stage
) -> None:
    """It arrives encrypted or not at all; in clear only where every source said that there is no key."""
    arrived = seen[policy].arrived.get(situation.address, [])

    assert CELLS[situation.result][policy].arrives == _way(situation, stage, seen[policy], arrived)


@each_policy
@each_situation
def test_explanation_says_why(situation: Situation, policy: str, seen: Mapping[str, Seen]) -> None:
    """`relay explain` names the rule, what the source said, and the outcome."""
    explanation = seen[policy].explanations[situation.address]

    assert f"rule {_rule(situation)} " in explanation
    assert f"encrypt {policy} " in explanation
    assert f"source {situation.source}: " in explanation
    assert situation.why in explanation
    assert f"outcome {CELLS[situation.result][policy].outcome}" in explanation


@each_policy
@each_situation
def test_explanation_ends_with_the_reply(situation: Situation, policy: str, seen: Mapping[str, Seen]) -> None:
    """What the client read, without the id; where the message was accepted there is none."""
    answer, explanation = (
        there[situation.address] for there in (seen[policy].replies, seen[policy].explanations)
    )

    _, _, shown = explanation.partition(" reply ")

    refusal = f"{answer.code} {answer.status} {answer.text.rpartition(' (')[0]}"
    assert (refusal if answer.code >= 400 else "") == shown


def test_clear_text_leaves_only_where_every_source_said_none(seen: Mapping[str, Seen]) -> None:
    """Over all cells: nothing but "none" under `when-possible` releases anything."""
    released = {
        (policy, recipient)
        for policy in POLICIES
        for recipient, messages in seen[policy].arrived.items()
        if any(b"Hello." in content for content in messages)
    }

    assert {(WHEN_POSSIBLE, each.address) for each in SITUATIONS if each.result is NONE} == released


def _rule(situation: Situation) -> str:
    return f'policy.domains["{situation.domain}"]'


def _filled(template: str, situation: Situation) -> str:
    return template.format(
        address=situation.address, rule=_rule(situation), why=situation.why, source=situation.source
    )


def _way(situation: Situation, stage: Stage, seen: Seen, arrived: list[bytes]) -> str:
    """How a message arrived. Raises if it cannot be read by whom it is for."""
    if not arrived:
        return "nothing"
    [content] = arrived
    sent = entity(seen.contents[situation.address])
    if entity(content) == sent:
        return "in clear"
    reader = stage.offers[situation.name].reader
    assert reader is not None
    return "for its owner" if reader.reads(content) == sent else "for somebody else"
