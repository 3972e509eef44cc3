"""Runs the real program, `relay run`, as a process of its own with a configuration of the test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_START_SECONDS = 20.0
_STOP_SECONDS = 30.0


@dataclass(slots=True)
class RunningRelay:
    """A relay process.

    Args:
        config: the text of its configuration, written to `home`/relay.yaml.
        wrapper: a command in front of it, such as strace.
    """

    home: Path
    config: str
    wrapper: Sequence[str] = ()
    environ: dict[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def path(self) -> Path:
        return self.home / "relay.yaml"

    @property
    def log_path(self) -> Path:
        return self.home / "relay.log"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the relay is not running"
        return self._process

    @property
    def log(self) -> str:
        return self.log_path.read_text("utf-8") if self.log_path.exists() else ""

    def events(self, name: str) -> list[dict[str, object]]:
        """Every event of this name, in order; needs `log: {format: json}`."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == name]

    def __enter__(self) -> RunningRelay:
        self.path.write_text(self.config)
        command = [*self.wrapper, sys.executable, "-m", "relay", "run", "--config", str(self.path)]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environ},
                start_new_session=True,
            )
        self.wait_for("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, event: str, count: int = 1) -> None:
        """Until the log holds `event` that many times."""
        deadline = time.monotonic() + _START_SECONDS
        while self.log.count(f'"event": "{event}"') + self.log.count(f" {event}") < count:
            assert self.process.poll() is None, f"the relay ended: {self.log}"
            assert time.monotonic() < deadline, f"no {event!r} in: {self.log}"
            time.sleep(0.02)

    def reload(self, config: str) -> None:
        """A new configuration and SIGHUP; does not wait."""
        self.path.write_text(config)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> int:
        """SIGTERM, then waits for the exit code; a relay that hangs is killed and fails the test."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise AssertionError(f"the relay did not stop: {self.log}") from None
