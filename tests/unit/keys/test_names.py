"""The addresses of hosts, with a real knot, and with name servers that fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dns import edns, rcode, rdatatype
from dns.message import QueryMessage, make_response

from relay.errors import KeySourceDistrusted, KeySourceUnavailable, KeySourceUnreachable
from relay.keys.names import Names, parse_resolver
from tests import nameserver
from tests.nameserver import FakeNameserver, Respond

_ZONE = """\
www A 127.0.0.1
both A 127.0.0.1
both AAAA ::1
six AAAA ::1
text TXT "no address"
alias CNAME www
dangling CNAME nothing
loop CNAME loop2
loop2 CNAME loop
outside CNAME www.elsewhere.example.
""" + "\n".join(f"many A 127.0.1.{number}" for number in range(100))


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Names]:
    with nameserver.running(tmp_path_factory.mktemp("knot"), _ZONE) as address:
        yield Names(address)


@pytest.mark.system
@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www.test", ["127.0.0.1"]),
        ("WWW.test.", ["127.0.0.1"]),
        ("both.test", ["::1", "127.0.0.1"]),
        ("six.test", ["::1"]),
        ("alias.test", ["127.0.0.1"]),
    ],
)
async def test_addresses_that_exist_are_found(names: Names, host: str, expected: list[str]) -> None:
    """Both kinds of address are found, behind an alias too."""
    assert expected == [str(address) for address in await names.addresses(host)]


@pytest.mark.system
@pytest.mark.parametrize(
    "host", ["missing.test", "text.test", "dangling.test", "a..test", f"{'a' * 64}.test", "a." * 200 + "test"]
)
async def test_addresses_that_do_not_exist_are_none(names: Names, host: str) -> None:
    """NXDOMAIN, NODATA, an alias of nothing, and names that no zone can hold: there is no address."""
    assert () == await names.addresses(host)


@pytest.mark.system
async def test_addresses_of_large_answer_are_bounded(names: Names) -> None:
    """An answer that needs TCP is read, and only so many of its addresses are used."""
    assert 16 == len(await names.addresses("many.test"))


@pytest.mark.system
@pytest.mark.parametrize("host", ["loop.test", "www.elsewhere.example"])
async def test_addresses_server_says_no_answer_is_unavailable(names: Names, host: str) -> None:
    """A loop of aliases, and a name for which the server is not responsible: cannot tell."""
    with pytest.raises(KeySourceUnavailable):
        await names.addresses(host)


@pytest.mark.parametrize(
    ("respond", "words"),
    [
        (nameserver.rcode("SERVFAIL"), "SERVFAIL"),
        (nameserver.rcode("REFUSED"), "REFUSED"),
        (nameserver.rcode("YXDOMAIN"), "cannot be asked"),
        (nameserver.silence, "in time"),
        (nameserver.garbage, "in time"),
        (nameserver.referral, "does not resolve"),
    ],
)
async def test_addresses_server_fails_is_unavailable(respond: Respond, words: str) -> None:
    """Whatever a name server does instead of an answer, it is never "none" (K-04)."""
    async with FakeNameserver(respond) as server:
        with pytest.raises(KeySourceUnavailable, match=words):
            await Names(server.address, timeout_seconds=0.3).addresses("www.test")


@pytest.mark.parametrize(
    ("code", "expected"), [(6, KeySourceDistrusted), (7, KeySourceDistrusted), (22, KeySourceUnreachable)]
)
async def test_addresses_that_do_not_validate_are_distrusted(
    code: int, expected: type[KeySourceUnavailable]
) -> None:
    """What a resolver calls bogus (RFC 8914) may be an attack; what it cannot reach is an outage."""

    def respond(query: QueryMessage) -> bytes:
        answer = make_response(query, recursion_available=True)
        answer.set_rcode(rcode.SERVFAIL)
        answer.use_edns(options=[edns.EDEOption(code)] if query.edns >= 0 else [])
        return answer.to_wire()

    async with FakeNameserver(respond) as server:
        with pytest.raises(KeySourceUnavailable, match="SERVFAIL") as caught:
            await Names(server.address, timeout_seconds=0.5).addresses("www.test")

    assert expected is caught.type


async def test_addresses_server_without_aaaa_is_enough() -> None:
    """A server that fails for AAAA alone, as old ones do, does not hide the address that it gives."""

    def respond(query: QueryMessage) -> bytes:
        if query.question[0].rdtype == rdatatype.AAAA:
            return nameserver.rcode("SERVFAIL")(query) or b""
        return nameserver.with_address("127.0.0.1")(query) or b""

    async with FakeNameserver(respond) as server:
        found = await Names(server.address).addresses("www.test")

    assert ["127.0.0.1"] == [str(address) for address in found]


async def test_addresses_server_without_a_is_unavailable() -> None:
    """If one kind is missing and the other one is not known, nothing is known."""

    def respond(query: QueryMessage) -> bytes:
        word = "SERVFAIL" if query.question[0].rdtype == rdatatype.A else "NXDOMAIN"
        return nameserver.rcode(word)(query) or b""

    async with FakeNameserver(respond) as server:
        with pytest.raises(KeySourceUnavailable, match="SERVFAIL"):
            await Names(server.address).addresses("www.test")


async def test_addresses_asks_the_name_as_it_is() -> None:
    """No search domain is appended, not even to a single label."""
    async with FakeNameserver(nameserver.rcode("NXDOMAIN")) as server:
        await Names(server.address).addresses("intranet")

        assert ["intranet. IN A", "intranet. IN AAAA"] == sorted(server.questions)


async def test_addresses_name_server_is_off_is_unavailable() -> None:
    """A port on which nobody listens: cannot tell."""
    async with FakeNameserver(nameserver.silence) as server:
        address = server.address

    with pytest.raises(KeySourceUnavailable):
        await Names(address, timeout_seconds=0.5).addresses("www.test")


@pytest.mark.parametrize("content", ["options timeout:1\n", None])
async def test_addresses_without_system_resolver_is_unavailable(tmp_path: Path, content: str | None) -> None:
    """Without a configured resolver the system's file is read; one that names nobody is "cannot tell"."""
    file = tmp_path / "resolv.conf"
    if content:
        file.write_text(content)

    with pytest.raises(KeySourceUnavailable, match="no name server"):
        await Names(system_file=file).addresses("www.test")


@pytest.mark.parametrize(
    ("text", "expected"), [("127.0.0.1:53", ("127.0.0.1", 53)), ("[::1]:5353", ("::1", 5353))]
)
def test_parse_resolver_address_and_port_are_taken_apart(text: str, expected: tuple[str, int]) -> None:
    """Both families are understood."""
    assert expected == parse_resolver(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:0",
        "::1:53",
        "[127.0.0.1]:53",
        "dns.test:53",
        "1.1.1.1:65536",
    ],
)
def test_parse_resolver_anything_else_is_refused(text: str) -> None:
    """A name or a missing port is no resolver."""
    with pytest.raises(ValueError, match=r"."):
        parse_resolver(text)
