"""How many messages a second, and how much CPU for each: one relay process between smtp-source and smtp-sink.

Ten clients send over loopback without TLS, each message on a connection of its own, as mail clients do. The
body is random base64, which no engine can compress. Every case runs in the same invocation, because numbers
of different days or machines say nothing about each other. Yardsticks: the load generator straight into the
sink, and a plain Postfix that only forwards, through its queue on disk.

CPU is that of the relay and every process that it started, from /proc; the clients and the sink share the
same cores, so throughput is what one machine does with all of it.
"""

from __future__ import annotations

import base64
import os
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import postfix
from tests.bench.lookups import median_microseconds
from tests.network import HOST, free_ports, make_authority, wait_for_port
from tests.programs import require
from tests.running import RunningRelay

CLIENTS = 10
ROUNDS, ROUND_MESSAGES = 9, 200
_SEND_SECONDS = 60.0
"""More means that something hangs; a case takes some seconds."""
RECIPIENT = "bob@partner.example"
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_CPU_FIELDS = slice(11, 15)
"""utime, stime, cutime, cstime of /proc/PID/stat, counted after the command name (proc(5))."""

_CONFIG = """\
hostname: relay.example.test
listen: [{{address: "127.0.0.1:{port}", tls: none}}]
auth: {{type: none}}
next_hop: {{address: "127.0.0.1:{hop}", tls: none}}
engine: {engine}
keys: {{folder: {{type: directory, path: keys}}}}
policy: {{default: {{encrypt: {encrypt}, keys: [folder]}}}}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent in one case."""

    name: str
    body_bytes: int
    messages: int


LOADS = (Load("5 KB", 5_000, 1000), Load("10 MB", 10_000_000, 30))


@dataclass(frozen=True, slots=True)
class Result:
    """What one case gave."""

    messages_per_second: float
    cpu_ms: float
    """CPU per message of the program under test; 0 where there is none."""


def _message(folder: Path, load: Load) -> Path:
    """A complete message for `smtp-source -F`."""
    file = folder / load.name.replace(" ", "")
    header = f"From: <alice@example.test>\r\nTo: <{RECIPIENT}>\r\nSubject: benchmark\r\n\r\n".encode()
    file.write_bytes(
        (header + base64.encodebytes(secrets.token_bytes(load.body_bytes * 3 // 4))).replace(b"\r", b"")
    )
    return file


@contextmanager
def _sink(port: int) -> Iterator[None]:
    command = [
        require("smtp-sink"),
        *(["-u", "nobody"] if os.geteuid() == 0 else []),
        f"{HOST}:{port}",
        "256",
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as sink:
        wait_for_port(port)
        try:
            yield
        finally:
            sink.kill()


def _send(port: int, file: Path, messages: int, *, is_done: Callable[[], bool]) -> None:
    """Sends with all clients at once; returns when nothing is on its way any more."""
    command = [
        require("smtp-source"),
        "-s",
        str(min(CLIENTS, messages)),
        "-m",
        str(messages),
        "-F",
        str(file),
    ]
    command += ["-f", "alice@example.test", "-t", RECIPIENT, f"{HOST}:{port}"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=_SEND_SECONDS)
    while not is_done():
        time.sleep(0.01)


def _measure(
    entry_port: int, files: dict[Load, Path], pid: int = 0, is_done: Callable[[], bool] = lambda: True
) -> list[Result]:
    """Every load: a tenth of it to warm up, then all of it."""
    results = []
    for load, file in files.items():
        _send(entry_port, file, max(CLIENTS, load.messages // 10), is_done=is_done)
        cpu, started = _cpu_seconds(pid), time.monotonic()
        _send(entry_port, file, load.messages, is_done=is_done)
        seconds, used = time.monotonic() - started, _cpu_seconds(pid) - cpu
        results.append(Result(load.messages / seconds, used / load.messages * 1000))
    return results


def _cpu_seconds(pid: int) -> float:
    """CPU of a process, of what it started, and of what of that has ended; 0 for pid 0."""
    if not pid:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    ticks = sum(map(int, fields[_CPU_FIELDS]))
    threads = Path(f"/proc/{pid}/task").iterdir()
    children = [child for thread in threads for child in (thread / "children").read_text("ascii").split()]
    return ticks / _TICKS_PER_SECOND + sum(_cpu_seconds(int(child)) for child in children)


def _certificate(folder: Path) -> bytes:
    """A new key of today's usual kind (Curve25519), made by GnuPG so that both engines can use it."""
    home = folder / "gpg"
    home.mkdir(mode=0o700)
    gpg = [require("gpg"), "--homedir", str(home), "--batch", "--quiet"]
    make = [
        "--passphrase",
        "",
        "--quick-generate-key",
        f"<{RECIPIENT}>",
        "future-default",
        "default",
        "never",
    ]
    subprocess.run([*gpg, *make], check=True, capture_output=True)
    export = subprocess.run([*gpg, "--export", RECIPIENT], check=True, capture_output=True)
    subprocess.run([require("gpgconf"), "--homedir", str(home), "--kill", "all"], check=True)
    return export.stdout


@contextmanager
def _relay(folder: Path, encrypt: str, engine: str) -> Iterator[tuple[int, int]]:
    """One relay process and the sink behind it: port and process id."""
    port, hop = free_ports(2)
    home = Path(tempfile.mkdtemp(dir=folder))
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "bob.pgp").write_bytes((folder / "bob.pgp").read_bytes())
    config = _CONFIG.format(port=port, hop=hop, encrypt=encrypt, engine=engine)
    with _sink(hop), RunningRelay(home, config) as relay:
        yield port, relay.process.pid


def _relayed(folder: Path, files: dict[Load, Path], encrypt: str, engine: str) -> list[Result]:
    with _relay(folder, encrypt, engine) as (port, pid):
        return _measure(port, files, pid)


def _ratio(folder: Path, file: Path) -> float:
    """What is left of the throughput with sequoia: in turns, because a shared machine is never the same."""
    load = Load("a round", 0, ROUND_MESSAGES)
    with _relay(folder, "never", "sequoia") as off, _relay(folder, "always", "sequoia") as on:
        rounds = [[_measure(port, {load: file}, pid)[0] for port, pid in (off, on)] for _ in range(ROUNDS)]
    return statistics.median(
        sealed.messages_per_second / clear.messages_per_second for clear, sealed in rounds
    )


def _straight(files: dict[Load, Path]) -> list[Result]:
    """No relay: what the load generator and the sink can do."""
    [port] = free_ports(1)
    with _sink(port):
        return _measure(port, files)


def _plain_postfix(folder: Path, files: dict[Load, Path]) -> list[Result]:
    """Postfix as a forwarding relay with a queue, without content filters."""
    [hop] = free_ports(1)
    settings = {"default_transport": "smtp", "relayhost": f"[{HOST}]:{hop}"}
    with _sink(hop), postfix.running(make_authority(folder), settings=settings) as running:
        pid = int((running.folder / "queue" / "pid" / "master.pid").read_text())
        return _measure(running.plain_port, files, pid, running.is_idle)


def _row(name: str, results: list[Result]) -> str:
    cells = [f"{name:28}"]
    for load, result in zip(LOADS, results, strict=True):
        megabytes = result.messages_per_second * load.body_bytes / 1e6
        cpu = f"{result.cpu_ms:8.2f} ms" if result.cpu_ms else " " * 11
        cells.append(f"{result.messages_per_second:8.1f}/s {megabytes:7.1f} MB/s {cpu}")
    return "  ".join(cells)


def main() -> None:
    """Runs every case and prints one line for each."""
    print(
        f"{CLIENTS} clients, a connection for each message, no TLS, {os.cpu_count()} cores, one relay process"
    )
    print(f"{'':28}" + "".join(f"  {load.name + ': messages, MB, CPU per message':36}" for load in LOADS))
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as name:
        folder = Path(name)
        files = {load: _message(folder, load) for load in LOADS}
        (folder / "bob.pgp").write_bytes(_certificate(folder))
        cases: dict[str, Callable[[], list[Result]]] = {
            "straight into the sink": lambda: _straight(files),
            "plain Postfix": lambda: _plain_postfix(folder, files),
            "relay, encryption off": lambda: _relayed(folder, files, "never", "sequoia"),
            "relay, sequoia": lambda: _relayed(folder, files, "always", "sequoia"),
            "relay, gnupg": lambda: _relayed(folder, files, "always", "gnupg"),
        }
        if os.geteuid() != 0:
            del cases["plain Postfix"]  # its master process must start as root
        for case, run in cases.items():
            print(_row(case, run()), flush=True)
        ratio = _ratio(folder, files[LOADS[0]])
        lookup = median_microseconds(folder / "lookups", RECIPIENT, (folder / "bob.pgp").read_bytes())
    print(
        f"sequoia at {LOADS[0].name}: {ratio:.2f} of the throughput without encryption,"
        f" median of {ROUNDS} rounds in turns (aim: 0.80)"
    )
    print(f"lookup of a recipient whose key is cached: {lookup:.0f} µs, median (aim: 50)")


if __name__ == "__main__":
    main()
