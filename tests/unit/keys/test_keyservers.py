"""The sources `vks` and `hkps` against a key server on loopback."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aiohttp import web

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.keyservers import HkpsSource, VksSource
from relay.keys.web import https_port
from relay.message import Discovered
from relay.mime import packets
from tests.fakes import FixedClock
from tests.keyserver import Keyserver
from tests.nameserver import FakeNameserver, rcode, with_address
from tests.network import Authority
from tests.unit.keys.certs import cert, fingerprint
from tests.unit.keys.websites import client

BOB = parse_mailbox("Bob+x@Example.com")
BOBS = cert("Bob <bob+x@example.com>", "Rob <rob@example.com>")
ALS = cert("al@example.com")

Source = VksSource | HkpsSource
Make = Callable[[str, str, FixedClock], Source]


@pytest.fixture(params=[VksSource, HkpsSource], ids=["vks", "hkps"])
def make(request: pytest.FixtureRequest, authority: Authority) -> Make:
    """Makes either source, by the URL of the server and the address of the name server."""

    def made(url: str, resolver: str, clock: FixedClock) -> Source:
        source: Source = request.param("server", client(authority, resolver, https_port(url)), clock, url)
        return source

    return made


class Asked:
    """A key server, a name server that knows it, and a source that asks it."""

    def __init__(self, make: Make, authority: Authority, *certificates: bytes) -> None:
        self.server = Keyserver(authority, list(certificates))
        self.names = FakeNameserver(with_address("127.0.0.1"))
        self.clock = FixedClock()
        self._make = make

    async def __aenter__(self) -> Asked:
        await self.server.__aenter__()
        await self.names.__aenter__()
        self.source = self._make(self.server.url + "/", self.names.address, self.clock)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.source.close()
        await self.names.__aexit__(*exc)
        await self.server.__aexit__(*exc)


async def test_discover_certificate_is_found_for_its_mailbox_alone(make: Make, authority: Authority) -> None:
    """The address is found whatever its letter case, and its other User IDs are dropped."""
    async with Asked(make, authority, ALS, BOBS) as asked:
        [found] = (await asked.source.discover(BOB)).certificates

    assert (fingerprint(BOBS), ("Bob <bob+x@example.com>",), "server") == (
        found.fingerprint,
        found.user_ids,
        found.source,
    )


async def test_discover_404_is_none(make: Make, authority: Authority) -> None:
    """The server knows nothing: there is no key."""
    async with Asked(make, authority, ALS) as asked:
        assert Discovered() == await asked.source.discover(BOB)


async def test_discover_fingerprint_gives_that_certificate_alone(make: Make, authority: Authority) -> None:
    """A certificate is found by its fingerprint, without User IDs too (K-25)."""
    key = next(packets.walk(BOBS))
    bare = BOBS[key.start : key.end]

    async with Asked(make, authority, ALS, bare) as asked:
        found = await asked.source.discover_fingerprint(fingerprint(BOBS))
        missing = await asked.source.discover_fingerprint("A" * 40)

    assert packets.certificates(bare, "server") == list(found.certificates)
    assert Discovered() == missing


async def test_discover_429_leaves_the_server_alone(make: Make, authority: Authority) -> None:
    """After one 429 no address and no fingerprint is asked for, until the time is over (K-24)."""
    async with Asked(make, authority, BOBS) as asked:
        asked.server.refusals.append(web.Response(status=429, headers={"Retry-After": "300"}))
        with pytest.raises(KeySourceUnavailable, match="429") as first:
            await asked.source.discover(BOB)
        asked.clock.advance(299)
        with pytest.raises(KeySourceUnavailable, match="left alone") as second:
            await asked.source.discover(parse_mailbox("al@example.com"))
        with pytest.raises(KeySourceUnavailable, match="left alone"):
            await asked.source.discover_fingerprint(fingerprint(BOBS))

        assert 1 == len(asked.server.requests)
        assert (300, 1) == (first.value.retry_after_seconds, second.value.retry_after_seconds)

        asked.clock.advance(1)
        assert 1 == len((await asked.source.discover(BOB)).certificates)


@pytest.mark.parametrize(("wish", "seconds"), [(None, 60), ("1", 60), ("86400", 3600), ("soon", 60)])
async def test_discover_429_pause_is_bounded(
    make: Make, authority: Authority, wish: str | None, seconds: int
) -> None:
    """At least a minute, whatever little the server asks for; at most an hour."""
    async with Asked(make, authority, BOBS) as asked:
        headers = {"Retry-After": wish} if wish else {}
        asked.server.refusals.append(web.Response(status=429, headers=headers))
        with pytest.raises(KeySourceUnavailable):
            await asked.source.discover(BOB)
        with pytest.raises(KeySourceUnavailable) as caught:
            await asked.source.discover(BOB)

    assert seconds == caught.value.retry_after_seconds


@pytest.mark.parametrize("status", [400, 401, 403, 500, 501, 503])
async def test_discover_other_status_is_unavailable(make: Make, authority: Authority, status: int) -> None:
    """Only 404 says that there is no key; the next question is asked at once."""
    async with Asked(make, authority, BOBS) as asked:
        asked.server.refusals.append(web.Response(status=status))
        with pytest.raises(KeySourceUnavailable, match=str(status)):
            await asked.source.discover(BOB)

        assert 1 == len((await asked.source.discover(BOB)).certificates)


async def test_discover_page_is_unavailable(make: Make, authority: Authority) -> None:
    """A server that answers with a page is broken, whoever the recipient is."""
    async with Asked(make, authority) as asked:
        asked.server.refusals.append(web.Response(text="<html>Maintenance</html>", content_type="text/html"))
        with pytest.raises(KeySourceUnavailable, match="not a readable"):
            await asked.source.discover(BOB)


async def test_discover_server_without_address_is_unavailable(make: Make) -> None:
    """A key server whose name is gone is not a recipient without a key."""
    async with FakeNameserver(rcode("NXDOMAIN")) as names:
        source = make("https://keys.test", names.address, FixedClock())
        with pytest.raises(KeySourceUnavailable, match="no address"):
            await source.discover(BOB)


async def test_discover_server_down_is_unavailable(make: Make, authority: Authority) -> None:
    """Nobody listens: cannot tell."""
    async with Asked(make, authority, BOBS) as asked:
        await asked.server.__aexit__()
        with pytest.raises(KeySourceUnavailable, match="cannot be reached"):
            await asked.source.discover(BOB)


def test_cache_key_is_the_mailbox(make: Make) -> None:
    """Letter case makes no other question."""
    source = make("https://keys.test", "127.0.0.1:53", FixedClock())

    assert source.cache_key(BOB) == source.cache_key(parse_mailbox("bob+X@example.com"))


# --------------------------------------------------------------------------- what differs


@pytest.fixture
def vks(authority: Authority) -> Make:
    return lambda url, resolver, clock: VksSource(
        "server", client(authority, resolver, https_port(url)), clock, url
    )


@pytest.fixture
def hkps(authority: Authority) -> Make:
    return lambda url, resolver, clock: HkpsSource(
        "server", client(authority, resolver, https_port(url)), clock, url
    )


async def test_vks_asks_as_its_api_says(vks: Make, authority: Authority) -> None:
    """The address is escaped, the fingerprint in upper case without 0x; a v6 one is not asked for (K-24)."""
    async with Asked(vks, authority, BOBS) as asked:
        await asked.source.discover(BOB)
        await asked.source.discover_fingerprint("AB" * 20)
        await asked.source.discover_fingerprint("AB" * 32)

        assert ["/vks/v1/by-email/Bob%2Bx@example.com", f"/vks/v1/by-fingerprint/{'AB' * 20}"] == (
            asked.server.requests
        )


async def test_hkps_asks_as_the_protocol_says(hkps: Make, authority: Authority) -> None:
    """Machine-readable, exact, the fingerprint after 0x."""
    async with Asked(hkps, authority, BOBS) as asked:
        await asked.source.discover(BOB)
        await asked.source.discover_fingerprint("AB" * 20)

        query = "/pks/lookup?op=get&options=mr&exact=on&search="
        assert [f"{query}Bob%2Bx@example.com", f"{query}0x{'AB' * 20}"] == asked.server.requests


async def test_vks_certificate_of_others_is_given_as_unusable(vks: Make, authority: Authority) -> None:
    """The server promised an exact match: what it gives instead is not "no key"."""
    async with Asked(vks, authority) as asked:
        asked.server.refusals.append(web.Response(body=ALS))
        found = await asked.source.discover(BOB)

    assert packets.certificates(ALS, "server") == list(found.certificates)


async def test_hkps_certificates_of_others_are_dropped(hkps: Make, authority: Authority) -> None:
    """Servers that ignore `exact` give what is similar: only the mailbox itself counts, and none is none."""
    async with Asked(hkps, authority, ALS, BOBS) as asked:
        asked.server.inexact = True
        mine = await asked.source.discover(BOB)
        nobodys = await asked.source.discover(parse_mailbox("nobody@example.com"))

    assert [fingerprint(BOBS)] == [found.fingerprint for found in mine.certificates]
    assert Discovered() == nobodys


async def test_hkps_flood_of_certificates_is_cut(hkps: Make, authority: Authority) -> None:
    """Anyone can upload; only so many are taken."""
    async with Asked(hkps, authority, *[BOBS] * 30) as asked:
        found = await asked.source.discover(BOB)

    assert 20 == len(found.certificates)
