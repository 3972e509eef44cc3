"""One connection to the next hop: opening it, and the commands of a transaction.

Everything that aiosmtplib, asyncio or ssl can raise becomes a `RelayError` here and nowhere else. Of
aiosmtplib this uses the protocol object, not the client class above it: `SMTP.mail` and `rcpt` can change
addresses, `login` tries a password several times, `sendmail` is silent about refused recipients, and one
time-out covers upload and reply. After any `HopFailure` or `OutcomeUnknown` the connection must be closed.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

from aiosmtplib.errors import SMTPException
from aiosmtplib.esmtp import parse_esmtp_extensions
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.response import SMTPResponse

from relay.errors import MessageTooLarge, NeedsEightBit, NeedsSmtpUtf8, OutcomeUnknown
from relay.message import Address, Offers, Outgoing
from relay.nexthop import replies, wire
from relay.nexthop.login import Credentials, mechanism_of
from relay.nexthop.replies import HopFailure, Reason
from relay.nexthop.settings import NextHopSettings, Tls, is_loopback
from relay.nexthop.wire import Needs

_QUOTED_LOCAL_PART = re.compile(r'"(?:[^"\\]|\\.)*"')
_ENDS_A_PATH = re.compile(r'[\s<>"]')


class HopConnection:
    """A connection that is ready for MAIL once `open` has returned (and `login`, where there is a login)."""

    def __init__(self, settings: NextHopSettings) -> None:
        self._settings = settings
        self._timeouts = settings.timeouts
        self._protocol = SMTPProtocol(asyncio.get_running_loop())
        self._in_step = False
        """No command, handshake or content is under way: what is written next is read as a command."""
        self._in_transaction = False
        self.offers = Offers()
        self.asserts_null_auth = False
        """Whether the login is the relay's own, so that MAIL says `AUTH=<>` (RFC 4954 §5)."""
        self.messages = 0
        """How many transactions it has begun."""

    @property
    def is_usable(self) -> bool:
        """Whether a command can be sent: the next hop has not closed it, and nothing was broken off."""
        return self._protocol.is_connected and self._in_step

    @property
    def tls(self) -> str:
        """`TLSv1.3 TLS_AES_256_GCM_SHA384`, or an empty string."""
        transport = self._protocol.transport
        ssl_object = transport.get_extra_info("ssl_object") if transport else None
        return f"{ssl_object.version()} {ssl_object.cipher()[0]}" if ssl_object else ""

    # ----------------------------------------------------------------- opening and closing

    async def open(self, context: ssl.SSLContext | None) -> None:
        """Connects, protects the connection as the settings demand, and reads what the next hop offers.

        Args:
            context: for TLS; None exactly where the settings say `tls: none`.

        Raises:
            HopFailure: it did not work; the connection is closed.
        """
        try:
            with _border("connecting", Reason.UNREACHABLE):
                await self._connect(context if self._settings.tls is Tls.IMPLICIT else None)
            if self._settings.tls is Tls.STARTTLS:
                assert context is not None
                await self._start_tls(context)
            self._require_protection()
            self.offers = _offers(await self._ehlo())
        except BaseException:
            self.close()
            raise

    async def _connect(self, context: ssl.SSLContext | None) -> None:
        loop, seconds = asyncio.get_running_loop(), self._timeouts.open_seconds
        await loop.create_connection(
            lambda: self._protocol,
            self._settings.host,
            self._settings.port,
            ssl=context,
            server_hostname=self._settings.host if context else None,
            ssl_handshake_timeout=seconds if context else None,
        )
        greeting = await self._protocol.read_response(timeout=seconds)
        _require(greeting, 220, "greeting")
        self._require_one_reply()

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        extensions, _ = parse_esmtp_extensions((await self._ehlo()).message)
        if "starttls" not in extensions:
            raise HopFailure(Reason.TLS, "STARTTLS is not offered")
        self._in_step = False
        with _border("STARTTLS", Reason.TLS):
            # aiosmtplib discards whatever came with the 220 in clear text (RFC 3207 §4.2), since 5.1.2.
            await self._protocol.start_tls(
                context, server_hostname=self._settings.host, timeout=self._timeouts.open_seconds
            )

    def _require_protection(self) -> None:
        """The last look before anything of value is written: TLS, or really loopback."""
        transport = self._protocol.transport
        if self._settings.tls is not Tls.NONE:
            protected = bool(self.tls)
        else:
            peer = transport.get_extra_info("peername") if transport else None
            protected = peer is not None and is_loopback(str(peer[0]))
        if not protected:
            raise HopFailure(Reason.TLS, "the connection is neither encrypted nor loopback")

    async def _ehlo(self) -> SMTPResponse:
        response = await self._command(b"EHLO", self._settings.hostname.encode("ascii"))
        _require(response, 250, "EHLO")
        return response

    async def login(self, credentials: Credentials) -> None:
        """One AUTH command. Raises LoginRefused or HopFailure; the connection must then be closed."""
        if mechanism_of(self.offers.auth) == "PLAIN":
            response = await self._auth_command(b"AUTH", b"PLAIN", credentials.plain())
        else:
            username, password = credentials.login()
            response = await self._auth_command(b"AUTH", b"LOGIN", username)
            if response.code == 334:
                response = await self._auth_command(password)
        replies.require_login(response.code, response.message)

    def close(self) -> None:
        """Says QUIT without waiting for the reply, and closes the socket at once; never raises.

        Waiting (RFC 5321 §4.1.1.10) would let a next hop that hangs hold up shutdown and other clients.
        """
        transport = cast("asyncio.Transport | None", self._protocol.transport)
        if transport is None:
            return
        if self._in_step and not transport.is_closing():
            transport.write(b"QUIT\r\n")
        transport.abort()

    # ----------------------------------------------------------------- one transaction

    def check(self, needs: Needs) -> None:
        """Raises NeedsSmtpUtf8, NeedsEightBit or MessageTooLarge for what the next hop does not take."""
        if needs.smtputf8 and not self.offers.smtputf8:
            raise NeedsSmtpUtf8
        if needs.eightbit and not self.offers.eightbitmime:
            raise NeedsEightBit
        limit = self.offers.size_bytes
        if limit is not None and needs.size_bytes is not None and needs.size_bytes > limit:
            raise MessageTooLarge(max_bytes=limit)

    async def mail(self, sender: Address | None, needs: Needs) -> None:
        """MAIL, after a RSET if a transaction is open. Raises NextHopRefused, HopFailure, or as `check`."""
        self.check(needs)
        if self._in_transaction:
            _require(await self._command(b"RSET"), 250, "RSET")
        self._in_transaction = False
        self.messages += 1
        response = await self._command(b"MAIL", b"FROM:" + _path(sender), *self._parameters(needs))
        replies.require_success(response.code, response.message, "the sender")
        self._in_transaction = True

    def _parameters(self, needs: Needs) -> Iterator[bytes]:
        if needs.size_bytes is not None and self._size_is_offered:
            yield f"SIZE={needs.size_bytes}".encode()
        if needs.eightbit:
            yield b"BODY=8BITMIME"
        if needs.smtputf8:
            yield b"SMTPUTF8"
        if self.asserts_null_auth and self.offers.auth:
            yield b"AUTH=<>"

    async def rcpt(self, recipient: Address) -> None:
        """RCPT. Raises NextHopRefused or HopFailure."""
        response = await self._command(b"RCPT", b"TO:" + _path(recipient))
        replies.require_recipient(response.code, response.message)

    async def data(self) -> None:
        """DATA, up to its 354. Raises NextHopRefused or HopFailure."""
        response = await self._command(b"DATA", seconds=self._timeouts.data_seconds)
        if response.code == 354:
            self._in_step = False
            return
        if response.code < 400:
            raise HopFailure(Reason.PROTOCOL, f"DATA: {response.code} instead of 354")
        replies.require_success(response.code, response.message, "the message")

    async def transfer(self, content: Outgoing) -> str:
        """The content after the 354; returns what the next hop said with its 250, for the log.

        Raises:
            NextHopRefused, HopFailure: nothing was taken.
            OutcomeUnknown: the final dot was written and no reply can be had.
        """
        self._in_step = False
        try:
            await wire.put(self._protocol, content, self._timeouts.block_seconds)
        except OSError as exc:
            await self._raise_early_reply()
            raise HopFailure(Reason.INTERRUPTED, f"within the content: {exc!r}") from exc
        await self._raise_early_reply()
        self._write_dot()
        response = await self._final_reply()
        _require_verdict(response)
        self._in_step, self._in_transaction = not self._protocol._buffer, False
        replies.require_success(response.code, response.message, "the message")
        return replies.printable(response.message)

    async def _raise_early_reply(self) -> None:
        """A reply before the final dot: a refusal counts, and anything else makes the outcome unknown."""
        try:
            response = await self._protocol.read_response(timeout=0)
        except OSError:  # none has come (TimeoutError), or the connection has ended: `put` or the dot tell
            self._protocol._response_pending = True
            return
        except SMTPException as exc:
            raise HopFailure(Reason.PROTOCOL, replies.printable(str(exc))) from exc
        _require_verdict(response)
        replies.require_success(response.code, response.message, "the message")
        raise OutcomeUnknown(f"{response.code} before the final dot")

    def _write_dot(self) -> None:
        try:
            self._protocol.write(wire.FINAL_DOT)
        except OSError as exc:
            raise HopFailure(Reason.INTERRUPTED, f"before the final dot: {exc!r}") from exc

    async def _final_reply(self) -> SMTPResponse:
        try:
            return await self._protocol.read_response(timeout=self._timeouts.final_seconds)
        except (OSError, SMTPException) as exc:
            raise OutcomeUnknown(f"after the final dot: {replies.printable(repr(exc))}") from exc

    # ----------------------------------------------------------------- the wire

    @property
    def _size_is_offered(self) -> bool:
        return self.offers.size_bytes is not None

    async def _command(self, *words: bytes, seconds: float | None = None) -> SMTPResponse:
        """One command and its one reply."""
        with _border(words[0].decode("ascii"), Reason.LOST):
            return await self._exchange(words, seconds or self._timeouts.command_seconds)

    async def _auth_command(self, *words: bytes) -> SMTPResponse:
        """As `_command`; neither the words nor anything of the reply stands in an error.

        A server may quote the line that it did not understand, and aiosmtplib quotes the server.
        """
        try:
            with _border("AUTH", Reason.LOST):
                return await self._exchange(words, self._timeouts.command_seconds)
        except HopFailure as failure:
            raise HopFailure(failure.reason, "AUTH") from None

    async def _exchange(self, words: tuple[bytes, ...], seconds: float) -> SMTPResponse:
        self._in_step = False
        response = await self._protocol.execute_command(*words, timeout=seconds)
        self._require_one_reply()
        self._in_step = True
        return response

    def _require_one_reply(self) -> None:
        """Two replies to one command would let each later reply be read as that of the wrong command."""
        if self._protocol._buffer:
            raise HopFailure(Reason.PROTOCOL, "more than one reply to a command")


@contextmanager
def _border(doing: str, on_end: Reason) -> Iterator[None]:
    """Where exceptions of libraries become ours.

    Args:
        on_end: the reason if the connection ended or never was.
    """
    try:
        yield
    except ssl.SSLError as exc:
        raise HopFailure(Reason.TLS, f"{doing}: {exc}") from exc
    except TimeoutError as exc:
        raise HopFailure(Reason.TIMEOUT, doing) from exc
    except (OSError, UnicodeError) as exc:  # UnicodeError: a host name that IDNA cannot encode
        raise HopFailure(on_end, f"{doing}: {replies.printable(repr(exc))}") from exc
    except SMTPException as exc:
        raise HopFailure(Reason.PROTOCOL, f"{doing}: {replies.printable(str(exc))}") from exc


def _require(response: SMTPResponse, code: int, what: str) -> None:
    if response.code != code:
        detail = f"{what}: {response.code} {replies.printable(response.message)}"
        raise HopFailure(Reason.REFUSED if 400 <= response.code <= 599 else Reason.PROTOCOL, detail)


def _require_verdict(response: SMTPResponse) -> None:
    """Raises OutcomeUnknown for a reply to the content that is neither yes nor no."""
    if not 200 <= response.code <= 599 or 300 <= response.code <= 399:
        raise OutcomeUnknown(f"{response.code} {replies.printable(response.message)} to the content")


def _offers(response: SMTPResponse) -> Offers:
    extensions, mechanisms = parse_esmtp_extensions(response.message)
    size = extensions.get("size", "").strip()
    return Offers(
        # RFC 1870 §4: without a number, or with 0, there is no fixed limit
        size_bytes=int(size) or None if size.isascii() and size.isdigit() and len(size) <= 20 else None,
        eightbitmime="8bitmime" in extensions,
        smtputf8="smtputf8" in extensions,
        auth=tuple(mechanism.upper() for mechanism in mechanisms),
    )


def _path(address: Address | None) -> bytes:
    """`<address>` exactly as it was given; `<>` for the null sender.

    Raises:
        ValueError: it would end the path and go on as a parameter; `relay/address.py` lets none through.
    """
    if address is None:
        return b"<>"
    quoted = _QUOTED_LOCAL_PART.match(address.text)
    if _ENDS_A_PATH.search(address.text, quoted.end() if quoted else 0):
        raise ValueError("an address that is none reached the wire")
    return f"<{address.text}>".encode()
