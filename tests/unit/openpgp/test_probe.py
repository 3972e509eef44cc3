"""Asking pysequoia whether signatures are genuine."""

from __future__ import annotations

import pysequoia
import pytest

from relay.openpgp import probe
from relay.openpgp.parts import Unusable
from relay.openpgp.probe import Probe
from relay.openpgp.signatures import encode
from tests.forge import Owner, at

OWNER = Owner("owner")
GENUINE, FORGED = OWNER.start(), OWNER.start(OWNER.sign(0x13, OWNER.user_id, genuine=False))
DAY = 86400


@pytest.mark.parametrize(("data", "genuine"), [
    (GENUINE, True),
    (FORGED, False),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, key_lasts=DAY)), True),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, lasts=DAY)), False),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, on=at(2090))), False),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id, digest=2)), False),
    (OWNER.start(OWNER.sign(0x13, OWNER.user_id), OWNER.sign(0x30, OWNER.user_id, on=at(2025, 2))), False),
    (b"", False),
], ids=["genuine", "forged", "expired key", "lapsed", "future", "SHA-1", "revoked", "empty"])  # fmt: skip
def test_probe_has_user_id(data: bytes, genuine: bool) -> None:
    """A User ID is listed for a genuine signature, also of an expired key, and for nothing else."""
    assert genuine == Probe().has_user_id(data)


@pytest.mark.parametrize("genuine", [True, False])
def test_probe_has_self_signature_by_direct_key_signature(genuine: bool) -> None:
    """A direct-key signature alone is believed if it is genuine."""
    data = encode(6, OWNER.primary) + OWNER.sign(0x1F, genuine=genuine)

    assert genuine == Probe().has_self_signature(data)


@pytest.mark.parametrize(("claims", "reached"), [
    ({"flags": b"\x04"}, 1),
    ({"flags": b"\x08"}, 1),
    ({"flags": b"\x0c", "key_lasts": DAY}, 1),
    ({"flags": b"\x02"}, 0),
    ({"flags": b"\x0c", "genuine": False}, 0),
    ({"flags": b"\x0c", "lasts": DAY}, 0),
], ids=["mail", "storage", "expired", "signing", "forged", "lapsed"])  # fmt: skip
def test_probe_recipients(claims: dict[str, object], reached: int) -> None:
    """An encryption reaches subkeys with a genuine binding for it, also expired ones, and no others."""
    bound = OWNER.bind(OWNER.sign(0x18, OWNER.subkey(), **claims))  # type: ignore[arg-type]

    assert reached == len(Probe().recipients(GENUINE + bound))


def test_probe_asked_too_often_refuses() -> None:
    """The work for one certificate is bounded."""
    asked = Probe()
    for _ in range(probe.MAX_VERIFICATIONS):
        asked.has_user_id(FORGED)

    with pytest.raises(Unusable):
        asked.has_user_id(GENUINE)


def test_probe_panic_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    """A panic in Rust is no answer, and does not end the relay."""
    panic = type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})

    def explode(*_: object, **__: object) -> bytes:
        raise panic("index out of bounds")

    monkeypatch.setattr(pysequoia, "encrypt", explode)

    assert () == Probe().recipients(GENUINE)


def test_probe_interrupt_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only panics are caught: whoever stops the process stops it."""

    def interrupt(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(pysequoia, "encrypt", interrupt)

    with pytest.raises(KeyboardInterrupt):
        Probe().recipients(GENUINE)
