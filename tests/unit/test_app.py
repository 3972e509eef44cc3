"""Tests of `relay/app.py`: start, reload and stop, in this process."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay import config
from relay.app import Relay
from relay.build import build_from_files
from relay.errors import EncryptionFailed
from relay.message import Subkey, Verdict
from relay.openpgp.choosing import ByKey
from relay.remembered import Pin, Trust
from relay.server import users
from tests import keys
from tests.fakes import FakeNextHop, FixedClock, ListJournal
from tests.programs import require

CONFIG = """\
hostname: relay.example.com
listen: [{{address: "127.0.0.1:{port}", tls: none}}]
auth: {{type: none}}
next_hop: {{address: "127.0.0.1:{next_hop}", tls: none}}
keys: {{folder: {{type: directory, path: keys}}}}
policy: {{default: {{encrypt: never, keys: [folder]}}}}
"""


REMOTE = (
    CONFIG.replace("path: keys}}}}", "path: keys}}, wkd: {{type: wkd}}}}").replace(
        "[folder]", "[folder, wkd]"
    )
    + 'store: {{url: "sqlite:///relay.db"}}\n'
)
"""With a source outside of this machine, and so with a store."""


NOW = FixedClock().now()
_CERTIFICATE = keys.certificate("curve25519")
USABLE = Verdict(
    _CERTIFICATE, True, "usable", (Subkey("F" * 40, "F" * 16, "Curve25519"),), reduced=_CERTIFICATE.data
)


class World:
    """A relay that is not started yet, its configuration file and its journal."""

    def __init__(self, folder: Path, text: str) -> None:
        self.path = folder / "relay.yaml"
        self.journal = ListJournal()
        (folder / "keys").mkdir()
        self.write(text)
        loaded = config.load(self.path, os.environ)
        files = build_from_files(loaded, folder, self.journal)
        self.make: Callable[[], Relay] = lambda: Relay(loaded, files, folder, self.journal, FixedClock())

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def facts(self, event: str) -> list[dict[str, object]]:
        return [facts for name, facts in self.journal.events if name == event]


@asynccontextmanager
async def _started(world: World) -> AsyncIterator[Relay]:
    relay = world.make()
    try:
        await relay.start()
        yield relay
    finally:
        await relay.close()


async def _world(tmp_path: Path, next_hop: int, port: int = 0, encrypt: str = "never") -> World:
    text = CONFIG.format(port=port, next_hop=next_hop).replace("never", encrypt)
    return await asyncio.to_thread(World, tmp_path, text)


@asynccontextmanager
async def _dialogue(world: World) -> AsyncIterator[Callable[[str], Awaitable[bytes]]]:
    """A connection: says one command and hears the last line of the reply."""
    address = str(world.facts("listening")[0]["address"])
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))

    async def say(command: str) -> bytes:
        writer.write(f"{command}\r\n".encode())
        reply = await reader.readline()
        while reply[3:4] == b"-":
            reply = await reader.readline()
        return reply

    await reader.readline()
    yield say
    writer.close()
    await writer.wait_closed()


def _connections() -> int:
    """To SQLite: each has a thread of its own, unlike the loop's helpers (`asyncio_0`)."""
    return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())


async def _settled(value: Callable[[], int], expected: int) -> int:
    """The value as soon as it is what is expected, or after ten seconds."""
    for _ in range(1000):
        if value() == expected:
            break
        await asyncio.sleep(0.01)
    return value()


async def _send(world: World, recipient: str = "a@example.com") -> bytes:
    """The last reply to one message on a new connection."""
    address = str(world.facts("listening")[0]["address"])
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    commands = ["EHLO x.example", "MAIL FROM:<s@example.com>", f"RCPT TO:<{recipient}>", "DATA"]
    content = "From: s@example.com\r\n\r\nx\r\n."
    reply = await reader.readline()
    for command in [*commands, content]:
        writer.write(f"{command}\r\n".encode())
        reply = await reader.readline()
        while reply[3:4] == b"-":
            reply = await reader.readline()
        if reply[:1] not in b"23":
            break
    writer.close()
    await writer.wait_closed()
    return reply


@pytest.fixture
async def hop() -> AsyncIterator[FakeNextHop]:
    async with FakeNextHop() as running:
        yield running


async def test_start_reports_listeners_then_ready(tmp_path: Path, hop: FakeNextHop) -> None:
    """Whoever watches the log knows when mail can be sent, and where."""
    world = await _world(tmp_path, hop.port)

    async with _started(world):
        names = world.journal.names()
        reply = await _send(world)

    assert names.index("listening") < names.index("ready")
    assert reply.startswith(b"250")
    assert 1 == len(hop.mails)


async def test_start_with_a_taken_port_fails_and_leaves_nothing(tmp_path: Path, hop: FakeNextHop) -> None:
    """The admin hears it at once, and nothing keeps running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        world = await _world(tmp_path, hop.port, taken.getsockname()[1])

        with pytest.raises(OSError, match="address"):
            async with _started(world):
                pytest.fail("it must not start")

    assert "stopped" == world.journal.names()[-1]
    assert "ready" not in world.journal.names()


async def test_start_with_an_unreadable_key_source_goes_on_without_it(
    tmp_path: Path, hop: FakeNextHop
) -> None:
    """One source that is away is reported; mail that does not need it flows, mail that does is deferred."""
    world = await _world(tmp_path, hop.port, encrypt="always")
    (tmp_path / "keys").rmdir()

    async with _started(world):
        reply = await _send(world)

    assert ["folder"] == [facts["source"] for facts in world.facts("key_source_failed")]
    assert reply.startswith(b"451 4.7.5")


async def test_start_reads_the_keys_before_the_first_mail(tmp_path: Path, hop: FakeNextHop) -> None:
    """A recipient whose key lies in the folder is served at once, encrypted."""
    world = await _world(tmp_path, hop.port, encrypt="always")
    (tmp_path / "keys" / "alice.pgp").write_bytes(keys.certificate("curve25519").data)

    async with _started(world):
        reply = await _send(world, "curve25519@example.com")

    assert reply.startswith(b"250")
    assert b"-----BEGIN PGP MESSAGE-----" in hop.mails[0].content


async def test_reload_uses_the_new_next_hop_for_new_connections(tmp_path: Path, hop: FakeNextHop) -> None:
    """A changed next hop needs no restart, is asked at once, and the old one is let go."""
    world = await _world(tmp_path, hop.port)
    async with FakeNextHop() as other, _started(world) as relay:
        await _send(world)
        world.write(CONFIG.format(port=0, next_hop=other.port))

        await relay.reload()
        async with asyncio.timeout(5):
            while not other.connections or hop.current:  # noqa: ASYNC110 — a connection has no event
                await asyncio.sleep(0.001)
        await _send(world)

        assert [1, 1] == [len(hop.mails), len(other.mails)]


async def test_reload_keeps_what_did_not_change(tmp_path: Path, hop: FakeNextHop) -> None:
    """Connections, cached logins and the patience with a source outlive a reload."""
    world = await _world(tmp_path, hop.port, encrypt="always")
    (tmp_path / "keys").rmdir()
    async with _started(world) as relay:
        await _send(world)
        before = relay._line.parts
        (tmp_path / "keys").mkdir()

        await relay.reload()

        after = relay._line.parts
        assert "reloaded" in world.journal.names()
        assert before.next_hop is after.next_hop
        assert before.authenticator is after.authenticator
        assert ["a@example.com"] == list(after.finder.failing_since)


async def test_background_task_that_dies_is_reported(
    tmp_path: Path, hop: FakeNextHop, caplog: pytest.LogCaptureFixture
) -> None:
    """A bug beside the mail neither ends the relay nor stays unseen."""
    world = await _world(tmp_path, hop.port)

    async def fails() -> None:
        raise ZeroDivisionError

    async with _started(world) as relay:
        relay._background(fails())
        reply = await _send(world)

    assert reply.startswith(b"250")
    assert ["background_task_failed"] == [record.getMessage() for record in caplog.records]


async def test_reload_closes_the_old_sources_after_their_last_transaction(
    tmp_path: Path, hop: FakeNextHop
) -> None:
    """A relay that is reloaded every day keeps no connection to the store for each of them."""
    world = await asyncio.to_thread(World, tmp_path, REMOTE.format(port=0, next_hop=hop.port))
    async with _started(world) as relay:
        before = _connections()
        async with _dialogue(world) as say:
            await say("EHLO x.example")
            await say("MAIL FROM:<s@example.com>")
            for _ in range(5):
                await relay.reload()
            in_use = await _settled(lambda: len(relay._retired_sources), 1)
            await say("RSET")
            left = await _settled(lambda: len(relay._retired_sources), 0)
            connections = await _settled(_connections, before)

    assert (1, 0, before) == (in_use, left, connections)


async def test_reload_lets_a_transaction_follow_the_store(tmp_path: Path, hop: FakeNextHop) -> None:
    """What others write while a long message arrives is noticed with the old settings, too."""
    world = await asyncio.to_thread(World, tmp_path, REMOTE.format(port=0, next_hop=hop.port))
    async with _started(world) as relay, _dialogue(world) as say:
        await say("EHLO x.example")
        await say("MAIL FROM:<s@example.com>")
        old, before = relay._sources, relay._keeper
        await relay.reload()
        assert old.pins and old.book and before
        pin = await old.book.pin_first(Pin("a@example.com", "A" * 40, "wkd", Trust.WKD, b"x", NOW))
        old.pins._remember(pin)
        await relay._sources.book.forget_pin("a@example.com")
        left = await _settled(lambda: len(old.pins._remembered), 0)
        await say("RSET")
        ended = await _settled(lambda: int(before.done()), 1)

    assert (0, 1) == (left, ended)


async def test_reload_names_what_needs_a_restart(tmp_path: Path, hop: FakeNextHop) -> None:
    """A setting that a reload cannot change is not silently ignored."""
    world = await _world(tmp_path, hop.port)
    async with _started(world) as relay:
        changed = CONFIG.replace("tls: none}}]", 'tls: none}}, {{address: "127.0.0.1:0", tls: none}}]')
        changed = changed.replace(
            "auth: {{type: none}}", "auth: {{type: users, users: {{file: users.passwd}}}}"
        )
        await asyncio.to_thread(users.write, tmp_path / "users.passwd", "a@example.com", "secret")
        world.write(changed.format(port=0, next_hop=hop.port) + "limits: {memory_bytes: 2GiB}\n")

        await relay.reload()
        await relay.reload()  # says it once

    assert ["listen", "limits.memory_bytes", "auth.type"] == [
        facts["setting"] for facts in world.facts("restart_needed")
    ]


async def test_reload_of_a_bad_file_changes_nothing(tmp_path: Path, hop: FakeNextHop) -> None:
    """Every problem is reported, and the old configuration goes on."""
    world = await _world(tmp_path, hop.port)
    async with _started(world) as relay:
        world.write("hostname: x\nlisten: 5\n")

        await relay.reload()
        reply = await _send(world)

    assert len(world.facts("config_refused")) >= 2
    assert "reloaded" not in world.journal.names()
    assert reply.startswith(b"250")


@pytest.mark.system
async def test_reload_changes_the_engine(tmp_path: Path, hop: FakeNextHop) -> None:
    """Both engines are closed at the end: no worker and no private home stays."""
    require("gpg")
    world = await _world(tmp_path, hop.port)
    async with _started(world) as relay:
        world.write(CONFIG.format(port=0, next_hop=hop.port) + "engine: gnupg\n")

        before = relay._line.parts.engine
        await relay.reload()

        assert isinstance(relay._line.parts.engine, ByKey)
    assert [] == list(tmp_path.glob("gpg-*"))
    with pytest.raises(EncryptionFailed, match="closed"):
        await before.encrypt(b"x" * (1 << 20), (USABLE,))


@pytest.mark.parametrize("problem", ["a taken port", "a bad configuration"])
def test_run_that_cannot_start_says_why_and_exits_with_1(problem: str, tmp_path: Path) -> None:
    """Whoever starts it (systemd, a container) sees that it failed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1] if problem == "a taken port" else "none"
        (tmp_path / "keys").mkdir()
        (tmp_path / "relay.yaml").write_text(CONFIG.format(port=port, next_hop=25))

        done = subprocess.run(
            [sys.executable, "-m", "relay", "run", "--config", str(tmp_path / "relay.yaml")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert 1 == done.returncode
    assert ("start_failed" if problem == "a taken port" else "relay.yaml:2") in done.stderr


async def test_limits_of_the_configuration_reach_the_edge(tmp_path: Path, hop: FakeNextHop) -> None:
    """No limit is accepted and ignored, at the start and after a reload."""
    world = await _world(tmp_path, hop.port)
    limits = (
        "limits: {{message_bytes: {0}, recipients: {1}, connections: {2}, connections_per_client: {3}}}\n"
    )
    async with _started(world) as relay:
        world.write(CONFIG.format(port=0, next_hop=hop.port) + limits.format(100_000, 3, 7, 5))

        await relay.reload()

        found = relay._server.parts.settings.limits
        assert (100_000, 3, 7, 5) == (
            found.message_bytes,
            found.recipients,
            found.connections,
            found.connections_per_client,
        )


async def test_reload_keeps_the_patience_with_a_source_that_is_down(tmp_path: Path, hop: FakeNextHop) -> None:
    """A reload does not restart the time after which a 451 becomes a 550."""
    world = await _world(tmp_path, hop.port, encrypt="always")
    (tmp_path / "keys" / "broken.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    async with _started(world) as relay:
        first = await _send(world)
        for _ in range(4):
            relay._clock.advance(6 * 3600)
            await relay.reload()
            last = await _send(world)

    assert (b"451 4.7.5", b"550 5.7.5") == (first[:9], last[:9])
