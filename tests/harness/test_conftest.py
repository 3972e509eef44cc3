"""The rules of `tests/conftest.py` bite: each broken claim is tried in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def _pytest(tmp_path: Path, *tests: str, **environment: str) -> str:
    """The output of pytest for modules of these texts, with the project's conftest and settings."""
    for number, test in enumerate(tests):
        (tmp_path / f"test_tried{number}.py").write_text(test)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.conftest"]
    done = subprocess.run(
        [*command, "-c", _ROOT / "pyproject.toml", f"--rootdir={tmp_path}", tmp_path],
        cwd=_ROOT,
        env={**os.environ, "RELAY_TEST_STRICT": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


def test_strict_skip_fails(tmp_path: Path) -> None:
    """With RELAY_TEST_STRICT=1 every way to skip is a failure; without it, it is a skip."""
    skips = (
        "import pytest\n"
        "from tests.programs import require\n"
        "def test_call(): pytest.skip('why')\n"
        "@pytest.mark.skipif(True, reason='why')\ndef test_mark(): pass\n"
        "def test_program(): require('no-such-program')\n"
    )
    module = "import pytest\npytest.importorskip('no_such_module')\ndef test_a(): pass\n"

    relaxed = _pytest(tmp_path, skips, module)
    strict = _pytest(tmp_path, skips, module, "def test_fine(): pass\n", RELAY_TEST_STRICT="1")

    assert "4 skipped" in relaxed
    assert "no-such-program is not installed" in relaxed
    assert "Interrupted: 1 error during collection" in strict
    (tmp_path / "test_tried1.py").unlink()
    assert "2 failed, 1 passed, 1 error" in _pytest(tmp_path, skips, RELAY_TEST_STRICT="1")


def test_leftover_process_fails(tmp_path: Path) -> None:
    """A child that outlives its test fails it, also one that detached itself."""
    output = _pytest(
        tmp_path,
        "import subprocess\n"
        "kept = []\n"
        "def test_child(): kept.append(subprocess.Popen(['sleep', '98']))\n"
        "def test_daemon(): subprocess.run('setsid sleep 99 &', shell=True)\n"
        "def test_clean(): subprocess.run(['true'])\n",
    )

    assert "left running: sleep 98" in output
    assert "left running: sleep 99" in output
    assert "3 passed, 2 errors" in output


def test_leftover_worker_of_a_session_server_is_allowed(tmp_path: Path) -> None:
    """What a server of wider scope starts meanwhile is its own."""
    output = _pytest(
        tmp_path,
        "import pytest, subprocess\n"
        "@pytest.fixture(scope='module')\n"
        "def server():\n"
        "    shell = subprocess.Popen(['sh'], stdin=subprocess.PIPE)\n"
        "    yield shell\n"
        "    shell.communicate(b'kill $!\\n')\n"
        "def test_a(server):\n"
        "    server.stdin.write(b'sleep 97 &\\n'); server.stdin.flush()\n",
    )

    assert "1 passed" in output
    assert "error" not in output


def test_blocking_call_of_ours_fails(tmp_path: Path) -> None:
    """A call of ours that blocks the event loop fails the test; the same call of the test's own does not."""
    output = _pytest(
        tmp_path,
        "import os, pathlib, time, relay\n"
        "module = str(pathlib.Path(relay.__file__).with_name('pretended.py'))\n"
        "ours = {}\n"
        "exec(compile('import time\\ndef block(): time.sleep(0.001)', module, 'exec'), ours)\n"
        "async def test_ours(): ours['block']()\n"
        "async def test_own(): time.sleep(0.001)\n",
    )

    assert "Blocking call to time.sleep" in output
    assert "1 failed, 1 passed" in output
