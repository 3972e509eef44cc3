"""A real OpenLDAP server for tests, with its files in one temporary folder, and a directory that lies.

The tree is `dc=example,dc=test`; `security tls=1` refuses every operation before TLS. Who may read: everyone,
except below `ou=private`, which only the reader sees.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.network import HOST, Authority, free_ports, wait_for_port
from tests.programs import require
from tests.streams import serving

SUFFIX = "dc=example,dc=test"
PEOPLE, PRIVATE = f"ou=people,{SUFFIX}", f"ou=private,{SUFFIX}"
READER, PASSWORD = f"cn=reader,{SUFFIX}", "let me in"

_CONFIG = """include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
attributetype ( 1.3.6.1.4.1.3401.8.2.11 NAME 'pgpKey' SYNTAX 1.3.6.1.4.1.1466.115.121.1.40
  EQUALITY octetStringMatch )
objectclass ( 1.3.6.1.4.1.3401.8.2.99 NAME 'pgpPerson' SUP top AUXILIARY MAY pgpKey )
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {ca_file}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
security tls=1
database mdb
maxsize 67108864
suffix "{suffix}"
directory {folder}
access to attrs=userPassword by anonymous auth by * none
access to dn.subtree="{private}" by dn.exact="{reader}" read by * none
access to * by * read
"""

_TREE = f"""dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: {READER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: {PASSWORD}

"""


def unit(dn: str) -> str:
    """LDIF of an organizational unit."""
    return f"dn: {dn}\nobjectClass: organizationalUnit\nou: {dn.partition('=')[2].partition(',')[0]}\n\n"


def person(uid: str, mail: str, *keys: bytes, below: str = PEOPLE) -> str:
    """LDIF of a person with keys."""
    values = "".join(f"pgpKey:: {base64.b64encode(key).decode()}\n" for key in keys)
    return (
        f"dn: uid={uid},{below}\nobjectClass: inetOrgPerson\nobjectClass: pgpPerson\n"
        f"uid: {uid}\ncn: {uid}\nsn: {uid}\nmail: {mail}\n{values}\n"
    )


def referral(dn: str) -> str:
    """LDIF of an entry that stands for another server."""
    return f"dn: {dn}\nobjectClass: referral\nobjectClass: extensibleObject\nref: ldap://{HOST}:1/{dn}\n\n"


@dataclass
class Slapd:
    """A running server."""

    port: int
    """Clear, for StartTLS."""
    tls_port: int
    program: subprocess.Popen[bytes]

    def stop(self) -> None:
        """Ends it."""
        self.program.terminate()
        self.program.wait(10)


@contextlib.contextmanager
def running(authority: Authority, ldif: str) -> Iterator[Slapd]:
    """A server with these entries below `SUFFIX`."""
    slapd, slapadd = require("slapd"), require("slapadd")
    folder = Path(tempfile.mkdtemp(prefix="slapd-"))
    try:
        with _started(folder, slapd, slapadd, authority, ldif) as made:
            yield made
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _started(folder: Path, slapd: str, slapadd: str, authority: Authority, ldif: str) -> Iterator[Slapd]:
    config = folder / "slapd.conf"
    config.write_text(_config(folder, authority), "utf-8")
    subprocess.run(
        [slapadd, "-f", str(config)],
        input=(_TREE + ldif).encode(),
        check=True,
        capture_output=True,
        timeout=60,
    )
    port, tls_port = free_ports(2)
    listen = f"ldap://{HOST}:{port} ldaps://{HOST}:{tls_port}"
    with (folder / "slapd.log").open("wb") as log:
        program = subprocess.Popen(
            [slapd, "-f", str(config), "-h", listen, "-d", "0"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    made = Slapd(port, tls_port, program)
    try:
        wait_for_port(port)
        wait_for_port(tls_port)
        yield made
    finally:
        made.stop()


def _config(folder: Path, authority: Authority) -> str:
    return _CONFIG.format(
        ca_file=authority.ca_file,
        certificate=authority.certificate,
        key=authority.key,
        suffix=SUFFIX,
        private=PRIVATE,
        reader=READER,
        folder=folder,
    )


# --------------------------------------------------------------------------- a directory that lies


def tlv(tag: int, *contents: bytes) -> bytes:
    """One BER element with definite length."""
    content = b"".join(contents)
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    return bytes([tag, 0x84]) + len(content).to_bytes(4) + content


def message(number: int, operation: bytes) -> bytes:
    """An LDAPMessage (RFC 4511 §4.1.1)."""
    return tlv(0x30, tlv(0x02, bytes([number])), operation)


def result(tag: int, code: int) -> bytes:
    """An LDAPResult without words (RFC 4511 §4.1.9)."""
    return tlv(tag, tlv(0x0A, bytes([code])), tlv(0x04), tlv(0x04))


def entry(attribute: bytes, *values: bytes) -> bytes:
    """A SearchResultEntry with one attribute (RFC 4511 §4.5.2)."""
    contents = tlv(0x31, *(tlv(0x04, value) for value in values))
    return tlv(0x64, tlv(0x04, b"uid=x"), tlv(0x30, tlv(0x30, tlv(0x04, attribute), contents)))


@dataclass
class Lies:
    """A directory that answers the first octets of each connection with fixed ones."""

    port: int
    received: bytearray
    """Everything that a client sent after its first message."""
    asked: asyncio.Event
    """Set when a first message came."""
    left: asyncio.Event
    """Set when a client closed its connection."""


@contextlib.asynccontextmanager
async def lying_directory(answer: bytes, context: ssl.SSLContext | None = None) -> AsyncIterator[Lies]:
    """Answers the first message of every connection, keeps what comes after it, and says nothing more.

    Args:
        context: for a server that begins with TLS; None: without.
    """
    made = Lies(0, bytearray(), asyncio.Event(), asyncio.Event())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        made.asked.set()
        writer.write(answer)
        try:
            while data := await reader.read(65536):
                made.received += data
        finally:
            made.left.set()

    async with serving(serve, context) as made.port:
        yield made
