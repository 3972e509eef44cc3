"""`relay demo`: the relay's main job on one machine, with nothing to configure.

In a temporary directory it makes a certificate, a login and two recipients with OpenPGP keys, writes a
configuration like an admin would, starts the relay and a next hop that keeps what it receives in a Maildir,
sends one real message through TLS and AUTH, shows what arrived and what the recipient reads, and then goes
on running for any mail client. Nothing of it is used by the relay itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import mailbox
import os
import secrets
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from aiosmtpd.smtp import SMTP, Envelope, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from relay import app
from relay.config import load
from relay.journal import start_logging
from relay.server import users

_LOGIN = "demo"
_RECIPIENTS = ("alice@demo.example", "bob@demo.example")
_AUTHOR = "demo@relay.example"
_PORTS = {"implicit": 1465, "starttls": 1587}

_MESSAGE = """\
From: Demo <{author}>
To: Alice <{alice}>
Subject: The quarterly numbers
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Dear Alice,

the numbers are 17 and 4. Nobody but you can read this line: schön, oder?
"""

_CONFIG = """\
hostname: relay.example
listen:
  - {{address: "127.0.0.1:{implicit}", tls: implicit}}
  - {{address: "127.0.0.1:{starttls}", tls: starttls}}
tls: {{certificate: {home}/tls.crt, key: {home}/tls.key}}
auth:
  type: users
  users: {{file: {home}/users.passwd}}
next_hop: {{address: "127.0.0.1:{next_hop}", tls: none}}
keys:
  folder: {{type: directory, path: {home}/keys}}
policy:
  default: {{encrypt: always, keys: [folder]}}
log: {{format: text, level: info}}
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the demonstration uses."""

    home: Path
    password: str
    ports: dict[str, int]

    @property
    def maildir(self) -> Path:
        return self.home / "maildir"

    @property
    def gnupg_home(self) -> Path:
        """The recipients' own keyring, with their secret keys: the relay never sees it."""
        return self.home / "gnupg"


def run(*, once: bool = False) -> int:
    """Runs the demonstration until SIGINT or SIGTERM; `once` ends it after the first message.

    Returns:
        The exit code: 0, or 1 where GnuPG is missing.
    """
    if shutil.which("gpg") is None:
        click.echo("relay demo needs GnuPG to make keys: install it with `apt-get install gnupg`.", err=True)
        return 1
    with _stage() as stage:
        return asyncio.run(_demonstrate(stage, once=once))


@contextlib.contextmanager
def _stage() -> Iterator[_Stage]:
    """A private directory with everything in it, gone at the end."""
    home = Path(tempfile.mkdtemp(prefix="relay-demo-"))
    stage = _Stage(home, secrets.token_urlsafe(9), {name: _port(port) for name, port in _PORTS.items()})
    try:
        _write_certificate(home)
        _make_recipients(stage)
        users.write(home / "users.passwd", _LOGIN, stage.password, senders=("*",))
        yield stage
    finally:
        with contextlib.suppress(click.ClickException):  # there may be no agent to end
            _gpg(stage, "gpgconf", "--kill", "all")
        shutil.rmtree(home, ignore_errors=True)


def _port(wanted: int) -> int:
    """The port if it is free, else any free one."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise OSError("no free port on 127.0.0.1")


def _write_certificate(home: Path) -> None:
    """A self-signed certificate for localhost, as a mail client will ask to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    (home / "tls.crt").write_bytes(certificate.public_bytes(pem))
    (home / "tls.key").touch(mode=0o600)
    (home / "tls.key").write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))


def _make_recipients(stage: _Stage) -> None:
    """Keys of two recipients; the relay gets the public halves only."""
    stage.gnupg_home.mkdir(mode=0o700)
    (stage.home / "keys").mkdir()
    for recipient in _RECIPIENTS:
        _gpg(stage, "gpg", "--passphrase", "", "--quick-generate-key", recipient, "default", "default", "0")
        public = _gpg(stage, "gpg", "--armor", "--export", recipient)
        (stage.home / "keys" / f"{recipient}.asc").write_bytes(public)


def _gpg(stage: _Stage, program: str, *args: str, stdin: bytes = b"") -> bytes:
    """What GnuPG prints, run in the recipients' own home; raises ClickException with its words."""
    environ = {**os.environ, "GNUPGHOME": str(stage.gnupg_home)}
    options = ["--batch", "--quiet", "--no-auto-key-locate"] if program == "gpg" else []
    done = subprocess.run(
        [program, *options, *args], input=stdin, capture_output=True, env=environ, check=False, timeout=60
    )
    if done.returncode:
        raise click.ClickException(f"{program} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


# --------------------------------------------------------------------------- the demonstration


async def _demonstrate(stage: _Stage, *, once: bool) -> int:
    async with _next_hop(stage) as next_hop_port:
        path = stage.home / "relay.yaml"
        path.write_text(_CONFIG.format(home=stage.home, next_hop=next_hop_port, **stage.ports))
        config = load(path, os.environ)
        start_logging(json_lines=False, level=config.log.level)
        async with app.running(config) as relay:
            await asyncio.to_thread(_send, stage)
            await asyncio.to_thread(_show, stage)
            if not once:
                _explain_settings(stage)
                await relay.until_stopped()
    return 0


class _KeepEverything:
    """The handler of the embedded next hop: accepts all and keeps it in a Maildir."""

    def __init__(self, maildir: Path) -> None:
        self._maildir = mailbox.Maildir(maildir)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """The name is aiosmtpd's."""
        self._maildir.add(envelope.original_content or b"")
        return "250 2.0.0 kept"


@contextlib.asynccontextmanager
async def _next_hop(stage: _Stage) -> AsyncIterator[int]:
    handler = _KeepEverything(stage.maildir)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(handler, hostname="next-hop.example"), "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()


def _send(stage: _Stage) -> None:
    """The message, sent as a mail client does: TLS with a verified certificate, then AUTH."""
    text = _MESSAGE.format(author=_AUTHOR, alice=_RECIPIENTS[0]).replace("\n", "\r\n")
    context = ssl.create_default_context(cafile=str(stage.home / "tls.crt"))
    with smtplib.SMTP_SSL("localhost", stage.ports["implicit"], context=context) as client:
        client.login(_LOGIN, stage.password)
        client.sendmail(_AUTHOR, _RECIPIENTS[0], text.encode(), mail_options=["BODY=8BITMIME"])


def _show(stage: _Stage) -> None:
    """What the next hop got, and what the recipient reads."""
    (kept,) = list(mailbox.Maildir(stage.maildir, create=False))
    received = bytes(kept)
    _heading("What was sent")
    click.echo(_MESSAGE.format(author=_AUTHOR, alice=_RECIPIENTS[0]))
    _heading("What the next hop got")
    click.echo(received.decode("ascii"))
    _heading(f"What {_RECIPIENTS[0]} reads (gpg --decrypt)")
    click.echo(_gpg(stage, "gpg", "--decrypt", stdin=_armored(received)).decode())


def _armored(received: bytes) -> bytes:
    """The OpenPGP message inside a PGP/MIME message."""
    start = received.index(b"-----BEGIN PGP MESSAGE-----")
    return received[start : received.index(b"-----END PGP MESSAGE-----") + 25]


def _heading(text: str) -> None:
    click.secho(f"\n── {text} ──\n", bold=True)


def _explain_settings(stage: _Stage) -> None:
    """What to type into a mail client."""
    _heading("Now point a mail client at it")
    click.echo(
        f"""\
  Outgoing server (SMTP)  localhost
  Port and security       {stage.ports["implicit"]} with SSL/TLS, or {stage.ports["starttls"]} with STARTTLS
  Authentication          normal password
  User name               {_LOGIN}
  Password                {stage.password}
  Certificate             self-signed: accept it, or trust {stage.home}/tls.crt
  Write to                {" or ".join(_RECIPIENTS)}; any other address is refused, because it has no key

  Mail arrives in         {stage.maildir}/new
  Read it with            GNUPGHOME={stage.gnupg_home} gpg --decrypt FILE
  The configuration is    {stage.home}/relay.yaml

Stop with Ctrl-C; everything above is deleted then."""
    )
