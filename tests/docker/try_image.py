"""Runs the built image as the deployment does, before a real Postfix with Dovecot, and sends mail through.

Started by `docker/test.sh`; it is no part of `make test`, because building needs a base image from elsewhere.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import postfix
from tests.clients import Outcome, Tls, submit
from tests.network import Authority, free_ports, make_authority, wait_for_port
from tests.postfix import LOGINS, Postfix

_USER = 10001
_STATE = "/var/lib/relay"
_ALICE = "alice@example.test"
_BOB = "bob@partner.example"

_CONFIG = """\
hostname: relay.example.test
listen:
  - {{address: "127.0.0.1:{implicit}", tls: implicit}}
  - {{address: "127.0.0.1:{starttls}", tls: starttls}}
tls: {{certificate: /etc/relay/tls/server.pem, key: /etc/relay/tls/server.key}}
auth: {{type: next-hop}}
next_hop: {{address: "localhost:{hop}", tls: implicit, ca_file: /etc/relay/tls/ca.pem}}
engine: {engine}
keys:
  folder: {{type: directory, path: /etc/relay/keys}}
  wkd: {{type: wkd}}
policy:
  default: {{encrypt: always, keys: [folder, wkd]}}
"""


def _run(*command: str | Path, check: bool = True, stdin: bytes = b"") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0 or not check, f"{command}: {done.stderr.decode()}"
    return (done.stdout + done.stderr).decode(errors="replace")


def _make_key(home: Path) -> bytes:
    """Bob's key, in a GnuPG home of its own; returns his certificate."""
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet"]
    _run(*gpg, "--passphrase", "", "--quick-generate-key", f"Bob <{_BOB}>", "default", "default", "never")
    return subprocess.run([*gpg, "--armor", "--export", _BOB], capture_output=True, check=True).stdout


@contextmanager
def _container(image: str, folder: Path, health_port: int) -> Iterator[str]:
    """The image as `docker/compose.yaml` runs it, on the network of this host."""
    name = f"relay-test-{secrets.token_hex(4)}"
    mounts = {"relay.yaml": "/etc/relay/relay.yaml", "keys": "/etc/relay/keys", "tls": "/etc/relay/tls"}
    command = ["podman", "run", "--detach", "--name", name, "--network", "host", "--read-only"]
    command += ["--cap-drop=all", "--security-opt=no-new-privileges", "--tmpfs", "/tmp:size=64m,noexec"]
    command += ["--env", f"RELAY_HEALTH_PORT={health_port}"]
    command += ["--volume", f"{name}-state:{_STATE}"]
    command += [
        part for here, there in mounts.items() for part in ("--volume", f"{folder / here}:{there}:ro")
    ]
    _run(*command, image)
    try:
        yield name
    finally:
        print(_run("podman", "logs", name))
        _run("podman", "rm", "--force", "--time", "40", name)
        _run("podman", "volume", "rm", f"{name}-state")


def _prepare(folder: Path, authority: Authority, config: str, certificate: bytes) -> None:
    (folder / "tls").mkdir()
    (folder / "keys").mkdir()
    (folder / "keys" / "bob.asc").write_bytes(certificate)
    for file in (authority.ca_file, authority.certificate, authority.key):
        (folder / "tls" / file.name).write_bytes(file.read_bytes())
    (folder / "relay.yaml").write_text(config)
    _run("chown", "-R", f"{_USER}:{_USER}", folder)
    folder.chmod(0o755)


def _try(image: str, engine: str, folder: Path, authority: Authority, hop: Postfix) -> None:
    implicit, starttls = free_ports(2)
    config = _CONFIG.format(implicit=implicit, starttls=starttls, hop=hop.tls_port, engine=engine)
    home = folder / "gpg"
    share = folder / "share"
    share.mkdir()
    _prepare(share, authority, config, _make_key(home))
    hop.clear()
    with _container(image, share, starttls) as name:
        try:
            wait_for_port(implicit)
            wait_for_port(starttls)
            _run("podman", "healthcheck", "run", name)
            _check_mail(hop, authority, implicit, starttls, home)
            _check_container(name)
        finally:
            _run("gpgconf", "--homedir", home, "--kill", "all")


def _check_mail(hop: Postfix, authority: Authority, implicit: int, starttls: int, home: Path) -> None:
    marker = secrets.token_hex(16).encode()
    content = (
        b"From: alice@example.test\r\nTo: bob@partner.example\r\nSubject: hello\r\n\r\n" + marker + b"\r\n"
    )

    def send(port: int, tls: Tls, recipient: str = _BOB, password: str = LOGINS[_ALICE]) -> Outcome:
        return submit(
            port,
            content,
            sender=_ALICE,
            recipients=[recipient],
            tls=tls,
            ca_file=authority.ca_file,
            login=(_ALICE, password),
        )

    for port, tls in ((implicit, Tls.IMPLICIT), (starttls, Tls.STARTTLS)):
        outcome = send(port, tls)
        assert outcome.is_accepted, outcome
    for mail in hop.wait_for(2):
        assert marker not in mail.content
        assert (_ALICE, _BOB) == (mail.sender, mail.recipient)
        armour = mail.content[mail.content.index(b"-----BEGIN PGP MESSAGE") :]
        assert marker.decode() in _run("gpg", "--homedir", home, "--batch", "--decrypt", stdin=armour)
    assert [550] == [
        answer.code for answer in send(implicit, Tls.IMPLICIT, "nokey@partner.example").to("rcpt")
    ]
    assert send(implicit, Tls.IMPLICIT, password="wrong").final.code == 535


def _check_container(name: str) -> None:
    """It runs as nobody special, keeps its store in the volume alone, and TERM ends it in good order."""
    assert _run("podman", "exec", name, "id", "-u").strip() == str(_USER)
    assert "read-only" in _run("podman", "exec", name, "touch", "/opt/relay/x", check=False).lower()
    assert {"pending": []} == json.loads(_run("podman", "exec", name, "relay", "keys", "pending", "--json"))
    owner = _run("podman", "exec", name, "stat", "--format=%u %a", f"{_STATE}/relay.db")
    assert owner.strip() == f"{_USER} 600"
    started = time.monotonic()
    _run("podman", "stop", "--time", "40", name)
    assert time.monotonic() - started < 20
    state = json.loads(_run("podman", "inspect", name))[0]["State"]
    assert state["ExitCode"] == 0, state


def main(image: str) -> None:
    """Tries the image with both engines."""
    history = _run("podman", "history", "--no-trunc", image)
    assert "PRIVATE KEY" not in history
    with tempfile.TemporaryDirectory(prefix="relay-image-") as name:
        folder = Path(name)
        authority = make_authority(folder)
        with postfix.running(authority, login=True) as hop:
            for engine in ("sequoia", "gnupg"):
                (folder / engine).mkdir()
                _try(image, engine, folder / engine, authority, hop)
                print(f"{engine}: passed")


if __name__ == "__main__":
    main(sys.argv[1])
