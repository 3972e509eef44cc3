"""Tests of `relay/journal.py`."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from relay.journal import LogJournal, start_logging


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_record_in_json_is_one_object_per_line() -> None:
    """A program reads event, id and fields back."""
    stream = io.StringIO()
    start_logging(json_lines=True, level="info", stream=stream)

    LogJournal().record("copy_delivered", id="abc-1", recipients="a@example.com\r\nx", bytes=5)

    facts = json.loads(_lines(stream)[0])
    assert ("copy_delivered", "abc-1", "a@example.com\r\nx", 5) == (
        facts["event"],
        facts["id"],
        facts["recipients"],
        facts["bytes"],
    )


def test_record_in_text_stays_one_line() -> None:
    """Control characters of a client cannot forge a second line."""
    stream = io.StringIO()
    start_logging(json_lines=False, level="info", stream=stream)

    LogJournal().record("recipient_refused", recipient="a\r\n2026 info forged", rule="policy.default")

    assert 1 == len(_lines(stream))
    assert 'recipient="a\\r\\n2026 info forged" rule=policy.default' in _lines(stream)[0]


def test_start_logging_at_debug_keeps_libraries_quiet() -> None:
    """aiosmtpd and python-gnupg print mail at DEBUG; they never get to."""
    stream = io.StringIO()
    logging.getLogger("mail.log").setLevel(logging.DEBUG)
    start_logging(json_lines=False, level="debug", stream=stream)

    for name in ("mail.log", "gnupg", "aiosmtplib", "some.other.library"):
        assert logging.WARNING <= logging.getLogger(name).getEffectiveLevel()
        logging.getLogger(name).debug("MARKER")
        logging.getLogger(name).info("MARKER")
    logging.getLogger("relay").debug("ours")

    assert [True] == ["ours" in line for line in _lines(stream)]


def test_exception_shows_where_and_never_its_message() -> None:
    """The text of an exception may quote the mail; the line names class and place only."""
    stream = io.StringIO()
    start_logging(json_lines=False, level="info", stream=stream)
    try:
        raise ValueError("MARKER")
    except ValueError:
        logging.getLogger("relay").error("unexpected", exc_info=True)

    assert "MARKER" not in stream.getvalue()
    assert "exception=ValueError" in stream.getvalue()
    assert "test_journal.py" in stream.getvalue()


def test_record_of_failures_is_a_warning() -> None:
    """At level `warning` an admin sees what failed and not what went well."""
    stream = io.StringIO()
    start_logging(json_lines=True, level="warning", stream=stream)

    for event in ("copy_delivered", "copy_failed", "certificate_kept", "message_refused", "unexpected"):
        LogJournal().record(event)

    assert ["copy_failed", "certificate_kept", "message_refused", "unexpected"] == [
        json.loads(line)["event"] for line in _lines(stream)
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ('say "x"', '"say \\"x\\""'),
        ('a"b', '"a\\"b"'),
        ("two words", '"two words"'),
        (0, "0"),
    ],
)
def test_record_in_text_quotes_what_could_be_read_in_two_ways(value: str | int, shown: str) -> None:
    """A program that splits the line at blanks and quotes gets every value back."""
    stream = io.StringIO()
    start_logging(json_lines=False, level="info", stream=stream)

    LogJournal().record("keys_read", source=value, empty="")

    assert _lines(stream)[0].endswith(f" keys_read source={shown}")


def test_start_logging_again_replaces_the_lines_of_before() -> None:
    """After a reload every event is one line, in the new format."""
    stream = io.StringIO()
    start_logging(json_lines=False, level="info", stream=stream)
    start_logging(json_lines=True, level="info", stream=stream)

    LogJournal().record("reloaded")

    assert ["reloaded"] == [json.loads(line)["event"] for line in _lines(stream)]


def test_text_of_a_library_stays_one_line() -> None:
    """A warning of a library with line ends in it cannot forge a line either."""
    stream = io.StringIO()
    start_logging(json_lines=False, level="info", stream=stream)

    logging.getLogger("some.library").warning("one\ninfo forged")

    assert 1 == len(_lines(stream))


def test_exception_from_deep_inside_shows_its_innermost_frames() -> None:
    """Where it happened matters more than where the call began."""
    stream = io.StringIO()
    start_logging(json_lines=False, level="info", stream=stream)

    def fail(depth: int) -> None:
        if depth == 0:
            raise ValueError
        fail(depth - 1) if depth > 1 else _innermost()

    try:
        fail(30)
    except ZeroDivisionError:
        logging.getLogger("relay").error("unexpected", exc_info=True)

    assert _lines(stream)[0].rstrip('"').endswith(":_innermost")


def _innermost() -> None:
    raise ZeroDivisionError


def test_record_of_a_failed_start_shows_at_level_error() -> None:
    """Whoever asks for errors only still hears why the relay does not run."""
    stream = io.StringIO()
    start_logging(json_lines=True, level="error", stream=stream)

    LogJournal().record("start_failed", reason="port 465 is taken")

    assert 1 == len(_lines(stream))
