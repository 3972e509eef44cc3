"""Every fuzz target for a moment, the same inputs each time; and that the fuzzing would find something."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from relay.keys import answers, dane, ldap_answers, trimming, web
from relay.mime import autocrypt
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


@pytest.mark.parametrize(
    ("name", "part", "attribute", "broken"),
    [
        ("wkd", answers, "only_user_id", lambda data, key: data),
        ("vks", answers, "_trimmed", lambda found, key: []),
        ("hkps", answers, "_trimmed", lambda found, key: found),
        ("trimming", trimming, "_ABOUT_KEYS", frozenset()),
        ("redirect", web, "_is_name", lambda host: True),
        ("retry-after", web, "_MAX_RETRY_AFTER_SECONDS", 1e9),
        ("ldap", ldap_answers, "_SUCCESS", 4),
        ("dane-record", dane, "stand_in", lambda source: None),
        ("autocrypt", autocrypt, "_CERTIFICATE_PACKETS", frozenset(range(64))),
    ],
)
def test_target_notices_a_missing_rule(
    name: str, part: ModuleType, attribute: str, broken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each target fails where the rule that it is there for is taken away."""
    monkeypatch.setattr(part, attribute, broken)

    with pytest.raises(Found):
        run(TARGETS[name], _SEED, range(_INPUTS))


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
