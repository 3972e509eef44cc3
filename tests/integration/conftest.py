"""The surroundings of the running relay: a Postfix behind it, recipients with keys, a file of logins."""

from __future__ import annotations

import base64
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pysequoia
import pytest

from relay.mime import armor
from relay.server import users
from tests import clients, keys, postfix
from tests.network import HOST, Authority, free_ports
from tests.programs import require
from tests.running import RunningRelay

LOGIN = ("sender@example.com", "the password ✓")
SENDER = "sender@example.com"

CONFIG = """\
hostname: relay.example.test
listen:
  - {{address: "127.0.0.1:{implicit}", tls: implicit}}
  - {{address: "127.0.0.1:{starttls}", tls: starttls}}
tls: {{certificate: {certificate}, key: {key}}}
auth: {{type: users, users: {{file: {home}/users.passwd}}}}
next_hop: {{address: "{next_hop}", tls: {next_hop_tls}, ca_file: {ca_file}}}
keys:
  folder: {{type: directory, path: {home}/keys}}
policy:
  default: {{encrypt: always, keys: [folder]}}
  domains:
    clear.example: {{encrypt: never}}
    maybe.example: {{encrypt: when-possible}}
engine: {engine}
log: {{format: json, level: debug}}
"""


@pytest.fixture(scope="session")
def next_hop(authority: Authority) -> Iterator[postfix.Postfix]:
    """A real Postfix with TLS that takes everything."""
    with postfix.running(authority) as hop:
        yield hop


@pytest.fixture(scope="session")
def recipients_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A GnuPG home with the secret keys of every recipient whose key GnuPG can read."""
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)
    gpg = [require("gpg"), "--homedir", str(home), "--batch", "--quiet", "--no-auto-key-locate"]
    for fixture in keys.USABLE:
        if fixture.gnupg_reads:
            subprocess.run(
                [*gpg, "--import"], input=keys.secret(fixture.name), check=True, capture_output=True
            )
    yield home
    subprocess.run([require("gpgconf"), "--homedir", str(home), "--kill", "all"], check=True)


@dataclass(frozen=True, slots=True)
class Site:
    """A relay with what stands around it."""

    relay: RunningRelay
    authority: Authority
    implicit_port: int
    starttls_port: int

    def submit(
        self,
        content: bytes,
        *recipients: str,
        client: Callable[..., clients.Outcome] = clients.submit,
        sender: str = SENDER,
        login: tuple[str, str] = LOGIN,
        tls: clients.Tls = clients.Tls.IMPLICIT,
        options: tuple[str, ...] = (),
    ) -> clients.Outcome:
        """One message through TLS and AUTH."""
        return client(
            self.implicit_port if tls is clients.Tls.IMPLICIT else self.starttls_port,
            content,
            sender=sender,
            recipients=recipients,
            tls=tls,
            ca_file=self.authority.ca_file,
            login=login,
            options=options,
        )


class Dialogue:
    """A client that speaks line by line, so that a test can stop anywhere."""

    def __init__(self, site: Site) -> None:
        context = ssl.create_default_context(cafile=site.authority.ca_file)
        plain = socket.create_connection((HOST, site.implicit_port), timeout=30)
        self.socket = context.wrap_socket(plain, server_hostname="localhost")
        self._replies = self.socket.makefile("rb")
        self.reply()

    def reply(self) -> str:
        line = self._replies.readline()
        while line[3:4] == b"-":
            line = self._replies.readline()
        return line.decode().strip()

    def say(self, command: str) -> str:
        self.socket.sendall(command.encode() + b"\r\n")
        return self.reply()

    def log_in(self, login: tuple[str, str] = LOGIN) -> None:
        self.say("EHLO client.example")
        secret = base64.b64encode(f"\0{login[0]}\0{login[1]}".encode()).decode()
        assert self.say(f"AUTH PLAIN {secret}").startswith("235")

    def to_data(self, recipient: str, login: tuple[str, str] = LOGIN) -> None:
        self.log_in(login)
        for command in (f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{recipient}>", "DATA"):
            assert self.say(command)[0] in "23", command

    def vanish(self) -> None:
        """Ends the connection without a QUIT."""
        self._replies.close()
        self.socket.close()


def make_site(
    home: Path,
    authority: Authority,
    next_hop_address: str,
    *,
    next_hop_tls: str = "starttls",
    engine: str = "sequoia",
    change: Callable[[str], str] = lambda config: config,
    wrapper: tuple[str, ...] = (),
) -> Site:
    """A relay that is not started yet, with every key fixture in its folder."""
    (home / "keys").mkdir()
    for fixture in keys.FIXTURES:
        shutil.copy(keys.FOLDER / f"{fixture.name}.pgp", home / "keys")
    users.write(home / "users.passwd", *LOGIN, senders=("*@example.com",))
    implicit, starttls = free_ports(2)
    config = CONFIG.format(
        home=home,
        implicit=implicit,
        starttls=starttls,
        certificate=authority.certificate,
        key=authority.key,
        ca_file=authority.ca_file if next_hop_tls != "none" else "null",
        next_hop=next_hop_address,
        next_hop_tls=next_hop_tls,
        engine=engine,
    )
    return Site(RunningRelay(home, change(config), wrapper), authority, implicit, starttls)


@pytest.fixture(scope="module", params=["sequoia", "gnupg"])
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    authority: Authority,
    next_hop: postfix.Postfix,
) -> Iterator[Site]:
    """A running relay in front of Postfix, with each engine in turn."""
    home = tmp_path_factory.mktemp("site")
    found = make_site(home, authority, f"localhost:{next_hop.starttls_port}", engine=request.param)
    with found.relay:
        yield found


@pytest.fixture
def inbox(next_hop: postfix.Postfix) -> postfix.Postfix:
    """Postfix with an empty mailbox."""
    next_hop.clear()
    return next_hop


def ciphertext(content: bytes) -> bytes:
    """The armoured OpenPGP message of a PGP/MIME message."""
    (block,) = armor.blocks(content)
    return content[block.start : block.end]


def only_part(payload: bytes) -> bytes:
    """The entity in a payload with a protected header; fails where anything stands around it."""
    head, _, body = payload.partition(b"\r\n\r\n")
    found = re.match(
        rb'Content-Type: multipart/mixed; boundary="([^"]+)";\r\n\tprotected-headers="v1"; hp="cipher"\r\n',
        head,
    )
    assert found, head
    line = b"--" + found[1]
    assert body.startswith(line + b"\r\n")
    assert body.endswith(b"\r\n" + line + b"--\r\n")
    return body.removeprefix(line + b"\r\n").removesuffix(b"\r\n" + line + b"--\r\n")


def gpg_decrypt(home: Path, message: bytes) -> bytes:
    """What GnuPG reads: the submitted entity, without the protected header around it."""
    gpg = [require("gpg"), "--homedir", str(home), "--batch", "--quiet"]
    done = subprocess.run([*gpg, "--decrypt"], input=ciphertext(message), check=True, capture_output=True)
    return only_part(done.stdout)


def sequoia_decrypt(name: str, message: bytes) -> bytes:
    """What Sequoia reads with the secret key of a fixture, without the protected header around it."""
    secret = pysequoia.Tsk.from_bytes(keys.secret(name))
    plaintext = pysequoia.decrypt(ciphertext(message), decryptor=secret.decryptor()).bytes
    assert plaintext is not None
    return only_part(plaintext)


def entity(content: bytes) -> bytes:
    """What has to be inside: the Content-* fields of a message and its body, byte for byte."""
    header, _, body = content.partition(b"\r\n\r\n")
    fields: list[bytes] = []
    for line in (header + b"\r\n").splitlines(keepends=True):
        if line[:1] in b" \t" and fields:
            fields[-1] += line
        else:
            fields.append(line)
    kept = b"".join(field for field in fields if field.lower().startswith(b"content-"))
    return kept + b"\r\n" + body
