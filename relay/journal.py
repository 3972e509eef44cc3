"""Business events as log lines: one line per event, text or JSON, on standard error.

Libraries do not get to log below WARNING whatever the configured level, because at DEBUG some of them print
the mail itself (O-01). An event carries facts about a message, never the message (O-02).
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TextIO

_LOGGER = "relay"

_CHATTY_LIBRARIES = ("mail.log", "gnupg", "aiosmtplib", "asyncio", "concurrent")
"""aiosmtpd (as `mail.log`) and python-gnupg print content at DEBUG; the others are only noise."""

_MAX_FRAMES = 12

_WARNINGS = (
    *("_failed", "_broken", "_refused", "_held", "_kept", "_throttled", "_needed", "_unreadable", "_closed"),
    *("_lost", "_unusable", "_unavailable", "_warning"),
)
"""Ends of event names that an admin should see at level `warning`."""


_DEBUG = ("key_learned_same", "key_learned_ignored")
"""What most messages of some senders bring, and nobody has to know."""

_ERRORS = ("start_failed", "unexpected")
"""What is shown at every level: nobody should have to guess why the relay does not run."""


class LogJournal:
    """Writes events to the logger `relay` (`relay.seams.Journal`)."""

    def __init__(self) -> None:
        self._log = logging.getLogger(_LOGGER)

    def record(self, event: str, *, id: str = "", **fields: str | int | float | bool) -> None:
        """One line: the event, the id that also stands in the SMTP reply, and the fields."""
        level = logging.WARNING if event.endswith(_WARNINGS) else logging.INFO
        level = logging.ERROR if event in _ERRORS else logging.DEBUG if event in _DEBUG else level
        given = {name: value for name, value in fields.items() if value != ""}
        self._log.log(level, event, extra={"relay_id": id, "relay_fields": given})


def start_logging(*, json_lines: bool, level: str, stream: TextIO | None = None) -> None:
    """Sends the relay's own lines to `stream` (default: standard error) and silences libraries.

    Args:
        level: `debug`, `info`, `warning` or `error`; for the relay's own lines only.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonLines() if json_lines else _TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_LOGGER).setLevel(level.upper())
    for name in _CHATTY_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    def facts(self, record: logging.LogRecord) -> dict[str, str | int | float | bool]:
        """What the line says, in order."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        facts: dict[str, str | int | float | bool] = {"time": moment, "level": record.levelname.lower()}
        facts["event"] = record.getMessage()
        if identifier := getattr(record, "relay_id", ""):
            facts["id"] = identifier
        facts.update(getattr(record, "relay_fields", {}))
        if record.exc_info and record.exc_info[0]:
            facts["exception"] = record.exc_info[0].__name__
            facts["at"] = _frames(record.exc_info[2])
        return facts


class _JsonLines(_Lines):
    """For programs."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object; control characters are escaped by JSON."""
        return json.dumps(self.facts(record))


class _TextLines(_Lines):
    """For people: `2026-06-01T12:00:00.000+00:00 info copy_delivered id=… recipients=…`."""

    def format(self, record: logging.LogRecord) -> str:
        """Values with blanks or control characters are quoted, so that a line stays a line."""
        facts = self.facts(record)
        head = f"{facts.pop('time')} {facts.pop('level')} {_plain(str(facts.pop('event')))}"
        return " ".join([head, *(f"{name}={_quoted(value)}" for name, value in facts.items())])


def _frames(trace: TracebackType | None) -> str:
    """Where an exception came from, innermost last. Its message is left out: it may quote the mail."""
    frames = traceback.extract_tb(trace)[-_MAX_FRAMES:]
    return " > ".join(f"{Path(frame.filename).name}:{frame.lineno}:{frame.name}" for frame in frames)


def _plain(text: str) -> str:
    return text if text.isprintable() else json.dumps(text)


def _quoted(value: str | int | float | bool) -> str:
    text = str(value)
    return text if text.isprintable() and text and " " not in text and '"' not in text else json.dumps(text)
