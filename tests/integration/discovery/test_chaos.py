"""Chaos: the sources of keys are killed and frozen at random while mail is sent, and nothing leaves in clear.

One storm, then one claim a test about everything that was answered and everything that arrived. A storm is
made from one number: `RELAY_CHAOS_SEED` repeats it, as far as threads and processes can be repeated.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.integration.conftest import entity
from tests.integration.discovery.storm import (
    STORES,
    Aftermath,
    Letter,
    Recipient,
    arrived,
    break_loose,
    calm,
    number_of,
    staged,
    warm_up,
)
from tests.integration.discovery.world import run_keys
from tests.network import Authority
from tests.postfix import Postfix

pytestmark = [pytest.mark.system, pytest.mark.slow]


@pytest.fixture(scope="module")
def aftermath(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, next_hop: Postfix
) -> Iterator[Aftermath]:
    """The storm, once; the relays still run."""
    seed = int(os.environ.get("RELAY_CHAOS_SEED", time.time_ns()))
    print(f"RELAY_CHAOS_SEED={seed}")
    next_hop.clear()
    with staged(seed, tmp_path_factory.mktemp("chaos"), authority, next_hop) as scene:
        warm_up(scene)
        break_loose(scene)
        calm(scene)
        yield Aftermath(scene, arrived(scene, next_hop))
    next_hop.clear()


@pytest.fixture(autouse=True)
def _circumstances(aftermath: Aftermath) -> None:
    """Stand in the report of a test that fails."""
    scene = aftermath.scene
    print(f"RELAY_CHAOS_SEED={scene.seed}")
    print(f"away: {dict(Counter(outage.server for outage in scene.outages))}")
    print(f"numbers: {_numbers(aftermath)}")
    print(f"logs: {[str(site.relay.log_path) for site in scene.office.relays.values()]}")


# --------------------------------------------------------------------------- claims


def test_the_storm_was_one(aftermath: Aftermath) -> None:
    """Much was accepted, much was deferred, and every server was away: otherwise nothing is proven."""
    numbers = _numbers(aftermath)
    least = {"accepted": 40, "deferred": 40, "released": 4, "kept back": 2}

    assert {} == {name: numbers[name] for name, number in least.items() if numbers[name] < number}
    servers = {each.name for group in aftermath.scene.groups for each in group}
    assert servers == {outage.server for outage in aftermath.scene.outages}


def _numbers(aftermath: Aftermath) -> dict[str, int]:
    return {
        "letters": len(aftermath.letters),
        "accepted": sum(sent.is_accepted for sent in aftermath.letters),
        "deferred": sum(sent.is_deferred for sent in aftermath.letters),
        "unknown": sum(sent.outcome is None for sent in aftermath.letters),
        "arrived": len(aftermath.arrived),
        "released": len(list(aftermath.released())),
        "kept back": len(_kept_back(aftermath)),
    }


def _kept_back(aftermath: Aftermath) -> list[Letter]:
    """What was not released while somebody was away."""
    keyless = aftermath.scene.cast.keyless
    return [
        sent
        for sent in aftermath.letters
        if keyless.address in sent.recipients and sent.is_deferred and aftermath.away(sent, keyless)
    ]


@pytest.fixture(scope="module")
def used(aftermath: Aftermath) -> dict[tuple[str, Recipient], set[str]]:
    """The fingerprints of the keys that read what arrived, by relay and recipient."""
    found: dict[tuple[str, Recipient], set[str]] = {}
    for sent, recipient, content in aftermath.sealed():
        found.setdefault((sent.relay, recipient), set()).add(_key_of(recipient, sent, content))
    return found


def _key_of(recipient: Recipient, sent: Letter, content: bytes) -> str:
    """The fingerprint of the key that reads exactly what was sent."""
    for key in recipient.keys:
        try:
            plaintext = key.reads(content)
        except RuntimeError:  # pysequoia's "No key to decrypt message"
            continue
        assert entity(sent.content) == plaintext
        return key.fingerprint
    raise AssertionError(f"nobody at {recipient.address} reads it")


def test_whoever_has_a_key_gets_no_clear_text(aftermath: Aftermath) -> None:
    """Nothing of what was written is to be seen in what arrived at somebody who ever had a key."""
    assert [] == [sent for sent, _, content in aftermath.sealed() if sent.marker in content]


def test_no_key_is_changed_silently(
    aftermath: Aftermath, used: dict[tuple[str, Recipient], set[str]]
) -> None:
    """All is encrypted to the key that was used first, and that is known where the others came later."""
    unsteady = aftermath.scene.cast.unsteady
    known = {place: {place[1].keys[0].fingerprint} for place in used if place[1] != unsteady}

    assert {1} == {len(keys) for keys in used.values()}
    assert known == {place: keys for place, keys in used.items() if place in known}


def test_each_250_is_delivered_once_and_each_refusal_never(aftermath: Aftermath) -> None:
    """What was answered is what happened; only what a dying relay did not answer may be either."""
    arrived = Counter((number_of(each.content), each.recipient) for each in aftermath.arrived)
    promised = Counter((sent.number, each) for sent in aftermath.letters for each in sent.reached)
    unknown = {
        (sent.number, each) for sent in aftermath.letters if not sent.outcome for each in sent.recipients
    }

    assert promised == Counter({place: count for place, count in arrived.items() if place not in unknown})
    assert {1} >= {arrived[place] for place in unknown & arrived.keys()}


def test_every_client_has_a_reply(aftermath: Aftermath) -> None:
    """No letter is left without one, however many sources are away; but for those of the relay that died."""
    assert {"lite"} >= {sent.relay for sent in aftermath.letters if sent.outcome is None}


def test_nobody_without_a_key_gets_mail_under_always(aftermath: Aftermath) -> None:
    """No outage makes a message without key acceptable where the rule demands one."""
    strict = aftermath.scene.cast.strict.address

    assert [] == [sent for sent in aftermath.letters if strict in sent.reached]
    assert not any(strict == each.recipient for each in aftermath.arrived)


def test_clear_text_leaves_only_when_nobody_was_away(aftermath: Aftermath) -> None:
    """Released is what every source of the rule said none to, and nothing beside somebody under `always`."""
    cast = aftermath.scene.cast
    for sent, recipient in aftermath.released():
        assert cast.keyless == recipient
        assert set() == aftermath.away(sent, recipient), sent
        assert {"when-possible"} == {cast.named(address).encrypt for address in sent.recipients}


def test_an_outage_is_no_refusal_for_good(aftermath: Aftermath) -> None:
    """Whose key is always in its source, or whose rule needs none, is accepted or deferred, never refused."""
    for recipient in (*aftermath.scene.cast.steady, aftermath.scene.cast.keyless):
        replies = [sent.to(recipient.address) for sent in aftermath.letters]
        assert {250, 451} >= {reply.code for reply in replies if reply}, recipient


def test_mail_flows_again(aftermath: Aftermath) -> None:
    """Once every source is back, so is the mail: each recipient has the reply that fits."""
    cast = aftermath.scene.cast
    expected = {each.address: 250 for each in (*cast.steady, cast.keyless)}
    expected |= {cast.swapped.address: 451, cast.removed.address: 550, cast.strict.address: 550}

    for (_, address), sent in aftermath.scene.calm.items():
        reply = sent.to(address)
        assert reply and expected[address] == reply.code, sent


@pytest.mark.parametrize("name", STORES)
def test_the_swapped_key_waits_for_the_administrator(name: str, aftermath: Aftermath) -> None:
    """The reply names it, and `relay keys pending` has it beside the one that is used."""
    scene = aftermath.scene
    first, other = scene.cast.swapped.keys
    reply = scene.calm[name, first.address].to(first.address)

    pending = json.loads(run_keys(scene.office.relays[name], "pending", "--json"))["pending"]

    assert reply and other.fingerprint in reply.text
    assert [(first.fingerprint, other.fingerprint, "waiting")] == [
        (each["pinned"], each["fingerprint"], each["state"])
        for each in pending
        if each["address"] == first.address
    ]


@pytest.mark.parametrize("name", STORES)
def test_the_relay_met_nothing_unexpected(name: str, aftermath: Aftermath) -> None:
    """It still runs, was given its configuration again, and no error came from where none should."""
    relay = aftermath.scene.office.relays[name].relay

    assert relay.process.poll() is None
    for log in (relay.log, *aftermath.scene.logs):
        assert "Traceback" not in log
        assert '"event": "unexpected"' not in log
    assert 1 == len(relay.events("reloaded"))
