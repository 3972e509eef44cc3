"""The contract of `relay.seams.KeyDiscovery`, kept by every source outside of this machine."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from relay.address import parse_mailbox
from relay.clock import SystemClock
from relay.errors import KeySourceUnavailable, KeySourceUnreachable
from relay.keys.dane import DaneKeys
from relay.keys.index import address_keys
from relay.keys.keyservers import HkpsSource, VksSource
from relay.keys.ldap import LdapKeys, LdapSettings
from relay.keys.web import https_port
from relay.keys.wkd import WkdSource, advanced_path
from relay.message import Certificate, Discovered
from relay.openpgp.judge import Judge
from relay.seams import KeyDiscovery
from tests import dnssec, slapd
from tests.fakes import FixedClock
from tests.keyserver import Keyserver
from tests.nameserver import FakeNameserver, with_address
from tests.network import HOST, Authority
from tests.unit.keys.certs import cert, fingerprint, tsk
from tests.unit.keys.websites import client, serving

NAME = "my source"
ANN, TWO, TWO_TOO = (cert(f"<{local}@example.test>") for local in ("ann", "two", "two"))
HELD = {
    "ann@example.test": [ANN],
    "bob@example.test": [cert("Bob <bob@example.test>")],
    "two@example.test": [TWO, TWO_TOO],
}
MISFILED = {"wrong@example.test": [cert("<else@example.test>")]}
GARBAGE = {
    "page@example.test": [b"<html>Welcome</html>"],
    "empty@example.test": [b""],
    "cut@example.test": [cert("<cut@example.test>")[:-10]],
    "secret@example.test": [bytes(tsk("<secret@example.test>"))],
}
PUBLISHED = HELD | MISFILED | GARBAGE
VALUES = {mailbox: [one or b"\n" for one in held] for mailbox, held in PUBLISHED.items()}
"""The same without empty octets, which neither a zone file nor LDIF can hold."""


@dataclass
class Place:
    """A server that has `PUBLISHED`, a source that asks it, and how that differs from the others."""

    source: KeyDiscovery
    stop: Callable[[], Awaitable[object]]
    """Ends the server."""
    expect: Callable[[str], object] = str
    """Told before each question."""
    most: int = 2
    """Certificates of one address that it gives."""
    folds: bool = True
    """Whether letter case makes no difference in a local part."""
    by_fingerprint: bool = False
    searches: bool = False
    """Whether anyone may upload anything, so that a certificate of others is no sign of a wrong file."""
    over_tls: bool = True
    unreached: type[KeySourceUnavailable] = KeySourceUnreachable

    async def found(self, mailbox: str) -> tuple[Certificate, ...]:
        self.expect(mailbox)
        return (await self.source.discover(parse_mailbox(mailbox))).certificates


@asynccontextmanager
async def wkd(authority: Authority, folder: Path) -> AsyncIterator[Place]:
    """nginx behind knot."""
    host = "openpgpkey.example.test"
    with serving(folder, "openpgpkey.example A 127.0.0.1", (host,), {}) as sites:
        for mailbox, held in PUBLISHED.items():
            sites.web.put(host, advanced_path(parse_mailbox(mailbox)), b"".join(held))

        async def stop() -> None:
            sites.web.process.terminate()
            await asyncio.to_thread(sites.web.process.wait)

        yield Place(WkdSource(NAME, sites.client()), stop)


@asynccontextmanager
async def dane(authority: Authority, folder: Path) -> AsyncIterator[Place]:
    """unbound in front of knot; a resolver that is gone is our own failure, not that of a server."""
    lines = [dnssec.openpgpkey(mailbox, one) for mailbox, held in VALUES.items() for one in held]
    with dnssec.running("".join(lines)) as zones:
        yield Place(
            DaneKeys(NAME, HOST, zones.resolver_port, signed_name=dnssec.SIGNED_NAME, timeout_seconds=20),
            partial(asyncio.to_thread, zones.stop_resolver),
            folds=False,
            over_tls=False,
            unreached=KeySourceUnavailable,
        )


@asynccontextmanager
async def ldap(authority: Authority, folder: Path) -> AsyncIterator[Place]:
    """slapd."""
    people = [slapd.person(mailbox.partition("@")[0], mailbox, *held) for mailbox, held in VALUES.items()]
    with slapd.running(authority, slapd.unit(slapd.PEOPLE) + "".join(people)) as server:
        url, ca_file = f"ldaps://{HOST}:{server.tls_port}", authority.ca_file
        settings = LdapSettings(url, slapd.PEOPLE, ca_file=ca_file, timeout_seconds=20)
        yield Place(LdapKeys(NAME, settings), partial(asyncio.to_thread, server.stop))


@asynccontextmanager
async def _keyserver(
    make: type[VksSource | HkpsSource], most: int, authority: Authority, folder: Path
) -> AsyncIterator[Place]:
    server = Keyserver(authority, [one for held in HELD.values() for one in held], inexact=True)

    def expect(mailbox: str) -> None:
        if mailbox in MISFILED | GARBAGE:  # it searches in User IDs, where these addresses are not
            server.refusals.append(web.Response(body=b"".join(PUBLISHED[mailbox])))

    async with server, FakeNameserver(with_address(HOST)) as names:
        source = make(
            NAME, client(authority, names.address, https_port(server.url)), FixedClock(), server.url
        )
        searches = make is HkpsSource
        yield Place(source, server.__aexit__, expect, most, by_fingerprint=True, searches=searches)


vks = partial(_keyserver, VksSource, 1)
hkps = partial(_keyserver, HkpsSource, 2)


@pytest.fixture(
    params=[
        *(pytest.param(kind, marks=pytest.mark.system, id=kind.__name__) for kind in (wkd, dane, ldap)),
        pytest.param(vks, id="vks"),
        pytest.param(hkps, id="hkps"),
    ]
)
async def place(request: pytest.FixtureRequest, authority: Authority, tmp_path: Path) -> AsyncIterator[Place]:
    async with request.param(authority, tmp_path) as made:
        yield made
        await made.source.close()


def _fingerprints(found: tuple[Certificate, ...]) -> list[str]:
    return sorted(certificate.fingerprint for certificate in found)


def _usable(found: tuple[Certificate, ...], mailbox: str) -> list[bool]:
    later = SystemClock().now() + timedelta(minutes=1)  # the certificates were made a moment ago
    return [verdict.usable for verdict in Judge().judge(list(found), parse_mailbox(mailbox), later)]


async def test_discover_of_a_published_certificate_is_that_one(place: Place) -> None:
    """A certificate that is there is found with the name of its source, and may be used for its address."""
    found = await place.found("ann@example.test")

    assert [(fingerprint(ANN), NAME)] == [(one.fingerprint, one.source) for one in found]
    assert [{"ann@example.test"}] == [address_keys(one) for one in found]
    assert [True] == _usable(found, "ann@example.test")


@pytest.mark.parametrize("mailbox", ["nn@example.test", "ann+tag@example.test", "ann@mail.example.test"])
async def test_discover_of_another_address_is_none(place: Place, mailbox: str) -> None:
    """An address without a certificate is an empty answer, however similar others are."""
    assert () == await place.found(mailbox)


async def test_discover_of_two_certificates_is_both(place: Place) -> None:
    """Every certificate of an address is given, where the place gives more than one."""
    expected = [fingerprint(TWO), fingerprint(TWO_TOO)][: place.most]

    assert sorted(expected) == _fingerprints(await place.found("two@example.test"))


async def test_discover_of_a_certificate_of_others_is_never_usable(place: Place) -> None:
    """What names somebody else is not used for the address; "none" only where anyone may upload anything."""
    found = await place.found("wrong@example.test")

    assert ([] if place.searches else [False]) == _usable(found, "wrong@example.test")


@pytest.mark.parametrize("mailbox", GARBAGE)
async def test_discover_of_garbage_is_never_none(place: Place, mailbox: str) -> None:
    """What cannot be read is either "cannot tell" or a certificate of this source that may not be used."""
    found: tuple[Certificate, ...] | None = None
    with contextlib.suppress(KeySourceUnavailable):
        found = await place.found(mailbox)

    assert found is None or [(False, NAME)] == list(
        zip(_usable(found, mailbox), [one.source for one in found], strict=True)
    )


async def test_discover_in_other_letters_is_as_the_source_folds(place: Place) -> None:
    """Letter case of a domain never counts, that of a local part only in the DNS, and so the cache."""
    ann, shouted = parse_mailbox("ann@example.test"), parse_mailbox("ANN@example.test")
    source = place.source

    assert [fingerprint(ANN)] == _fingerprints(await place.found("ann@EXAMPLE.Test"))
    assert [fingerprint(ANN)] * place.folds == _fingerprints(await place.found("ANN@example.test"))
    assert place.folds == (source.cache_key(ann) == source.cache_key(shouted))


async def test_discover_fingerprint_is_exact_or_none(place: Place) -> None:
    """A fingerprint finds its certificate or nothing; a part of one, or an unknown one, finds nothing."""
    source, name = place.source, fingerprint(ANN)
    found = await source.discover_fingerprint(name)

    assert [(name, NAME)] * place.by_fingerprint == [
        (one.fingerprint, one.source) for one in found.certificates
    ]
    for other in ("A" * 40, "A" * 64, name[-16:], ""):
        assert Discovered() == await source.discover_fingerprint(other)
    place.expect("wrong@example.test")  # the answer is another certificate
    assert Discovered() == await source.discover_fingerprint(name)


def _open() -> set[str]:
    """What this process has open."""
    found = set[str]()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the list itself
            found.add(descriptor.readlink().name)
    return found


async def _cancelled(
    source: KeyDiscovery, begun: Callable[[asyncio.Task[Discovered]], Awaitable[None]]
) -> bool:
    """Asks and cancels when `begun` returns; whether it came in time. What was opened has to end."""
    before, tasks = _open(), asyncio.all_tasks()
    asking = asyncio.create_task(source.discover(parse_mailbox("ann@example.test")))
    await begun(asking)
    asking.cancel()
    await asyncio.wait([asking])
    async with asyncio.timeout(20):
        while not (_open() <= before and asyncio.all_tasks() <= tasks):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0)
    if not asking.cancelled():
        assert [fingerprint(ANN)] == _fingerprints(asking.result().certificates)
    return asking.cancelled()


async def test_discover_when_cancelled_leaves_nothing_open(place: Place) -> None:
    """Wherever a question is cancelled, its connections and tasks end, and the source answers the next."""
    source, turns = place.source, 2

    async def begun(asking: asyncio.Task[Discovered]) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    while await _cancelled(source, begun):
        turns *= 2
    assert turns > 4


async def test_discover_when_cancelled_as_tls_begins_leaves_nothing_open(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the one turn of the loop in which TLS is there and the source does not know it yet."""
    source, wake_up = place.source, SSLProtocol._wakeup_waiter

    async def begun(asking: asyncio.Task[Discovered]) -> None:
        def woken(self: SSLProtocol, exc: BaseException | None = None) -> None:
            wake_up(self, exc)
            if not self._server_side:
                asking.cancel()

        with monkeypatch.context() as patched:
            patched.setattr(SSLProtocol, "_wakeup_waiter", woken)
            await asyncio.wait([asking])

    assert place.over_tls == await _cancelled(source, begun)
    assert [fingerprint(ANN)] == _fingerprints(await place.found("ann@example.test"))


async def test_discover_after_the_server_stopped_is_unavailable(place: Place) -> None:
    """A server that is gone is never "none", except for what it could not be asked anyway."""
    before = await place.found("ann@example.test")
    await place.stop()

    assert [fingerprint(ANN)] == _fingerprints(before)
    for mailbox in ("ann@example.test", "nobody@example.test"):
        with pytest.raises(KeySourceUnavailable) as caught:
            await place.found(mailbox)
        assert place.unreached is caught.type
    with pytest.raises(place.unreached) if place.by_fingerprint else contextlib.nullcontext():
        assert Discovered() == await place.source.discover_fingerprint(fingerprint(ANN))
