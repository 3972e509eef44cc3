"""A real Postfix as next hop, with a configuration, queue and ports of its own.

It accepts mail for any domain and keeps it, one file for each recipient, so that a test can read it:

    with postfix.running(authority) as hop:
        …
        [delivered] = hop.wait_for(1)

Postfix stores line ends as LF and puts four fields on top (Return-Path, X-Original-To, Delivered-To,
Received). `Delivered.content` has the CRLF back and those fields removed; since this Postfix refuses bare LF,
that is exactly what the client sent. Header rewriting and the adding of missing fields are off.

The master process must start as root; where the tests run as somebody else they are skipped.
"""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.network import HOST, SERVER_NAME, Authority, free_ports, wait_for_port
from tests.programs import require, unavailable

REJECTS = {
    "reject@": "550 5.1.1 No such user here",
    "defer@": "450 4.2.1 Mailbox busy",
    "full@": "452 4.2.2 Mailbox full",
}
"""Recipients that are refused at RCPT, at any domain: access(5) patterns and their replies."""

LOGINS = {"alice@example.test": "alice's password ✓", "bob@example.test": "bob"}
"""The accounts behind AUTH."""

_MASTER = """\
{plain}        inet  n - n - -   smtpd
{starttls}     inet  n - n - -   smtpd -o smtpd_tls_security_level=encrypt {login}
{tls}          inet  n - n - -   smtpd -o smtpd_tls_wrappermode=yes {login}
cleanup    unix  n - n - 0   cleanup
qmgr       unix  n - n 300 1 qmgr
tlsmgr     unix  - - n 1000? 1 tlsmgr
rewrite    unix  - - n - -   trivial-rewrite
bounce     unix  - - n - 0   bounce
defer      unix  - - n - 0   bounce
trace      unix  - - n - 0   bounce
verify     unix  - - n - 1   verify
proxymap   unix  - - n - -   proxymap
anvil      unix  - - n - 1   anvil
smtp       unix  - - n - -   smtp
relay      unix  - - n - -   smtp
error      unix  - - n - -   error
retry      unix  - - n - -   error
discard    unix  - - n - -   discard
virtual    unix  - n n - -   virtual
postlog    unix-dgram n - n - 1 postlogd
"""

_MAIN: dict[str, object] = {
    "compatibility_level": "3.6",
    "myhostname": SERVER_NAME,
    "inet_interfaces": HOST,
    "inet_protocols": "ipv4",
    "smtp_host_lookup": "native",
    "disable_dns_lookups": "yes",
    "mydestination": "",
    "alias_maps": "",
    "local_recipient_maps": "",
    # Everything goes into maildirs, whatever its domain.
    "default_transport": "virtual",
    "virtual_mailbox_maps": "static:mail/",
    "virtual_mailbox_limit": 0,
    "mynetworks": f"{HOST}/32",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    # What arrives is kept as it came: nothing rewritten, nothing added but Received.
    "local_header_rewrite_clients": "",
    "smtpd_forbid_bare_newline": "reject",
    "smtpd_forbid_bare_newline_exclusions": "",
    "smtpd_tls_security_level": "none",
    "smtpd_tls_auth_only": "yes",
    # Tests connect as often and make as many mistakes as they like.
    "smtpd_client_connection_count_limit": 0,
    "smtpd_client_event_limit_exceptions": "static:all",
    "smtpd_hard_error_limit": 1000,
    "smtpd_soft_error_limit": 1000,
    "smtpd_error_sleep_time": "0s",
}

_LOGIN_OPTIONS = "-o smtpd_sasl_auth_enable=yes -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
"""For the TLS ports: loopback alone opens nothing there."""

_ADDED_FIELDS = re.compile(
    rb"Return-Path: <(?P<sender>.*)>\nX-Original-To: (?P<recipient>.*)\nDelivered-To: .*\n"
    rb"(?P<received>Received: .*\n(?:[ \t].*\n)*)"
)


@dataclass(frozen=True, slots=True)
class Delivered:
    """One message for one recipient."""

    sender: str
    """Envelope sender; empty for the null sender."""
    recipient: str
    content: bytes
    """As the client sent it: CRLF line ends, dots unstuffed, nothing added."""
    received: bytes
    """Postfix's own Received field: protocol (ESMTPSA …), helo name, TLS."""


@dataclass(frozen=True, slots=True)
class Postfix:
    """A running Postfix."""

    folder: Path
    authority: Authority
    plain_port: int
    """No TLS, no AUTH; takes anything from 127.0.0.1."""
    starttls_port: int
    """STARTTLS required. With `login`: AUTH required as well."""
    tls_port: int
    """Implicit TLS. With `login`: AUTH required as well."""

    def delivered(self) -> list[Delivered]:
        """What has arrived so far, oldest first."""
        files = (self.folder / "mail" / "new").glob("*")
        return [_parse(file.read_bytes()) for file in sorted(files, key=lambda file: file.stat().st_mtime_ns)]

    def wait_for(self, count: int, timeout_seconds: float = 20) -> list[Delivered]:
        """Waits until `count` deliveries (one for each recipient) have arrived, and returns them all.

        Postfix answers 250 when the message is in its queue; the delivery follows a moment later.
        """
        deadline = time.monotonic() + timeout_seconds
        while len(arrived := self.delivered()) < count:
            assert time.monotonic() < deadline, f"{len(arrived)} of {count} arrived\n{self.log()}"
            time.sleep(0.02)
        return arrived

    def is_idle(self) -> bool:
        """Whether the queue holds no message: nothing else will arrive.

        A file that is not whole yet belongs to a transaction: one that was given up, which its client ends
        with its next one, or one without its 250.
        """
        queues = ("maildrop", "incoming", "active", "deferred", "hold")
        return not any(
            _is_message(file) for name in queues for file in (self.folder / "queue" / name).rglob("*")
        )

    def clear(self) -> None:
        """Forgets what has arrived, so that the next test starts with an empty mailbox."""
        deadline = time.monotonic() + 10
        while not self.is_idle() and time.monotonic() < deadline:
            time.sleep(0.02)
        for file in (self.folder / "mail" / "new").glob("*"):
            file.unlink()

    def log(self) -> str:
        """Postfix's log."""
        file = self.folder / "mail.log"
        return file.read_text(errors="replace") if file.exists() else ""


def _parse(stored: bytes) -> Delivered:
    match = _ADDED_FIELDS.match(stored)
    assert match is not None, stored[:500]
    sender, recipient = match["sender"].decode(), match["recipient"].decode()
    return Delivered(sender, recipient, stored[match.end() :].replace(b"\n", b"\r\n"), match["received"])


def _is_message(file: Path) -> bool:
    """Postfix makes a file in its queue executable when it holds all of a message."""
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) and bool(mode & stat.S_IXUSR)


@contextmanager
def running(
    authority: Authority,
    *,
    message_size_limit: int = 200_000_000,
    smtputf8: bool = True,
    login: bool = False,
    rejects: Mapping[str, str] = REJECTS,
    settings: Mapping[str, object] | None = None,
) -> Iterator[Postfix]:
    """Starts a Postfix, and ends it at exit.

    Args:
        message_size_limit: what it announces as SIZE, in octets.
        login: AUTH PLAIN and LOGIN on the TLS ports, checked by a real Dovecot against `LOGINS`; mail from
            clients without a login is refused there.
        rejects: recipients refused at RCPT, access(5) patterns and replies.
        settings: further lines of main.cf, which win over everything else.
    """
    require("postfix")
    if os.geteuid() != 0:
        unavailable("Postfix's master process must start as root")
    # Not pytest's tmp_path: the postfix user must be able to enter every folder above, and the paths of
    # UNIX sockets are limited to 107 characters.
    with (
        tempfile.TemporaryDirectory(prefix="relay-pf-", ignore_cleanup_errors=True) as name,
        ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        hop = Postfix(folder, authority, *free_ports(3))
        if login:
            stack.enter_context(_dovecot(folder))
        main = (
            _MAIN
            | _placed(hop)
            | {
                "message_size_limit": message_size_limit,
                "smtputf8_enable": "yes" if smtputf8 else "no",
                "smtpd_recipient_restrictions": _restrictions(rejects),
            }
        )
        _write(hop, main | dict(settings or {}), _LOGIN_OPTIONS if login else "")
        stack.enter_context(_master(hop))
        yield hop


def _restrictions(rejects: Mapping[str, str]) -> str:
    entries = ", ".join(f"{{ {pattern} = {reply} }}" for pattern, reply in rejects.items())
    return f"check_recipient_access inline:{{ {entries} }}, permit" if entries else "permit"


def _placed(hop: Postfix) -> dict[str, object]:
    """The settings of main.cf that name files, ports or users of this machine."""
    folder, owner = hop.folder, pwd.getpwnam("postfix")
    return {
        "queue_directory": folder / "queue",
        "data_directory": folder / "data",
        "maillog_file": folder / "mail.log",
        "maillog_file_prefixes": folder,
        "virtual_mailbox_base": folder,
        "virtual_uid_maps": f"static:{owner.pw_uid}",
        "virtual_gid_maps": f"static:{owner.pw_gid}",
        "smtpd_tls_cert_file": hop.authority.certificate,
        "smtpd_tls_key_file": hop.authority.key,
        "smtpd_sasl_type": "dovecot",
        "smtpd_sasl_path": folder / "auth" / "login",
    }


def _write(hop: Postfix, main: Mapping[str, object], login_options: str) -> None:
    """Writes main.cf and master.cf, and makes the folders that Postfix expects."""
    folder, owner = hop.folder, pwd.getpwnam("postfix")
    for part in ("config", "queue", "data", "mail"):
        (folder / part).mkdir()
    for part in ("data", "mail"):
        os.chown(folder / part, owner.pw_uid, owner.pw_gid)
    (folder / "config" / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
    ports = {"plain": hop.plain_port, "starttls": hop.starttls_port, "tls": hop.tls_port}
    places = {name: f"{HOST}:{port}" for name, port in ports.items()}
    (folder / "config" / "master.cf").write_text(_MASTER.format(**places, login=login_options))


@contextmanager
def _master(hop: Postfix) -> Iterator[None]:
    config = hop.folder / "config"
    # `check` makes the queue's folders, with the owners and modes that the daemons want.
    subprocess.run([require("postfix"), "-c", config, "check"], check=True, capture_output=True)
    found = subprocess.run(
        [require("postconf"), "-c", config, "-h", "daemon_directory"],
        check=True,
        capture_output=True,
        text=True,
    )
    master = [str(Path(found.stdout.strip()) / "master"), "-c", str(config), "-d"]
    with _program(master, hop.folder / "master.out"):
        for port in (hop.plain_port, hop.starttls_port, hop.tls_port):
            wait_for_port(port)
        yield


@contextmanager
def _dovecot(folder: Path) -> Iterator[None]:
    """Dovecot's login service alone, on a UNIX socket in `folder`."""
    require("dovecot")
    home = folder / "auth"
    home.mkdir()
    users = "".join(f"{user}:{{PLAIN}}{password}::::::\n" for user, password in LOGINS.items())
    (home / "users").write_text(users)
    (home / "dovecot.conf").write_text(f"""\
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/dovecot.log
protocols =
ssl = no
auth_mechanisms = plain login
auth_failure_delay = 0
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {home}/users
}}
userdb {{
  driver = static
  args = uid=dovenull gid=dovenull home=/nonexistent
}}
service auth {{
  unix_listener {home}/login {{
    mode = 0666
  }}
}}
service anvil {{
  # No growing delay after failed logins: a test makes many.
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
""")
    with _program([require("dovecot"), "-F", "-c", str(home / "dovecot.conf")], home / "dovecot.out"):
        deadline = time.monotonic() + 20
        while not (home / "login").exists():
            assert time.monotonic() < deadline, (home / "dovecot.out").read_text()
            time.sleep(0.02)
        yield


@contextmanager
def _program(command: list[str], output: Path) -> Iterator[None]:
    """Runs a server in a process group of its own; ends the whole group at exit."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
