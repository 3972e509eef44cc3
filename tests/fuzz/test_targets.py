"""Every fuzz target for a moment, the same inputs each time; and that the fuzzing would find something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

from relay.keys import answers, dane, ldap_answers, trimming, web
from relay.mime import (
    autocrypt,
    inline,
    protection,
    recoding,
    selfcheck,
    structure,
    wishes,
    words,
)
from relay.mime.exempt import entity, reports
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


class _Anything:
    """A set that holds everything."""

    def __contains__(self, _: object) -> bool:
        return True


_NOTHING, _NO_OCTETS = re.compile(r"(?!)"), re.compile(rb"(?!)")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """What was remembered under a rule does not outlive it."""
    protection._place.cache_clear()
    yield
    protection._place.cache_clear()


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
        ("words", words, "_SURROGATES", _NOTHING),
        ("wishes", wishes, "_one", re.escape),
        ("wishes", wishes, "_TAGGED", frozenset({"subject"})),
        ("inline", inline, "_TRAILING_BLANKS", _NO_OCTETS),
        ("recoding", recoding, "_FROM", _NO_OCTETS),
        ("recoding", recoding, "_HYPHEN", _NO_OCTETS),
        ("structure", structure, "_LINE_END", re.compile(rb"(--)?[^\r\n]*(?:\r\n|\Z)")),
        ("exempt", reports, "_is_encrypted", lambda original, header: True),
        ("exempt", reports, "_LINE_ENDS", _Anything()),
        ("exempt", entity, "_PREAMBLES", _Anything()),
        ("protection", protection, "_repeats", lambda field, subject: False),
        ("protection", protection, "_MACHINES", frozenset()),
        ("protection", protection, "_AUTHORS", _NOTHING),
        ("copy", protection, "_AUTHORS", _NOTHING),
        ("seal", selfcheck, "_check_fields", lambda *outer, **_: None),
        ("seal", selfcheck, "_INSIDE_ALONE", _NOTHING),
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
