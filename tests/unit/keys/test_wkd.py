"""The source `wkd` against a real nginx and a real knot: what is found, what is none, what cannot be told."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from relay.address import parse_mailbox
from relay.clock import SystemClock
from relay.errors import KeySourceUnavailable
from relay.keys.wkd import WkdSource, advanced_path, advanced_url, direct_path, direct_url, wkd_hash
from relay.message import Address, Certificate, Discovered
from relay.openpgp.judge import Judge
from tests import nameserver
from tests.nameserver import FakeNameserver, Respond, rcode
from tests.network import Authority
from tests.programs import require
from tests.unit.keys.certs import armored, cert, fingerprint, tsk
from tests.unit.keys.websites import Sites, client, serving

_RECORDS = """\
openpgpkey.advanced A 127.0.0.1
openpgpkey.both A 127.0.0.1
both A 127.0.0.1
direct A 127.0.0.1
openpgpkey.text TXT ""
text A 127.0.0.1
openpgpkey.alias CNAME openpgpkey.advanced
openpgpkey.dangling CNAME nothing
dangling A 127.0.0.1
openpgpkey.loop CNAME openpgpkey.loop
loop A 127.0.0.1
openpgpkey.six AAAA 2001:db8::1
six A 127.0.0.1
mailonly MX 10 mail
openpgpkey.refusing A 127.0.0.78
refusing A 127.0.0.1
openpgpkey.private A 10.0.0.1
private A 127.0.0.1
openpgpkey.misnamed A 127.0.0.1
misnamed A 127.0.0.1
directmisnamed A 127.0.0.1
openpgpkey.failing A 127.0.0.1
failing A 127.0.0.1
openpgpkey.forbidding A 127.0.0.1
forbidding A 127.0.0.1
openpgpkey.asking A 127.0.0.1
asking A 127.0.0.1
openpgpkey.moved A 127.0.0.1
openpgpkey.escaped A 127.0.0.1
openpgpkey.page A 127.0.0.1
xn--bcher-kva A 127.0.0.1
"""

_NAMED = (
    *("openpgpkey.advanced.test", "openpgpkey.both.test", "both.test", "direct.test", "text.test"),
    *("openpgpkey.alias.test", "dangling.test", "loop.test", "six.test", "refusing.test", "private.test"),
    *("misnamed.test", "openpgpkey.failing.test", "failing.test", "openpgpkey.forbidding.test"),
    *("forbidding.test", "openpgpkey.asking.test", "asking.test", "openpgpkey.moved.test"),
    *("openpgpkey.escaped.test", "openpgpkey.page.test", "xn--bcher-kva.test"),
)

_BEHAVIOURS = {
    "openpgpkey.failing.test": "location / { return 500; }",
    "openpgpkey.forbidding.test": "location / { return 403; }",
    "openpgpkey.asking.test": 'location / { add_header WWW-Authenticate "Basic" always; return 401; }',
    "openpgpkey.moved.test": "return 302 https://openpgpkey.advanced.test:$server_port$request_uri;",
    "openpgpkey.escaped.test": 'location / { if ($args != "l=A%2Bb") { return 500; } }',
    "openpgpkey.page.test": "location / { default_type text/html; return 200 '<html>Welcome</html>'; }",
}

BOB = parse_mailbox("bob@advanced.test")


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with serving(tmp_path_factory.mktemp("wkd"), _RECORDS, _NAMED, _BEHAVIOURS) as found:
        yield found


def _publish(sites: Sites, mailbox: str, content: bytes, *, direct: bool = False) -> Address:
    """Puts an answer where a directory has it."""
    address = parse_mailbox(mailbox)
    host = address.domain if direct else f"openpgpkey.{address.domain}"
    sites.web.put(host, direct_path(address) if direct else advanced_path(address), content)
    return address


async def _found(sites: Sites, address: Address) -> tuple[Certificate, ...]:
    return (await WkdSource("wkd", sites.client()).discover(address)).certificates


async def _fingerprints(sites: Sites, address: Address) -> list[str]:
    return [certificate.fingerprint for certificate in await _found(sites, address)]


def _verdicts(found: tuple[Certificate, ...], address: Address) -> list[str]:
    later = SystemClock().now() + timedelta(minutes=1)  # the certificates were made a moment ago
    return [verdict.sentence for verdict in Judge().judge(list(found), address, later) if not verdict.usable]


# --------------------------------------------------------------------------- names of keys


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("Joe.Doe", "iy9q119eutrkn8s1mk4r39qejnbu3n5q"),
        ("joe.doe", "iy9q119eutrkn8s1mk4r39qejnbu3n5q"),
    ],
)
def test_wkd_hash_folds_ascii_alone(local: str, expected: str) -> None:
    """The vector of the draft (§3.1); other letters are not changed (K-01)."""
    assert expected == wkd_hash(local)


def test_wkd_hash_other_letters_keep_their_case() -> None:
    """Only A to Z are folded."""
    assert wkd_hash("\u00c4") != wkd_hash("\u00e4")


def test_urls_are_those_of_the_draft() -> None:
    """The examples of §3.1, the domain in lower case and the local part as it was given (K-02)."""
    joe, tagged = parse_mailbox("Joe.Doe@Example.ORG"), parse_mailbox("A+b@Ex.org")
    path = "hu/iy9q119eutrkn8s1mk4r39qejnbu3n5q?l=Joe.Doe"

    assert f"https://openpgpkey.example.org/.well-known/openpgpkey/example.org/{path}" == advanced_url(joe)
    assert f"https://example.org/.well-known/openpgpkey/{path}" == direct_url(joe)
    assert advanced_url(tagged).endswith("?l=A%2Bb")
    assert direct_url(parse_mailbox('"a/?#%"@x.test')).endswith("?l=a%2F%3F%23%25")


def test_cache_key_is_the_mailbox(authority: Authority) -> None:
    """Letter case makes no other question."""
    source = WkdSource("wkd", client(authority, "127.0.0.1:53", 443))

    assert source.cache_key(parse_mailbox("Bob@X.test")) == source.cache_key(parse_mailbox("bob@x.test"))


# --------------------------------------------------------------------------- found

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("mailbox", "direct"),
    [
        ("found@advanced.test", False),
        ("Joe.Doe@advanced.test", False),
        ("found@alias.test", False),
        ("found@both.test", False),
        ("A+b@escaped.test", False),
        ("found@direct.test", True),
        ("found@text.test", True),
        ("found@dangling.test", True),
        ("found@b\u00fccher.test", True),
        ("j\u00f6rg@direct.test", True),
    ],
)
async def test_discover_published_key_is_found(sites: Sites, mailbox: str, direct: bool) -> None:
    """Advanced first; direct where `openpgpkey.` has no address, a TXT or a dead alias is none."""
    certificate = cert(mailbox)
    address = _publish(sites, mailbox, certificate, direct=direct)

    assert [fingerprint(certificate)] == await _fingerprints(sites, address)


async def test_discover_redirect_is_followed(sites: Sites) -> None:
    """A directory may be kept by another host (K-06)."""
    certificate = cert("bob@moved.test")
    address = parse_mailbox("bob@moved.test")
    sites.web.put("openpgpkey.advanced.test", advanced_path(address), certificate)

    assert [fingerprint(certificate)] == await _fingerprints(sites, address)


async def test_discover_other_user_ids_are_dropped(sites: Sites) -> None:
    """A certificate leaves with the one mailbox that was asked for (K-08)."""
    address = _publish(sites, "one@advanced.test", cert("One <one@advanced.test>", "two@advanced.test"))

    [found] = await _found(sites, address)

    assert ("One <one@advanced.test>",) == found.user_ids
    assert [] == _verdicts((found,), address)


async def test_discover_armour_is_tolerated(sites: Sites) -> None:
    """The draft forbids it and people do it (K-10)."""
    address = _publish(sites, "armour@advanced.test", armored("armour@advanced.test"))

    assert [] == _verdicts(await _found(sites, address), address)
    assert 1 == len(await _found(sites, address))


async def test_discover_several_keys_are_all_given(sites: Sites) -> None:
    """A revoked certificate beside a new one: both are given, the judge tells them apart (K-09)."""
    old, new = tsk("several@advanced.test"), cert("several@advanced.test")
    public = old.extract_certificate()
    revoked = bytes(public) + bytes(public.revoke(old.certifier()))
    address = _publish(sites, "several@advanced.test", revoked + new)

    found = await _found(sites, address)

    assert [public.fingerprint.upper(), fingerprint(new)] == [one.fingerprint for one in found]
    [verdict] = _verdicts(found, address)
    assert verdict.startswith("revoked on")


# --------------------------------------------------------------------------- none


@pytest.mark.parametrize(
    "mailbox",
    [
        "nobody@advanced.test",
        "nobody@direct.test",
        "bob@mailonly.test",
        "bob@missing.test",
        "bob@[127.0.0.1]",
    ],
)
async def test_discover_no_key_is_none(sites: Sites, mailbox: str) -> None:
    """404, no web server at all, and an address literal: there is no key."""
    assert Discovered() == await WkdSource("wkd", sites.client()).discover(parse_mailbox(mailbox))


async def test_discover_advanced_404_is_final(sites: Sites) -> None:
    """A key of the direct method does not count where the advanced one is served (K-03)."""
    address = _publish(sites, "hidden@both.test", cert("hidden@both.test"), direct=True)

    assert () == await _found(sites, address)


async def test_discover_domain_that_fills_the_limit_is_direct(sites: Sites) -> None:
    """`openpgpkey.` in front of the longest domain is no name any more, so it has no address."""
    address = parse_mailbox("bob@" + "a." * 122 + "test")

    assert () == await _found(sites, address)


async def test_discover_fingerprint_is_none(sites: Sites) -> None:
    """A directory cannot be asked so."""
    assert Discovered() == await WkdSource("wkd", sites.client()).discover_fingerprint("A" * 40)


# --------------------------------------------------------------------------- unusable


async def test_discover_certificate_of_others_is_unusable(sites: Sites) -> None:
    """A wrong file is refused with the reason, and is not "no key" (K-08)."""
    address = _publish(sites, "wrong@advanced.test", cert("else@advanced.test"))

    assert ["has no User ID <wrong@advanced.test>"] == _verdicts(await _found(sites, address), address)


async def test_discover_page_for_everything_is_unusable(sites: Sites) -> None:
    """A site that answers 200 with a page has said nothing about a key."""
    address = parse_mailbox("bob@page.test")

    assert ["is damaged: its primary key cannot be read"] == _verdicts(await _found(sites, address), address)


# --------------------------------------------------------------------------- cannot tell


@pytest.mark.parametrize(
    ("domain", "words"),
    [
        ("failing.test", "answered 500"),
        ("forbidding.test", "answered 403"),
        ("asking.test", "answered 401"),
        ("refusing.test", "cannot be reached"),
        ("private.test", "not public"),
        ("six.test", "not public"),
        ("misnamed.test", "TLS certificate"),
        ("loop.test", "not known"),
        ("directmisnamed.test", "TLS certificate"),
    ],
)
async def test_discover_failure_is_final_and_unavailable(sites: Sites, domain: str, words: str) -> None:
    """No failure of the advanced method leads to the direct one, where the key is (K-03 to K-05, K-07)."""
    address = _publish(sites, f"bob@{domain}", cert(f"bob@{domain}"), direct=True)

    with pytest.raises(KeySourceUnavailable, match=words):
        await WkdSource("wkd", sites.client()).discover(address)


@pytest.mark.parametrize("respond", [rcode("SERVFAIL"), rcode("REFUSED"), nameserver.silence])
async def test_discover_name_server_fails_is_unavailable(authority: Authority, respond: Respond) -> None:
    """An outage of the DNS is never "no key" (K-04)."""
    async with FakeNameserver(respond) as names:
        source = WkdSource("wkd", client(authority, names.address, 443, timeout_seconds=0.3))
        with pytest.raises(KeySourceUnavailable):
            await source.discover(BOB)


async def test_discover_large_answer_is_unavailable(sites: Sites) -> None:
    """More than a mebibyte is not read (K-11)."""
    address = _publish(sites, "large@advanced.test", bytes((1 << 20) + 1))

    with pytest.raises(KeySourceUnavailable, match="larger"):
        await _found(sites, address)


# --------------------------------------------------------------------------- what GnuPG publishes


async def test_discover_tree_of_gnupg_is_read(sites: Sites, tmp_path: Path) -> None:
    """The directory that gpg-wks-client makes is found under the names that we compute."""
    program = require("/usr/lib/gnupg/gpg-wks-client")
    certificate = cert("Gnu <Gnu.Privacy+tag@advanced.test>")
    tmp_path.chmod(0o700)
    root = sites.web.root("openpgpkey.advanced.test") / ".well-known" / "openpgpkey"
    (root / "advanced.test" / "hu").mkdir(parents=True, exist_ok=True)
    (tmp_path / "key.pgp").write_bytes(certificate)

    subprocess.run(  # noqa: ASYNC221 - a moment, and nothing else runs here
        [
            program,
            "--directory",
            root,
            "--install-key",
            tmp_path / "key.pgp",
            "gnu.privacy+tag@advanced.test",
        ],
        check=True,
        env={"GNUPGHOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
    )

    address = parse_mailbox("Gnu.Privacy+tag@advanced.test")
    assert [fingerprint(certificate)] == await _fingerprints(sites, address)
