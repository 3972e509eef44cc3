"""Ports and certificates for the servers that tests start on loopback."""

from __future__ import annotations

import os
import random
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import trustme

HOST = "127.0.0.1"
SERVER_NAME = "mail.example.test"
"""The name in the servers' certificates, beside `localhost` and 127.0.0.1."""

_FIRST_PORT, _PORTS_PER_WORKER = 20_000, 3_000
"""Below the ports that the kernel gives to outgoing connections, which could take a free one at any time."""


def _own_ports() -> Iterator[int]:
    """Ports in random order, none twice, and none that a parallel worker of pytest-xdist would take."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4
    first = _FIRST_PORT + worker * _PORTS_PER_WORKER
    yield from random.sample(range(first, first + _PORTS_PER_WORKER), _PORTS_PER_WORKER)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


_unused_ports = filter(_is_free, _own_ports())


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing listens on, for programs that cannot be told to take port 0."""
    return list(islice(_unused_ports, count))


def wait_for_port(port: int, timeout_seconds: float = 40) -> None:
    """Returns when a program of its own accepts connections on loopback port `port`."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            socket.create_connection((HOST, port), timeout=timeout_seconds).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, f"nothing listens on port {port}"
            time.sleep(0.02)
        else:
            return


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority of the tests, with one server certificate, as files."""

    ca_file: Path
    certificate: Path
    """Chain of the server, for `SERVER_NAME`, `localhost` and 127.0.0.1."""
    key: Path


def make_authority(folder: Path, *names: str) -> Authority:
    """Creates an authority and one server certificate in `folder`.

    Args:
        names: what the certificate is valid for, instead of the names that every test server has.
    """
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    server = authority.issue_cert(
        *(names or (SERVER_NAME, "localhost", HOST)), key_type=trustme.KeyType.ECDSA
    )
    made = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    authority.cert_pem.write_to_path(str(made.ca_file))
    for part, blob in enumerate(server.cert_chain_pems):
        blob.write_to_path(str(made.certificate), append=part > 0)
    server.private_key_pem.write_to_path(str(made.key))
    return made
