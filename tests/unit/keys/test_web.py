"""The https client of strangers' servers, with a real nginx and knot, and servers that misbehave."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Iterator
from ipaddress import IPv6Network
from pathlib import Path

import pytest

from relay.errors import KeySourceUnavailable
from relay.keys.web import MAX_BODY_BYTES, WebAnswer, https_port, tls_context
from tests.keyserver import RawServer, Talk, hangs, repeats, says
from tests.nameserver import FakeNameserver, silence, with_address
from tests.network import Authority, make_authority
from tests.unit.keys.websites import LOOPBACK, Sites, client, serving

_RECORDS = """\
ok A 127.0.0.1
other A 127.0.0.1
misnamed A 127.0.0.1
untrusted A 127.0.0.1
private A 10.0.0.1
mixed A 10.0.0.1
mixed A 127.0.0.1
loopback A 127.0.0.1
refusing A 127.0.0.77
dual AAAA ::1
dual A 127.0.0.1
"""

_OK = """\
absolute_redirect off;
location = /401 { return 401; }
location = /403 { return 403; }
location = /410 { return 410; }
location = /500 { return 500; }
location = /429 { add_header Retry-After 120 always; return 429; }
location = /503 { add_header Retry-After "Mon, 01 Jun 2026 12:05:00 GMT" always; return 503; }
location = /page { default_type text/html; return 200 "<html>"; }
location = /gzip { gzip_static always; }
location = /other { return 302 https://other.test:$server_port/file; }
location = /relative { return 301 /file; }
location = /http { return 302 http://other.test:$server_port/file; }
location = /private { return 302 https://private.test:$server_port/file; }
location = /metadata { return 302 https://169.254.169.254:$server_port/file; }
location = /port { return 302 https://other.test:8443/file; }
location = /missing { return 302 https://missing.test:$server_port/file; }
location = /credentials { return 302 https://a:b@other.test:$server_port/file; }
location = /loop { return 302 /loop; }
location = /hop6 { return 307 /hop5; }
location = /hop5 { return 308 /hop4; }
location = /hop4 { return 303 /hop3; }
location = /hop3 { return 302 /hop2; }
location = /hop2 { return 301 /hop1; }
location = /hop1 { return 302 /file; }
location = /clean {
    set $sent "$http_authorization$http_cookie$http_referer$http_accept_encoding$http_user_agent";
    if ($sent != "identityencrypting-relay") { return 500; }
    return 200 "clean";
}
location = /cookie { add_header Set-Cookie "a=b; Path=/"; return 302 /clean; }
location = /query { if ($args != "l=A%2Bb") { return 500; } return 200 "as it was"; }
"""


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    folder = tmp_path_factory.mktemp("web")
    (folder / "stranger").mkdir()
    stranger = make_authority(folder / "stranger", "untrusted.test")
    untrusted = f"ssl_certificate {stranger.certificate}; ssl_certificate_key {stranger.key};"
    names = ("ok.test", "other.test", "mixed.test", "loopback.test", "refusing.test", "dual.test")
    with serving(folder, _RECORDS, names, {"ok.test": _OK, "untrusted.test": untrusted}) as found:
        for name in ("ok.test", "other.test", "mixed.test", "loopback.test", "dual.test"):
            found.web.put(name, "/file", f"of {name}".encode())
        found.web.put("ok.test", "/gzip.gz", gzip.compress(bytes(1 << 20)))
        found.web.put("ok.test", "/limit", bytes(MAX_BODY_BYTES))
        found.web.put("ok.test", "/large", bytes(MAX_BODY_BYTES + 1))
        yield found


pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/file", WebAnswer(200, b"of ok.test")),
        ("/page", WebAnswer(200, b"<html>")),
        ("/other", WebAnswer(200, b"of other.test")),
        ("/relative", WebAnswer(200, b"of ok.test")),
        ("/hop5", WebAnswer(200, b"of ok.test")),
        ("/clean", WebAnswer(200, b"clean")),
        ("/cookie", WebAnswer(200, b"clean")),
        ("/query?l=A%2Bb", WebAnswer(200, b"as it was")),
        ("/limit", WebAnswer(200, bytes(MAX_BODY_BYTES))),
        ("/absent", WebAnswer(404)),
        ("/410", WebAnswer(410)),
        ("/401", WebAnswer(401)),
        ("/500", WebAnswer(500)),
        ("/429", WebAnswer(429, retry_after_seconds=120)),
        ("/503", WebAnswer(503, retry_after_seconds=300)),
    ],
)
async def test_get_server_answers_is_given(sites: Sites, path: str, expected: WebAnswer) -> None:
    """An answer is given as it is; redirects within https are followed; nothing about us is sent along."""
    assert expected == await sites.client().get(f"https://ok.test{path}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://ok.test/http", "not https"),
        ("https://ok.test/private", "private.test has the address 10.0.0.1, which is not public"),
        ("https://ok.test/metadata", "169.254.169.254"),
        ("https://ok.test/port", "port 8443"),
        ("https://ok.test/missing", "missing.test, which has no address"),
        ("https://ok.test/credentials", "credentials"),
        ("https://ok.test/loop", "more than 5 times"),
        ("https://ok.test/hop6", "more than 5 times"),
        ("https://ok.test/gzip", "compressed"),
        ("https://ok.test/large", "larger"),
        ("https://misnamed.test/file", "misnamed.test has a TLS certificate.*Hostname mismatch"),
        ("https://untrusted.test/file", "untrusted.test has a TLS certificate that was not accepted"),
        ("https://private.test/file", "not public"),
        ("https://refusing.test/file", "refusing.test cannot be reached"),
        ("http://ok.test/file", "not https"),
    ],
)
async def test_get_no_proper_answer_is_unavailable(sites: Sites, url: str, words: str) -> None:
    """Everything between us and an HTTP status is "cannot tell", with the reason."""
    with pytest.raises(KeySourceUnavailable, match=words):
        await sites.client().get(url)


async def test_get_first_host_with_an_address_is_asked(sites: Sites) -> None:
    """The next URL is taken only where the DNS says that there is no address; without any there is none."""
    web = sites.client()

    answer = await web.get("https://missing.test/file", "https://ok.test/file", "https://other.test/file")

    assert WebAnswer(200, b"of ok.test") == answer
    assert None is await web.get("https://missing.test/file", "https://missing-too.test/file")


@pytest.mark.parametrize(
    "first", ["https://refusing.test/file", "https://private.test/", "https://misnamed.test/"]
)
async def test_get_first_host_fails_is_final(sites: Sites, first: str) -> None:
    """A host that exists and does not serve is not passed over (K-03)."""
    with pytest.raises(KeySourceUnavailable):
        await sites.client().get(first, "https://ok.test/file")


async def test_get_some_addresses_are_forbidden_others_serve(sites: Sites) -> None:
    """Nothing connects to the private address; the other one serves."""
    assert WebAnswer(200, b"of mixed.test") == await sites.client().get("https://mixed.test/file")


async def test_get_dead_address_another_serves(sites: Sites) -> None:
    """A host whose IPv6 address does not answer is reached over IPv4."""
    web = sites.client(allow_networks=(*LOOPBACK, IPv6Network("::1/128")))

    assert WebAnswer(200, b"of dual.test") == await web.get("https://dual.test/file")


@pytest.mark.parametrize("host", ["loopback.test", "127.0.0.1", "[::ffff:127.0.0.1]", "[::1]"])
async def test_get_loopback_without_permission_is_not_connected_to(sites: Sites, host: str) -> None:
    """Without `allow_networks` nobody leads the relay to its own machine, by name or by number."""
    with pytest.raises(KeySourceUnavailable, match="not public"):
        await sites.client(allow_networks=()).get(f"https://{host}/file")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_get_odd_spelling_of_an_address_is_no_address(sites: Sites, host: str) -> None:
    """What C libraries take for 127.0.0.1 is a name here, and nobody has it."""
    with pytest.raises(KeySourceUnavailable):
        await sites.client().get(f"https://{host}/file", "https://ok.test/file")


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "a.0x7f."])
async def test_get_host_that_ends_in_a_number_is_not_followed(authority: Authority, host: str) -> None:
    """Parsers differ on whether it is an address; name servers that have an answer to everything are asked
    nothing."""
    async with FakeNameserver(with_address("93.184.216.34")) as names:
        with pytest.raises(KeySourceUnavailable, match="its host is not a domain name"):
            await client(authority, names.address, 443, timeout_seconds=1).get(f"https://{host}/file")

        assert [] == names.questions


async def test_get_resolves_a_host_once(authority: Authority) -> None:
    """The address that was checked is the one that is connected to: nobody is asked again (rebinding)."""
    async with (
        FakeNameserver(with_address("127.0.0.1")) as names,
        RawServer(authority, says(_EMPTY)) as server,
    ):
        await client(authority, names.address, server.port).get("https://localhost/")

        assert ["localhost. IN A", "localhost. IN AAAA"] == sorted(names.questions)


async def test_get_proxy_of_the_environment_is_not_asked(
    sites: Sites, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name itself, past the guard."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    assert WebAnswer(200, b"of ok.test") == await sites.client().get("https://ok.test/file")


async def test_get_name_server_is_silent_is_unavailable(authority: Authority) -> None:
    """The time limit counts the DNS too."""
    async with FakeNameserver(silence) as names:
        with pytest.raises(KeySourceUnavailable, match=r"no answer within 0\.2 seconds"):
            await client(authority, names.address, 443, timeout_seconds=0.2).get("https://localhost/")


# --------------------------------------------------------------------------- servers that misbehave

_EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def _ask(authority: Authority, talk: Talk, timeout_seconds: float = 20) -> WebAnswer | None:
    async with FakeNameserver(with_address("127.0.0.1")) as names, RawServer(authority, talk) as server:
        web = client(authority, names.address, server.port, timeout_seconds=timeout_seconds)
        try:
            return await web.get("https://localhost/")
        finally:
            await server.ended.wait()  # the connection is closed at once, whatever the server goes on to say


@pytest.mark.parametrize(
    "talk",
    [
        hangs,
        repeats(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.02),
        repeats(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.02),
        repeats(b"HTTP/1.1 200 OK\r\n", b"X", 0.02),
        repeats(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
    ],
    ids=["silent", "trickle", "chunks", "header", "continue"],
)
async def test_get_slow_server_is_unavailable(authority: Authority, talk: Talk) -> None:
    """One limit holds for the whole answer, however it is spread out."""
    with pytest.raises(KeySourceUnavailable, match="no answer within"):
        await _ask(authority, talk, timeout_seconds=0.4)


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (
            repeats(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3e8\r\n" + bytes(1000) + b"\r\n"
            ),
            "larger",
        ),
        (says(b"HTTP/1.1 200 OK\r\n\r\nx"), "where it ends"),
        (says(b"HTTP/1.0 200 OK\r\n\r\nx"), "where it ends"),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nx"), "where it ends"),
        (
            says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
            "where it ends",
        ),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"), "properly"),
        (
            says(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Encoding: gzip\r\n"
                b"Content-Length: 1\r\n\r\nx"
            ),
            "compressed",
        ),
        (
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n", bytes(MAX_BODY_BYTES + 1)),
            "larger",
        ),
        (repeats(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), "properly"),
        (repeats(b"HTTP/1.1 200 OK\r\nX-A: ", bytes(100).replace(b"\0", b"a")), "properly"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx"), "properly"),
        (says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "properly"),
        (says(b"220 mail.test ESMTP\r\n"), "properly"),
        (says(b""), "properly"),
        (says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "answered 302"),
    ],
    ids=[
        *("endless", "unframed", "http-1.0", "identity", "coded", "last-chunk", "two-encodings"),
        *("announced", "headers", "line", "cut", "chunks", "smtp", "nothing", "redirect"),
    ],
)
async def test_get_broken_answer_is_unavailable(authority: Authority, talk: Talk, words: str) -> None:
    """Too much, too little, or no HTTP: cannot tell, and nothing of the stranger's text is repeated."""
    with pytest.raises(KeySourceUnavailable, match=words) as caught:
        answer = await _ask(authority, talk)
        assert answer is not None
        answer.found()

    assert "ESMTP" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    [
        *("http://ok.test/", "ftp://ok.test/", "javascript:alert(1)"),
        *("https://a@localhost/", "https://localhost:x/", "https://localhost:99999/", "https://[::1/"),
        *("https://[fe80::1%25lo]/", "https://b\u00fccher.test/", "https://localhost\\@ok.test/"),
        *("https://localhost/a b", "https://localhost/\u00fc", "https://lo cal/", "https://ok.test%2f/"),
        "https://" + "a." * 200 + "test/",
    ],
)
async def test_get_odd_redirect_is_unavailable(authority: Authority, location: str) -> None:
    """What parsers of URLs could read in different ways is not followed; the text stays ours."""
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()

    with pytest.raises(KeySourceUnavailable) as caught:
        await _ask(authority, says(head))

    assert str(caught.value).isascii()
    assert "not followed" in str(caught.value)


async def test_get_cancelled_closes_the_connection(authority: Authority) -> None:
    """A lookup that is given up leaves nothing open."""
    async with FakeNameserver(with_address("127.0.0.1")) as names, RawServer(authority, hangs) as server:
        web = client(authority, names.address, server.port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await web.get("https://localhost/")

        await server.ended.wait()


async def test_get_many_hosts_are_slow_waits_for_a_free_place(authority: Authority) -> None:
    """However many hosts hang, only so many connections are open at once."""
    current, seen, enough = 0, list[int](), asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal current
        current += 1
        seen.append(current)
        if current == 64:
            enough.set()
        await enough.wait()
        await asyncio.sleep(0.1)  # room for one more to come, if it is let
        current -= 1
        writer.write(_EMPTY)

    async with FakeNameserver(with_address("127.0.0.1")) as names, RawServer(authority, talk) as server:
        web = client(authority, names.address, server.port)
        await asyncio.gather(*(web.get("https://localhost/") for _ in range(70)))

    assert (70, 64) == (len(seen), max(seen))


# --------------------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("answer", "expected"), [(WebAnswer(200, b"x"), b"x"), (WebAnswer(404), None), (WebAnswer(410), None)]
)
def test_found_definite_status_is_a_value(answer: WebAnswer, expected: bytes | None) -> None:
    """A body, or that there is none."""
    assert expected == answer.found()


@pytest.mark.parametrize(
    "status", [201, 204, 206, 300, 304, 400, 401, 403, 407, 429, 451, 500, 502, 503, 999]
)
def test_found_any_other_status_is_unavailable(status: int) -> None:
    """Nothing else says that there is no key, and the wish to be left alone is passed on."""
    with pytest.raises(KeySourceUnavailable, match=str(status)) as caught:
        WebAnswer(status, retry_after_seconds=7).found()

    assert 7 == caught.value.retry_after_seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("0", 0), ("120", 120), ("99999999999999999999", 86_400), ("-5", None), ("soon", None), ("", None)),
        *(("Mon, 01 Jun 2026 12:01:00 GMT", 60), ("Mon, 01 Jun 2026 14:01:00 +0200", 60)),
        *(
            ("Mon, 01 Jun 2020 12:00:00 GMT", 0),
            ("Mon, 01 Jun 2099 12:00:00 -0000", 86_400),
            ("\u0661", None),
        ),
        *(
            ("Mon, 01 Jun " + "9" * 20 + " 12:00:00 GMT", None),
            ("Mon, 01 Jun 2026 12:00:00 +" + "9" * 30, None),
        ),
    ],
)
async def test_get_retry_after_is_bounded(authority: Authority, text: str, expected: float | None) -> None:
    """Seconds or a date, at most a day; anything else is as if it were not there."""
    head = f"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: {text}\r\n\r\n".encode()

    answer = await _ask(authority, says(head))

    assert WebAnswer(503, b"", expected) == answer


@pytest.mark.parametrize(("url", "expected"), [("https://k.test", 443), ("https://k.test:8443/x", 8443)])
def test_https_port_is_the_one_of_the_url(url: str, expected: int) -> None:
    """The usual one where the URL names none."""
    assert expected == https_port(url)


@pytest.mark.parametrize("url", ["http://k.test", "k.test", "https://a:b@k.test", "https://k.test:0x", ""])
def test_https_port_of_another_url_is_refused(url: str) -> None:
    """Only https URLs without credentials are configured."""
    with pytest.raises(ValueError, match=r"."):
        https_port(url)


def test_tls_context_verifies_everything(authority: Authority, tmp_path: Path) -> None:
    """Chain and name are verified, never the common name, with TLS 1.2 at least; no CAs are an error."""
    context = tls_context(authority.ca_file)
    (tmp_path / "empty.pem").write_text("")

    assert (ssl.CERT_REQUIRED, True, False, ssl.TLSVersion.TLSv1_2, 1) == (
        context.verify_mode,
        context.check_hostname,
        context.hostname_checks_common_name,
        context.minimum_version,
        len(context.get_ca_certs()),
    )
    with pytest.raises(OSError, match=r"."):
        tls_context(tmp_path / "empty.pem")
