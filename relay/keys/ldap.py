"""The key source `ldap`: certificates in the entries of a directory (RFC 4511), over verified TLS only.

With `ldaps://` the connection begins with TLS, with `ldap://` StartTLS comes before anything else (RFC 4513
§3.1.1). Certificate and host name are always verified, and there is no way back to clear text: a server that
refuses StartTLS is unavailable. Each question has a connection of its own, at most a few at once.

ldap3 makes the requests (filters, simple bind). Its connections are not used: they block a thread for each
question, wait as long as a server sends an octet now and then, read whatever length it announces, and verify
the host name with a function that Python has dropped. Here asyncio carries the messages, and the few kinds of
answers are read below, strictly.

Only an answer "success" tells anything. Referrals, a missing base, limits and refusals are "cannot tell". An
entry that the access rules of the directory hide cannot be told from one that is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from relay.errors import KeySourceUnavailable, KeySourceUnreachable
from relay.keys.answers import MAX_CERTIFICATES
from relay.keys.ldap_answers import (
    BIND_RESPONSE,
    DONE,
    ENTRY,
    EXTENDED_RESPONSE,
    Refused,
    entry_values,
    need_success,
    read_message,
    read_value,
    receive,
)
from relay.message import Address, Certificate, Discovered

with warnings.catch_warnings():
    # ldap3 2.9.1, the last release, imports two names of pyasn1 that were renamed later; they still work.
    warnings.filterwarnings("ignore", r"(tag|type)Map is deprecated", DeprecationWarning)
    from ldap3 import DEREF_NEVER, SIMPLE, SUBTREE
    from ldap3.core.exceptions import LDAPExceptionError
    from ldap3.operation.bind import bind_operation
    from ldap3.operation.extended import extended_operation
    from ldap3.operation.search import search_operation
    from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
    from ldap3.utils.asn1 import encode

_MAX_ENTRIES = 20
"""With one address; more is a filter that does not mean one."""

_MAX_ANSWER_BYTES = 1 << 20
"""Of everything that the server sends in answer to one question."""

_MAX_AT_ONCE = 4
"""Connections; further questions wait, inside of their own time limit."""

_CONNECT_SECONDS = 3.0
"""For one address of the server, so that a dead one leaves time for the next."""

_GOODBYE_SECONDS = 1.0
"""For the end of TLS where a question was cancelled as it began."""

_START_TLS = "1.3.6.1.4.1.1466.20037"  # RFC 4511 §4.14.1
_START_TLS_ID, _BIND_ID, _SEARCH_ID = 1, 2, 3


_MAX_DETAIL_CHARS = 200

_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@.-_")
"""What needs no escape in a filter (RFC 4515 §3), not even for a liberal reader."""


@dataclass(frozen=True, slots=True)
class LdapSettings:
    """A directory and how keys stand in it. Raises ValueError for what can never work."""

    url: str
    """`ldaps://host[:port]`, or `ldap://host[:port]` for StartTLS."""
    base: str
    """The entry at and below which is searched."""
    filter: str = "(mail={address})"
    """RFC 4515; its attribute has to compare without letter case, as `mail` does."""
    attribute: str = "pgpKey"
    bind_dn: str = ""
    """Empty: anonymous."""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    """Certificates of the authorities to trust; None: the system's."""
    timeout_seconds: float = 8.0
    """For one question, from the connection to the last entry."""

    def __post_init__(self) -> None:
        parts = self._parts
        if parts.scheme not in {"ldap", "ldaps"} or not self.host or not self.port:
            raise ValueError("the url is not ldaps://host or ldap://host")
        if parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("the url has more than a host and a port")
        if "{address}" not in self.filter:
            raise ValueError("the filter does not hold {address}")
        # An empty password would be an anonymous bind that looks like a login (RFC 4513 §5.1.2).
        if bool(self.bind_dn) != bool(self.password):
            raise ValueError("a bind_dn needs a password, and a password a bind_dn")

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.url)

    @property
    def starts_tls(self) -> bool:
        """Whether TLS begins with StartTLS."""
        return self._parts.scheme == "ldap"

    @property
    def host(self) -> str:
        """Name or IP address, as the server's certificate has to have it."""
        return self._parts.hostname or ""

    @property
    def port(self) -> int:
        """As given, or the usual one (RFC 4516 §2). Raises ValueError unless it is a port."""
        return self._parts.port or (389 if self.starts_tls else 636)


class LdapKeys:
    """Asks a directory (`relay.seams.KeyDiscovery`). It keeps no connection.

    Args:
        name: as in the configuration.
        settings: a filter or a bind that cannot be encoded raises ValueError.
    """

    def __init__(self, name: str, settings: LdapSettings) -> None:
        self.name = name
        self._settings = settings
        self._place = f"{settings.host}:{settings.port}"
        self._slots = asyncio.Semaphore(_MAX_AT_ONCE)
        self._context: ssl.SSLContext | None = None
        try:
            self._bind = _bind_request(settings) if settings.bind_dn else b""
            _search_request(settings, "nobody@example.com")
        except LDAPExceptionError as exc:
            raise ValueError(f"the filter or the login cannot be used: {exc}") from exc

    def cache_key(self, address: Address) -> str:
        """`Address.key`, which is also what is asked for."""
        return address.key

    async def discover(self, address: Address) -> Discovered:
        """The certificates in all entries that the filter finds.

        Raises:
            KeySourceUnreachable: the server could not be asked.
            KeySourceUnavailable: its answer is not a plain success.
        """
        request = _search_request(self._settings, address.key)
        values = await self._ask(request)
        # in a thread: a megabyte of tiny packets takes a while
        some = values[: MAX_CERTIFICATES + 1]  # each holds one at least
        certificates = await asyncio.to_thread(self._read, some)
        if len(certificates) > MAX_CERTIFICATES:
            raise self._unavailable(f"it has more than {MAX_CERTIFICATES} certificates for one address")
        return Discovered(tuple(certificates))

    async def discover_fingerprint(self, fingerprint: str) -> Discovered:
        """Nothing: no attribute of an entry is known to hold fingerprints."""
        return Discovered()

    async def close(self) -> None:
        """Nothing is open between two questions."""

    async def _ask(self, request: bytes) -> list[bytes]:
        """The values in answer to a search request."""
        seconds = self._settings.timeout_seconds
        try:
            async with asyncio.timeout(seconds) as limit, self._slots, self._session() as session:
                if self._bind:
                    await session.send(self._bind)
                    need_success(await session.receive(_BIND_ID), BIND_RESPONSE)
                await session.send(request)
                return await session.values(self._settings.attribute)
        except TimeoutError as exc:
            why = f"no answer in {seconds:g} seconds" if limit.expired() else "it does not answer"
            raise self._unavailable(why, KeySourceUnreachable) from exc
        except (OSError, EOFError, UnicodeError) as exc:
            raise self._unavailable(str(exc) or type(exc).__name__, KeySourceUnreachable) from exc
        except Refused as exc:
            raise self._unavailable(str(exc)) from exc

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        """A connection with TLS, bound to nobody yet."""
        host, context = self._settings.host, await self._tls()
        connection = await _connect(host, self._settings.port)
        try:
            if self._settings.starts_tls:
                await _start_tls(connection)
        except BaseException:
            connection.close()
            raise
        # From here on the socket is the transport's, which asyncio ends. Closed under it, its number would
        # stay in the event loop, and the next connection that gets it would fail.
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=context, server_hostname=host, ssl_shutdown_timeout=_GOODBYE_SECONDS
        )
        try:
            yield _Session(reader, writer)
        finally:
            writer.transport.abort()  # a polite end could wait for the other side

    async def _tls(self) -> ssl.SSLContext:
        """Verifies certificate and host name; made at the first question, because it reads files."""
        if self._context is None:
            file = self._settings.ca_file
            self._context = await asyncio.to_thread(ssl.create_default_context, cafile=file)
        return self._context

    def _read(self, values: list[bytes]) -> list[Certificate]:
        return [found for value in values for found in read_value(value, self.name)]

    def _unavailable(
        self, why: str, kind: type[KeySourceUnavailable] = KeySourceUnavailable
    ) -> KeySourceUnavailable:
        clean = "".join(char if char.isprintable() and char.isascii() else "?" for char in why)
        return kind(f"{self._place}: {clean[:_MAX_DETAIL_CHARS]}")


# --------------------------------------------------------------------------- requests


def _message(number: int, operation: str, request: object) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(number)
    message["protocolOp"] = ProtocolOp().setComponentByName(operation, request)
    encoded: bytes = encode(message)
    return encoded


def _bind_request(settings: LdapSettings) -> bytes:
    request = bind_operation(3, SIMPLE, settings.bind_dn, settings.password)
    return _message(_BIND_ID, "bindRequest", request)


def _search_request(settings: LdapSettings, address: str) -> bytes:
    attribute = settings.attribute.partition(";")[0]
    request = search_operation(
        settings.base,
        settings.filter.replace("{address}", escaped(address)),
        SUBTREE,
        DEREF_NEVER,
        # `;binary` is no option that a request for the attribute alone would include (RFC 4522 §5)
        [attribute, f"{attribute};binary"],
        _MAX_ENTRIES,
        math.ceil(settings.timeout_seconds),
        False,
        auto_escape=False,
        auto_encode=False,
    )
    return _message(_SEARCH_ID, "searchRequest", request)


def escaped(address: str) -> str:
    """An address as a value inside a filter, every unusual octet as `\\2a` (RFC 4515 §3)."""
    return "".join(chr(octet) if octet in _PLAIN else f"\\{octet:02x}" for octet in address.encode())


# --------------------------------------------------------------------------- connections


async def _connect(host: str, port: int) -> socket.socket:
    """A connection to the first address of the host that takes one. Raises OSError."""
    loop = asyncio.get_running_loop()
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, place in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(_CONNECT_SECONDS):
                await loop.sock_connect(connection, place)
        except OSError as exc:
            connection.close()
            failure = exc
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure


async def _start_tls(connection: socket.socket) -> None:
    """Asks for TLS and reads the answer to its last octet and no further.

    What somebody put behind the answer in clear stays in the socket, where the handshake stumbles over it
    (RFC 4511 §6.1; the attack is that of CVE-2011-0411 on SMTP).
    """
    loop = asyncio.get_running_loop()

    async def read(count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = await loop.sock_recv(connection, count - len(data))
            if not part:
                raise EOFError("it closed the connection at StartTLS")
            data += part
        return data

    request = _message(_START_TLS_ID, "extendedReq", extended_operation(_START_TLS))
    await loop.sock_sendall(connection, request)
    message = await receive(read, _MAX_ANSWER_BYTES)
    need_success(read_message(message, _START_TLS_ID), EXTENDED_RESPONSE)


class _Session:
    """One connection over TLS; reads no more than it must."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._bytes_left = _MAX_ANSWER_BYTES

    async def send(self, request: bytes) -> None:
        self._writer.write(request)
        await self._writer.drain()

    async def receive(self, number: int) -> tuple[int, bytes]:
        message = await receive(self._reader.readexactly, self._bytes_left)
        self._bytes_left -= len(message)
        return read_message(message, number)

    async def values(self, attribute: str) -> list[bytes]:
        """The values in every entry, up to the end of the answer."""
        entries, found = 0, list[bytes]()
        while (answer := await self.receive(_SEARCH_ID))[0] == ENTRY:
            entries += 1
            if entries > _MAX_ENTRIES:
                raise Refused(f"it has more than {_MAX_ENTRIES} entries for one address")
            found += entry_values(answer[1], attribute)
        need_success(answer, DONE)
        return found
