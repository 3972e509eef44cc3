"""https servers of the tests: a key server that speaks VKS and HKP, and one that says what it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from aiohttp import web

from relay.address import user_id_key
from relay.mime import packets
from tests.network import HOST, Authority


def server_context(authority: Authority) -> ssl.SSLContext:
    """The TLS context of a test server."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority.certificate, authority.key)
    return context


@dataclass
class Keyserver:
    """A key server on loopback; use it with `async with`.

    Attributes:
        certificates: what it holds, binary; it searches in their User IDs.
        inexact: HKP finds what only resembles the address, as servers do that ignore `exact`.
        refusals: answered first, one for each request.
    """

    authority: Authority
    certificates: list[bytes] = field(default_factory=list)
    inexact: bool = False
    refusals: list[web.Response] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    """Path and query of each, as they came."""

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    async def __aenter__(self) -> Keyserver:
        app = web.Application()
        app.router.add_get("/vks/v1/by-email/{address}", self._by_email)
        app.router.add_get("/vks/v1/by-fingerprint/{fingerprint}", self._by_fingerprint)
        app.router.add_get("/pks/lookup", self._lookup)
        app.middlewares.append(self._counted)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, 0, ssl_context=server_context(self.authority)).start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    @web.middleware
    async def _counted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append(request.raw_path)
        return self.refusals.pop(0) if self.refusals else await handler(request)

    async def _by_email(self, request: web.Request) -> web.Response:
        return self._answer(self._of(unquote(request.match_info["address"]))[:1])

    async def _by_fingerprint(self, request: web.Request) -> web.Response:
        return self._answer(self._named(request.match_info["fingerprint"]))

    async def _lookup(self, request: web.Request) -> web.Response:
        if request.query.get("op") != "get" or request.query.get("options") != "mr":
            return web.Response(status=501)
        search = request.query["search"]
        if search.startswith("0x"):
            return self._answer(self._named(search[2:]))
        return self._answer(self.certificates if self.inexact else self._of(search))

    def _answer(self, found: list[bytes]) -> web.Response:
        if not found:
            return web.Response(status=404, text="Not found")
        return web.Response(body=b"".join(found), content_type="application/pgp-keys")

    def _of(self, address: str) -> list[bytes]:
        return [data for data in self.certificates if address.lower() in _addresses(data)]

    def _named(self, fingerprint: str) -> list[bytes]:
        return [
            data for data in self.certificates if packets.certificates(data, "")[0].fingerprint == fingerprint
        ]


def _addresses(certificate: bytes) -> set[str | None]:
    return {user_id_key(text) for found in packets.certificates(certificate, "") for text in found.user_ids}


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a `RawServer` does on a connection after it has read the head of the request."""


class RawServer:
    """A TLS server that reads one request and then does what the test says; use it with `async with`.

    Attributes:
        requests: the heads of the requests, as they came.
        ended: set when a connection is over.
    """

    def __init__(self, authority: Authority, talk: Talk) -> None:
        self._authority = authority
        self._talk = talk
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[bytes] = []
        self.ended = asyncio.Event()
        self.port = 0

    async def __aenter__(self) -> RawServer:
        context = server_context(self._authority)
        self._server = await asyncio.start_server(self._serve, HOST, 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self._talk(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self.ended.set()
            writer.close()


def says(*parts: bytes) -> Talk:
    """Sends these octets and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return talk


def repeats(head: bytes, part: bytes, pause_seconds: float = 0) -> Talk:
    """Sends the head, then the part again and again until the client closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_seconds)

    return talk


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the client closes."""
    await reader.read()
