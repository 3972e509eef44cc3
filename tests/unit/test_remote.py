"""Tests of `relay/remote.py`: each source outside of this machine is made as it was configured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from relay import config, remote
from relay.config import Config
from relay.keys.autocrypt import LearnedSource
from relay.keys.cached import CachedKeys, CacheTimes
from relay.keys.origins import CacheByOrigin
from relay.openpgp.judge import Judge
from relay.remembered import CacheEntry
from relay.store.database import Store
from tests import keys
from tests.fakes import FixedClock, ListJournal
from tests.unit.keys.discoveries import MemoryCache, Middle, ScriptedDiscovery, positive

CONFIG = """\
hostname: relay.example.com
listen: [{address: "127.0.0.1:0", tls: none}]
auth: {type: none}
next_hop: {address: "127.0.0.1:25", tls: none}
store: {url: "sqlite:///relay.db"}
dns: {resolver: "127.0.0.1:5353"}
keys:
  web: {type: wkd, allow_networks: ["127.0.0.0/8"]}
  zone: {type: dane, resolver: "127.0.0.1:5354", signed_name: "example.com"}
  koo: {type: vks, url: "https://keys.example.org:8443"}
  old: {type: hkps, url: "https://keyserver.example.net"}
  corp: {type: ldap, url: "ldaps://ldap.example.com", base: "dc=example", bind_dn: "cn=r",
         password_file: secret}
  learned: {type: autocrypt}
policy: {default: {keys: [web, zone, koo, old, corp, learned]}}
"""


def load(tmp_path: Path, text: str = CONFIG) -> Config:
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "relay.yaml").write_text(text)
    return config.load(tmp_path / "relay.yaml", os.environ)


@pytest.fixture
def loaded(tmp_path: Path) -> Config:
    return load(tmp_path)


@pytest.fixture
async def store(loaded: Config) -> AsyncIterator[Store]:
    store = remote.make_store(loaded, FixedClock(), ListJournal())
    yield store
    await store.close()


async def test_make_store_is_where_the_configuration_says(store: Store, tmp_path: Path) -> None:
    """A relative path starts at the configuration's directory; nothing is made before it is opened."""
    before = (tmp_path / "relay.db").exists()
    await store.open()

    assert (False, True) == (before, (tmp_path / "relay.db").exists())


async def test_make_remote_makes_every_source_by_its_type(store: Store, loaded: Config) -> None:
    """Names are kept, because rules list them; each type has its own class behind the cache."""
    made = await remote.make_remote(loaded, store, Judge(), FixedClock(), ListJournal())
    kinds = {
        name: type(source._discovery).__name__ if isinstance(source, CachedKeys) else type(source).__name__
        for name, source in made.items()
    }
    for source in made.values():
        if isinstance(source, CachedKeys):
            await source.close()

    assert {
        "web": "WkdSource",
        "zone": "DaneKeys",
        "koo": "VksSource",
        "old": "HkpsSource",
        "corp": "LdapKeys",
        "learned": "LearnedSource",
    } == kinds
    assert list(made) == [source.name for source in made.values()]


def test_discovery_with_a_ca_file_that_is_gone_says_so(loaded: Config, tmp_path: Path) -> None:
    """A file that vanished after the check is an error at the start, never a trust in everybody."""
    broken = loaded.keys["web"].model_copy(update={"ca_file": tmp_path / "gone.pem"})

    with pytest.raises(FileNotFoundError):
        remote._discovery(loaded, "web", broken, FixedClock())


@pytest.mark.parametrize("makes", [True, False])
def test_make_learner_only_where_a_source_gives_what_is_learned(tmp_path: Path, makes: bool) -> None:
    """Without the source nobody would ever use what was learned."""
    without = CONFIG.replace("  learned: {type: autocrypt}\n", "").replace(", learned]", "]")
    loaded = load(tmp_path, CONFIG if makes else without)
    store = remote.make_store(loaded, FixedClock(), ListJournal())

    learner = remote.make_learner(loaded, store, Judge(), FixedClock(), ListJournal())

    assert makes == (learner is not None)


def test_expires_is_the_first_end_of_what_can_be_used() -> None:
    """What is asked for again in time is what would stop mail first; the unusable is no reason."""
    clock = FixedClock()
    judge = Judge()
    names = ["rsa3072", "expired-primary", "curve25519"]
    certificates = [keys.certificate(name) for name in names]
    ends = [verdict.expires for verdict in judge.judge(certificates, None, clock.now()) if verdict.usable]

    expires = remote._Expires(judge, clock)(certificates)

    assert min((end for end in ends if end), default=None) == expires


@pytest.mark.parametrize(("names", "is_long_ago"), [([], True), (["revoked-primary"], True), (["v6"], False)])
def test_expires_of_nothing_usable_is_long_ago(names: list[str], is_long_ago: bool) -> None:
    """An answer with certificates that nobody can use is asked for again as soon as "none" is."""
    clock = FixedClock()
    certificates = [keys.certificate(name) for name in ["expired-primary", *names]]

    end = remote._Expires(Judge(), clock)(certificates)

    assert is_long_ago == (end is not None and end < clock.now())


@pytest.mark.parametrize(("name", "seconds"), [("expired-primary", 3600), ("curve25519", 86_400)])
async def test_answer_without_anything_usable_is_kept_as_long_as_none(name: str, seconds: int) -> None:
    """The owner of an expired key extends it soon, and mail is not refused for a day more."""
    clock, cache, discovery = FixedClock(), MemoryCache(), ScriptedDiscovery()
    address = keys.fixture(name).address
    discovery.says(address.key, positive(keys.certificate(name)))
    expires = remote._Expires(Judge(), clock)
    cached = CachedKeys(
        *(discovery, cache, clock, ListJournal(), CacheTimes()), random=Middle(), expires=expires
    )

    await cached.find(address)
    await cached.close()

    [entry] = cache.kept.values()
    assert timedelta(seconds=seconds) == entry.fresh_until - clock.now()


# --------------------------------------------------------------------------- what a source is


def _changed(tmp_path: Path, name: str, line: str) -> Config:
    """The configuration in which the source is this one."""
    lines = [
        f"  {name}: {{{line}}}" if each.startswith(f"  {name}:") else each for each in CONFIG.splitlines()
    ]
    return load(tmp_path, "\n".join(lines) + "\n")


async def _kept_after(tmp_path: Path, name: str, line: str) -> int:
    """How many of its own answers the source has after it was changed."""
    clock, journal = FixedClock(), ListJournal()
    before = await asyncio.to_thread(load, tmp_path)
    after = await asyncio.to_thread(_changed, tmp_path, name, line)
    store = remote.make_store(before, clock, journal)
    await store.open()
    now, address = clock.now(), "bob@example.org"
    await remote.make_cache(before, store).put(CacheEntry(name, address, address, (b"x",), now, now, now))
    kept = await remote.make_cache(after, store).entries(address)
    await store.close()
    return len(kept)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("old", 'type: vks, url: "https://keyserver.example.net"'),
        ("old", 'type: hkps, url: "https://keyserver.example.org"'),
        ("old", "type: dane"),
        ("zone", 'type: dane, resolver: "127.0.0.1:5353", signed_name: "example.com"'),
    ],
)
async def test_make_cache_for_a_source_that_became_another_one_is_empty(
    tmp_path: Path, name: str, line: str
) -> None:
    """What the old one answered is not believed as far as the new one is."""
    assert 0 == await _kept_after(tmp_path, name, line)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("old", 'url: "https://keyserver.example.net", type: hkps, unreachable_means: none'),
        ("web", "type: wkd"),
    ],
)
async def test_make_cache_for_a_source_that_is_the_same_keeps_its_answers(
    tmp_path: Path, name: str, line: str
) -> None:
    """Revocations that were seen, and days of answers, do not depend on how a line is written."""
    assert 1 == await _kept_after(tmp_path, name, line)


async def test_make_remote_keeps_answers_by_what_a_source_is(store: Store, loaded: Config) -> None:
    """The sources use the cache that tells them apart."""
    made = await remote.make_remote(loaded, store, Judge(), FixedClock(), ListJournal())
    cached = [source for source in made.values() if isinstance(source, CachedKeys)]
    for source in cached:
        await source.close()

    assert {CacheByOrigin} == {
        type(cache) for source in cached for cache in (source._cache, source._asking._cache)
    }


def test_learned_source_is_no_cached_source() -> None:
    """`sources.py` tells them apart: there is nobody to ask again about what was learned."""
    assert not issubclass(LearnedSource, CachedKeys)
