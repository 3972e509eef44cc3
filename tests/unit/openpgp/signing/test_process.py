"""Programs that run for a while: what they get, how they end, and that none is left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from relay.openpgp.signing.process import Finished, ProgramFailed, Programs
from tests.unit.openpgp.parties import is_gone, until

ENVIRONMENT = {"PATH": os.environ["PATH"], "GREETING": "hello"}


async def _run(script: str, stdin: bytes = b"", timeout_seconds: float = 30) -> Finished:
    return await Programs().run(["sh", "-c", script], ENVIRONMENT, stdin, timeout_seconds=timeout_seconds)


async def test_run_gives_output_complaint_and_exit_status() -> None:
    """Everything that a program says comes back."""
    assert Finished(3, b"out", "err") == await _run("printf out; printf err >&2; exit 3")


async def test_run_gives_input_and_environment_and_nothing_else() -> None:
    """The program sees what it is given."""
    done = await _run('cat; echo "$GREETING$HOME"', b"input ")

    assert b"input hello\n" == done.output


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
async def test_run_input_of_any_size(size: int) -> None:
    """Nothing is lost on the way through the pipes, in both directions at once."""
    octets = os.urandom(size)

    assert octets == (await _run("cat", octets)).output


async def test_run_program_that_does_not_read_is_no_error() -> None:
    """Its exit status says what happened."""
    assert 4 == (await _run("exit 4", b"x" * 5_000_000)).exit_status


async def test_run_killed_program_has_its_signal() -> None:
    """A signal is a negative status."""
    assert -9 == (await _run("kill -9 $$")).exit_status


async def test_run_missing_program_raises() -> None:
    """It is named."""
    with pytest.raises(ProgramFailed, match="no-such-program"):
        await Programs().run(["no-such-program"], ENVIRONMENT, timeout_seconds=5)


async def test_run_too_slow_raises_and_kills_the_whole_group(tmp_path: Path) -> None:
    """What a program has started goes with it."""
    pids = tmp_path / "pids"
    with pytest.raises(ProgramFailed, match="longer than 1 seconds"):
        await _run(f"sleep 600 & echo $$ $! > {pids}; wait", timeout_seconds=1)

    written = [int(pid) for pid in pids.read_text().split()]
    await until(lambda: all(map(is_gone, written)))


async def test_run_cancelled_kills_the_program(tmp_path: Path) -> None:
    """Nobody waits for it any more."""
    pids = tmp_path / "pids"
    task = asyncio.create_task(_run(f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 600"))
    await until(pids.exists)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: is_gone(int(pids.read_text())))


async def test_close_ends_what_runs_and_starts_nothing_again(tmp_path: Path) -> None:
    """Who waits sees the signal; afterwards nothing is started."""
    pids = tmp_path / "pids"
    programs = Programs()
    command = ["sh", "-c", f"echo $$ > {pids}.new; mv {pids}.new {pids}; sleep 600"]
    task = asyncio.create_task(programs.run(command, ENVIRONMENT, timeout_seconds=30))
    await until(pids.exists)

    await programs.close()

    assert -9 == (await task).exit_status
    with pytest.raises(ProgramFailed, match="closed"):
        await programs.run(command, ENVIRONMENT, timeout_seconds=30)


async def test_close_while_a_program_is_being_started_ends_it(tmp_path: Path) -> None:
    """A program that runs already, although nobody has heard of it yet, does not outlive the closing."""
    started = tmp_path / "started"
    programs = Programs()
    command = ["sh", "-c", f"touch {started}; sleep 600"]
    task = asyncio.create_task(programs.run(command, ENVIRONMENT, timeout_seconds=30))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # now it is made, and known some steps later
    while not started.exists():
        pass  # without giving the loop a turn

    await programs.close()

    assert -9 == (await task).exit_status


async def test_run_cancelled_while_a_program_is_being_started_ends_its_group(tmp_path: Path) -> None:
    """Nor does what it has started itself by then."""
    pids = tmp_path / "pids"
    task = asyncio.create_task(_run(f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # now it is made, and known some steps later
    while not pids.exists():
        pass
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: all(is_gone(int(pid)) for pid in pids.read_text().split()))
