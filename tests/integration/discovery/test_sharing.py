"""Several relays and the administrator's commands work on one store at the same time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from tests.clients import Answer, Outcome
from tests.integration.conftest import Site, entity
from tests.integration.discovery import world as worlds
from tests.integration.discovery.people import Person, letter, person, stranger
from tests.integration.discovery.world import Settings, World, run_keys
from tests.network import Authority
from tests.postfix import Postfix

pytestmark = pytest.mark.system

_SOON_SECONDS = 10.0
"""What another process wrote is seen by then; a relay looks once a second."""

_MAYBE = "maybe@wkd.test"
"""Nobody has a key there, and the rule lets the mail go."""
_LOCAL = "local.test"
"""Its rule names no source outside of this machine."""
_POLICY = f"""\
    {_LOCAL}: {{keys: [folder]}}
  addresses:
    {_MAYBE}: {{encrypt: when-possible}}
"""


# --------------------------------------------------------------------------- sending


def _write(site: Site, *addresses: str) -> tuple[bytes, Outcome]:
    content = letter(*addresses)
    return content, site.submit(content, *addresses)


def _refusal(site: Site, address: str) -> Answer:
    """The reply to the only recipient of a new letter, which is no 250."""
    _, outcome = _write(site, address)
    [reply] = outcome.to("rcpt")
    assert not outcome.is_accepted, outcome
    return reply


def _assert_reads(reader: Person, site: Site, inbox: Postfix) -> None:
    """A letter to the address of `reader` is accepted, and is for their key."""
    inbox.clear()
    content, outcome = _write(site, reader.address)
    assert outcome.is_accepted, outcome
    [delivered] = inbox.wait_for(1)
    assert entity(content) == reader.reads(delivered.content)


def _soon(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _SOON_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def _soon_held(site: Site, new: Person) -> None:
    """A relay with the old answer in memory learns within a second that another process refreshed it."""
    _soon(lambda: new.fingerprint in _write(site, new.address)[1].final.text, "the new key is held")


def _pending(site: Site, address: str) -> list[tuple[str, str, str]]:
    """Pinned and other fingerprint, and the state, of keys that wait for this address."""
    listed = json.loads(run_keys(site, "pending", "--json"))["pending"]
    return [
        (each["pinned"], each["fingerprint"], each["state"]) for each in listed if each["address"] == address
    ]


def _change(bob: Person, world: World, site: Site) -> Person:
    """Another key in the place of the one that was used before."""
    new = bob.with_new_key()
    world.publish(new)
    run_keys(site, "refresh", bob.address)
    return new


@pytest.fixture
def bob(world: World) -> Person:
    """Somebody whose key is in a web directory, and to whom nobody has written."""
    made = stranger(worlds.WKD)
    world.publish(made)
    return made


# --------------------------------------------------------------------------- two relays, one PostgreSQL


@dataclass(frozen=True, slots=True)
class Pair:
    """Two relays that share a database."""

    one: Site
    other: Site
    database: postgres.Postgres
    local: Person
    """Whose key is in the folders of both."""

    @property
    def both(self) -> tuple[Site, Site]:
        return self.one, self.other


@contextmanager
def _pair(world: World, authority: Authority, folder: Path) -> Iterator[Pair]:
    (folder / "password").write_text(postgres.PASSWORD, "utf-8")
    local = person(f"local@{_LOCAL}")
    with postgres.running(authority) as database, ExitStack() as stack:
        store = f'{{url: "{database.create_database()}", password_file: {folder}/password}}'
        settings = Settings(policy=_POLICY, store=store, limits="lookup_seconds: 2s")
        one, other = sites = [world.relay(folder / name, settings) for name in ("one", "other")]
        for site in sites:
            (site.relay.home / "keys" / "local.pgp").write_bytes(local.certificate)
            stack.enter_context(site.relay)
        yield Pair(one, other, database, local)


@pytest.fixture(scope="module")
def pair(world: World, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two running relays; none of the tests starts them again."""
    with _pair(world, authority, tmp_path_factory.mktemp("sharing")) as made:
        yield made


def test_what_one_relay_found_serves_the_other(bob: Person, world: World, pair: Pair, inbox: Postfix) -> None:
    """The second relay has the key from the database: the source is not asked again."""
    _assert_reads(bob, pair.one, inbox)
    before = world.asked(bob.address)

    _assert_reads(bob, pair.other, inbox)

    assert (1, 1) == (before, world.asked(bob.address))


def test_what_one_relay_pinned_is_held_by_the_other(
    bob: Person, world: World, pair: Pair, inbox: Postfix
) -> None:
    """A relay that never wrote to the address holds the changed key because of the pin of the first one."""
    _assert_reads(bob, pair.one, inbox)
    new = _change(bob, world, pair.one)

    reply = _refusal(pair.other, bob.address)

    assert (451, "4.7.1") == (reply.code, reply.status)
    assert new.fingerprint in reply.text
    assert [(bob.fingerprint, new.fingerprint, "waiting")] == _pending(pair.one, bob.address)


def test_an_approval_reaches_every_relay(bob: Person, world: World, pair: Pair, inbox: Postfix) -> None:
    """A key that was approved with the configuration of one relay is used by both from the next message."""
    _assert_reads(bob, pair.one, inbox)
    new = _change(bob, world, pair.one)
    for site in pair.both:
        _soon_held(site, new)

    run_keys(pair.one, "approve", bob.address, new.fingerprint)

    _assert_reads(new, pair.other, inbox)
    _assert_reads(new, pair.one, inbox)
    assert [] == _pending(pair.other, bob.address)


@dataclass(frozen=True, slots=True)
class Outage:
    """Two relays, and how their database can be away for the time of a block."""

    pair: Pair
    away: Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=["stopped", "frozen"])
def outage(
    request: pytest.FixtureRequest, world: World, authority: Authority, tmp_path: Path
) -> Iterator[Outage]:
    """A server that refuses connections, and one that says nothing more."""
    if request.param == "frozen":
        found: Pair = request.getfixturevalue("pair")
        yield Outage(found, found.database.frozen)
        return
    with _pair(world, authority, tmp_path) as made:  # its own: the server is another process afterwards
        yield Outage(made, lambda: _stopped(made.database))


@contextmanager
def _stopped(database: postgres.Postgres) -> Iterator[None]:
    database.stop()
    yield
    database.start()


def test_without_the_store_strangers_wait(outage: Outage, bob: Person, inbox: Postfix) -> None:
    """Under every rule a stranger's mail is answered 451, also where "none" was the answer a moment ago."""
    both = outage.pair.both
    assert all(_write(site, _MAYBE)[1].is_accepted for site in both)
    inbox.wait_for(2)
    inbox.clear()

    letters = [(site, address) for site in both for address in (bob.address, _MAYBE)]
    with outage.away(), ThreadPoolExecutor() as threads:
        replies = list(threads.map(_refusal, *zip(*letters, strict=True)))

    assert {(451, "4.7.5")} == {(reply.code, reply.status) for reply in replies}
    assert [] == inbox.delivered()


def test_without_the_store_local_keys_serve(outage: Outage, inbox: Postfix) -> None:
    """Mail under a rule that names only sources of this machine does not depend on the database."""
    with outage.away():
        for site in outage.pair.both:
            _assert_reads(outage.pair.local, site, inbox)


def test_a_store_that_is_back_is_used_again(
    outage: Outage, bob: Person, world: World, inbox: Postfix
) -> None:
    """Neither relay is started again: strangers have mail, and what was pinned before still counts."""
    pinned, both = stranger(worlds.WKD), outage.pair.both
    world.publish(pinned)
    _assert_reads(pinned, both[0], inbox)
    with outage.away(), ThreadPoolExecutor() as threads:
        assert [451, 451] == [reply.code for reply in threads.map(_refusal, both, [bob.address] * 2)]

    for site in both:
        _soon(lambda site=site: _write(site, bob.address)[1].is_accepted, "a stranger has mail")
        _assert_reads(bob, site, inbox)
    new = _change(pinned, world, both[0])
    for site in both:
        _soon_held(site, new)


# --------------------------------------------------------------------------- commands beside a relay, SQLite


@pytest.fixture(scope="module")
def lone(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running relay with a store of its own, which asks again after a second."""
    site = world.relay(tmp_path_factory.mktemp("lone"), Settings(cache="keep: 1s"))
    with site.relay:
        yield site


@pytest.fixture
def new(bob: Person, world: World, lone: Site, inbox: Postfix) -> Person:
    """Bob's other key, which holds back his mail."""
    _assert_reads(bob, lone, inbox)
    world.publish(changed := bob.with_new_key())
    _soon_held(lone, changed)
    return changed


def test_an_approved_key_is_used(bob: Person, new: Person, lone: Site, inbox: Postfix) -> None:
    """The administrator sees that it waits; the next message after the approval is encrypted to it."""
    assert [(bob.fingerprint, new.fingerprint, "waiting")] == _pending(lone, bob.address)

    run_keys(lone, "approve", bob.address, new.fingerprint)

    _assert_reads(new, lone, inbox)
    assert [] == _pending(lone, bob.address)


def test_a_rejected_key_is_refused(bob: Person, new: Person, lone: Site) -> None:
    """The next message is refused for good, and the reply names the key."""
    run_keys(lone, "reject", bob.address, new.fingerprint)

    reply = _refusal(lone, bob.address)

    assert (550, "5.7.1") == (reply.code, reply.status)
    assert new.fingerprint in reply.text
    assert [(bob.fingerprint, new.fingerprint, "rejected")] == _pending(lone, bob.address)


def test_a_forgotten_address_begins_anew(
    bob: Person, new: Person, world: World, lone: Site, inbox: Postfix
) -> None:
    """The key that is there is then the first one, which is pinned as any other: the next change is held."""
    run_keys(lone, "forget", bob.address)

    _assert_reads(new, lone, inbox)
    world.publish(third := bob.with_new_key())
    _soon_held(lone, third)
    assert [(new.fingerprint, third.fingerprint, "waiting")] == _pending(lone, bob.address)
