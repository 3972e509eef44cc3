"""Finds out whether signatures are genuine, by asking pysequoia about certificates built for one question.

pysequoia verifies self-signatures when it selects components, but offers no call to verify one. So a small
certificate is built from the primary key and the signature in question, and the answer shows whether the
signature was believed: a User ID is listed, an expiration can be asked, an encryption reaches the subkey.
It believes no signature made with SHA-1 or MD5, none that has itself expired, and none from the future of
the machine's clock, without tolerance. An expired key does not matter to it: that is judged elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pysequoia

from relay.mime.packets import Malformed, encrypted_message
from relay.openpgp.parts import Unusable

MAX_VERIFICATIONS = 64
"""Per certificate and judgement; about 0.2 ms each. Real certificates need one per User ID and subkey."""

_T = TypeVar("_T")


class Probe:
    """Asks about the signatures of one certificate; every method may raise Unusable when asked too often."""

    def __init__(self) -> None:
        self._left = MAX_VERIFICATIONS
        self._recipients: dict[bytes, tuple[str, ...]] = {}

    def has_self_signature(self, data: bytes) -> bool:
        """Whether some self-signature on the primary key or a User ID is genuine."""
        return self._ask(lambda: (pysequoia.Cert.from_bytes(data).expiration, True)[1], False)

    def has_user_id(self, data: bytes) -> bool:
        """Whether some User ID is bound by a genuine signature and not revoked by one."""
        return self._ask(lambda: bool(pysequoia.Cert.from_bytes(data).user_ids), False)

    def recipients(self, data: bytes) -> tuple[str, ...]:
        """The key IDs that an encryption names; empty where no subkey is bound for encryption."""
        if data not in self._recipients:
            self._recipients[data] = self._ask(lambda: _recipients(data), ())
        return self._recipients[data]

    def _ask(self, question: Callable[[], _T], no: _T) -> _T:
        """The answer, or `no` where pysequoia refuses: it reports everything as RuntimeError."""
        if not self._left:
            raise Unusable(f"needs more than {MAX_VERIFICATIONS} signatures to be checked")
        self._left -= 1
        try:
            return question()
        except (RuntimeError, Malformed):
            return no
        except BaseException as exc:  # a Rust panic is no Exception, and its class cannot be imported
            if type(exc).__module__ == "pyo3_runtime":
                return no
            raise


def _recipients(data: bytes) -> tuple[str, ...]:
    certificate = pysequoia.Cert.from_bytes(data)
    return encrypted_message(pysequoia.encrypt(b"", [certificate], armor=False)).pkesk_ids
