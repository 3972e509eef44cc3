"""Sources that fail: how long mail is deferred, what is known of old, and who is asked in their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Site, entity
from tests.integration.discovery.observing import everything, explained, reply, reply_when
from tests.integration.discovery.offers import expired_key
from tests.integration.discovery.people import Person, letter, path_of, person
from tests.integration.discovery.situations import MOODY, Stage
from tests.integration.discovery.world import Settings
from tests.network import HOST
from tests.postfix import Postfix

pytestmark = pytest.mark.system

_SHORT = "keep: 1s, keep_none: 1s, retry_failed: 1s"

_FAILS, _HAS_NONE, _EXPIRED = "s500.test", "s404.test", "expired.test"
"""Domains by what their web server does."""

_RULES = {
    f"impatient@{_FAILS}": "{encrypt: always, keys: [wkd], lookup_patience: 1s}",
    f"hurried@{_FAILS}": "{keys: [wkd], lookup_failure: refuse}",
    f"refused@{_FAILS}": "{encrypt: when-possible, keys: [wkd], lookup_failure: refuse}",
    f"lax@{_FAILS}": "{keys: [lax]}",
    f"released@{_FAILS}": "{encrypt: when-possible, keys: [lax]}",
    "released@closed.test": "{encrypt: when-possible, keys: [lax]}",
    "released@lost.broken.test": "{encrypt: when-possible, keys: [lax]}",
    "held@forged.bogus.test": "{encrypt: when-possible, keys: [lax]}",
    f"used@{MOODY.domain}": "{encrypt: when-possible, keys: [lax]}",
    f"seen@{MOODY.domain}": "{encrypt: when-possible, keys: [lax]}",
    f"known@{MOODY.domain}": "{keys: [wkd]}",
    f"unknown@{MOODY.domain}": "{encrypt: when-possible, keys: [wkd]}",
    f"bogus@{_FAILS}": "{encrypt: when-possible, keys: [lax, dane-astray]}",
    f"second@{_FAILS}": "{encrypt: when-possible, keys: [wkd, vks]}",
    f"second@{_HAS_NONE}": "{encrypt: when-possible, keys: [wkd, vks]}",
    f"bob@{_EXPIRED}": "{encrypt: when-possible, keys: [wkd, vks]}",
    f"neither@{_HAS_NONE}": "{encrypt: when-possible, keys: [wkd, vks-failing]}",
    f"local@{MOODY.domain}": "{keys: [folder, wkd]}",
}


def _settings(stage: Stage, rules: dict[str, str], cache: str) -> Settings:
    lines = [f"    {address}: {rule}" for address, rule in rules.items()]
    return Settings(
        policy="\n".join(["  addresses:", *lines]),
        cache=cache,
        keys=stage.sources,
        web_networks=stage.web_networks,
        validates_names=True,
    )


@pytest.fixture(scope="module")
def strict(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A relay that keeps answers for a second and serves nothing stale."""
    home = tmp_path_factory.mktemp("strict")
    made = stage.world.relay(home, _settings(stage, _RULES, f"{_SHORT}, stale_if_error: 0"))
    with made.relay:
        yield made


@pytest.fixture
def hop(stage: Stage, inbox: Postfix) -> Iterator[Postfix]:
    """The next hop with an empty mailbox, and every directory as it should be."""
    stage.recover()
    yield inbox
    stage.recover()


# --------------------------------------------------------------------------- how long it is deferred


def test_patience_ends_with_a_refusal_that_names_the_source(strict: Site, hop: Postfix) -> None:
    """First 451; after `lookup_patience` 550, with the source and what the administrator can set."""
    recipient = f"impatient@{_FAILS}"

    first = reply(strict, recipient)
    last = reply_when(strict, recipient, 550)

    assert (451, "4.7.5") == (first.code, first.status)
    assert "5.7.5" == last.status
    assert f"<{recipient}> could not be looked up: source wkd does not answer" in last.text
    assert f'change lookup_failure or lookup_patience of policy.addresses["{recipient}"]' in last.text
    assert [] == everything(hop)


def test_lookup_failure_refuse_does_not_defer(strict: Site, hop: Postfix) -> None:
    """The first failure is 550; it still releases nothing."""
    recipient = f"refused@{_FAILS}"

    answer = reply(strict, recipient)

    assert (550, "5.7.5") == (answer.code, answer.status)
    assert "source wkd does not answer" in answer.text
    assert "outcome refused; nothing is sent reply 550 5.7.5" in _explained(strict, recipient)
    assert [] == everything(hop)


def test_refusal_names_the_entry_that_does_not_defer(strict: Site, hop: Postfix) -> None:
    """Not the one that says `encrypt`: changing `lookup_failure` there would change nothing."""
    recipient = f"hurried@{_FAILS}"

    answer = reply(strict, recipient)

    assert f'lookup_failure or lookup_patience of policy.addresses["{recipient}"]' in answer.text


# --------------------------------------------------------------------------- unreachable_means: none


def test_unreachable_source_that_means_none_is_no_key_under_always(strict: Site, hop: Postfix) -> None:
    """550 as for a source that has none, and the explanation tells the failure."""
    recipient = f"lax@{_FAILS}"

    answer = reply(strict, recipient)

    assert (550, "5.7.1") == (answer.code, answer.status)
    assert "No encryption key is known" in answer.text
    assert "counts as no certificate (unreachable_means: none): it answered 500" in _explained(
        strict, recipient
    )
    assert [] == everything(hop)


@pytest.mark.parametrize("domain", [_FAILS, "closed.test", "lost.broken.test"])
def test_unreachable_source_that_means_none_releases_when_possible(
    domain: str, strict: Site, hop: Postfix
) -> None:
    """An address that was never seen with a key gets its mail in clear, as the administrator chose."""
    recipient = f"released@{domain}"
    content = letter(recipient)

    answer = reply(strict, recipient, content)

    assert 250 == answer.code
    assert [entity(content)] == [entity(message.content) for message in everything(hop)]
    assert "outcome sent in clear" in _explained(strict, recipient)


def test_name_of_a_web_server_that_does_not_validate_is_never_none(strict: Site, hop: Postfix) -> None:
    """A forged answer about the host of a directory is no outage, so nothing is released."""
    answer = reply(strict, "held@forged.bogus.test")

    assert (451, "4.7.5") == (answer.code, answer.status)
    assert [] == everything(hop)


def test_records_that_do_not_validate_are_never_none(strict: Site, hop: Postfix) -> None:
    """Bogus DNSSEC stops the search behind a source whose failure was taken for none."""
    recipient = f"bogus@{_FAILS}"

    answer = reply(strict, recipient)

    assert (451, "4.7.5") == (answer.code, answer.status)
    assert "(source dane-astray)" in answer.text
    assert "dane-astray: cannot be asked: distrusted: " in _explained(strict, recipient)
    assert [] == everything(hop)


def test_unreachable_source_is_not_none_for_a_key_that_was_used(
    strict: Site, stage: Stage, hop: Postfix
) -> None:
    """The key that served before is kept for nobody, but its address gets nothing in clear."""
    recipient = person(f"used@{MOODY.domain}")
    stage.world.publish(recipient)
    assert 250 == reply(strict, recipient.address).code

    stage.fail()
    answer = reply_when(strict, recipient.address, 451)

    assert (451, "4.7.5") == (answer.code, answer.status)
    assert _only_for(recipient, hop)
    assert "cannot be asked: it answered 503" in _explained(strict, recipient.address)


def test_unreachable_source_is_not_none_for_a_key_that_was_only_seen(
    strict: Site, stage: Stage, hop: Postfix
) -> None:
    """Also a key that could never be used proves that the address has one."""
    address = f"seen@{MOODY.domain}"
    stage.world.web.put(MOODY.web_host, path_of(address), expired_key(address).octets)
    assert "expired on 2025-01-01" in reply(strict, address).text

    stage.fail()
    answer = reply_when(strict, address, 451)

    assert "4.7.5" == answer.status
    assert [] == everything(hop)


# --------------------------------------------------------------------------- stale_if_error


def test_without_stale_if_error_a_known_key_does_not_serve(strict: Site, stage: Stage, hop: Postfix) -> None:
    """`stale_if_error: 0`: when the answer is over, an outage of its source defers the mail."""
    recipient = person(f"known@{MOODY.domain}")
    stage.world.publish(recipient)
    assert 250 == reply(strict, recipient.address).code

    stage.fail()
    answer = reply_when(strict, recipient.address, 451)

    assert "(source wkd)" in answer.text
    assert _only_for(recipient, hop)


def test_none_is_never_stale(strict: Site, stage: Stage, hop: Postfix) -> None:
    """What had no key a moment ago is "cannot tell" in an outage, so nothing more leaves in clear."""
    address = f"unknown@{MOODY.domain}"
    assert 250 == reply(strict, address).code

    stage.fail()
    refused = reply_when(strict, address, 451)
    arrived = everything(hop)
    again = reply(strict, address)

    assert {451} == {refused.code, again.code}
    assert arrived == everything(hop)


def test_known_key_goes_on_serving_in_an_outage(stage: Stage, hop: Postfix, tmp_path: Path) -> None:
    """`stale_if_error`: mail to people who are written to regularly is not held up."""
    recipient = person(f"known@{MOODY.domain}")
    stage.world.publish(recipient)
    site = stage.world.relay(tmp_path, _settings(stage, _RULES, f"{_SHORT}, stale_if_error: 7d"))
    with site.relay:
        assert 250 == reply(site, recipient.address).code
        stage.fail()
        while not site.relay.events("key_answer_stale"):
            assert 250 == reply(site, recipient.address).code

        assert 250 == reply(site, recipient.address).code
        assert f"outcome encrypted to {recipient.fingerprint}" in _explained(site, recipient.address)
    assert _only_for(recipient, hop)


# --------------------------------------------------------------------------- several sources


def test_failing_source_stops_the_search(strict: Site, stage: Stage, hop: Postfix) -> None:
    """The second source has the key and is not even asked: an outage does not choose the key."""
    address = f"second@{_FAILS}"
    _put_on_key_server(stage, person(address))

    answer = reply(strict, address)

    assert (451, "4.7.5") == (answer.code, answer.status)
    assert "(source wkd)" in answer.text
    assert 0 == _asked_key_server(stage, address)
    assert "vks: not asked, because a source before it cannot be asked" in _explained(strict, address)
    assert [] == everything(hop)


@pytest.mark.parametrize("address", [f"second@{_HAS_NONE}", f"bob@{_EXPIRED}"])
def test_search_goes_on_behind_a_source_without_a_good_key(
    address: str, strict: Site, stage: Stage, hop: Postfix
) -> None:
    """Neither "none" nor a key that may not be used ends it."""
    recipient = person(address)
    _put_on_key_server(stage, recipient)

    answer = reply(strict, address)

    assert 250 == answer.code
    assert _only_for(recipient, hop)
    assert f"outcome encrypted to {recipient.fingerprint}" in _explained(strict, address)


def test_one_source_without_a_key_is_not_every_source(strict: Site, hop: Postfix) -> None:
    """The first says none, the second cannot be asked: nothing leaves, under `when-possible` as well."""
    answer = reply(strict, f"neither@{_HAS_NONE}")

    assert (451, "4.7.5") == (answer.code, answer.status)
    assert "(source vks-failing)" in answer.text
    assert [] == everything(hop)


def test_key_of_the_administrator_asks_nobody_outside(strict: Site, stage: Stage, hop: Postfix) -> None:
    """The folder has a key that may be used, so the directory of the domain learns nothing."""
    recipient = person(f"local@{MOODY.domain}")
    (strict.relay.home / "keys" / "local.pgp").write_bytes(recipient.certificate)
    stage.world.publish(recipient.with_new_key())

    answer = reply(strict, recipient.address)

    assert 250 == answer.code
    assert _only_for(recipient, hop)
    assert 0 == stage.world.asked(recipient.address)
    assert "wkd: not asked: a key was found before" in _explained(strict, recipient.address)


# --------------------------------------------------------------------------- certificates by hand


def test_certificate_by_fingerprint_is_asked_for_once(stage: Stage, hop: Postfix, tmp_path: Path) -> None:
    """The key server gives it, then the store has it, behind a restart too."""
    holder, alias = person("holder@vks.test"), "alias@nowhere.test"
    path = f"/vks/v1/by-fingerprint/{holder.fingerprint}"
    stage.world.vks.put(HOST, path, holder.certificate)
    rules = {alias: f"{{keys: [vks], certificates: [{holder.fingerprint}]}}"}
    site = stage.world.relay(tmp_path, _settings(stage, rules, ""))

    with site.relay:
        codes = [reply(site, alias).code, reply(site, alias).code]
    with site.relay:
        codes.append(reply(site, alias).code)

    assert [250] * 3 == codes
    assert 3 == len(everything(hop))
    assert _only_for(holder, hop)
    assert [f"GET {path} HTTP/1.1"] == [
        each for each in stage.world.vks.requests if holder.fingerprint in each
    ]


# --------------------------------------------------------------------------- what the tests share


def _explained(site: Site, address: str) -> str:
    return explained(site.relay.path, address)[address]


def _only_for(reader: Person, hop: Postfix) -> bool:
    """Whether something has arrived, and all of it is for this reader alone."""
    messages = everything(hop)
    return bool(messages) and all(b"Hello." in reader.reads(message.content) for message in messages)


def _put_on_key_server(stage: Stage, holder: Person) -> None:
    stage.world.vks.put(HOST, f"/vks/v1/by-email/{holder.address}", holder.certificate)


def _asked_key_server(stage: Stage, address: str) -> int:
    return sum(address.replace("@", "%40") in request for request in stage.world.vks.requests)
