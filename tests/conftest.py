"""What all tests share: fixtures, and rules that hold for every test.

- A call of ours that blocks the event loop fails the test (blockbuster).
- A test that leaves a process behind fails.
- With `RELAY_TEST_STRICT=1` a skip is a failure, because a skip hides a hole.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

from tests import processes
from tests.network import Authority, make_authority

_MAY_BLOCK = (
    # Starting a program waits for its exec, about a millisecond; asyncio's own subprocesses do the same.
    ("os.read", "subprocess.py", "_execute_child"),
)
"""Calls that may block the loop for a moment: (call, file, function) as blockbuster names them."""

_LONGEST_ID = 60

_STRICT = os.environ.get("RELAY_TEST_STRICT") == "1"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A test CA and a server certificate for loopback."""
    return make_authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session", autouse=True)
def _no_blocking() -> Iterator[BlockBuster]:
    """Fails what blocks the loop, where code of ours makes the call.

    Only `relay` is scanned: a test may read a file on its own loop.
    """
    with blockbuster_ctx(scanned_modules=["relay"]) as blockbuster:
        for call, file, function in _MAY_BLOCK:
            blockbuster.functions[call].can_block_in(file, function)
        yield blockbuster


@pytest.fixture(scope="session", autouse=True)
def _adopt_orphans() -> None:
    """Daemons that detach themselves become our children, so that they are seen too."""
    processes.become_subreaper()


@pytest.fixture(autouse=True)
def _no_process_left(_adopt_orphans: None) -> Iterator[None]:
    """Fails a test that leaves a process behind, and ends the process.

    Fixtures of wider scope are set up before this one and ended after it, so their servers are no leftovers.
    """
    before = processes.descendants()
    yield
    left = processes.wait_for_end(before)
    processes.kill(left)
    assert not left, f"left running: {', '.join(map(str, left))}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Names long values by their argument; a generated one would also differ between parallel workers."""
    return argname if isinstance(val, str | bytes) and len(val) > _LONGEST_ID else None


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In strict mode a skip becomes a failure; an expected failure stays one."""
    if _STRICT and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in strict mode: {report.longrepr}"
