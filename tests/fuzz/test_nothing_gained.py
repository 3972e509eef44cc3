"""Whoever damages or rearranges a certificate gains nothing: at most the honest choice is chosen."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests import keys
from tests.forge import raw
from tests.opinions import judge


def _honest(name: str) -> set[str]:
    verdict = judge(keys.certificate(name).data, address=keys.fixture(name).address)
    return {subkey.fingerprint for subkey in verdict.subkeys}


_HONEST = {
    name: _honest(name)
    for name in (
        "curve25519", "v6", "two-subkeys-one-expired", "storage-beside-mail", "grafted-subkey",
        "expired-subkey", "storage-only", "forged-newer-binding", "forged-key-flags",
    )
}  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(sorted(_HONEST)), st.data())
def test_judge_damaged_certificates_gain_nothing(name: str, data: st.DataObject) -> None:
    """Truncated and altered certificates never crash and never add a subkey to the honest choice."""
    octets = bytearray(keys.certificate(name).data)
    for _ in range(data.draw(st.integers(0, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = data.draw(st.integers(1, len(octets)) | st.just(len(octets)))

    verdict = judge(bytes(octets[:cut]), address=keys.fixture(name).address)

    assert {subkey.fingerprint for subkey in verdict.subkeys} <= _HONEST[name]
    assert verdict.usable == bool(verdict.subkeys) == bool(verdict.reduced)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(_HONEST)), st.data())
def test_judge_shuffled_packets_gain_nothing(name: str, data: st.DataObject) -> None:
    """Packets repeated, dropped and moved never add a subkey to the honest choice."""
    first, *others = raw(keys.certificate(name).data)
    mixed = data.draw(st.lists(st.sampled_from(others), max_size=12))

    verdict = judge(first + b"".join(mixed), address=keys.fixture(name).address)

    assert {subkey.fingerprint for subkey in verdict.subkeys} <= _HONEST[name]
