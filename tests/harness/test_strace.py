"""The canary's eyes: what `tests/strace.py` must find, and what it must leave alone."""

from __future__ import annotations

import base64
import quopri
import sys
from pathlib import Path

import pytest

from tests import strace

MARKER = b"kX7pQv2mZt9LrB4sWc8N"

PRELUDE = f"import os, socket\nmarker = {MARKER!r}\n"
TCP = """
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
"""


def _run(script: str, tmp_path: Path) -> strace.Trace:
    return strace.run([sys.executable, "-I", "-S", "-c", PRELUDE + script], tmp_path / "trace")


LEAKS = {
    "tcp": (TCP + "client.sendall(b'x' + marker)", "socket"),
    "tcp-sendmsg": (TCP + "client.sendmsg([b'x', marker[:9], marker[9:]])", "socket"),
    "tcp-two-calls": (TCP + "client.sendall(marker[:9]); client.sendall(marker[9:])", "socket"),
    "udp": ("socket.socket(type=socket.SOCK_DGRAM).sendto(marker, ('127.0.0.1', 9))", "socket"),
    "file": (
        "open('/dev/shm/relay-strace-test', 'wb').write(marker)\nos.unlink('/dev/shm/relay-strace-test')",
        "file",
    ),
    "unlinked-file": ("import tempfile\nwith tempfile.TemporaryFile() as f: f.write(marker)", "file"),
    "memory-file": ("os.write(os.memfd_create('m'), marker)", "file"),
    "positioned": (
        "import tempfile\nwith tempfile.TemporaryFile() as f: os.pwrite(f.fileno(), marker, 5)",
        "file",
    ),
    "named-unix-socket": (
        "s = socket.socket(socket.AF_UNIX); s.bind('\\0relay-strace-test'); s.listen()\n"
        "c = socket.socket(socket.AF_UNIX); c.connect('\\0relay-strace-test'); c.send(marker)",
        "unix",
    ),
    "log": ("os.write(2, b'debug: ' + marker)", "pipe"),
    "child": ("if os.fork() == 0:\n  os.write(2, marker)\n  os._exit(0)\nos.wait()", "pipe"),
}


@pytest.mark.system
@pytest.mark.parametrize("case", LEAKS)
def test_leaks_write_to_the_outside_is_found(case: str, tmp_path: Path) -> None:
    """A marker that goes to a socket, a file or an inherited pipe is found, with the kind of its target."""
    script, kind = LEAKS[case]

    trace = _run(script, tmp_path)

    assert [kind] == [write.kind for write in trace.leaks(MARKER)]


@pytest.mark.system
@pytest.mark.parametrize(
    "script",
    [
        "r, w = os.pipe(); os.write(w, marker); os.writev(w, [marker, b'x'])",
        "a, b = socket.socketpair(); a.send(marker); b.send(marker)",
        "r, w = os.pipe()\nif os.fork() == 0:\n  os.write(w, marker)\n  os._exit(0)\nos.wait()",
        "import subprocess; subprocess.run(['/bin/cat'], input=marker, stdout=subprocess.DEVNULL)"
        ".check_returncode()" + "\n#",
    ],
    ids=["pipe", "socketpair", "child-pipe", "stdin-of-a-child"],
)
def test_leaks_write_between_own_processes_is_exempt(script: str, tmp_path: Path) -> None:
    """Pipes and socket pairs that the program made itself are not outside; /dev/null is the child's file."""
    trace = _run(script, tmp_path)

    assert [] == [write for write in trace.leaks(MARKER) if write.target != "/dev/null<char 1:3>"]
    assert [write for write in trace.writes if MARKER in write.data and trace.is_inside(write)]


@pytest.mark.system
def test_leaks_other_content_is_not_found(tmp_path: Path) -> None:
    """Writes without the marker are no leaks, and a cut of the marker is none either."""
    trace = _run(TCP + "client.sendall(marker[:-1])", tmp_path)

    assert [] == trace.leaks(MARKER)
    assert MARKER[:-1] in [write.data for write in trace.writes]


@pytest.mark.system
def test_hidden_sendfile_is_reported(tmp_path: Path) -> None:
    """Octets that a call moves without showing them are reported, because they cannot be searched."""
    trace = _run(TCP + "os.sendfile(client.fileno(), os.open('/etc/passwd', 0), 0, 10)", tmp_path)

    assert ["sendfile"] == [write.call for write in trace.hidden()]


@pytest.mark.system
def test_hidden_shared_mapping_is_reported(tmp_path: Path) -> None:
    """A shared writable mapping of a file is reported; the private ones of every start are not."""
    trace = _run(
        "import mmap, tempfile\nf = tempfile.TemporaryFile(); f.truncate(4096); mmap.mmap(f.fileno(), 4096)",
        tmp_path,
    )

    assert ["mmap"] == [write.call for write in trace.hidden()]


@pytest.mark.system
def test_trace_odd_octets_arrive_unchanged(tmp_path: Path) -> None:
    """Every octet value, quotes, backslashes and brackets survive strace's escaping."""
    trace = _run(TCP + "client.sendall(bytes(range(256)) * 2 + b'\"\\\\n\"...>, <')", tmp_path)

    sent = b"".join(write.data for write in trace.writes if write.kind == "socket")
    assert bytes(range(256)) * 2 + b'"\\n"...>, <' == sent


@pytest.mark.parametrize("offset", range(57))
def test_carries_base64_at_any_offset_is_found(offset: int) -> None:
    """All three base64 alignments are found, also across the line ends of a MIME body."""
    body = base64.encodebytes(b"a" * offset + MARKER + b"tail" * 20).replace(b"\n", b"\r\n")

    assert strace.carries(body, MARKER)


def test_carries_quoted_printable_is_found() -> None:
    """Soft line breaks and needlessly encoded letters do not hide the marker."""
    soft = quopri.encodestring(b"\xe4" * 24 + MARKER)
    every = b"".join(b"=%02X" % octet for octet in MARKER)

    assert strace.carries(soft, MARKER)
    assert strace.carries(every, MARKER)


def test_carries_hex_and_url_safe_base64_are_found() -> None:
    """A repr, a hex dump or a URL-safe form is a leak as well."""
    marker = b"\xfb\xff\xfe" * 7

    assert strace.carries(b"x" + MARKER.hex().upper().encode(), MARKER)
    assert strace.carries(base64.urlsafe_b64encode(marker), marker)


def test_carries_unrelated_data_is_not_found() -> None:
    """Random text is no match: the search does not cry wolf."""
    assert not strace.carries(base64.b64encode(bytes(range(256)) * 50), MARKER)
