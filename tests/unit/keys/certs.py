"""Real certificates for tests of the key sources, made by pysequoia in a millisecond each."""

from __future__ import annotations

import pysequoia


def cert(*user_ids: str) -> bytes:
    """A new v4 certificate with these User IDs, binary."""
    return bytes(tsk(*user_ids).extract_certificate())


def armored(*user_ids: str) -> bytes:
    """The same, armoured."""
    return str(tsk(*user_ids).extract_certificate()).encode()


def tsk(*user_ids: str) -> pysequoia.Tsk:
    """A new secret key with these User IDs."""
    return pysequoia.Tsk.generate(user_ids=list(user_ids), profile=pysequoia.Profile.RFC4880)


def fingerprint(certificate: bytes) -> str:
    """As `Certificate.fingerprint` has it."""
    return pysequoia.Cert.from_bytes(certificate).fingerprint.upper()
