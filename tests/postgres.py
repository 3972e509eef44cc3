"""A real PostgreSQL with a cluster of its own, on a loopback port and a UNIX socket.

    with postgres.running(authority) as server:
        url = server.create_database()

It takes logins by SCRAM over TCP, with and without TLS, and any local user over the socket. It does not sync
to disk, so it starts and stops in a second. PostgreSQL refuses to run as root; then it runs as `postgres`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from tests.network import HOST, Authority, free_ports
from tests.programs import require

USER, PASSWORD = "relay", "s3cret ✓"
"""The login of the relay."""

_ADMIN = "admin"
_ACCOUNT = "postgres"
_SETTINGS = {
    "listen_addresses": HOST,
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "8MB",
    "autovacuum": "off",
}


class Postgres:
    """A PostgreSQL server that can be stopped, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        [self.port] = free_ports(1)
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def create_database(self) -> str:
        """An empty database that belongs to `USER`; its URL."""
        name = f"relay{next(self._numbers)}"
        self.run(f"CREATE DATABASE {name} OWNER {USER}")
        return f"postgresql://{USER}@{HOST}:{self.port}/{name}"

    def run(self, statement: str, database: str = "postgres") -> str:
        """What psql prints for a statement of the administrator."""
        where = ["-h", str(self.folder), "-p", str(self.port), "-U", _ADMIN, "-d", database]
        done = subprocess.run(
            [_program("psql"), *where, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def start(self) -> None:
        """Starts the server and returns when it takes connections."""
        options = [f"-c{name}={value}" for name, value in _SETTINGS.items()]
        data = str(self.folder / "data")
        command = [_program("postgres"), "-D", data, "-p", str(self.port), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_account(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        check = [_program("pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        deadline = time.monotonic() + 40
        while subprocess.run(check, check=False).returncode:
            assert time.monotonic() < deadline and self._process.poll() is None, self.log()
            time.sleep(0.02)

    def stop(self, *, at_once: bool = False) -> None:
        """Ends the server and its connections; `at_once` as in a crash."""
        if self._process:
            self._process.send_signal(signal.SIGQUIT if at_once else signal.SIGINT)
            self._process.wait(20)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Neither the server nor its connections say or close anything, as if the network were gone."""
        assert self._process is not None
        pids = [self._process.pid, *_children(self._process.pid)]
        try:
            _signal(pids, signal.SIGSTOP)
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def log(self) -> str:
        """What the server wrote."""
        return (self.folder / "log").read_text(errors="replace")


def _signal(pids: list[int], number: signal.Signals) -> None:
    """A connection may have ended meanwhile."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@contextmanager
def running(authority: Authority) -> Iterator[Postgres]:
    """Starts a PostgreSQL whose certificate comes from `authority`, and ends it at exit."""
    # Not pytest's tmp_path: the account must be able to enter every folder above, and the paths of UNIX
    # sockets are limited to 107 characters.
    with tempfile.TemporaryDirectory(prefix="relay-pg-", ignore_cleanup_errors=True) as name:
        server = Postgres(Path(name))
        _make_cluster(server.folder, authority)
        try:
            server.start()
            server.run(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
            yield server
        finally:
            server.stop()


def _make_cluster(folder: Path, authority: Authority) -> None:
    _give_away(folder)
    data = folder / "data"
    options = [
        "--auth-local=trust",
        "--auth-host=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ]
    subprocess.run(
        [*_as_account(), _program("initdb"), "-D", str(data), "-U", _ADMIN, *options],
        check=True,
        capture_output=True,
    )
    for source, target in ((authority.certificate, "server.crt"), (authority.key, "server.key")):
        shutil.copyfile(source, data / target)
        (data / target).chmod(0o600)
        _give_away(data / target)
    with (data / "postgresql.conf").open("a") as file:
        file.write("ssl = on\n")


def _as_account() -> list[str]:
    """What stands before a command so that it does not run as root."""
    if os.geteuid() != 0:
        return []
    return [require("setpriv"), f"--reuid={_ACCOUNT}", f"--regid={_ACCOUNT}", "--clear-groups"]


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        account = pwd.getpwnam(_ACCOUNT)
        os.chown(path, account.pw_uid, account.pw_gid)


def _program(name: str) -> str:
    """Debian keeps PostgreSQL's programs out of the path, one folder for each version."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else require(name)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
