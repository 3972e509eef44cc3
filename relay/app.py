"""The composition root: puts the parts of `relay/build.py` together, starts, reloads, drains and stops them.

Nothing here decides about a message. A reload builds the new parts completely before the old ones are let go,
so a bad configuration changes nothing; transactions that run keep the parts they began with.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path

from relay import signers
from relay.budget import Budget
from relay.build import (
    ClosingEngine,
    FromFiles,
    build_authenticator,
    build_engine,
    build_from_files,
    build_next_hop,
    next_hop_settings,
)
from relay.clock import SystemClock
from relay.config import Config, ConfigInvalid, Endpoint, load
from relay.conversation import Pipeline
from relay.hardening import harden_process
from relay.journal import LogJournal, start_logging
from relay.lookup import KeyFinder
from relay.nexthop.hop import SmtpNextHop
from relay.openpgp.engine import EngineUnavailable
from relay.openpgp.signing.registry import SecretKeys
from relay.outcomes import Outcomes
from relay.parts import Ground, Parts
from relay.seams import Authenticator, Clock, Journal
from relay.server import settings as edge
from relay.server.limits import Connections, Logins
from relay.server.listener import Server
from relay.server.parts import Parts as EdgeParts
from relay.sources import Sources, judge_of, make


class Relay:
    """The running relay.

    Args:
        config: checked; its file is read again on SIGHUP.
        files: what was read from files for it.
        scratch: a private directory that lives as long as the relay.
    """

    def __init__(
        self, config: Config, files: FromFiles, scratch: Path, journal: Journal, clock: Clock
    ) -> None:
        self._config = config
        self._scratch = scratch
        self._journal = journal
        self._clock = clock
        self._engine = files.engine
        self._context = files.context
        self._signer: SecretKeys | None = None
        self._retired: list[ClosingEngine] = []
        self._retired_signers: list[SecretKeys] = []
        self._next_hop = build_next_hop(config, clock, journal)
        self._sources = Sources({}, {}, judge_of(config))
        self._retired_sources: list[Sources] = []
        self._keeper: asyncio.Task[None] | None = None
        self._finder = KeyFinder({}, self._sources.judge, clock)
        ground = Ground(Budget(config.limits.memory_bytes), Outcomes(clock), journal, clock)
        self._line = Pipeline(self._line_parts(config, files.authenticator), ground)
        self._server = Server(self._edge_parts(config))
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()
        self._reloading = asyncio.Lock()

    # ----------------------------------------------------------------- start and stop

    async def start(self) -> None:
        """Reads the keys, opens the ports, and says so.

        Raises:
            OSError: a port cannot be bound, or a file that key sources need cannot be read.
            ValueError, EngineUnavailable: a key that rules sign with is nowhere, or does not open.
        """
        self._signer = await signers.make(self._config, self._scratch, self._clock, self._journal)
        self._adopt_sources(await self._made_sources(self._config))
        self._line.parts = self._line_parts(self._config, self._line.parts.authenticator)
        self._background(self._next_hop.refresh())
        if self._context:
            self._background(self._context.watch(self._clock))
        for listener in self._config.listen:
            endpoint = _endpoint(listener.address, listener.tls, auth=self._config.auth.type != "none")
            port = await self._server.open(endpoint)
            shown = replace(listener.address, port=port)
            self._journal.record("listening", address=str(shown), tls=listener.tls)
        self._journal.record("ready", hostname=self._config.hostname, engine=self._config.engine)

    def stop(self) -> None:
        """Begins to stop; `until_stopped` returns after the drain."""
        self._stopped.set()

    @contextlib.contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT stop, SIGHUP reloads.

        From before `ready` is said until the drain is over: a signal that nobody heeds kills, and with it
        the messages under way.
        """
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._reload_soon)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def until_stopped(self) -> None:
        """Serves until it is told to stop."""
        await self._stopped.wait()

    async def close(self) -> None:
        """Lets messages under way finish within `limits.drain_seconds`, then ends everything."""
        self._stopped.set()
        self._journal.record("stopping", drain_seconds=self._config.limits.drain_seconds)
        await self._server.shutdown(self._config.limits.drain_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._next_hop.close()
        for sources in (*self._retired_sources, self._sources):
            await sources.close()  # transactions that outlived the drain are over
        for engine in (*self._retired, self._engine):
            await engine.close()
        for signer in (*self._retired_signers, self._signer):
            await _close(signer)
        self._journal.record("stopped")

    def _background(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.append(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        """A background task that died is a bug; it is reported, and the relay goes on."""
        if task in self._tasks:
            self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()):
            logging.getLogger("relay").error("background_task_failed", exc_info=error)

    # ----------------------------------------------------------------- reload

    def _reload_soon(self) -> None:
        """What SIGHUP does; a relay that stops has nothing to reload for."""
        if not self._stopped.is_set():
            self._background(self.reload())

    async def reload(self) -> None:
        """Reads configuration, keys and certificates again; a bad configuration changes nothing."""
        async with self._reloading:
            try:
                config = await asyncio.to_thread(load, self._config.file, os.environ)
                await self._adopt(config, await self._changed_authenticator(config))
            except ConfigInvalid as exc:
                for problem in exc.problems:
                    self._journal.record("config_refused", problem=str(problem))
            except (OSError, ValueError, EngineUnavailable) as exc:
                self._journal.record("config_refused", problem=f"{type(exc).__name__}: {exc}")

    async def _adopt(self, config: Config, authenticator: Authenticator) -> None:
        """Everything new is built before anything old goes."""
        engine = None
        if config.engine != self._config.engine:
            engine = await asyncio.to_thread(build_engine, config, self._scratch)
        next_hop = self._changed_next_hop(config)
        signer = await signers.make(config, self._scratch, self._clock, self._journal)
        try:
            sources = await self._made_sources(config)
        except BaseException:
            await _close(signer)
            raise
        if self._context:
            await asyncio.to_thread(self._context.refresh, force=True)
        old_hop = self._next_hop
        if engine:
            self._retired.append(self._engine)  # transactions may still use it
            self._engine = engine
        if self._signer:
            self._background(self._close_unused_signer(self._signer, self._line.parts))
        self._signer = signer
        if next_hop:
            self._next_hop = next_hop
            self._background(next_hop.refresh())
        self._adopt_sources(sources)
        self._line.parts = self._line_parts(config, authenticator)
        self._server.parts = replace(self._server.parts, settings=_edge_settings(config))
        self._report_restart(config)
        self._config = config
        start_logging(json_lines=config.log.format == "json", level=config.log.level)
        self._journal.record("reloaded")
        if next_hop:
            await old_hop.close()

    async def _changed_authenticator(self, config: Config) -> Authenticator:
        """The present one where nothing changed: the file of users is read again whenever it changes."""
        if config.auth == self._config.auth:
            return self._line.parts.authenticator
        return await asyncio.to_thread(build_authenticator, config)

    def _changed_next_hop(self, config: Config) -> SmtpNextHop | None:
        """A new one if its settings changed; the present one keeps its connections otherwise."""
        if next_hop_settings(config) == self._next_hop.settings:
            return None
        return build_next_hop(config, self._clock, self._journal)

    def _report_restart(self, config: Config) -> None:
        """Names what a reload cannot change."""
        before, after = self._config, config
        changed = {
            "listen": before.listen != after.listen,
            "tls": before.tls != after.tls,
            "limits.memory_bytes": before.limits.memory_bytes != after.limits.memory_bytes,
            "auth.type": before.auth.type != after.auth.type,
        }
        for name in (name for name, is_changed in changed.items() if is_changed):
            self._journal.record("restart_needed", setting=name)

    # ----------------------------------------------------------------- parts

    async def _made_sources(self, config: Config) -> Sources:
        """New sources, read. Raises OSError or ValueError; then nothing has changed."""
        sources = await make(config, self._clock, self._journal)
        await sources.load(self._journal)
        return sources

    def _adopt_sources(self, sources: Sources) -> None:
        """Transactions that use the old ones keep them until they are over."""
        if self._keeper:
            self._retired_sources.append(self._sources)
            self._background(self._close_unused(self._sources, self._line.parts, self._keeper))
        self._sources = sources
        self._keeper = self._background(sources.keep(self._clock, self._journal))
        self._finder = KeyFinder(
            sources.listed, sources.judge, self._clock, self._finder.failing_since, sources.pins
        )

    async def _close_unused(self, sources: Sources, parts: Parts, keeper: asyncio.Task[None]) -> None:
        """Without it each reload would leave connections to the store, and what is kept in memory, behind.

        Until then they follow the store: a transaction may take an hour, and a key be revoked meanwhile.
        """
        await parts.uses.over()
        keeper.cancel()
        await sources.close()
        self._retired_sources.remove(sources)

    async def _close_unused_signer(self, signer: SecretKeys, parts: Parts) -> None:
        """Transactions that use the old keys sign with them to their end."""
        self._retired_signers.append(signer)
        await parts.uses.over()
        self._retired_signers.remove(signer)
        await signer.close()

    def _line_parts(self, config: Config, authenticator: Authenticator) -> Parts:
        return Parts(
            hostname=config.hostname,
            policy=config.policy,
            finder=self._finder,
            engine=self._engine,
            next_hop=self._next_hop,
            authenticator=authenticator,
            connections_per_message=config.next_hop.connections_per_message,
            learner=self._sources.learner,
            wishes=config.wishes,
            signer=self._signer,
            lookup_seconds=config.limits.lookup_seconds,
        )

    def _edge_parts(self, config: Config) -> EdgeParts:
        return EdgeParts(
            settings=_edge_settings(config),
            line=self._line,
            budget=self._line.ground.budget,
            journal=self._journal,
            connections=Connections(),
            logins=Logins(self._clock),
            context=self._context,
        )


async def _close(signer: SecretKeys | None) -> None:
    if signer:
        await signer.close()


def _edge_settings(config: Config) -> edge.Settings:
    limits = config.limits
    return edge.Settings(
        hostname=config.hostname,
        limits=edge.Limits(
            message_bytes=limits.message_bytes,
            recipients=limits.recipients,
            connections=limits.connections,
            connections_per_client=limits.connections_per_client,
        ),
    )


def _endpoint(address: Endpoint, tls: str, *, auth: bool) -> edge.Endpoint:
    return edge.Endpoint(address.host, address.port, address.path, edge.Tls(tls), auth)


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Relay]:
    """A started relay, drained and closed at the end."""
    journal = LogJournal()
    scratch = await asyncio.to_thread(tempfile.TemporaryDirectory, prefix="relay-")
    try:
        path = Path(scratch.name)
        files = await asyncio.to_thread(build_from_files, config, path, journal)
        relay = Relay(config, files, path, journal, SystemClock())
        with relay.heeding_signals():
            try:
                await relay.start()
                yield relay
            finally:
                await relay.close()
    finally:
        await asyncio.to_thread(scratch.cleanup)


def run(path: Path) -> int:
    """`relay run`: serves until SIGTERM or SIGINT.

    Returns:
        0 after a stop that was asked for, 1 where it could not start.

    Raises:
        ConfigInvalid: nothing was opened.
    """
    config = load(path, os.environ)
    harden_process()
    start_logging(json_lines=config.log.format == "json", level=config.log.level)
    try:
        asyncio.run(_serve(config))
    except (OSError, ValueError, EngineUnavailable) as exc:
        LogJournal().record("start_failed", reason=str(exc))
        return 1
    return 0


async def _serve(config: Config) -> None:
    async with running(config) as relay:
        _settle()
        await relay.until_stopped()


def _settle() -> None:
    """Takes what start-up made (modules, configuration, keys) out of the garbage collector's sight.

    It lives as long as the process, and a full collection would look through all of it each time: 40 ms, in
    which nobody is served, and more with many keys.
    """
    gc.collect()
    gc.freeze()
