"""Every fuzz target for a moment, the same inputs each time; and that the fuzzing would find something."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from relay.openpgp.assessment import _Case
from tests.fuzz.mutation import inputs
from tests.fuzz.running import Found, run
from tests.fuzz.targets import TARGETS, Target

_INPUTS = 2500
_SEED = 20260401


@pytest.mark.parametrize("name", TARGETS)
def test_target_survives_altered_seeds(name: str) -> None:
    """Some thousand altered inputs make no target fail."""
    assert _INPUTS == run(TARGETS[name], _SEED, range(_INPUTS))


def test_target_judge_notices_a_grafted_subkey(monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that believed every binding would be found out."""
    monkeypatch.setattr(_Case, "_reaches", lambda *_: True)
    monkeypatch.setattr(_Case, "_check_reduced", lambda *_: None)

    with pytest.raises(Found):
        run(TARGETS["judge"], _SEED, range(_INPUTS))


def test_run_failing_input_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds something has the octets to look at, and the same seed gives them again."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    target = Target("picky", _refuse_altered, lambda: [_WHOLE])

    with pytest.raises(Found):
        run(target, _SEED, range(_INPUTS))

    [kept] = tmp_path.iterdir()
    assert kept.read_bytes() == next(data for data in inputs([_WHOLE], Random(_SEED)) if data != _WHOLE)


_WHOLE = b"abcdefgh"


def _refuse_altered(data: bytes) -> None:
    assert data == _WHOLE
