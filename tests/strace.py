"""Runs a program under strace and says where every octet went that it and its children wrote.

The canary tests use it: a marker is submitted, and no write to a socket or a file may carry it, plain or
encoded. What is exempt is decided by evidence, not by names: a pipe or a socket pair counts as inside only if
a traced process created it, so a pipe that the test itself holds (the program's log) is not exempt.

It sees what goes through system calls. Data that a call moves without showing it (splice, sendfile, a shared
writable mapping of a file) is reported as `hidden`, so that a canary can demand that there is none.
"""

from __future__ import annotations

import base64
import os
import quopri
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.programs import require

_MAX_STRING_BYTES = 10_000_000
"""Longest data of one call that strace shows; a longer one is reported as hidden."""

_WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2", "sendto", "sendmsg", "sendmmsg")
_OUTPUT_ARGUMENT = {"sendfile": 0, "tee": 1, "vmsplice": 0, "splice": 2, "copy_file_range": 2, "mmap": 4}
"""Calls that move data without showing it, with the position of the descriptor that receives it."""
_CREATES = ("pipe", "pipe2", "socketpair")

_LINE = re.compile(rb"(?P<time>\d+\.\d+) (?P<call>\w+)\((?P<arguments>.*)\)\s+= (?P<result>-?\w+)", re.DOTALL)
_STRING = re.compile(rb'"(?P<text>(?:[^"\\]|\\.)*)"(?P<cut>\.\.\.)?')
_INODE = re.compile(r"(?:pipe|UNIX-\w+|UNIX):\[(\d+)")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"v": b"\v", b"f": b"\f"}


@dataclass(frozen=True, slots=True)
class Write:
    """One call that sent octets somewhere."""

    time: float
    call: str
    target: str
    """As `strace -yy` resolves the descriptor: a path, `TCP:[…]`, `pipe:[inode]`, `UNIX-STREAM:[…]`."""
    data: bytes
    hidden: bool = False
    """The call moved octets that strace could not show."""

    @property
    def kind(self) -> str:
        """`socket`, `pipe`, `unix`, `file` or `other` (a terminal, an event descriptor)."""
        if self.target.startswith("/"):
            return "file"
        if self.target.startswith("pipe:"):
            return "pipe"
        if self.target.startswith("UNIX"):
            return "unix"
        return "other" if self.target.startswith("anon_inode:") else "socket"


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything that the traced processes wrote, in the order of time."""

    writes: tuple[Write, ...]
    inside: frozenset[str]
    """Inodes of the pipes and socket pairs that a traced process created."""

    def leaks(self, marker: bytes) -> list[Write]:
        """One entry for each target outside the program that received the marker in any encoding.

        What one target received is joined before it is searched: a marker is also found where it was cut
        by two calls.
        """
        streams: dict[str, list[Write]] = {}
        for write in self.writes:
            if not self.is_inside(write):
                streams.setdefault(write.target, []).append(write)
        joined = (
            Write(calls[0].time, calls[0].call, target, b"".join(call.data for call in calls))
            for target, calls in streams.items()
        )
        return [write for write in joined if carries(write.data, marker)]

    def hidden(self) -> list[Write]:
        """Calls that moved unseen octets out of the program."""
        return [write for write in self.writes if write.hidden and not self.is_inside(write)]

    def is_inside(self, write: Write) -> bool:
        """Whether the target is a pipe or socket pair between the traced processes."""
        inode = _INODE.match(write.target)
        return inode is not None and inode[1] in self.inside


class Traced:
    """A program that runs under strace."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        """strace itself: its exit status is that of the program."""
        self._folder = folder

    def send_signal(self, number: int = signal.SIGTERM) -> None:
        """Signals the traced program; strace itself would not pass a signal on."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii")
        for child in children.split():
            os.kill(int(child), number)

    def stop(self, timeout_seconds: float = 30) -> int:
        """Ends the program with TERM (strace and all with KILL after the time-out); returns its status."""
        if self.process.poll() is None:
            self.send_signal()
        try:
            return self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()

    def trace(self) -> Trace:
        """What was written so far; call it after `stop`."""
        return read(self._folder)


@contextmanager
def tracing(command: Sequence[str | Path], folder: Path, **options: Any) -> Iterator[Traced]:
    """Runs `command` under strace; ends it at exit.

    Args:
        folder: a new folder for strace's files, one for each thread.
        options: for `subprocess.Popen`: environment, descriptors.
    """
    folder.mkdir()
    calls = ",".join([*_WRITES, *_OUTPUT_ARGUMENT, *_CREATES])
    strace = [require("strace"), "-ff", "-yy", "-ttt", "-qq", "-s", str(_MAX_STRING_BYTES)]
    strace += ["-e", f"trace={calls}", "-e", "signal=none", "-o", str(folder / "trace"), "--"]
    with subprocess.Popen([*strace, *map(str, command)], start_new_session=True, **options) as process:
        traced = Traced(process, folder)
        try:
            yield traced
        finally:
            traced.stop()


def run(
    command: Sequence[str | Path], folder: Path, *, stdin: bytes = b"", env: Mapping[str, str] | None = None
) -> Trace:
    """Runs `command` to its end under strace; its output is captured by a pipe, as a log would be."""
    pipe = subprocess.PIPE
    with tracing(command, folder, stdin=pipe, stdout=pipe, stderr=pipe, env=env) as traced:
        _, errors = traced.process.communicate(stdin, timeout=100)
    assert traced.process.returncode == 0, errors.decode(errors="replace")
    return traced.trace()


def read(folder: Path) -> Trace:
    """Reads strace's files from `folder`."""
    writes: list[Write] = []
    inside: set[str] = set()
    for file in folder.glob("trace.*"):
        for line in file.read_bytes().splitlines():
            match = _LINE.match(line)
            if match is None or match["result"].startswith(b"-"):
                continue
            if match["call"].decode() in _CREATES:
                inside.update(_INODE.findall(_unescape(match["arguments"]).decode(errors="replace")))
            else:
                writes.extend(_write(match))
    return Trace(tuple(sorted(writes, key=lambda write: write.time)), frozenset(inside))


def _write(match: re.Match[bytes]) -> list[Write]:
    """The write that one line of strace shows, as a list because a private mapping is none."""
    call, arguments = match["call"].decode(), match["arguments"]
    time = float(match["time"])
    if call in _OUTPUT_ARGUMENT:
        if call == "mmap" and not (b"PROT_WRITE" in arguments and b"MAP_SHARED" in arguments):
            return []
        found = _descriptor(arguments.split(b", ")[_OUTPUT_ARGUMENT[call]])
        return [Write(time, call, found, b"", hidden=True)] if found else []
    strings = list(_STRING.finditer(arguments.partition(b"msg_iov=")[2] or arguments))
    data = b"".join(_unescape(string["text"]) for string in strings)
    if call not in ("sendmsg", "sendmmsg"):
        data = data[: int(match["result"])]
    hidden = any(string["cut"] for string in strings)
    return [Write(time, call, _descriptor(arguments), data, hidden=hidden)]


def _descriptor(arguments: bytes) -> str:
    """What the descriptor at the start of `arguments` points to; empty where there is none."""
    match = re.match(rb"\d+<(.*?)>(?:\(deleted\))?(?:, |$)", arguments, re.DOTALL)
    return _unescape(match[1]).decode(errors="replace") if match else ""


def _unescape(text: bytes) -> bytes:
    def octet(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8)]) if code.isdigit() else _ESCAPED.get(code, code)

    return _ESCAPE.sub(octet, text) if b"\\" in text else text


def carries(data: bytes, marker: bytes) -> bool:
    """Whether `data` holds the marker: plain, quoted-printable, hex, or base64 at any of its three offsets.

    Line ends inside base64 and soft line breaks inside quoted-printable do not hide it. The marker should be
    long, random and made of letters and digits.
    """
    if marker in data or marker in quopri.decodestring(data):
        return True
    if marker.hex().encode() in data.lower():
        return True
    flat = data.translate(None, b"\r\n").replace(b"\\n", b"").replace(b"-", b"+").replace(b"_", b"/")
    return any(core in flat for core in _base64_cores(marker))


def _base64_cores(marker: bytes) -> list[bytes]:
    """The characters of the marker's base64 form that do not depend on what stands around it."""
    cores = []
    for offset, first in enumerate((0, 2, 3)):
        encoded = base64.b64encode(bytes(offset) + marker)
        cores.append(encoded[first : (offset + len(marker)) * 8 // 6])
    return cores
