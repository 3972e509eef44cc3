"""A real nginx that serves web key directories on loopback, on a port of its own.

    with nginx.running(folder, authority, {"broken.test": "return 500;"}) as web:
        web.put("openpgpkey.example.test", "/.well-known/openpgpkey/…", certificate)

Each host has a folder of files, `web.root(host)`. The certificate of `authority` must name the hosts; the DNS
is for the caller (`tests/nameserver.py`).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.network import HOST, Authority, free_ports, wait_for_port
from tests.programs import require

_CONFIG = """\
{user}
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type application/octet-stream;
    server_names_hash_bucket_size 128;
    ssl_protocols TLSv1.2 TLSv1.3;
    {servers}
}}
"""

_SERVER = """\
    server {{
        {listen}
        server_name {name};
        root {folder}/sites/$host;
        {certificate}
        {behaviour}
    }}
"""


@dataclass(frozen=True, slots=True)
class Web:
    """A running nginx."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def requests(self) -> list[str]:
        """What was asked for so far: `GET /.well-known/…?l=bob HTTP/1.1`."""
        log = (self.folder / "access.log").read_text("utf-8", "replace")
        return [line.split('"')[1] for line in log.splitlines()]

    def root(self, host: str) -> Path:
        """The folder with the files of a host."""
        return self.folder / "sites" / host

    def put(self, host: str, path: str, content: bytes) -> None:
        """Serves a file."""
        file = self.root(host) / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@contextmanager
def running(
    folder: Path,
    authority: Authority,
    behaviours: Mapping[str, str] | None = None,
    *,
    also: tuple[str, ...] = (),
) -> Iterator[Web]:
    """Starts nginx and ends it.

    Args:
        folder: empty; configuration, logs and files go there.
        behaviours: for some hosts, directives for their `server` block; one with `ssl_certificate` replaces
            the certificate too.
        also: further sockets to listen on, `127.0.1.2:443`; they need root.
    """
    program = require("nginx")
    [port] = free_ports(1)
    (folder / "sites").mkdir()
    config = folder / "nginx.conf"
    config.write_text(_config(folder, authority, behaviours or {}, (f"{HOST}:{port}", *also)))
    command = [program, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(config)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=folder)
    try:
        wait_for_port(port)
        yield Web(folder, port, process)
    finally:
        process.terminate()
        process.wait(timeout=20)


def _config(
    folder: Path, authority: Authority, behaviours: Mapping[str, str], sockets: tuple[str, ...]
) -> str:
    usual = f"ssl_certificate {authority.certificate}; ssl_certificate_key {authority.key};"
    servers = [
        _SERVER.format(
            listen=" ".join(
                f"listen {socket} ssl{' default_server' if name == '_' else ''};" for socket in sockets
            ),
            name=name,
            folder=folder,
            certificate="" if "ssl_certificate " in behaviour else usual,
            behaviour=behaviour,
        )
        for name, behaviour in {"_": "", **behaviours}.items()
    ]
    # Workers of a master that is root run as nobody, who may not enter the folders of tests.
    user = "user root;" if os.geteuid() == 0 else ""
    return _CONFIG.format(user=user, folder=folder, servers="".join(servers))
