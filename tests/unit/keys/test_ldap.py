"""LDAP against a real slapd, over LDAPS and StartTLS, and against directories that lie."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from relay.address import parse_mailbox
from relay.errors import KeySourceUnavailable
from relay.keys.ldap import LdapKeys, LdapSettings, escaped
from relay.message import Discovered
from relay.openpgp.judge import Judge
from tests import slapd
from tests.fakes import FixedClock
from tests.network import HOST, Authority, free_ports, make_authority
from tests.slapd import PASSWORD, PEOPLE, PRIVATE, READER, SUFFIX, entry, lying_directory, message, result
from tests.unit.keys.certs import armored, cert, fingerprint

ANN, ANN_TOO, BOB = cert("<ann@example.test>"), cert("<ann@example.test>"), cert("<bob@example.test>")
_MANY, _LARGE, _AWAY = (f"ou={name},{SUFFIX}" for name in ("many", "large", "away"))

_TREE = "".join(
    [
        *(slapd.unit(dn) for dn in (PEOPLE, PRIVATE, _MANY, _LARGE, _AWAY)),
        slapd.person("ann", "ann@example.test", ANN, ANN_TOO),
        slapd.person("bob", "Bob@Example.TEST", BOB),
        slapd.person("bob-too", "bob@example.test", armored("<bob@example.test>")),
        slapd.person("keyless", "keyless@example.test"),
        slapd.person("garbage", "garbage@example.test", b"no packet"),
        slapd.person("eve", "eve@example.test", cert("<eve@example.test>"), below=PRIVATE),
        *(slapd.person(f"x{number}", "x@example.test", below=_MANY) for number in range(21)),
        slapd.person("large", "large@example.test", *(bytes([n]) * 300_000 for n in range(4)), below=_LARGE),
        slapd.person("crowd", "crowd@example.test", *(cert("c") for _ in range(21)), below=_LARGE),
        slapd.referral(f"ou=elsewhere,{_AWAY}"),
    ]
)


@pytest.fixture(scope="module")
def directory(authority: Authority) -> Iterator[slapd.Slapd]:
    with slapd.running(authority, _TREE) as made:
        yield made


@pytest.fixture(params=["ldaps", "ldap"])
def settings(request: pytest.FixtureRequest, directory: slapd.Slapd, authority: Authority) -> LdapSettings:
    port = directory.tls_port if request.param == "ldaps" else directory.port
    url = f"{request.param}://{HOST}:{port}"
    return LdapSettings(url, PEOPLE, ca_file=authority.ca_file, timeout_seconds=30)


async def found(settings: LdapSettings, address: str) -> list[str]:
    answer = await LdapKeys("corp", settings).discover(parse_mailbox(address))
    return sorted(certificate.fingerprint for certificate in answer.certificates)


async def refusal(settings: LdapSettings, address: str = "ann@example.test") -> str:
    with pytest.raises(KeySourceUnavailable) as caught:
        await LdapKeys("corp", settings).discover(parse_mailbox(address))
    return str(caught.value)


# --------------------------------------------------------------------------- a real server


@pytest.mark.system
async def test_discover_is_every_value_of_every_entry(settings: LdapSettings) -> None:
    """Several values and several entries count, armoured or binary, whatever the letter case."""
    bobs = await LdapKeys("corp", settings).discover(parse_mailbox("bob@example.test"))

    assert sorted([fingerprint(ANN), fingerprint(ANN_TOO)]) == await found(settings, "ANN@example.test")
    assert 2 == len(bobs.certificates)
    assert fingerprint(BOB) in {certificate.fingerprint for certificate in bobs.certificates}
    assert {"corp"} == {certificate.source for certificate in bobs.certificates}
    assert bobs.max_age_seconds is None


@pytest.mark.system
async def test_discover_without_entry_or_key_is_none(settings: LdapSettings) -> None:
    """An empty answer with success is "no key"."""
    assert [] == await found(settings, "nobody@example.test")
    assert [] == await found(settings, "keyless@example.test")


@pytest.mark.system
@pytest.mark.parametrize(
    "local", ["*", "a*", "*)(mail=*", "ann)(|(mail=*", r"ann\\00", r"\\2a", "ann@example.test)(uid=*"]
)
async def test_discover_of_an_address_that_looks_like_a_filter_is_none(
    settings: LdapSettings, local: str
) -> None:
    """What stands in an address is never a part of the filter (RFC 4515 §3)."""
    assert [] == await found(settings, f'"{local}"@example.test')


@pytest.mark.system
async def test_discover_of_garbage_is_judged_and_not_dropped(settings: LdapSettings) -> None:
    """A value that cannot be read is a certificate that may not be used, not an absence."""
    address = parse_mailbox("garbage@example.test")
    answer = await LdapKeys("corp", settings).discover(address)
    verdicts = Judge().judge(list(answer.certificates), address, FixedClock().now())

    assert [False] == [verdict.usable for verdict in verdicts]


@pytest.mark.system
async def test_discover_with_a_login_sees_what_it_may(settings: LdapSettings) -> None:
    """A bind opens what is closed to others; without it the base is hidden, which is not "no key"."""
    private = replace(settings, base=PRIVATE)
    known = replace(private, bind_dn=READER, password=PASSWORD)

    assert 1 == len(await found(known, "eve@example.test"))
    assert [] == await found(known, "nobody@example.test")
    assert "no such object" in await refusal(private, "eve@example.test")


@pytest.mark.system
async def test_discover_with_a_wrong_password_is_unavailable(settings: LdapSettings) -> None:
    """A login that fails never becomes an anonymous search, and the password is not in the text."""
    wrong = replace(settings, bind_dn=READER, password="not this one")
    why = await refusal(wrong)

    assert "invalid credentials" in why
    assert "not this one" not in why + repr(wrong)


@pytest.mark.system
@pytest.mark.parametrize(
    ("base", "address", "why"),
    [
        (f"ou=nowhere,{SUFFIX}", "ann@example.test", "no such object"),
        ("no dn", "ann@example.test", "result 34"),
        (_MANY, "x@example.test", "size limit exceeded"),
        (_LARGE, "large@example.test", "too long"),
        (_LARGE, "crowd@example.test", "more than 20 certificates"),
        (_AWAY, "ann@example.test", "refers to another server"),
        (f"ou=elsewhere,{_AWAY}", "ann@example.test", "referral"),
    ],
)
async def test_discover_of_what_is_no_plain_success_is_unavailable(
    settings: LdapSettings, base: str, address: str, why: str
) -> None:
    """Wrong bases, limits and referrals are "cannot tell"."""
    assert why in await refusal(replace(settings, base=base), address)


@pytest.mark.system
async def test_discover_of_many_at_once_answers_all(settings: LdapSettings) -> None:
    """Questions beyond the bound on connections wait and are answered."""
    keys = LdapKeys("corp", settings)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(keys.discover(parse_mailbox("ann@example.test"))) for _ in range(12)]

    assert [2] * 12 == [len(task.result().certificates) for task in asked]


@pytest.mark.system
async def test_discover_after_the_server_died_is_unavailable(authority: Authority) -> None:
    """A server that was stopped is noticed by the next question."""
    with slapd.running(authority, slapd.unit(PEOPLE)) as server:
        url = f"ldaps://{HOST}:{server.tls_port}"
        settings = LdapSettings(url, PEOPLE, ca_file=authority.ca_file, timeout_seconds=30)
        before = await found(settings, "ann@example.test")
        server.stop()
        after = await refusal(settings)

    assert [] == before
    assert after.startswith(f"{HOST}:{server.tls_port}: ")


# --------------------------------------------------------------------------- TLS


@pytest.mark.system
async def test_discover_with_an_unknown_authority_is_unavailable(
    settings: LdapSettings, tmp_path: Path
) -> None:
    """A certificate that only the system's or another authority could vouch for is refused."""
    other = make_authority(tmp_path)

    assert "certificate verify failed" in await refusal(replace(settings, ca_file=other.ca_file))
    assert "certificate verify failed" in await refusal(replace(settings, ca_file=None))
    assert "No such file" in await refusal(replace(settings, ca_file=tmp_path / "missing.pem"))


@pytest.mark.system
@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
async def test_discover_with_another_name_is_unavailable(tmp_path: Path, scheme: str) -> None:
    """The certificate has to be for the host in the URL, over LDAPS and StartTLS."""
    other = make_authority(tmp_path, "localhost")
    with slapd.running(other, slapd.unit(PEOPLE)) as server:
        port = server.tls_port if scheme == "ldaps" else server.port
        right = LdapSettings(
            f"{scheme}://localhost:{port}", PEOPLE, ca_file=other.ca_file, timeout_seconds=30
        )
        why = await refusal(replace(right, url=f"{scheme}://{HOST}:{port}"))

        assert [] == await found(right, "ann@example.test")
        assert "certificate is not valid for" in why


def _login(port: int, authority: Authority, scheme: str = "ldap", seconds: float = 30) -> LdapSettings:
    return LdapSettings(
        f"{scheme}://{HOST}:{port}",
        PEOPLE,
        bind_dn=READER,
        password=PASSWORD,
        ca_file=authority.ca_file,
        timeout_seconds=seconds,
    )


async def test_discover_where_starttls_is_refused_sends_nothing_in_clear(authority: Authority) -> None:
    """A server, or somebody in front of it, that has no TLS gets neither the login nor the address."""
    async with lying_directory(message(1, result(0x78, 2))) as lies:
        why = await refusal(_login(lies.port, authority))

    assert "result 2" in why
    assert b"" == lies.received


async def test_discover_does_not_believe_what_came_before_tls(authority: Authority) -> None:
    """Answers that were put behind that to StartTLS, in clear, are not taken for those of the server."""
    injected = message(2, result(0x61, 0)) + message(3, result(0x65, 0))
    async with lying_directory(message(1, result(0x78, 0)) + injected) as lies:
        why = await refusal(_login(lies.port, authority))

    assert "SSL" in why
    assert PASSWORD.encode() not in lies.received


# --------------------------------------------------------------------------- answers that are none


@pytest.fixture
def context(authority: Authority) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(authority.certificate, authority.key)
    return made


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (message(3, entry(b"pgpKey", ANN)) * 21 + message(3, result(0x65, 0)), "more than 20 entries"),
        (message(3, entry(b"pgpKey", ANN)) + message(3, result(0x65, 51)), "busy"),
        (message(3, entry(b"pgpKey", ANN)) + message(3, result(0x61, 0)), "not asked"),
        (message(2, result(0x65, 0)), "not asked"),
        (message(0, result(0x78, 52)), "ends the connection"),
        (b"\x30\x84\x7f\xff\xff\xff", "too long"),
        (b"\x30\x80", "not LDAP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "not LDAP"),
        (message(3, entry(b"pgpKey", b"x" * 400_000)) * 3, "too long"),
    ],
)
async def test_discover_with_an_answer_that_is_none_is_unavailable(
    authority: Authority, context: ssl.SSLContext, answer: bytes, why: str
) -> None:
    """Only success at the end of an answer to this question counts."""
    async with lying_directory(answer, context) as lies:
        settings = replace(_login(lies.port, authority, "ldaps"), bind_dn="", password="")

        assert why in await refusal(settings)


@pytest.mark.parametrize("tls", [True, False])
async def test_discover_with_a_silent_server_ends_in_time(
    authority: Authority, context: ssl.SSLContext, tls: bool
) -> None:
    """Silence before and after TLS, and an answer that never ends, are unavailable when the time is over."""
    begun = message(3, entry(b"pgpKey", ANN)) if tls else b"\x30\x0c\x02"
    async with lying_directory(begun, context if tls else None) as lies:
        settings = replace(
            _login(lies.port, authority, "ldaps" if tls else "ldap", 0.5), bind_dn="", password=""
        )

        assert "no answer in 0.5 seconds" in await refusal(settings)


@pytest.mark.parametrize("tls", [True, False])
async def test_discover_when_cancelled_hangs_up(
    authority: Authority, context: ssl.SSLContext, tls: bool
) -> None:
    """Who does not wait any longer leaves no connection behind."""
    async with lying_directory(b"", context if tls else None) as lies:
        keys = LdapKeys("corp", _login(lies.port, authority, "ldaps" if tls else "ldap"))
        asking = asyncio.create_task(keys.discover(parse_mailbox("ann@example.test")))
        await lies.asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(lies.left.wait(), 10)


async def test_discover_with_no_server_is_unavailable(authority: Authority) -> None:
    """A port that nobody listens on, or a host that does not exist, tells nothing about keys."""
    nowhere = LdapSettings("ldaps://name.invalid", PEOPLE, timeout_seconds=30)

    assert "" != await refusal(_login(free_ports(1)[0], authority))
    assert (await refusal(nowhere)).startswith("name.invalid:636: ")


# --------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://ldap.example.com"},
        {"url": "ldaps://"},
        {"url": "ldaps://user@ldap.example.com"},
        {"url": "ldaps://ldap.example.com/ou=people"},
        {"url": "ldaps://ldap.example.com:99999"},
        {"filter": "(mail=*)"},
        {"bind_dn": READER},
        {"password": PASSWORD},
    ],
)
def test_settings_that_can_never_work_are_refused(changes: dict[str, str]) -> None:
    """Mistakes show at the start; a login without password would be an anonymous one."""
    with pytest.raises(ValueError, match=r"url|filter|bind_dn|[Pp]ort"):
        replace(LdapSettings("ldaps://ldap.example.com", PEOPLE), **changes)


@pytest.mark.parametrize("filter", ["(mail={address}", "mail={address}", "()(mail={address})"])
def test_ldap_keys_with_a_broken_filter_are_refused(filter: str) -> None:
    """A filter is encoded once at the start, so that its mistakes show there."""
    with pytest.raises(ValueError, match="filter"):
        LdapKeys("corp", LdapSettings("ldaps://ldap.example.com", PEOPLE, filter=filter))


def test_settings_know_the_usual_ports() -> None:
    """636 for LDAPS and 389 for StartTLS (RFC 4516 §2)."""
    assert 636 == LdapSettings("ldaps://ldap.example.com", PEOPLE).port
    assert 389 == LdapSettings("ldap://ldap.example.com/", PEOPLE).port
    assert "::1" == LdapSettings("ldaps://[::1]", PEOPLE).host


def test_escaped_leaves_nothing_for_a_filter_to_read() -> None:
    """Everything but letters, digits and a few signs is written as octets."""
    assert "a.b-c_d@x" == escaped("a.b-c_d@x")
    assert r"\2a\29\28\5c\00\20\c3\b6" == escaped("*)(\\\0 \u00f6")


async def test_cache_key_folds_letter_case() -> None:
    """Directories compare addresses without letter case, and are asked for the folded one."""
    keys = LdapKeys("corp", LdapSettings("ldaps://ldap.example.com", PEOPLE))

    assert "ann@example.test" == keys.cache_key(parse_mailbox("Ann@Example.test"))
    assert Discovered() == await keys.discover_fingerprint(fingerprint(ANN))
    await keys.close()
