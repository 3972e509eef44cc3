"""DANE against real servers: knot with signed zones, unbound validating them, and a resolver that lies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.address import parse_mailbox
from relay.errors import KeySourceDistrusted, KeySourceUnavailable
from relay.keys.dane import DaneKeys, owner_name, read_answer, read_record
from relay.message import Discovered
from relay.mime.packets import certificates
from relay.openpgp.judge import Judge
from tests import dnssec
from tests.dnssec import NEGATIVE_TTL, SIGNED_NAME, alias, answering, lying_resolver, openpgpkey
from tests.fakes import FixedClock
from tests.network import HOST, free_ports
from tests.unit.keys.certs import armored, cert, fingerprint

ANN = cert("Ann <ann@example.test>", "<case@example.test>", "<alias@example.test>")
ANN_TOO = cert("<ann@example.test>")
DANIEL = cert("<dan@named.test>")

_ZONE = "".join(
    [
        openpgpkey("ann@example.test", ANN, ttl=77),
        openpgpkey("Two@example.test", ANN, ttl=50),
        openpgpkey("Two@example.test", ANN_TOO, ttl=50),
        openpgpkey("garbage@example.test", b"no packet"),
        *(openpgpkey("crowd@example.test", bytes([number])) for number in range(21)),
        openpgpkey("pattern@example.test", cert("<pattern@*.test>")),
        alias("alias@example.test", "ann@example.test", ttl=33),
        alias("outside@example.test", "ann@insecure.test"),
        alias("nowhere@example.test", "nobody@example.test", ttl=33),
        openpgpkey("dan@target.test", DANIEL),
        "named DNAME target\n",
    ]
)


@pytest.fixture(scope="module")
def zones() -> Iterator[dnssec.Dns]:
    with dnssec.running(
        _ZONE, insecure=openpgpkey("ann@insecure.test", ANN), bogus=openpgpkey("ann@bogus.test", ANN)
    ) as made:
        yield made


def keys_at(port: int, *, timeout_seconds: float = 30, signed_name: str = SIGNED_NAME) -> DaneKeys:
    return DaneKeys("dane", HOST, port, signed_name=signed_name, timeout_seconds=timeout_seconds)


async def fingerprints(keys: DaneKeys, address: str) -> list[str]:
    found = await keys.discover(parse_mailbox(address))
    return sorted(certificate.fingerprint for certificate in found.certificates)


# --------------------------------------------------------------------------- names


def test_owner_name_of_the_example_is_as_in_the_rfc() -> None:
    """The hash and its place are those of RFC 7929 §3."""
    expected = "c93f1e400f26708f98cb19d936620da35eec8f72e57f9eec01c1afd6._openpgpkey.example.com."

    assert expected == str(owner_name(parse_mailbox("hugh@example.com")))
    assert expected == str(owner_name(parse_mailbox('"h\\ugh"@EXAMPLE.com')))


def test_owner_name_differs_by_letter_case_and_not_by_normal_form() -> None:
    """Nothing but normalisation is done to a local part (RFC 7929 §3, §4), and the cache knows the same."""
    keys = keys_at(53)
    same = [parse_mailbox(text) for text in ("J\u00f6rg@example.com", "Jo\u0308rg@example.com")]
    other = parse_mailbox("j\u00f6rg@example.com")

    assert owner_name(same[0]) == owner_name(same[1]) != owner_name(other)
    assert keys.cache_key(same[0]) == keys.cache_key(same[1]) != keys.cache_key(other)


async def test_discover_where_no_name_can_exist_is_none() -> None:
    """An address literal has no zone, and the longest domains have no room for the record's name."""
    nobody = keys_at(free_ports(1)[0])
    long = ".".join(["a" * 63, "b" * 63, "c" * 63, "example.com"])

    assert Discovered() == await nobody.discover(parse_mailbox("ann@[192.0.2.1]"))
    assert Discovered() == await nobody.discover(parse_mailbox(f"ann@{long}"))
    assert Discovered() == await nobody.discover_fingerprint(fingerprint(ANN))
    await nobody.close()


def test_dane_keys_need_the_resolver_as_an_ip_address() -> None:
    """Which resolver is trusted must not depend on what another one says."""
    with pytest.raises(ValueError, match="localhost"):
        DaneKeys("dane", "localhost", 53)


# --------------------------------------------------------------------------- real servers


@pytest.mark.system
async def test_discover_of_a_signed_record_is_its_certificate(zones: dnssec.Dns) -> None:
    """A record that validates is given with its source and with its TTL as the longest age."""
    found = await keys_at(zones.resolver_port).discover(parse_mailbox("ann@example.test"))

    assert [(fingerprint(ANN), "dane")] == [(item.fingerprint, item.source) for item in found.certificates]
    assert found.max_age_seconds is not None
    assert 0 < found.max_age_seconds <= 77


@pytest.mark.system
async def test_discover_keeps_letter_case(zones: dnssec.Dns) -> None:
    """An address in other letters is another name, which here does not exist."""
    keys = keys_at(zones.resolver_port)

    assert sorted([fingerprint(ANN), fingerprint(ANN_TOO)]) == await fingerprints(keys, "Two@EXAMPLE.test")
    assert [] == await fingerprints(keys, "two@example.test")


@pytest.mark.system
async def test_discover_of_a_name_that_is_denied_is_none(zones: dnssec.Dns) -> None:
    """NXDOMAIN and NODATA that validate are "no key", kept no longer than the SOA's minimum."""
    for address in ("nobody@example.test", "nobody@nowhere.test"):
        found = await keys_at(zones.resolver_port).discover(parse_mailbox(address))

        assert () == found.certificates
        assert found.max_age_seconds is not None
        assert 0 < found.max_age_seconds <= NEGATIVE_TTL


@pytest.mark.system
async def test_discover_in_an_unsigned_zone_is_none(zones: dnssec.Dns) -> None:
    """A record that nobody signed could be anybody's (RFC 7929 §5)."""
    keys = keys_at(zones.resolver_port)

    assert [] == await fingerprints(keys, "ann@insecure.test")
    assert [] == await fingerprints(keys, "nobody@insecure.test")
    assert [] == await fingerprints(keys, "outside@example.test")


@pytest.mark.system
@pytest.mark.parametrize("address", ["ann@bogus.test", "nobody@bogus.test", "ann@broken.test"])
async def test_discover_of_what_does_not_validate_is_distrusted(zones: dnssec.Dns, address: str) -> None:
    """SERVFAIL is not "no key", whether the signatures or the servers are to blame (RFC 7929 §7.1)."""
    with pytest.raises(KeySourceDistrusted, match="SERVFAIL"):
        await keys_at(zones.resolver_port).discover(parse_mailbox(address))


@pytest.mark.system
async def test_discover_with_a_wrong_trust_anchor_is_distrusted(zones: dnssec.Dns) -> None:
    """A forged zone, which looks the same to a resolver, gives no key and no absence of one."""
    for address in ("ann@example.test", "nobody@example.test"):
        with pytest.raises(KeySourceDistrusted):
            await keys_at(zones.astray_port).discover(parse_mailbox(address))


@pytest.mark.system
async def test_discover_through_aliases_is_the_certificate_of_the_target(zones: dnssec.Dns) -> None:
    """CNAME and DNAME are followed; the shortest TTL of the chain counts."""
    keys = keys_at(zones.resolver_port)
    found = await keys.discover(parse_mailbox("alias@example.test"))
    denied = await keys.discover(parse_mailbox("nowhere@example.test"))

    assert [fingerprint(ANN)] == [item.fingerprint for item in found.certificates]
    assert [fingerprint(DANIEL)] == await fingerprints(keys, "dan@named.test")
    assert () == denied.certificates
    assert all((answer.max_age_seconds or 99) <= 33 for answer in (found, denied))


@pytest.mark.system
async def test_discover_of_garbage_is_judged_and_not_dropped(zones: dnssec.Dns) -> None:
    """A record that cannot be read is a certificate that may not be used, not an absence."""
    address = parse_mailbox("garbage@example.test")
    found = await keys_at(zones.resolver_port).discover(address)
    verdicts = Judge().judge(list(found.certificates), address, FixedClock().now())

    assert [False] == [verdict.usable for verdict in verdicts]
    assert b"no packet" not in found.certificates[0].data


@pytest.mark.system
async def test_discover_of_too_many_records_is_unavailable(zones: dnssec.Dns) -> None:
    """Nobody has so many keys, and one past the limit could be a revocation."""
    with pytest.raises(KeySourceUnavailable, match="more than 20 records"):
        await keys_at(zones.resolver_port).discover(parse_mailbox("crowd@example.test"))


@pytest.mark.system
async def test_discover_of_a_pattern_is_none(zones: dnssec.Dns) -> None:
    """A record with a pattern in a User ID is ignored (RFC 7929 §5.3)."""
    assert [] == await fingerprints(keys_at(zones.resolver_port), "pattern@example.test")


@pytest.mark.system
async def test_discover_with_a_server_that_does_not_validate_is_unavailable(zones: dnssec.Dns) -> None:
    """Without validation every zone looks unsigned; that must not look like "no key"."""
    keys = keys_at(zones.authority_port)

    for address in ("ann@example.test", "nobody@example.test", "ann@insecure.test"):
        with pytest.raises(KeySourceUnavailable, match="does not validate DNSSEC"):
            await keys.discover(parse_mailbox(address))


@pytest.mark.system
async def test_discover_in_an_unsigned_zone_needs_a_signed_name(zones: dnssec.Dns) -> None:
    """If the name that proves validation is not signed, "unsigned" proves nothing."""
    keys = keys_at(zones.resolver_port, signed_name="insecure.test.")

    with pytest.raises(KeySourceUnavailable, match="does not validate DNSSEC"):
        await keys.discover(parse_mailbox("ann@insecure.test"))
    assert [fingerprint(ANN)] == await fingerprints(keys, "ann@example.test")


@pytest.mark.system
async def test_discover_after_the_resolver_died_is_unavailable() -> None:
    """A resolver that was killed is noticed by the next question."""
    with dnssec.running(_ZONE) as zones:
        keys = keys_at(zones.resolver_port)
        before = await fingerprints(keys, "ann@example.test")
        zones.stop_resolver()
        with pytest.raises(KeySourceUnavailable):
            await keys.discover(parse_mailbox("ann@example.test"))

    assert [fingerprint(ANN)] == before


# --------------------------------------------------------------------------- a resolver that lies

_QUERY = dns.message.make_query(str(owner_name(parse_mailbox("ann@example.test"))), "OPENPGPKEY", id=7)
_ANSWER = dns.rrset.from_text(
    str(owner_name(parse_mailbox("ann@example.test"))), 60, "IN", "OPENPGPKEY", "AAECAw=="
)
_UNREACHABLE = dns.edns.EDEOption(dns.edns.EDECode.NO_REACHABLE_AUTHORITY)
_BOGUS = dns.edns.EDEOption(dns.edns.EDECode.DNSSEC_BOGUS)


def _truncated(query: dns.message.Message) -> bytes:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC | dns.flags.AD
    return response.to_wire()


def _failing(*errors: dns.edns.EDEOption) -> dnssec.Answer:
    def answer(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query)
        response.set_rcode(dns.rcode.SERVFAIL)
        response.use_edns(options=list(errors))
        return response.to_wire()

    return answer


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answering("REFUSED"), "REFUSED"),
        (answering("FORMERR", secure=True), "FORMERR"),
        (answering("NOTIMP", question=[]), "NOTIMP"),
        (answering(secure=True, id=1), "question"),
        (answering(secure=True, question=[]), "question|complete"),
        (answering("NXDOMAIN", secure=True, answer=[_ANSWER]), "contradictory"),
        (_truncated, "complete"),
        (lambda query: query.to_wire(), "question"),
        (lambda query: b"", "short|header|DNS"),
        (lambda query: b"\xff" * 40, "resolver"),
        (answering(), "does not validate"),
        (answering("NXDOMAIN"), "does not validate"),
        (_failing(_UNREACHABLE), "cannot reach"),
    ],
)
async def test_discover_with_an_answer_that_tells_nothing_is_unavailable(
    answer: dnssec.Answer, why: str
) -> None:
    """Refusals, broken and contradictory answers, and those of another question are never "no key"."""
    async with lying_resolver(answer) as port:
        with pytest.raises(KeySourceUnavailable, match=why) as caught:
            await keys_at(port).discover(parse_mailbox("ann@example.test"))

    assert not isinstance(caught.value, KeySourceDistrusted)
    assert str(caught.value).isascii()


@pytest.mark.parametrize("answer", [_failing(), _failing(_BOGUS), _failing(_BOGUS, _UNREACHABLE)])
async def test_discover_of_servfail_is_distrusted(answer: dnssec.Answer) -> None:
    """Unless it says that it reached nobody, a resolver that fails may have seen a forgery."""
    async with lying_resolver(answer) as port:
        with pytest.raises(KeySourceDistrusted):
            await keys_at(port).discover(parse_mailbox("ann@example.test"))


async def test_discover_does_not_ask_for_ad_with_ad() -> None:
    """A resolver that copies the flags of the question is not taken for one that validates."""

    def echo(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query)
        response.flags = query.flags | dns.flags.QR
        return response.to_wire()

    async with lying_resolver(echo) as port:
        with pytest.raises(KeySourceUnavailable, match="does not validate"):
            await keys_at(port).discover(parse_mailbox("ann@example.test"))


async def test_discover_with_a_silent_resolver_ends_in_time() -> None:
    """Silence is unavailable when the time is over, and cancelling does not wait for it."""
    async with lying_resolver(lambda query: None) as port:
        with pytest.raises(KeySourceUnavailable, match="no answer in"):
            await keys_at(port, timeout_seconds=0.2).discover(parse_mailbox("ann@example.test"))
        asking = asyncio.create_task(keys_at(port).discover(parse_mailbox("ann@example.test")))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_discover_with_no_resolver_is_unavailable() -> None:
    """A port that nobody listens on tells nothing about keys."""
    with pytest.raises(KeySourceUnavailable):
        await keys_at(free_ports(1)[0]).discover(parse_mailbox("ann@example.test"))


@pytest.mark.parametrize(("minimum", "expected"), [(0, 30), (77, 77), (99_999, 10_800)])
def test_read_answer_of_none_is_kept_for_a_while(minimum: int, expected: int) -> None:
    """Whatever the zone wants, not every message costs a question (RFC 7929 §5.1), and none is for ever."""
    soa = dns.rrset.from_text("example.test.", 99_999, "IN", "SOA", f". . 1 2 3 4 {minimum}")
    answer = answering("NXDOMAIN", secure=True, authority=[soa])(_QUERY) or b""
    response = dns.message.from_wire(answer)
    assert isinstance(response, dns.message.QueryMessage)

    assert Discovered((), expected) == read_answer(response, parse_mailbox("ann@example.test"), "dane")


# --------------------------------------------------------------------------- any octets


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda tail: ANN[: len(ANN) - len(tail)] + tail))
def test_read_record_of_any_octets_is_a_certificate_with_a_verdict(data: bytes) -> None:
    """Whatever stands in a record, the judge has a word for it, and it can be stored and read again."""
    found = read_record(data, "dane")
    verdicts = Judge().judge([found], parse_mailbox("ann@example.test"), FixedClock().now())

    assert 1 == len(verdicts)
    assert [found] == certificates(found.data, "dane")


def test_read_record_of_two_certificates_is_not_usable() -> None:
    """A record has one certificate (RFC 7929 §2.1); armour is none (§2.2)."""
    for data in (ANN + ANN_TOO, armored("<ann@example.test>"), b""):
        found = read_record(data, "dane")

        assert found.fingerprint not in {fingerprint(ANN), fingerprint(ANN_TOO)}
        assert ("(OpenPGP data that cannot be read)",) == found.user_ids


_WIRE = dnssec.answering(secure=True, answer=[_ANSWER], id=7)(_QUERY) or b""


@given(
    st.lists(st.tuples(st.integers(0, len(_WIRE) - 1), st.integers(0, 255)), max_size=4),
    st.integers(0, len(_WIRE)),
)
def test_read_answer_of_a_damaged_message_is_an_answer_or_a_known_error(
    changes: list[tuple[int, int]], cut: int
) -> None:
    """No octets of a resolver lead to another exception than those that `discover` translates."""
    wire = bytearray(_WIRE)
    for place, octet in changes:
        wire[place] = octet
    try:
        response = dns.message.from_wire(bytes(wire) if cut % 2 else bytes(wire[:cut]))
        if _QUERY.is_response(response) and response.question:
            assert isinstance(response, dns.message.QueryMessage)
            assert isinstance(read_answer(response, parse_mailbox("ann@example.test"), "dane"), Discovered)
    except dns.exception.DNSException:
        return
