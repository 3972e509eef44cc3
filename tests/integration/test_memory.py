"""The memory budget under a flood: 452 instead of a crash, and a peak that stays below the promise."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import keys
from tests.integration.conftest import make_site
from tests.network import HOST, Authority, free_ports, wait_for_port
from tests.processes import descendants
from tests.programs import require

pytestmark = [pytest.mark.system, pytest.mark.slow]

MIB = 1 << 20
BUDGET = 400 * MIB
CLIENTS = 40
SIZE = 20 * MIB
BODY = (b"x" * 75 + b" \r\n") * (SIZE // 78)
"""The blank at the end of each line has to be encoded before a message is signed."""
RECIPIENT, SENDER = "curve25519@example.com", "rsa3072@example.com"


@contextmanager
def _sink() -> Iterator[int]:
    """Postfix's smtp-sink: takes everything and keeps nothing."""
    (port,) = free_ports(1)
    command = [require("smtp-sink"), "-u", "postfix", "-c", f"{HOST}:{port}", "100"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for_port(port)
            yield port
        finally:
            process.terminate()


def _submit(port: int) -> str:
    """One message on a plain connection; returns the first reply that is no 2xx or 3xx, or the last one."""
    with socket.create_connection((HOST, port), timeout=100) as connection:
        replies = connection.makefile("rb")
        commands = ["", "EHLO client.example", f"MAIL FROM:<{SENDER}>", f"RCPT TO:<{RECIPIENT}>", "DATA"]
        for command in commands:
            if command:
                connection.sendall(command.encode() + b"\r\n")
            reply = _reply(replies)
            if reply[:1] not in "23":
                return reply
        connection.sendall(f"From: {SENDER}\r\nContent-Type: text/plain\r\n\r\n".encode())
        try:
            connection.sendall(BODY)
            connection.sendall(b".\r\n")
        except OSError:  # the relay answered early and closed: what it said is still there to be read
            pass
        return _reply(replies)


def _reply(replies: object) -> str:
    line = b""
    while line[3:4] in (b"-", b""):
        line = replies.readline()  # type: ignore[attr-defined]  # a socket file
        if not line:
            return "lost"
    return line.decode().strip()


@contextmanager
def _watching(pid: int) -> Iterator[list[int]]:
    """Samples of the resident size of the relay and its workers together, in bytes."""
    samples: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            with contextlib.suppress(OSError, ValueError, IndexError):  # a worker has just ended
                pids = [pid, *(process.pid for process in descendants() if _parent(process.pid) == pid)]
                samples.append(sum(_resident_bytes(one) for one in pids))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield samples
    finally:
        stop.set()
        watcher.join()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.mark.parametrize("signed", [False, True], ids=["encrypted", "signed"])
def test_memory_of_a_flood_stays_within_the_budget(
    signed: bool, tmp_path: Path, authority: Authority
) -> None:
    """40 clients with 20 MB each: every one hears 250 or 452, nothing crashes, the peak is bounded."""
    secret = tmp_path / "signing.pgp"
    secret.write_bytes(keys.secret("rsa3072"))
    secret.chmod(0o600)
    with _sink() as sink:
        (port,) = free_ports(1)

        def change(config: str) -> str:
            listen = f'listen: [{{address: "127.0.0.1:{port}", tls: none}}]\nlimits: '
            limits = f"{{memory_bytes: {BUDGET}, message_bytes: {SIZE + MIB}}}\nignored:"
            start, _, rest = config.partition("listen:")
            _, _, rest = rest.partition("auth: {")
            rest = rest.partition("\n")[2]
            if signed:
                key = keys.certificate("rsa3072").fingerprint
                rest = rest.replace(
                    "policy:\n", f"policy:\n  senders: {{{SENDER}: {{sign: {{key: {key}}}}}}}\n"
                )
                rest += f"secret_keys: {{file: {{type: file, path: {secret}}}}}\n"
            return (start + listen + limits + "auth: {type: none}\n" + rest).replace("ignored:", "")

        site = make_site(tmp_path, authority, f"{HOST}:{sink}", next_hop_tls="none", change=change)
        with site.relay as relay:
            with _watching(relay.process.pid) as samples, ThreadPoolExecutor(CLIENTS) as clients:
                while not samples:
                    pass
                replies = list(clients.map(_submit, [port] * CLIENTS))
            idle, peak = samples[0], max(samples)
            assert relay.process.poll() is None
            assert _submit(port).startswith("250")

        delivered = relay.events("copy_delivered")
    assert {"250 2.0.0", "452 4.3.1"} == {reply[:9] for reply in replies}
    assert sum(reply.startswith("250") for reply in replies) + 1 == len(delivered)
    assert peak < idle + BUDGET, f"idle {idle // MIB} MiB, peak {peak // MIB} MiB"
