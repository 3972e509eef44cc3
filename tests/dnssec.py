"""Real DNS for tests: knot with a signed zone, unbound validating in front of it, and a resolver that lies.

Below the signed `test.` are `insecure.test.` (a delegation without DS: provably unsigned), `bogus.test.` (its
DS fits none of its keys) and `broken.test.` (no server has the zone). All files are in one temporary folder;
both programs run as whoever runs the tests.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode

from relay.address import parse_mailbox
from relay.keys.dane import owner_name
from tests.network import HOST, free_ports, wait_for_port
from tests.programs import require
from tests.streams import serving

SIGNED_NAME = "test."
NEGATIVE_TTL = 120
"""The minimum field of every SOA here (RFC 2308 §4)."""

_SOA = f"""$ORIGIN {{zone}}
$TTL 300
@ SOA ns.test. hostmaster.test. 1 3600 600 86400 {NEGATIVE_TTL}
@ NS ns.test.
"""

_CHILDREN = f"""ns A {HOST}
insecure NS ns
broken NS ns
bogus NS ns
bogus DS 12345 13 2 {"00" * 32}
"""

_KNOT = """server:
    rundir: "{folder}"
    listen: {host}@{port}
log:
  - target: stderr
    any: warning
database:
    storage: "{folder}"
policy:
  - id: one-key
    single-type-signing: on
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
    zonefile-sync: -1
zone:
  - domain: test.
    dnssec-signing: on
    dnssec-policy: one-key
  - domain: bogus.test.
    dnssec-signing: on
    dnssec-policy: one-key
  - domain: insecure.test.
  - domain: broken.test.
"""

_UNBOUND = """server:
    directory: "{folder}"
    chroot: ""
    username: ""
    use-syslog: no
    interface: {host}@{port}
    port: {port}
    do-daemonize: no
    num-threads: 1
    do-not-query-localhost: no
    module-config: "validator iterator"
    trust-anchor-file: "{anchor}"
    local-zone: "test." nodefault
    ede: yes
remote-control:
    control-enable: no
"""

_STUB = 'stub-zone:\n    name: "{zone}"\n    stub-addr: {host}@{port}\n'
_WRONG_ANCHOR = "test. DS 12345 13 2 " + "00" * 32
_ZONES = ("test.", "bogus.test.", "insecure.test.", "broken.test.")


def openpgpkey(address: str, data: bytes, *, ttl: int = 300) -> str:
    """The line of a zone file that publishes `data` for an address."""
    return f"{_owner(address)} {ttl} OPENPGPKEY {base64.b64encode(data).decode()}\n"


def alias(address: str, target: str, *, ttl: int = 300) -> str:
    """The line that lets the record of one address stand in for that of another."""
    return f"{_owner(address)} {ttl} CNAME {_owner(target)}\n"


def _owner(address: str) -> str:
    return str(owner_name(parse_mailbox(address)))


@dataclass
class Dns:
    """The running servers."""

    folder: Path
    authority_port: int
    """Of knot, which serves the zones and validates nothing."""
    resolver_port: int
    """Of unbound, which validates."""
    astray_port: int
    """Of a second unbound, whose trust anchor is a wrong one."""
    programs: list[subprocess.Popen[bytes]]

    def stop_resolver(self) -> None:
        """Ends the unbound that validates."""
        _end(self.programs[1])


@contextlib.contextmanager
def running(lines: str = "", **children: str) -> Iterator[Dns]:
    """Servers with these lines in the zone `test.`, and in `insecure.test.` and `bogus.test.` by keyword."""
    names = [require(name) for name in ("knotd", "keymgr", "unbound")]
    folder = Path(tempfile.mkdtemp(prefix="dnssec-"))
    _write_zone(folder, "test.", _CHILDREN + lines)
    for child in ("insecure", "bogus"):
        _write_zone(folder, f"{child}.test.", children.get(child, ""))
    made = Dns(folder, *free_ports(3), programs=[])
    try:
        _start(made, *names)
        yield made
    finally:
        for program in made.programs:
            _end(program)
        shutil.rmtree(folder)


def _write_zone(folder: Path, zone: str, lines: str) -> None:
    (folder / f"{zone.removesuffix('.')}.zone").write_text(_SOA.format(zone=zone) + lines, "utf-8")


def _start(made: Dns, knotd: str, keymgr: str, unbound: str) -> None:
    config = made.folder / "knot.conf"
    config.write_text(_KNOT.format(folder=made.folder, host=HOST, port=made.authority_port), "utf-8")
    _run(made, "knot", [knotd, "-c", str(config)])
    wait_for_port(made.authority_port)
    _wait_for(made.authority_port, lambda answer: len(answer.answer) > 1)  # signed: the SOA and its RRSIG
    keys = subprocess.run(
        [keymgr, "-c", str(config), "test.", "dnskey"], check=True, capture_output=True, timeout=30
    )
    for port, anchor in ((made.resolver_port, keys.stdout.decode()), (made.astray_port, _WRONG_ANCHOR)):
        _start_resolver(made, unbound, port, anchor)


def _start_resolver(made: Dns, unbound: str, port: int, anchor: str) -> None:
    file = made.folder / f"anchor-{port}"
    file.write_text(anchor, "utf-8")
    config = made.folder / f"unbound-{port}.conf"
    stubs = "".join(_STUB.format(zone=zone, host=HOST, port=made.authority_port) for zone in _ZONES)
    text = _UNBOUND.format(folder=made.folder, host=HOST, port=port, anchor=file) + stubs
    config.write_text(text, "utf-8")
    _run(made, f"unbound-{port}", [unbound, "-d", "-p", "-c", str(config)])
    wait_for_port(port)


def _run(made: Dns, name: str, command: list[str]) -> None:
    with (made.folder / f"{name}.log").open("wb") as log:
        made.programs.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log))


def _wait_for(port: int, ready: Callable[[dns.message.Message], bool], timeout_seconds: float = 40) -> None:
    """Returns when the server's answer about the SOA of `test.` is as it should be."""
    deadline = time.monotonic() + timeout_seconds
    query = dns.message.make_query("test.", "SOA", want_dnssec=True)
    while not ready(dns.query.tcp(query, HOST, timeout=timeout_seconds, port=port)):
        assert time.monotonic() < deadline, "the zone is not served"
        time.sleep(0.02)


def _end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(10)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


# --------------------------------------------------------------------------- a resolver that lies

Answer = Callable[[dns.message.Message], bytes | None]
"""From the question to the octets of the answer; None: silence."""


def answering(rcode: str = "NOERROR", *, secure: bool = False, **changes: object) -> Answer:
    """An empty answer with this rcode, with AD if it claims to be secure, and attributes changed."""

    def answer(query: dns.message.Message) -> bytes:
        response = dns.message.make_response(query, recursion_available=True)
        response.set_rcode(dns.rcode.from_text(rcode))
        response.flags |= dns.flags.AD if secure else 0
        for name, value in changes.items():
            setattr(response, name, value)
        return response.to_wire()

    return answer


@contextlib.asynccontextmanager
async def lying_resolver(answer: Answer) -> AsyncIterator[int]:
    """A resolver on loopback that answers as it is told; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        octets = answer(dns.message.from_wire(await reader.readexactly(length)))
        if octets is None:
            await reader.read()  # until the client has enough of it
        else:
            writer.write(len(octets).to_bytes(2) + octets)
            await writer.drain()

    async with serving(serve) as port:
        yield port
