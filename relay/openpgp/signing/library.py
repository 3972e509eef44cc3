"""The calls into pysequoia about secret keys and signatures, and what it raises as one exception.

The message itself is made by `openpgp.worker.encrypt`: signed, then encrypted, in one message (RFC 3156
§6.2), with SHA-512. pysequoia has no call for Intended Recipient subpackets (RFC 9580 §5.2.3.36), so there
are none.
"""

from __future__ import annotations

import pysequoia

from relay.openpgp.worker import LibraryRefused, calling_library

Signer = pysequoia.PySigner
"""A secret key, opened."""


def signer(secret: bytes, password: str | None) -> Signer:
    """The only signing key in `secret`, opened.

    Args:
        password: must be None exactly where the key is not protected.

    Raises:
        LibraryRefused: there is none, or the password is wrong.
    """
    with calling_library():
        return pysequoia.Tsk.from_bytes(secret).signer(password)


def public(secret: bytes) -> bytes:
    """The certificate of a secret key, as pysequoia knows it. Raises LibraryRefused."""
    with calling_library():
        return bytes(pysequoia.Tsk.from_bytes(secret).extract_certificate())


def sign(text: bytes, key: Signer) -> bytes:
    """A detached signature, binary. Raises LibraryRefused."""
    with calling_library():
        return bytes(pysequoia.sign(key, text, mode=pysequoia.SignatureMode.DETACHED, armor=False))


def verified_by(text: bytes, signature: bytes, certificate: bytes) -> str:
    """Fingerprint (upper-case hex) of the certificate's key that made the signature; empty if none did."""
    try:
        with calling_library():
            cert = pysequoia.Cert.from_bytes(certificate)
            made = pysequoia.Sig.from_bytes(signature)
            found = pysequoia.verify(bytes=text, store=lambda _: [cert], signature=made)
            return next((str(each.signing_key).upper() for each in found.valid_sigs), "")
    except LibraryRefused:
        return ""
