"""Decrypts with a Python library: python decrypt.py LIBRARY SECRET MESSAGE…

The plaintext of each MESSAGE is written to MESSAGE.plain; the first that cannot be read ends the program.
It imports nothing of the project: PGPy is Debian's and runs in Debian's Python.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

Decrypt = Callable[[bytes], bytes]


def pgpy(secret: bytes) -> Decrypt:
    """PGPy."""
    import pgpy

    key, _ = pgpy.PGPKey.from_blob(secret)

    def decrypt(armored: bytes) -> bytes:
        text = key.decrypt(pgpy.PGPMessage.from_blob(armored)).message
        return text.encode() if isinstance(text, str) else bytes(text)

    return decrypt


def pysequoia(secret: bytes) -> Decrypt:
    """Sequoia, in the version that the relay encrypts with."""
    import pysequoia

    key = pysequoia.Tsk.from_bytes(secret)
    return lambda armored: pysequoia.decrypt(armored, decryptor=key.decryptor()).bytes


def rpgp(secret: bytes) -> Decrypt:
    """RPGP, which Delta Chat uses."""
    from openpgp import composed

    key = composed.SignedSecretKey.from_bytes(secret)

    def decrypt(armored: bytes) -> bytes:
        message, _ = composed.Message.from_armor(armored.decode("ascii"))
        return message.decrypt(None, key).as_data_vec()

    return decrypt


def main(library: str, secret: str, *messages: str) -> None:
    """Decrypts one message after another."""
    decrypt = {"pgpy": pgpy, "pysequoia": pysequoia, "rpgp": rpgp}[library](Path(secret).read_bytes())
    for path in messages:
        Path(f"{path}.plain").write_bytes(decrypt(Path(path).read_bytes()))


if __name__ == "__main__":
    main(*sys.argv[1:])
