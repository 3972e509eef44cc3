"""Name servers on loopback: a real knot with an unsigned zone `test.`, and one that fails as the test says.

with nameserver.running(folder, "www 60 A 127.0.0.1") as address:   # "127.0.0.1:20123"
    …
async with FakeNameserver(rcode("SERVFAIL")) as server:
    … server.address
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.network import HOST, free_ports, wait_for_port
from tests.programs import require

_CONFIG = """\
server:
    listen: {host}@{port}
    rundir: {folder}
    tcp-workers: 1
    udp-workers: 1
    background-workers: 1
database:
    storage: {folder}
log:
  - target: stderr
    any: error
zone:
  - domain: test.
    file: {folder}/test.zone
    journal-content: none
    zonefile-sync: -1
"""

_ZONE = """\
$ORIGIN test.
$TTL 60
@ SOA ns hostmaster 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
"""


@contextmanager
def running(folder: Path, records: str) -> Iterator[str]:
    """Starts knot with these records (lines of a zone file, relative to `test.`) and ends it.

    Returns:
        Where it listens, over UDP and TCP: `127.0.0.1:20123`.
    """
    program = require("knotd")
    [port] = free_ports(1)
    (folder / "test.zone").write_text(_ZONE + records + "\n")
    config = folder / "knot.conf"
    config.write_text(_CONFIG.format(host=HOST, port=port, folder=folder))
    process = subprocess.Popen([program, "-c", str(config)], stdin=subprocess.DEVNULL, cwd=folder)
    try:
        wait_for_port(port)
        yield f"{HOST}:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


Respond = Callable[[dns.message.QueryMessage], "bytes | None"]
"""Makes the answer to a question; None: silence."""


class FakeNameserver(asyncio.DatagramProtocol):
    """A name server over UDP that answers as it is told; `questions` is what it was asked."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.questions: list[str] = []
        self.address = ""

    async def __aenter__(self) -> FakeNameserver:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(HOST, 0))
        self.address = f"{HOST}:{self._transport.get_extra_info('sockname')[1]}"
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        assert isinstance(query, dns.message.QueryMessage)
        self.questions.append(query.question[0].to_text())
        if (answer := self._respond(query)) is not None:
            self._transport.sendto(answer, addr)


def rcode(word: str) -> Respond:
    """Answers everything with one RCODE, as a resolver does."""

    def respond(query: dns.message.QueryMessage) -> bytes:
        answer = dns.message.make_response(query, recursion_available=True)
        answer.set_rcode(dns.rcode.from_text(word))
        return answer.to_wire()

    return respond


def with_address(address: str) -> Respond:
    """Answers every question for A with this address."""

    def respond(query: dns.message.QueryMessage) -> bytes:
        answer = dns.message.make_response(query, recursion_available=True)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", address))
        return answer.to_wire()

    return respond


def referral(query: dns.message.QueryMessage) -> bytes:
    """Knows nothing itself and does not ask for others: neither AA nor RA (RFC 1034 §4.3.1)."""
    return dns.message.make_response(query, recursion_available=False).to_wire()


def silence(query: dns.message.QueryMessage) -> None:
    """Never answers."""


def garbage(query: dns.message.QueryMessage) -> bytes:
    """Answers what is no DNS message, with the right id."""
    return query.to_wire()[:2] + b"\xff" * 3
