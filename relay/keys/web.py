"""A guarded https client for answers of strangers: GET alone, bounded in everything, public addresses only.

Who chose the host is the recipient's domain or a redirect, so it may lead anywhere. Each host is resolved
once (`names`), its addresses are checked (`networks`), and the connection goes to a checked address; a second
resolution could give another answer. Where some of the addresses are not permitted, the others serve: nothing
connects to the forbidden ones, and a site that also has an internal address keeps its keys.

There are no cookies, no credentials, no proxies from the environment, no compression (a few octets could
become gigabytes), and no connections that are kept: each request is rare, and one to a host of its own.
"""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.errors import KeySourceUnavailable, KeySourceUnreachable
from relay.keys.networks import IPAddress, IPNetwork, is_permitted

if TYPE_CHECKING:
    from relay.keys.names import Names
    from relay.seams import Clock

HTTPS_PORT = 443
MAX_REDIRECTS = 5
MAX_BODY_BYTES = 1 << 20

_MAX_AT_ONCE = 64
"""Requests of one client; a slow host must not use up the file descriptors that mail needs."""
_MAX_HEADER_LINE_BYTES = 8190
_MAX_HEADERS = 64
_MAX_RETRY_AFTER_SECONDS = 86_400.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_KEY = frozenset({404, 410})
"""Not found, and gone for good (RFC 9110 §15.5.5, §15.5.11): both say that there is nothing here."""

_HOST = re.compile(r"(?=.{1,300}\Z)[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
"""Bounded for the log; a name that is too long for the DNS (253 octets) is for `names` to know."""
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes a host an IPv4 address for some parsers, where it is none for `ipaddress`: 127.1,
0x7f000001 (URL Standard §3.5, "ends in a number"). No top-level domain is of that form."""
_REST = re.compile(r"[!-\[\]-~]*")
"""Path and query as they may stand in a request line: visible ASCII without the backslash, which some
parsers of URLs read as a slash."""

_HEADERS = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "encrypting-relay"}


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """A context that verifies chain and name, for all requests; loading the CAs takes about 22 ms and blocks.

    Args:
        ca_file: the authorities to believe instead of the system's.

    Raises:
        OSError: the file cannot be read, or holds no certificates (ssl.SSLError).
    """
    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    return context


def https_port(url: str) -> int:
    """The port that a URL of the configuration names. Raises ValueError where it is no https URL."""
    return _target(url, HTTPS_PORT).port


@dataclass(frozen=True, slots=True)
class WebAnswer:
    """The last answer of a chain of redirects."""

    status: int
    body: bytes = b""
    """Empty unless the status is 200."""
    retry_after_seconds: float | None = None

    def found(self) -> bytes | None:
        """The body; None where the server says that there is nothing.

        Raises:
            KeySourceUnreachable: any other answer. A demand for credentials (401) is one: none are ever sent.
            KeySourceUnavailable: we have asked too often (429).
        """
        if self.status == 200:
            return self.body
        if self.status in _NO_KEY:
            return None
        # Whoever makes us ask often, a user of ours maybe, must not bring about that the server "fails".
        kind = KeySourceUnavailable if self.status == 429 else KeySourceUnreachable
        raise kind(f"it answered {self.status}", retry_after_seconds=self.retry_after_seconds)


@dataclass(frozen=True, slots=True)
class _Target:
    """Where a request goes, taken apart once, so that what was checked is what is asked."""

    host: str
    """A domain name in lower case, or an IP address in the spelling of `ipaddress`."""
    port: int
    rest: str
    """Path and query."""

    @property
    def address(self) -> IPAddress | None:
        """The host, where it is an address."""
        return _address(self.host)

    @property
    def url(self) -> str:
        """As it is asked for."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == HTTPS_PORT else f":{self.port}"
        return f"https://{host}{port}{self.rest}"


class WebClient:
    """Asks web servers with GET.

    Args:
        context: of `tls_context`.
        allow_networks: addresses in them may be asked although they are not public.
        port: the only one that is connected to, and the one that a URL without a port means.
        timeout_seconds: for everything that one `get` does: names, connections, redirects, octets.
        max_bytes: of a body.
    """

    def __init__(
        self,
        names: Names,
        context: ssl.SSLContext,
        clock: Clock,
        *,
        allow_networks: tuple[IPNetwork, ...] = (),
        port: int = HTTPS_PORT,
        timeout_seconds: float = 8.0,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._names = names
        self._context = context
        self._clock = clock
        self._allowed = allow_networks
        self._port = port
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)

    async def get(self, *urls: str) -> WebAnswer | None:
        """The answer to the first URL whose host has an address; None where no host has one.

        A host that has an address and does not serve is not passed over for the next URL.

        Raises:
            KeySourceUnreachable: no server answered.
            KeySourceUnavailable: whatever else stood between here and an HTTP status; what a stranger wrote
                is not in the text, except host names.
        """
        kind, why = KeySourceUnavailable, "too many other web servers are being asked"
        try:
            async with asyncio.timeout(self._timeout_seconds), self._slots:
                kind, why = KeySourceUnreachable, f"no answer within {self._timeout_seconds:g} seconds"
                return await self._first(urls)
        except TimeoutError as exc:
            raise kind(why) from exc

    async def _first(self, urls: tuple[str, ...]) -> WebAnswer | None:
        for url in urls:
            target = self._checked(url)
            if addresses := await self._resolve(target):
                return await self._follow(target, addresses)
        return None

    async def _follow(self, target: _Target, addresses: tuple[IPAddress, ...]) -> WebAnswer:
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._ask(target, addresses)
            if isinstance(answer, WebAnswer):
                return answer
            target = self._checked(_join(target.url, answer))
            addresses = await self._resolve(target)
            if not addresses:
                raise KeySourceUnavailable(f"it redirects to {target.host}, which has no address")
        raise KeySourceUnavailable(f"it redirects more than {MAX_REDIRECTS} times")

    def _checked(self, url: str) -> _Target:
        """Raises KeySourceUnavailable for anything but https on the one port, without credentials."""
        try:
            target = _target(url, self._port)
        except ValueError as exc:
            raise KeySourceUnavailable(f"it leads to a URL that is not followed: {exc}") from exc
        if target.port != self._port:
            raise KeySourceUnavailable(f"it leads to port {target.port}; only {self._port} is asked")
        return target

    async def _resolve(self, target: _Target) -> tuple[IPAddress, ...]:
        """The addresses to connect to; empty where the host has none at all."""
        found = (target.address,) if target.address else await self._names.addresses(target.host)
        permitted = tuple(address for address in found if is_permitted(address, self._allowed))
        if found and not permitted:
            raise KeySourceUnavailable(
                f"{target.host} has the address {found[0]}, which is not public; allow_networks can permit it"
            )
        return permitted

    async def _ask(self, target: _Target, addresses: tuple[IPAddress, ...]) -> WebAnswer | str:
        """One request to one of the addresses: its answer, or where it redirects to."""
        connector = aiohttp.TCPConnector(
            resolver=_Resolved(target, addresses), ssl=self._context, use_dns_cache=False, force_close=True
        )
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,  # aiohttp would begin before `_body` can refuse
            trust_env=False,
            max_line_size=_MAX_HEADER_LINE_BYTES,
            max_field_size=_MAX_HEADER_LINE_BYTES,
            max_headers=_MAX_HEADERS,
            timeout=aiohttp.ClientTimeout(total=None),  # `get` bounds all of it together
        )
        try:
            async with session, session.get(target.url, headers=_HEADERS, allow_redirects=False) as response:
                return await self._read(response)
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise KeySourceUnreachable(f"{target.host} {_why(exc)}") from exc

    async def _read(self, response: aiohttp.ClientResponse) -> WebAnswer | str:
        if response.status in _REDIRECTS and "Location" in response.headers:
            return response.headers["Location"]
        wait = _retry_after_seconds(response.headers.get("Retry-After", ""), self._clock.now())
        body = await self._body(response) if response.status == 200 else b""
        return WebAnswer(response.status, body, wait)

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        if any(coding.lower() != "identity" for coding in response.headers.getall("Content-Encoding", ())):
            raise KeySourceUnavailable("its answer is compressed, which was not asked for")
        if not _is_framed(response):
            raise KeySourceUnavailable("its answer does not say where it ends")
        body = bytearray()
        async for part in response.content.iter_any():
            body += part
            if len(body) > self._max_bytes:
                raise KeySourceUnavailable(f"its answer is larger than {self._max_bytes} bytes")
        return bytes(body)


class _Resolved(AbstractResolver):
    """Gives the addresses that were checked, whatever it is asked for.

    aiohttp does not ask it for hosts that are addresses; those are checked as they stand in the URL.
    """

    def __init__(self, target: _Target, addresses: tuple[IPAddress, ...]) -> None:
        self._target = target
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=self._target.port,
                family=socket.AF_INET6 if address.version == 6 else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing to close."""


# --------------------------------------------------------------------------- URLs and headers


def _join(base: str, location: str) -> str:
    """The target of a redirect (RFC 9110 §10.2.2)."""
    try:
        return urljoin(base, location)
    except ValueError as exc:
        raise KeySourceUnavailable("it leads to a URL that is not followed: it cannot be read") from exc


def _target(url: str, default_port: int) -> _Target:
    """Raises ValueError with a text of ours: what a stranger wrote is not in it."""
    scheme, netloc, host, port, rest = _split(url)
    if scheme != "https":
        raise ValueError("it is not https")
    if "@" in netloc:
        raise ValueError("it holds credentials")
    if not _REST.fullmatch(rest):
        raise ValueError("it holds a character that may not stand there")
    address = _address(host)
    if address is None and not _is_name(host):
        raise ValueError("its host is not a domain name")
    return _Target(str(address or host), port or default_port, rest)


def _is_name(host: str) -> bool:
    """Whether it is a domain name, for every parser that it will meet."""
    last = host.removesuffix(".").rpartition(".")[2]
    return bool(_HOST.fullmatch(host)) and not _NUMBER.fullmatch(last)


def _split(url: str) -> tuple[str, str, str, int | None, str]:
    """Scheme, authority, host, port, and path with query."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ValueError("it cannot be read") from exc
    rest = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return parts.scheme, parts.netloc, parts.hostname or "", port, rest


def _address(host: str) -> IPAddress | None:
    """The address that a host is, None where it is a name; a zone (`%eth0`) is none that could be asked."""
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_framed(response: aiohttp.ClientResponse) -> bool:
    """Whether it can be told that a body is whole.

    One that ends with the connection can be cut by anybody on the way, and a revocation with it: RFC 9112
    §9.8 wants a closure alert of TLS then, which asyncio does not report.
    """
    codings = [coding.lower() for coding in response.headers.getall("Transfer-Encoding", ())]
    return codings == ["chunked"] or (not codings and "Content-Length" in response.headers)


def _retry_after_seconds(text: str, now: datetime) -> float | None:
    """A number of seconds or a date (RFC 9110 §10.2.3), at most a day; None where it is neither."""
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), _MAX_RETRY_AFTER_SECONDS)
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    seconds = (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_SECONDS)


def _why(exc: Exception) -> str:
    """What went wrong, in our words and those of OpenSSL and the system; never in the server's."""
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        reason = getattr(exc.certificate_error, "verify_message", "") or "it is not valid"
        return f"has a TLS certificate that was not accepted: {reason}"[:300]
    if isinstance(exc, aiohttp.ClientConnectorSSLError):
        return "does not speak TLS as it must"
    if isinstance(exc, aiohttp.ClientConnectorError):
        return f"cannot be reached: {exc.os_error.strerror or 'no connection'}"[:300]
    return f"does not answer properly ({type(exc).__name__})"
